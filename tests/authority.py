"""An authorization server on real sockets: OpenID Connect, and SMART App Launch for a FHIR server at ``/fhir``.

It checks what the specifications ask of a client, and does what an attacker wants when a test says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

Json = dict[str, Any]
CLIENT, SECRET, AUDIENCE = "sightline-app", "kein-gewöhnliches+Wort:7", "https://sightline.example"


@cache
def rsa(name: str) -> RSAKey:
    """A key of that name; made once, since that takes long."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"})


@cache
def ec(name: str, curve: str = "P-256") -> ECKey:
    return ECKey.generate_key(curve, {"kid": name, "use": "sig"})


@dataclass
class Authority:
    """The server at *base*; each habit may be changed while it runs.

    Parameters
    ----------
    signs : the key that signs; *published* : the keys of its JWK Set.
    grants : scopes that it grants; None: what was asked.
    context : what goes with an access token: patient, encounter, fhirContext.
    user : claims of whoever logs in.
    spoils : claims of ID tokens that are other than they should be.
    names_itself : whether it names itself in answers to the browser (RFC 9207).
    """

    base: str
    signs: RSAKey | ECKey = field(default_factory=lambda: rsa("key-1"))
    published: list[RSAKey | ECKey] = field(default_factory=lambda: [rsa("key-1")])
    grants: str | None = None
    context: Json = field(default_factory=dict)
    user: Json = field(default_factory=lambda: {"sub": "dr-1", "roles": ["radiologist"]})
    spoils: Json = field(default_factory=dict)
    answers: Json = field(default_factory=dict)
    says: Json = field(default_factory=dict)
    names_itself: bool = False
    secret: str = SECRET
    client_key: ECKey | None = None
    asked: list[Json] = field(default_factory=list)
    codes: dict[str, Json] = field(default_factory=dict)
    visits: Counter[str] = field(default_factory=Counter)
    broken: bool = False

    @property
    def fhir(self) -> str:
        return f"{self.base}/fhir"

    def token(self, *, key: RSAKey | ECKey | None = None, alg: str = "RS256", **claims: Any) -> str:
        """An access token as a JWT; a claim that is None is left out."""
        now = int(time.time())
        said = {"iss": self.base, "aud": AUDIENCE, "exp": now + 300, "iat": now, **self.user, **claims}
        signing = key or self.signs
        header = {"alg": alg, "kid": signing.kid}
        return jwt.encode(header, {k: v for k, v in said.items() if v is not None}, signing, algorithms=[alg])

    def configuration(self) -> Json:
        return {
            "issuer": self.base,
            "jwks_uri": f"{self.base}/jwks",
            "authorization_endpoint": f"{self.base}/authorize",
            "token_endpoint": f"{self.base}/token",
            "authorization_response_iss_parameter_supported": self.names_itself,
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "code_challenge_methods_supported": ["S256"],
        } | self.says

    def answer(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> Any:
        """(status, headers, document)."""
        self.visits[path] += 1
        if self.broken:
            return 500, {}, {}
        match path:
            case "/.well-known/openid-configuration" | "/fhir/.well-known/smart-configuration":
                return 200, {}, self.configuration()
            case "/jwks":
                return 200, {}, {"keys": [key.as_dict(private=False) for key in self.published]}
            case "/authorize":
                return self._authorize(dict(query))
            case "/token":
                return self._token(dict(parse_qsl(body.decode())), headers)
        return 404, {}, {}

    def _authorize(self, query: Json) -> Any:
        self.asked.append(query)
        right = query["response_type"] == "code" and query["client_id"] == CLIENT and query["state"]
        if not right or query.get("code_challenge_method") != "S256" or len(query["code_challenge"]) != 43:
            return 400, {}, {"error": "invalid_request"}
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        told = {"code": code, "state": query["state"]} | ({"iss": self.base} if self.names_itself else {})
        return 302, {"Location": f"{query['redirect_uri']}?{urlencode(told)}"}, {}

    def _token(self, form: Json, headers: Mapping[str, str]) -> Any:
        if not self._proven(form, headers):
            return 401, {}, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if asked is None or challenge.decode().rstrip("=") != asked["code_challenge"]:
            return 400, {}, {"error": "invalid_grant"}
        if form["grant_type"] != "authorization_code" or form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {}, {"error": "invalid_grant"}
        claims = {"aud": CLIENT, "nonce": asked["nonce"]} | self.spoils
        said = {
            "access_token": "opaque",
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": self.grants if self.grants is not None else asked["scope"],
            "id_token": self.token(**claims),
        }
        return 200, {}, said | self.context | self.answers

    def _proven(self, form: Json, headers: Mapping[str, str]) -> bool:
        if self.client_key is not None:
            try:
                claims = jwt.decode(form["client_assertion"], self.client_key, algorithms=["ES384"]).claims
            except (KeyError, JoseError):
                return False
            here = claims["iss"] == claims["sub"] == CLIENT and claims["aud"] == f"{self.base}/token"
            return here and time.time() < claims["exp"] <= time.time() + 300
        pair = base64.b64decode(headers.get("Authorization", "").removeprefix("Basic ")).decode()
        return not self.secret or dict(parse_qsl(pair.replace(":", "=", 1))) == {CLIENT: self.secret}


@contextmanager
def run_authority(**habits: Any) -> Iterator[Authority]:
    """The server, on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, document = authority.answer(
                self.command, parts.path, dict(parse_qsl(parts.query)), self.headers, body
            )
            content = json.dumps(document).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _any  # noqa: N815 - of the base class

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base class
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        authority = Authority(f"http://127.0.0.1:{server.server_port}", **habits)
        running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        running.start()
        try:
            yield authority
        finally:
            server.shutdown()
            running.join()
