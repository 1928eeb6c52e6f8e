"""Our public keys, where FHIR servers that know us as a client look for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

MAX_AGE_S = 300


def keys_router(public_keys: Callable[[], Mapping[str, Any]]) -> APIRouter:
    """The route of the JWK Set (RFC 7517 5) that *public_keys* tells."""
    router = APIRouter(tags=["keys"])

    @router.get("/.well-known/jwks.json", summary="Public keys by which Sightline proves itself to FHIR servers")
    def jwks() -> JSONResponse:
        # A key is rotated faster than servers would forget by themselves.
        return JSONResponse(public_keys(), headers={"Cache-Control": f"max-age={MAX_AGE_S}"})

    return router
