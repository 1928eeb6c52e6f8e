"""Signing in at a FHIR server: SMART Backend Services (SMART App Launch 2.2), and the connections that hold it.

The token goes to the server it is for and nowhere else; what is sent to its token endpoint is an assertion that holds
there alone, for minutes, once.
"""

from __future__ import annotations

import json
import re
import ssl
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx

from plugin.endpoint import Endpoint, Tokens, life_s
from plugin.errors import InputError, SightlineError, TransientError
from plugin.fhir.capability import capability_of
from plugin.fhir.keys import KeyFiles, SigningKey
from plugin.fhir.resource import parse
from plugin.fhir.scopes import as_version_1, lacking
from plugin.fhir.sending import Answer, Sender
from plugin.outbound import allowed, guarded_client, origin_of

ASSERTION_S: Final = 240
"""Life of an assertion; SMART allows five minutes, and clocks differ."""
CONFIGURATION_S: Final = 3600.0
JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ERROR = re.compile(r"[a-z_]{1,40}")


@dataclass(frozen=True, slots=True)
class BackendService:
    """Sightline as a client that the server's site registered.

    Parameters
    ----------
    client_id : by which the server knows it.
    keys : which keys sign; the server reads their public halves from our JWK Set, or was given them.
    scopes : to ask for, in the form of SMART App Launch 2.
    token_url : the token endpoint; "": the server tells it.
    """

    client_id: str
    keys: KeyFiles
    scopes: tuple[str, ...]
    token_url: str = ""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What ``.well-known/smart-configuration`` says, as far as it is needed; empty where it says nothing."""

    token_url: str
    algorithms: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


class Bearer(httpx.Auth):
    """Sends a token from *source* to the origin of *url* alone, and once more with a new one after a 401."""

    def __init__(self, url: str, source: SmartTokens, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._there = allowed((url,), named="FHIR server")
        self._source = source
        self._tokens = Tokens(source.fetch, clock=clock)

    def lacking(self) -> tuple[str, ...]:
        """Scopes that were asked for and that the token does not hold; raises as :meth:`SmartTokens.fetch`."""
        self._tokens.current()
        return self._source.lacking

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See httpx; raises what fetching a token raises."""
        if str(request.url) not in self._there:
            yield request
            return
        used = self._tokens.current()
        request.headers["Authorization"] = f"Bearer {used}"
        answer = yield request
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._tokens.refuse(used)
            request.headers["Authorization"] = f"Bearer {self._tokens.current()}"
            yield request


