"""Logging in with the browser: OpenID Connect, and SMART App Launch from a record or by itself.

Everything that comes back through the browser is an attacker's until it fits what was kept when the login began: the
same browser, one ``state``, one issuer, one code, the ``nonce`` in the ID token. PKCE is by S256 alone (RFC 6749, 7636,
9207; OpenID Connect Core 1.0; SMART App Launch 2.2).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit
from uuid import uuid4

import httpx

from plugin.access.caller import Caller, Proof
from plugin.access.issuer import Endpoints, Issuer
from plugin.access.ports import UnknownError
from plugin.access.roles import RoleMap
from plugin.access.sessions import Sessions
from plugin.errors import TransientError
from plugin.fhir.keys import SigningKey
from plugin.fhir.scopes import is_of_fhir
from plugin.fhir.sending import Sender
from plugin.fhir.signing_in import ASSERTION_S, JWT_BEARER

OPENID_SCOPE: Final = "openid profile"
_UID = re.compile(r"[0-9.]{1,64}")
_AGAIN: Final = "Begin the login again."


@dataclass(frozen=True, slots=True)
class Provider:
    """A place where people log in.

    Parameters
    ----------
    issuer : of its ID tokens.
    sender : to its token endpoint.
    aud : base of the FHIR server that tokens are for (SMART's ``aud``); "": none.
    """

    issuer: Issuer
    sender: Sender
    scope: str
    aud: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """Where the browser goes to log in, and the word that it shows when it comes back."""

    address: str
    browser: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Login:
    """Logs people in.

    Parameters
    ----------
    providers : by name: the site's issuer, and the FHIR server by each address that launches may name.
    client_id, client_secret : by which the providers know us; "": by a key, or as a public client.
    keys : by which we prove ourselves without a secret (``private_key_jwt``), where a provider takes that; the first.
    callback : where they send the browser back to.
    """

    providers: Mapping[str, Provider]
    sessions: Sessions
    roles: RoleMap
    client_id: str
    callback: str
    client_secret: str = field(default="", repr=False)
    keys: Callable[[], tuple[SigningKey, ...]] = lambda: ()
    now: Callable[[], float] = time.time

    def begin(self, name: str, *, to: str, launch: str = "") -> Way:
        """Begin a login at the provider *name*.

        Parameters
        ----------
        to : the local address to come to afterwards.
        launch : SMART's word of a launch from a record; "": by itself.

        Raises
        ------
        UnknownError
            If there is no such provider.
        TransientError
            If it does not answer.
        """
        provider = self.providers.get(name)
        if provider is None:
            raise UnknownError("Launches come from the site's own FHIR server alone; SIGHTLINE_SMART_ISS names it.")
        found = provider.issuer.endpoints()
        _check_addresses(found)
        browser, verifier, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        kept = {"provider": name, "to": to, "verifier": verifier, "nonce": nonce, "browser": _sha256(browser)}
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.callback,
            "scope": _scope(provider, launch),
            "state": self.sessions.begin_login(kept),
            "nonce": nonce,
            "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        asked |= ({"aud": provider.aud} if provider.aud else {}) | ({"launch": launch} if launch else {})
        separator = "&" if urlsplit(found.authorization).query else "?"
        return Way(f"{found.authorization}{separator}{urlencode(asked)}", browser)

    def finish(self, told: Mapping[str, str], *, browser: str) -> tuple[Caller, str]:
        """Who has logged in, and the local address to come to.

        Parameters
        ----------
        told : the parameters that the browser came back with.
        browser : the word that it showed.

        Raises
        ------
        UnknownError
            If anything does not fit.
        TransientError
            If the provider does not answer.
        """
        kept = self.sessions.take_login(told.get("state", ""))
        if kept is None or not hmac.compare_digest(kept["browser"], _sha256(browser)):
            raise UnknownError(f"This login was not begun in this browser, or is over. {_AGAIN}")
        provider = self.providers.get(kept["provider"])
        if provider is None:
            raise UnknownError(_AGAIN)
        found = provider.issuer.endpoints()
        # RFC 9207: an answer of one server must not be taken for another's (mix-up).
        if (found.names_itself or "iss" in told) and told.get("iss") != found.issuer:
            raise UnknownError(f"The answer is not of the server that was asked. {_AGAIN}")
        if "error" in told or not told.get("code"):
            raise UnknownError(f"The login was not granted. {_AGAIN}")
        said = self._exchanged(provider, found, code=told["code"], verifier=kept["verifier"])
        return self._caller(provider, said, nonce=kept["nonce"]), kept["to"]

    def _caller(self, provider: Provider, said: Mapping[str, Any], *, nonce: str) -> Caller:
        id_token, scope = said.get("id_token"), said.get("scope")
        if not isinstance(id_token, str):
            raise UnknownError("The server does not say who has logged in (no ID token).")
        claims = provider.issuer.claims(id_token, audiences=(self.client_id,), bearer=False)
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("nonce") != nonce:
            raise UnknownError(f"The ID token is of another login. {_AGAIN}")
        if (several or "azp" in claims) and claims.get("azp") != self.client_id:
            raise UnknownError("The ID token is for another client.")
        if provider.aud and not (isinstance(scope, str) and any(map(is_of_fhir, scope.split()))):
            raise UnknownError("The FHIR server granted nothing that may be read.")
        patient = self.roles.patient_claim
        context = {
            "scope": scope if provider.aud and isinstance(scope, str) else "",
            # Who is a patient by login at the site's issuer has the claim in the ID token; a launch has it beside it.
            patient: said.get("patient") if provider.aud else claims.get(patient),
        }
        caller = self.roles.caller({**claims, **context}, proof=Proof.SESSION, study=_study(said))
        if not caller.roles:
            raise UnknownError(
                "You have logged in, and are nobody who may come in here; SIGHTLINE_LOGIN_ROLES says who."
            )
        return caller

    def _exchanged(self, provider: Provider, found: Endpoints, *, code: str, verifier: str) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.callback,
            "code_verifier": verifier,
        }
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        proof, authorization = self._proof(found)
        form, headers = form | proof, headers | authorization
        answer = provider.sender.send("POST", found.token, headers=headers, content=urlencode(form).encode())
        try:
            said = json.loads(answer.content) if answer.ok else {}
        except (ValueError, RecursionError):
            said = {}
        if answer.status in (httpx.codes.BAD_REQUEST, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise UnknownError(f"The server did not take the login's code. {_AGAIN}")
        if not isinstance(said, dict) or not said:
            raise TransientError("The login's server answered without a token; try again later.")
        return said

    def _proof(self, found: Endpoints) -> tuple[dict[str, str], dict[str, str]]:
        """By what the token endpoint knows us: fields of the form, and headers."""
        named = {"client_id": self.client_id}
        if self.client_secret and (not found.methods or "client_secret_basic" in found.methods):
            pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"  # RFC 6749 2.3.1
            return {}, {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        if self.client_secret:
            return named | {"client_secret": self.client_secret}, {}
        if "private_key_jwt" not in found.methods or not (keys := self.keys()):
            return named, {}
        ends = int(self.now()) + ASSERTION_S
        about = {"iss": self.client_id, "sub": self.client_id, "aud": found.token, "exp": ends, "jti": str(uuid4())}
        return named | {"client_assertion_type": JWT_BEARER, "client_assertion": keys[0].signed(about)}, {}


def local_address(text: str) -> str:
    """*text* when it is an address of this service, "/...", and could be taken for no other; else ""."""
    safe = text.startswith("/") and not text.startswith(("//", "/\\")) and not re.search(r"[\\\x00-\x20\x7f]", text)
    return text if safe and len(text) <= 2000 else ""


def _scope(provider: Provider, launch: str) -> str:
    if not provider.aud:
        return provider.scope
    return f"{'launch' if launch else 'launch/patient'} {provider.scope}"


def _check_addresses(found: Endpoints) -> None:
    for address in (found.authorization, found.token):
        if urlsplit(address).scheme not in ("https", "http") or not urlsplit(address).hostname:
            raise TransientError("The login's server does not say where people log in.")


def _study(said: Mapping[str, Any]) -> str:
    """The Study Instance UID of the launch context (``fhirContext``), told by an identifier; "" when none is."""
    entries = said.get("fhirContext")
    for each in entries if isinstance(entries, list) else ():
        identifier = each.get("identifier") if isinstance(each, dict) else None
        value = identifier.get("value") if isinstance(identifier, dict) else None
        uid = value.removeprefix("urn:oid:") if isinstance(value, str) else ""
        if _UID.fullmatch(uid) and identifier and identifier.get("system") == "urn:dicom:uid":
            return uid
    return ""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
