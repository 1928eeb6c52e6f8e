"""Another server: where it is, how Sightline proves there who it is, and the session that does both.

Secrets are sent to that server alone: :mod:`plugin.outbound` lets nothing go elsewhere, and no ``.netrc`` is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import quote_plus

import requests
from requests.auth import AuthBase

from plugin.errors import InputError, TransientError
from plugin.outbound import allowed, guarded_session

#: A token is renewed when less than this is left of its life.
LEEWAY_S = 30.0
#: Life of a token whose endpoint does not tell (RFC 6749 5.1: expires_in is recommended, not required).
UNTOLD_LIFE_S = 300.0
#: No token endpoint says more.
MOST_TOKEN_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """A client of an OAuth 2 token endpoint, for the client credentials grant (RFC 6749 4.4)."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and what it wants to see.

    Parameters
    ----------
    url : its base address; raises InputError when that is no HTTP address.
    headers : sent with every request: an Authorization, or a header of the site's own.
    oauth : where to fetch a bearer token that is sent too.
    ca_file : PEM file of the authorities its certificate is checked against; None: the well-known ones.
    timeout_s : for a connection, and between two parts of an answer.
    certificate_file : PEM file of the certificate by which we prove ourselves in TLS, and its key; None: none.
    certificate_key_file : the key, when it is not in the same file.
    named : what messages call the server.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    oauth: OAuthClient | None = None
    ca_file: Path | None = None
    timeout_s: float = 30.0
    certificate_file: Path | None = None
    certificate_key_file: Path | None = None
    named: str = "archive"

    def __post_init__(self) -> None:
        scheme, found, rest = self.url.partition("://")
        if scheme not in {"http", "https"} or not found or not rest.strip("/"):
            raise InputError(
                f"The address of the {self.named} is not an HTTP address; expected http(s)://host:port/path."
            )
        if self.ca_file is not None and not self.ca_file.is_file():
            raise InputError("The file of certificate authorities does not exist; check its path.")
        for file in (self.certificate_file, self.certificate_key_file):
            if file is not None and not file.is_file():
                raise InputError(f"The file of the certificate for the {self.named}, or of its key, does not exist.")

    @property
    def certificate(self) -> tuple[str, str] | None:
        """Files of our certificate and of its key."""
        if self.certificate_file is None:
            return None
        return str(self.certificate_file), str(self.certificate_key_file or self.certificate_file)


def session_of(endpoint: Endpoint) -> requests.Session:
    """A session to that server alone, which proves with every request who we are; for several threads."""
    session = guarded_session(allowed((endpoint.url,), named=endpoint.named))
    if endpoint.ca_file is not None:
        session.verify = str(endpoint.ca_file)
    session.cert = endpoint.certificate
    session.auth = Proof(endpoint)
    return session


class Tokens:
    """One bearer token: fetched when it is needed, and kept until shortly before its end. For several threads.

    Parameters
    ----------
    fetch : a new token and its life in seconds; what it raises, :meth:`current` raises.
    """

    def __init__(self, fetch: Callable[[], tuple[str, float]], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = Lock()
        self._token = ""
        self._ends = 0.0

    def current(self) -> str:
        """A token that should be taken now."""
        with self._lock:
            if not self._token or self._clock() >= self._ends:
                self._token, life_s = self._fetch()
                self._ends = self._clock() + max(life_s - LEEWAY_S, 0.0)
            return self._token

    def refuse(self, used: str) -> None:
        """The server did not take *used*: it may have been revoked before its end."""
        with self._lock:
            if used == self._token:
                self._token = ""


class Proof(AuthBase):
    """Adds the endpoint's headers and, if it has one, a token, which is fetched when needed and again after a 401.

    Raises
    ------
    TransientError, InputError
        As :func:`fetched_token` does, when a request is sent.
    """

    def __init__(self, endpoint: Endpoint, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._headers = endpoint.headers
        client = endpoint.oauth
        self._tokens = Tokens(lambda: fetched_token(client, endpoint), clock=clock) if client is not None else None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers)
        # dicomweb-client sets a Host without its port; requests sets the right one when there is none.
        request.headers.pop("Host", None)
        if self._tokens is not None:
            request.headers["Authorization"] = f"Bearer {self._tokens.current()}"
            request.hooks["response"].insert(0, self._once_more)  # before those that read the answer
        return request

    def _once_more(self, response: requests.Response, **sent: Any) -> requests.Response:
        """A token may be revoked before its end: one more try with a new one."""
        if response.status_code != 401 or self._tokens is None or response.history:
            return response
        self._tokens.refuse(str(response.request.headers["Authorization"]).removeprefix("Bearer "))
        response.close()
        request = response.request.copy()
        request.headers["Authorization"] = f"Bearer {self._tokens.current()}"
        again: requests.Response = response.connection.send(request, **sent)
        again.history.append(response)
        again.request = request
        return again


def fetched_token(client: OAuthClient, endpoint: Endpoint) -> tuple[str, float]:
    """A new access token and its life in seconds.

    Raises
    ------
    TransientError
        If the token endpoint does not answer, or answers no token.
    InputError
        If it refuses the client.
    """
    form = {"grant_type": "client_credentials"} | ({"scope": client.scope} if client.scope else {})
    there = allowed((client.token_url,), named="token endpoint")
    try:
        with guarded_session(there, max_bytes=MOST_TOKEN_BYTES) as session:
            answer = session.post(
                client.token_url,
                data=form,
                auth=(quote_plus(client.client_id), quote_plus(client.client_secret)),  # RFC 6749 2.3.1
                headers={"Accept": "application/json"},
                timeout=endpoint.timeout_s,
                allow_redirects=False,
                verify=str(endpoint.ca_file) if endpoint.ca_file is not None else True,
                cert=endpoint.certificate,
            )
        said = answer.json() if answer.ok else {}
    except requests.RequestException as error:
        raise TransientError(f"The token endpoint does not answer ({type(error).__name__}); try again later.") from None
    if 400 <= answer.status_code < 500 and answer.status_code != 429:
        raise InputError(f"The token endpoint refused the client ({answer.status_code}); check id, secret and scope.")
    if not isinstance(said, dict) or not isinstance(said.get("access_token"), str):
        raise TransientError(f"The token endpoint answered {answer.status_code} without a token; try again later.")
    return said["access_token"], life_s(said.get("expires_in"))


def life_s(told: object) -> float:
    """The life of a token whose endpoint told *told* (``expires_in``), in seconds."""
    return float(told) if isinstance(told, int | float | str) and str(told).isdecimal() else UNTOLD_LIFE_S
