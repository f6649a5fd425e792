"""Publishing the public keys, so that others can verify our tokens (RFC 7517, 5)."""

from datetime import timedelta
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from fastapi_kit.auth.checks import checked_duration
from fastapi_kit.auth.keys import Key, KeySet
from fastapi_kit.auth.tokens import TokenService
from fastapi_kit.errors import ConfigurationError

__all__ = ["JwkSet", "jwks_router"]

_MAX_AGE = timedelta(hours=24)


class JwkSet(BaseModel):
    """The public keys of an issuer (RFC 7517, 5)."""

    keys: list[dict[str, str]]


class _JwkSetResponse(JSONResponse):
    media_type = "application/jwk-set+json"  # RFC 7517, 8.5.2


def jwks_router(
    keys: TokenService | KeySet | Key,
    path: str = "/.well-known/jwks.json",
    *,
    max_age: timedelta = timedelta(minutes=5),
) -> APIRouter:
    """Return a router with `GET /.well-known/jwks.json`, the public keys that verify the tokens; `path` moves it.

    `keys` is the service that issues them, or what it was given. Secrets are left out. Those who fetch it may keep it
    for `max_age`, at most 24 hours: after a key was added, wait as long before you sign with it.

    Raises `ConfigurationError` where there is no public key to publish, and for a `max_age` out of bounds.
    """
    checked_duration("max_age", max_age, timedelta(0), _MAX_AGE)  # a longer one holds up a change of keys
    given = keys.keys if isinstance(keys, TokenService) else keys
    document = (KeySet(given) if isinstance(given, Key) else given).jwks()
    if not document["keys"]:
        raise ConfigurationError(
            "there is no public key to publish: secrets stay secret; sign with RS256, ES256 or EdDSA, or drop the route"
        )
    router = APIRouter(tags=["auth"])
    headers = {"Cache-Control": f"public, max-age={int(max_age.total_seconds())}"}
    documented: dict[str, Any] = {"headers": {"Cache-Control": {"schema": {"type": "string"}}}}

    @router.get(
        path, summary="Public keys", response_class=_JwkSetResponse, response_model=JwkSet, responses={200: documented}
    )
    async def jwks() -> _JwkSetResponse:
        """Return the public keys with which tokens of this service can be verified."""
        return _JwkSetResponse(document, headers=headers)

    return router
