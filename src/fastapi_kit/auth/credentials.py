"""The two ports through which `Auth` learns who is calling."""

from collections.abc import Awaitable
from typing import Protocol

from fastapi.openapi.models import SecurityBase as SchemeModel
from starlette.requests import HTTPConnection

from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.errors import Problem

__all__ = ["Credential", "TokenVerifier"]


class TokenVerifier(Protocol):
    """What verifies access tokens: `TokenService`, `Sessions`, `OutsideIssuer`, `Issuers`, or your own.

    What `verify` can raise besides `TokenError` is declared on it with `errors.raises`, so that OpenAPI tells.
    """

    def verify(self, token: str, /) -> AccessClaims | Awaitable[AccessClaims]:
        """Return what a token says; raise `TokenError` for every other string."""
        ...


class Credential(Protocol):
    """One way in which a request can say who is calling: `TokenCookies`, `ApiKeys`, or your own."""

    @property
    def scheme_name(self) -> str:
        """What OpenAPI calls it; no two credentials of an `Auth` have the same."""
        ...

    @property
    def model(self) -> SchemeModel:
        """How OpenAPI describes it."""
        ...

    @property
    def challenge(self) -> str:
        """What the 401 of a request without credentials says of it in `WWW-Authenticate`."""
        ...

    @property
    def problems(self) -> tuple[type[Problem], ...]:
        """What `find` and `verify` can raise."""
        ...

    def find(self, connection: HTTPConnection, /) -> str | None:
        """Return what the request carries of this kind, `None` for nothing, before any of it is trusted."""
        ...

    def verify(self, value: str, connection: HTTPConnection, /) -> AccessClaims | Awaitable[AccessClaims]:
        """Return what the credentials say, or raise one of `problems`."""
        ...