class SmartTokens:
    """Fetches tokens for *service* at the FHIR server *base*.

    Parameters
    ----------
    sender : to the server and its token endpoint; nothing that it sends is signed in.
    now : seconds since 1970, for the assertion.
    clock : seconds; any beginning.
    """

    def __init__(
        self,
        base: str,
        service: BackendService,
        sender: Sender,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base = base.rstrip("/")
        self._service = service
        self._sender = sender
        self._now = now
        self._clock = clock
        self._known: tuple[float, Configuration] | None = None
        self.lacking: tuple[str, ...] = ()
        """Scopes that the last token does not hold, though they were asked for."""

    def fetch(self) -> tuple[str, float]:
        """A new token and its life in seconds: by the newest key, else by the one before it.

        Raises
        ------
        TransientError
            If the token endpoint does not answer, or refuses us.
        InputError
            If there is no token endpoint, or no key that it takes.
        """
        found = self._configuration()
        asked = self._service.scopes
        if "permission-v1" in found.capabilities and "permission-v2" not in found.capabilities:
            asked = as_version_1(asked)
        try:
            return self._granted(found, asked)
        except SightlineError:
            self._known = None  # the endpoint may have moved
            raise

    def _granted(self, found: Configuration, asked: tuple[str, ...]) -> tuple[str, float]:
        keys = self._service.keys.keys()
        usable = [key for key in keys if not found.algorithms or key.algorithm in found.algorithms]
        if not usable:
            raise InputError("the FHIR server takes neither RS384 nor ES384 of our keys: make one of the other kind")
        for key in usable:
            answer, said = self._asked(found, key, asked)
            # The key before this one, if the server does not know this one yet: it reads our JWK Set when it wants to.
            if said.get("error") != "invalid_client" and answer.status != httpx.codes.UNAUTHORIZED:
                break
        if said.get("error") == "invalid_scope" and (offered := _offered(asked, found.scopes)):
            asked = offered
            answer, said = self._asked(found, key, asked)
        token = said.get("access_token")
        if not answer.ok or not isinstance(token, str) or not token:
            raise _no_token(answer, said)
        granted = said.get("scope")
        self.lacking = lacking(self._service.scopes, granted.split() if isinstance(granted, str) else asked)
        return token, life_s(said.get("expires_in"))

    def _asked(
        self, found: Configuration, key: SigningKey, scopes: tuple[str, ...]
    ) -> tuple[Answer, Mapping[str, Any]]:
        client = self._service.client_id
        ends = int(self._now()) + ASSERTION_S
        claims = {"iss": client, "sub": client, "aud": found.token_url, "exp": ends, "jti": str(uuid.uuid4())}
        form = {
            "grant_type": "client_credentials",
            "scope": " ".join(scopes),
            "client_assertion_type": JWT_BEARER,
            "client_assertion": key.signed(claims),
        }
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        at_endpoint = replace(self._sender, named="the token endpoint")
        answer = at_endpoint.send("POST", found.token_url, headers=headers, content=urlencode(form).encode())
        return answer, _json(answer)

    def _configuration(self) -> Configuration:
        """Told by the settings, by SMART's own document, or by the CapabilityStatement, in this order."""
        if self._known is None or self._clock() >= self._known[0]:
            self._known = (self._clock() + CONFIGURATION_S, self._discovered())
        return self._known[1]

    def _discovered(self) -> Configuration:
        headers = {"Accept": "application/json"}
        said = _json(self._sender.send("GET", f"{self._base}/.well-known/smart-configuration", headers=headers))
        told = self._service.token_url or _text(said.get("token_endpoint")) or self._stated()
        if not told:
            raise InputError("the FHIR server names no token endpoint: set SIGHTLINE_FHIR_TOKEN_URL")
        if urlsplit(told).scheme != "https" and urlsplit(self._base).scheme == "https":
            raise InputError("the token endpoint of the FHIR server is not under https: set SIGHTLINE_FHIR_TOKEN_URL")
        if told != self._service.token_url and origin_of(told) != origin_of(self._base):
            raise InputError(
                "the FHIR server names a token endpoint at another server, which is asked only when "
                "SIGHTLINE_FHIR_TOKEN_URL names it too"
            )
        return Configuration(
            told,
            _texts(said.get("token_endpoint_auth_signing_alg_values_supported")),
            _texts(said.get("scopes_supported")),
            _texts(said.get("capabilities")),
        )

    def _stated(self) -> str:
        answer = self._sender.send("GET", f"{self._base}/metadata", headers={"Accept": "application/fhir+json"})
        try:
            return capability_of(parse(answer.content)).token_url if answer.ok else ""
        except InputError:
            return ""


def pool_of(endpoint: Endpoint, *, further: tuple[str, ...] = (), proxy: str | None = None) -> httpx.Client:
    """Connections to *endpoint*, with its authorities and our certificate; they sign in to nothing by themselves.

    Parameters
    ----------
    further : other addresses of the settings that belong to it, which may be at another server; "": none.
    proxy : of the settings, which everything goes through; None: none.

    Raises
    ------
    InputError
        If a file of certificates holds none.
    """
    there = allowed((endpoint.url, *further), named=endpoint.named)
    if endpoint.ca_file is None and endpoint.certificate is None:
        return guarded_client(there, proxy=proxy)
    try:
        context = ssl.create_default_context(cafile=str(endpoint.ca_file) if endpoint.ca_file else None)
        if endpoint.certificate is not None:
            context.load_cert_chain(*endpoint.certificate)
    except (ssl.SSLError, OSError):
        raise InputError(f"A file of certificates for the {endpoint.named} cannot be used; expected PEM.") from None
    return guarded_client(there, verify=context, proxy=proxy)


def _no_token(answer: Answer, said: Mapping[str, Any]) -> SightlineError:
    error = _text(said.get("error"))
    told = f" ({error})" if _ERROR.fullmatch(error) else ""
    if answer.ok:
        return TransientError("the token endpoint answered without a token; try again later")
    return TransientError(
        f"the token endpoint answered {answer.status}{told}; check what the FHIR server knows of our client: "
        "SIGHTLINE_FHIR_CLIENT_ID, the key set, the scopes"
    )


def _offered(asked: Iterable[str], supported: tuple[str, ...]) -> tuple[str, ...]:
    """What of *asked* the server says that it supports."""
    wanted = tuple(asked)
    refused = lacking(wanted, supported)
    return tuple(scope for scope in wanted if scope not in refused) if refused else ()


def _json(answer: Answer) -> Mapping[str, Any]:
    try:
        said = json.loads(answer.content) if answer.content else {}
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
