"""The bearer token of the Authorization header (RFC 6750, 2.1)."""

import inspect
import re
from collections.abc import Awaitable, Mapping, Sequence
from typing import TypeGuard, cast

from fastapi.openapi.models import HTTPBearer, OAuth2, OAuthFlowPassword, OAuthFlows
from fastapi.openapi.models import SecurityBase as SchemeModel
from starlette.requests import HTTPConnection

from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.credentials import Credential, TokenVerifier
from fastapi_kit.auth.errors import MalformedCredentialsError, TokenError
from fastapi_kit.auth.tokens import TokenService
from fastapi_kit.errors import ConfigurationError, Problem
from fastapi_kit.errors.declaration import problems_of

__all__ = ["BearerToken", "Credentials", "bearer_token", "credentials_of"]

Credentials = TokenVerifier | Credential | Sequence[TokenVerifier | Credential]
"""What a request can authenticate with; a `TokenVerifier` stands for the Authorization header."""

_QUERY_TOKEN = re.compile(rb"(?:^|&)access_token=")


class BearerToken:
    """Access tokens in the Authorization header: what `Auth` makes of a `TokenVerifier`."""

    challenge: str = "Bearer"

    def __init__(self, verifier: TokenVerifier, token_url: str | None, scopes: Mapping[str, str]) -> None:
        self.scheme_name: str = "Bearer"
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


def credentials_of(given: Credentials, token_url: str | None, scopes: Mapping[str, str]) -> tuple[Credential, ...]:
    """Return each way to authenticate.

    Raises `ConfigurationError` for none, for the same twice, and for what is no way to authenticate.
    """
    credentials: list[Credential] = []
    for one in given if isinstance(given, Sequence) else [given]:
        if hasattr(one, "scheme_name"):
            credentials.append(cast(Credential, one))
        elif _is_verifier(one):
            if isinstance(one, TokenService) and one.purpose != "at":
                raise ConfigurationError(
                    f"credentials has the TokenService for {one.purpose!r}: its tokens must open no route; verify them"
                    " in the endpoint that they are for"
                )
            credentials.append(BearerToken(one, token_url, scopes))
        else:
            raise ConfigurationError(
                f"credentials has a {type(one).__name__}: give a TokenService, or a list of what a request may use"
            )
    names = [credential.scheme_name for credential in credentials]
    if not names or len(set(names)) < len(names):
        raise ConfigurationError(
            f"credentials are {names}: give one or more, each of another kind; Issuers(...) joins several issuers"
        )
    return tuple(credentials)


def _is_verifier(one: object) -> TypeGuard[TokenVerifier]:
    verify = getattr(one, "verify", None)
    try:
        return callable(verify) and inspect.signature(verify).bind("token") is not None
    except TypeError:  # as of a Key, which verifies a message and its signature
        return False
