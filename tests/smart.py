"""A SMART authorization server before a FHIR server, for tests of signing in: a standing fault of tests/faults.py.

It checks what SMART App Launch 2.2 asks of an assertion, by keys that it reads where it was told to, and gives tokens
that it takes back when the test says so.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from faults import Asked, Forward, Told, told
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

Json = dict[str, Any]
OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"


@dataclass
class Smart:
    """The server at *origin* that knows one client; each habit may be changed while it runs.

    Parameters
    ----------
    key_set : reads the client's JWK Set, as the server does whenever it meets an assertion.
    algorithms, scopes, capabilities : what its configuration tells; None tells nothing of it.
    knows : scopes that it grants when asked; others are ``invalid_scope``. None: all.
    grants : the scope that an answer tells, whatever was asked; None: what was asked.
    configured : whether there is a ``smart-configuration``; else the CapabilityStatement names the endpoint.
    """

    origin: str
    key_set: Callable[[], Json]
    client_id: str = "sightline"
    algorithms: list[str] | None = field(default_factory=lambda: ["RS384", "ES384"])
    scopes: list[str] | None = None
    capabilities: list[str] | None = field(default_factory=lambda: ["client-confidential-asymmetric", "permission-v2"])
    knows: set[str] | None = None
    grants: str | None = None
    configured: bool = True
    life_s: Any = 300
    tokens: list[str] = field(default_factory=list)
    valid: set[str] = field(default_factory=set)
    assertions: list[tuple[Json, Json]] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    @property
    def token_url(self) -> str:
        return f"{self.origin}/token"

    def __call__(self, asked: Asked, forward: Forward) -> Told:
        if asked.path == ".well-known/smart-configuration":
            return self._configuration(asked)
        if asked.path == "metadata":
            return told(200, self._statement())
        if asked.path == "token":
            return self._token(asked)
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.valid:
            return told(401, {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "login"}]})
        return told(200, {"resourceType": "Patient", "id": "p"}) if asked.path == "Patient/p" else forward(asked)

    def _configuration(self, asked: Asked) -> Told:
        assert "authorization" not in asked.headers
        if not self.configured:
            return told(404, {})
        said = {
            "token_endpoint": self.token_url,
            "token_endpoint_auth_signing_alg_values_supported": self.algorithms,
            "scopes_supported": self.scopes,
            "capabilities": self.capabilities,
        }
        return told(200, {name: value for name, value in said.items() if value is not None})

    def _statement(self) -> Json:
        token = {"url": "token", "valueUri": self.token_url}
        uris = {"url": OAUTH_URIS, "extension": [{"url": "authorize", "valueUri": f"{self.origin}/authorize"}, token]}
        rest = {"mode": "server", "security": {"extension": [uris]}}
        return {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [rest]}

    def _token(self, asked: Asked) -> Told:
        assert "authorization" not in asked.headers
        form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
        if form["grant_type"] != "client_credentials" or not form["client_assertion_type"].endswith(":jwt-bearer"):
            return told(400, {"error": "invalid_request"})
        if not self._proven(form["client_assertion"]):
            return told(400, {"error": "invalid_client", "error_description": "Geheim"})
        self.requested.append(form["scope"])
        if self.knows is not None and not set(form["scope"].split()) <= self.knows:
            return told(400, {"error": "invalid_scope"})
        token = f"token-{len(self.tokens)}"
        self.tokens.append(token)
        self.valid.add(token)
        said = {"access_token": token, "token_type": "bearer", "expires_in": self.life_s}
        return told(200, said | {"scope": self.grants if self.grants is not None else form["scope"]})

    def _proven(self, assertion: str) -> bool:
        header = json.loads(_unpadded(assertion.split(".", maxsplit=1)[0]))
        used = {claims["jti"] for _, claims in self.assertions}
        try:
            claims = jwt.decode(assertion, KeySet.import_key_set(self.key_set()), algorithms=["RS384", "ES384"]).claims
        except (JoseError, ValueError):
            return False
        self.assertions.append((header, claims))
        return bool(
            claims["iss"] == claims["sub"] == self.client_id
            and claims["aud"] == self.token_url
            and time.time() < claims["exp"] <= time.time() + 300
            and claims["jti"] not in used
            and header["alg"] in (self.algorithms or ("RS384", "ES384"))
        )


def _unpadded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
