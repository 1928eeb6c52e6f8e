"""An issuer of tokens: found by discovery, its keys kept and renewed, its tokens checked.

Everything cryptographic is joserfc's. What is decided here: which algorithms, whose key, for whom, and for how long.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Protocol

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError
from joserfc.jwk import KeySet

from plugin.access.ports import UnknownError
from plugin.errors import InputError, SightlineError, TransientError

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures by a private key alone: no ``none``, and no HMAC, whose key would be the public one."""
LEEWAY_S: Final = 60
"""Clocks differ."""
FRESH_S: Final = 600.0
"""Keys and endpoints are fetched anew after that."""
STALE_S: Final = 86_400.0
"""While the issuer does not answer, its keys are used for so long."""
PAUSE_S: Final = 30.0
"""An unknown key, or an issuer that does not answer, is asked for again after that, and not before."""
MOST_CHARACTERS: Final = 16_384
_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
_CLAIMS: Final = {
    "iss": "issuer",
    "aud": "audience",
    "sub": "subject",
    "exp": "end",
    "nbf": "beginning",
    "iat": "time",
}
_log = logging.getLogger(__name__)


class ReadJson(Protocol):
    """Fetches JSON documents, within limits, from where the settings allow."""

    def __call__(self, url: str) -> Mapping[str, Any]:
        """The object at *url*.

        Raises
        ------
        TransientError
            If nothing usable is answered.
        InputError
            If the address is not allowed.
        """


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What an issuer says of itself (OpenID Connect Discovery 1.0, 3; SMART App Launch 2.2, 8); "" what it does not."""

    issuer: str
    jwks_uri: str
    authorization: str = ""
    token: str = ""
    end_session: str = ""
    names_itself: bool = False  # RFC 9207 3
    methods: tuple[str, ...] = ()  # of proving the client at the token endpoint


class Issuer:
    """One issuer; may be used from several threads.

    Parameters
    ----------
    url : where it is found: the OpenID issuer, or the base of a FHIR server when *smart*.
    read : fetches its documents.
    now : seconds since 1970, for the times in tokens.
    clock : seconds; any beginning.
    """

    def __init__(
        self,
        url: str,
        read: ReadJson,
        *,
        smart: bool = False,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self._smart = smart
        self._read = read
        self._now = now
        self._clock = clock
        self._lock = Lock()
        self._endpoints: Endpoints | None = None
        self._keys = KeySet([])
        self._fetched = float("-inf")
        self._tried = float("-inf")

    def endpoints(self) -> Endpoints:
        """Where it does what; raises TransientError or InputError as reading does."""
        with self._lock:
            if self._endpoints is None or self._clock() - self._fetched > FRESH_S:
                self._renew()
            if self._endpoints is None:
                raise TransientError("The login does not answer now; try again later.")
            return self._endpoints

    def claims(self, token: str, *, audiences: tuple[str, ...], bearer: bool = True) -> Mapping[str, Any]:
        """What *token* says, once it is proven.

        Parameters
        ----------
        audiences : for whom it may be made out.
        bearer : whether it is one that lets somebody in; an ID token never is.

        Raises
        ------
        UnknownError
            If it is not a token of this issuer for us, or not any more.
        TransientError
            If the issuer's keys cannot be had.
        """
        issuer = self.endpoints().issuer
        decoded = self._decoded(token)
        rules = jwt.JWTClaimsRegistry(
            now=lambda: int(self._now()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "values": list(audiences)},
            sub={"essential": True},
            exp={"essential": True},
        )
        try:
            rules.validate(decoded.claims)
        except ExpiredTokenError:
            raise UnknownError("The token has expired.") from None
        except (InvalidClaimError, MissingClaimError) as error:
            named = next((_CLAIMS[each] for each in error.claim.split(",") if each in _CLAIMS), "content")
            raise UnknownError(f"The token's {named} is not taken.") from None
        if bearer and decoded.claims.keys() & {"nonce", "at_hash", "c_hash"}:
            raise UnknownError("That is an ID token; an access token is needed.")
        return decoded.claims

    def _decoded(self, token: str) -> jwt.Token:
        if len(token) > MOST_CHARACTERS:
            raise UnknownError("The token is too long.")
        try:
            return jwt.decode(token, self._key_of, algorithms=list(ALGORITHMS))
        except (JoseError, ValueError, TypeError, RecursionError):
            raise UnknownError("The token is not signed by a key of its issuer, or not as it has to be.") from None

    def _key_of(self, signed: Any) -> Any:
        """The key that *signed* names, and that is for its algorithm."""
        header = signed.headers()
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS or (key_id is not None and not isinstance(key_id, str)):
            raise ValueError("not an allowed signature")
        found = self._known(algorithm, key_id)
        if found is None and self._may_ask_again():
            found = self._known(algorithm, key_id)
        if found is None:
            raise ValueError("no such key")
        return found

    def _known(self, algorithm: str, key_id: str | None) -> Any:
        kind = "EC" if algorithm.startswith("ES") else "RSA"
        suited = [
            key
            for key in self._keys.keys
            if key.key_type == kind
            and key.as_dict(private=False).get("use", "sig") == "sig"
            and key.alg in (None, algorithm)
            and (kind == "RSA" or getattr(key, "curve_name", "") == _CURVES[algorithm])
            and (key_id is None or key.kid == key_id)
        ]
        # Without a name, there has to be one key alone that it can be.
        return suited[0] if len(suited) == 1 or (suited and key_id is not None) else None

    def _may_ask_again(self) -> bool:
        """Keys are changed now and then: an unknown one is looked for once, and then not for a while."""
        with self._lock:
            if self._clock() - self._tried < PAUSE_S:
                return False
            self._renew()
            return True

    def _renew(self) -> None:
        if self._clock() - self._tried < PAUSE_S:
            return self._give_up_when_old()
        self._tried = self._clock()
        try:
            endpoints = self._discovered()
            self._keys = _key_set(self._read(endpoints.jwks_uri))
        except SightlineError as error:
            _log.warning("the login cannot be asked for its keys: %s", error)
            return self._give_up_when_old()
        self._endpoints, self._fetched = endpoints, self._clock()
        return None

    def _give_up_when_old(self) -> None:
        if self._clock() - self._fetched > STALE_S:
            self._endpoints = None

    def _discovered(self) -> Endpoints:
        name = "smart-configuration" if self._smart else "openid-configuration"
        said = self._read(f"{self.url.rstrip('/')}/.well-known/{name}")
        found = Endpoints(
            issuer=_text(said, "issuer"),
            jwks_uri=_text(said, "jwks_uri"),
            authorization=_text(said, "authorization_endpoint"),
            token=_text(said, "token_endpoint"),
            end_session=_text(said, "end_session_endpoint"),
            names_itself=said.get("authorization_response_iss_parameter_supported") is True,
            methods=tuple(
                each for each in _list(said, "token_endpoint_auth_methods_supported") if isinstance(each, str)
            ),
        )
        # Discovery 4.3: whoever says it is somebody else is not believed.
        if not found.issuer or (not self._smart and found.issuer.rstrip("/") != self.url.rstrip("/")):
            raise InputError("the issuer says that it is another one: check SIGHTLINE_LOGIN_ISSUER")
        if not found.jwks_uri:
            raise InputError("the issuer names no keys (jwks_uri)")
        return found


def _key_set(said: Mapping[str, Any]) -> KeySet:
    """The keys that can be used; others, of kinds that come some day, are passed over."""
    found = []
    for each in _list(said, "keys")[:100]:
        try:
            found += KeySet.import_key_set({"keys": [each]}).keys
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            continue
    if not found:
        raise TransientError("the issuer has no keys that can be used")
    return KeySet(found)


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""


def _list(said: Mapping[str, Any], name: str) -> list[Any]:
    value = said.get(name)
    return value if isinstance(value, list) else []
