"""The bearer token of the Authorization header (RFC 6750, 2.1)."""

import re
from collections.abc import Awaitable, Mapping

from fastapi.openapi.models import HTTPBearer, OAuth2, OAuthFlowPassword, OAuthFlows
from fastapi.openapi.models import SecurityBase as SchemeModel
from starlette.requests import HTTPConnection

from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.credentials import TokenVerifier
from fastapi_kit.auth.errors import MalformedCredentialsError, TokenError
from fastapi_kit.errors import Problem
from fastapi_kit.errors.declaration import problems_of

__all__ = ["BearerToken", "bearer_token"]

_QUERY_TOKEN = re.compile(rb"(?:^|&)access_token=")


class BearerToken:
    """Access tokens in the Authorization header: what `Auth` makes of a `TokenVerifier`."""

    challenge = "Bearer"

    def __init__(self, verifier: TokenVerifier, token_url: str | None, scopes: Mapping[str, str]) -> None:
        self.scheme_name = "Bearer"
        self.model: SchemeModel = HTTPBearer(bearerFormat="JWT")
        if token_url is not None:
            self.scheme_name = "Login"
            self.model = OAuth2(flows=OAuthFlows(password=OAuthFlowPassword(tokenUrl=token_url, scopes=dict(scopes))))
        self.problems: tuple[type[Problem], ...] = (
            MalformedCredentialsError,
            TokenError,
            *problems_of(verifier.verify),
        )
        self._verifier = verifier

    def find(self, connection: HTTPConnection) -> str | None:
        """Return the token, as `bearer_token` does."""
        return bearer_token(connection)

    def verify(self, value: str, _: HTTPConnection) -> AccessClaims | Awaitable[AccessClaims]:
        """Return what the token says."""
        return self._verifier.verify(value)


def bearer_token(connection: HTTPConnection) -> str | None:
    """Return the token of the Authorization header; `None` where there is none, or another scheme's.

    Raises `MalformedCredentialsError` (400, `invalid_request`) for the scheme without a token or with several, for
    two Authorization headers, and for a token in the query besides: a request uses one method (RFC 6750, 2). A token in
    the query alone is not read, since URLs end up in logs.
    """
    headers = [value for name, value in connection.scope["headers"] if name == b"authorization"]
    if not headers:
        return None
    if len(headers) > 1:
        raise MalformedCredentialsError("Send one Authorization header.")
    scheme, _, rest = headers[0].partition(b" ")
    if scheme.lower() != b"bearer":  # case-insensitive: RFC 9110, 11.1
        return None
    token: bytes = rest.strip(b" ")
    if not token or b" " in token:
        raise MalformedCredentialsError("Send one token: Authorization: Bearer <token>")
    if _QUERY_TOKEN.search(connection.scope["query_string"]):
        raise MalformedCredentialsError("Send the token in the Authorization header alone.")
    return token.decode("latin-1")
