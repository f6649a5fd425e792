"""What the auth block answers with, and the challenges of RFC 6750, section 3."""

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from fastapi_kit.errors import Problem

__all__ = [
    "ForbiddenError",
    "InsufficientScopeError",
    "InvalidCredentialsError",
    "MalformedCredentialsError",
    "MissingCredentialsError",
    "PasswordsBusyError",
    "TokenError",
]


_RETRY_AFTER = {"Retry-After": "Seconds to wait before the next try."}
_CHALLENGE = {"WWW-Authenticate": "How to authenticate, and what was wrong (RFC 6750, section 3)."}


class MissingCredentialsError(Problem):
    """Answer 401: the request carries no credentials. The challenge is bare (RFC 6750, 3.1).

    `challenge` names every way to authenticate that the route knows.
    """

    code = "missing_credentials"
    status = 401
    title = "Authentication is required"
    response_headers: ClassVar[Mapping[str, str]] = _CHALLENGE

    def __init__(self, challenge: str = "Bearer") -> None:
        super().__init__(headers={"WWW-Authenticate": challenge})


class MalformedCredentialsError(Problem):
    """Answer 400: credentials came in no valid form, or in two ways at once (RFC 6750, 3.1)."""

    code = "invalid_request"
    status = 400
    title = "The credentials are malformed"
    response_headers: ClassVar[Mapping[str, str]] = _CHALLENGE

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer error="invalid_request"'})


class TokenError(Problem):
    """Answer 401: the token does not verify, has expired, or its user is gone (RFC 6750, 3.1).

    The only exception that verifying a token raises. `reason` says in one word why, for logs and tests; the client
    is told no more than whether the token expired, which only the holder of a genuine token can learn.
    """

    code = "invalid_token"
    status = 401
    title = "The token is not valid"
    response_headers: ClassVar[Mapping[str, str]] = _CHALLENGE

    def __init__(self, reason: str = "invalid") -> None:
        self.reason = reason
        super().__init__(
            "The token has expired." if reason == "expired" else "",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        )


class InsufficientScopeError(Problem):
    """Answer 403: the token lacks a scope. The challenge names what the route needs (RFC 6750, 3.1)."""

    code = "insufficient_scope"
    status = 403
    title = "The token lacks a scope"
    response_headers: ClassVar[Mapping[str, str]] = _CHALLENGE

    def __init__(self, scopes: Iterable[str]) -> None:
        challenge = f'Bearer error="insufficient_scope", scope="{" ".join(sorted(scopes))}"'
        super().__init__(headers={"WWW-Authenticate": challenge})


class ForbiddenError(Problem):
    """Answer 403: the caller is known, and may not do this."""

    code = "forbidden"
    status = 403
    title = "You may not do this"


class InvalidCredentialsError(Problem):
    """Answer 401 to a log-in: no such user, a wrong password or an inactive account; which of them is not said."""

    code = "invalid_credentials"
    status = 401
    title = "The user name or the password is wrong"
    response_headers: ClassVar[Mapping[str, str]] = _CHALLENGE
    error: Annotated[str, Field(examples=["invalid_grant"])]

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        # The member `error` is what OAuth2 clients look for (RFC 6749, 5.2).
        super().__init__(headers={"WWW-Authenticate": "Bearer", **(headers or {})}, error="invalid_grant")


class PasswordsBusyError(Problem):
    """Answer 503 with Retry-After: as many passwords wait to be hashed as may."""

    code = "passwords_busy"
    status = 503
    title = "Too many log-ins at once"
    response_headers: ClassVar[Mapping[str, str]] = _RETRY_AFTER

    def __init__(self) -> None:
        super().__init__("Try again in a few seconds.", headers={"Retry-After": "2"})
