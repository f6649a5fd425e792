"""What the auth block answers with, and the challenges of RFC 6750, section 3."""

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from fastapi_kit.errors import Problem

__all__ = [
    "CsrfError",
    "ForbiddenError",
    "InsufficientScopeError",
    "InvalidApiKeyError",
    "InvalidCredentialsError",
    "InvalidGrantError",
    "InvalidScopeError",
    "MalformedCredentialsError",
    "MissingCredentialsError",
    "PasswordsBusyError",
    "TokenError",
]


_RETRY_AFTER = {"Retry-After": "Seconds to wait before the next try."}
_NO_STORE = {"Cache-Control": "`no-store`: nothing of this is to be kept (RFC 6749, 5.1)."}
_CHALLENGE = {"WWW-Authenticate": "How to authenticate, and what was wrong (RFC 6750, section 3)."}


class _Refusal:
    """What has a `reason` that the client is not told; logs show it."""

    code: ClassVar[str]
    reason: str

    def __str__(self) -> str:
        return f"{self.code} ({self.reason})"  # with a colon, redaction would take the reason for a token


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


class TokenError(_Refusal, Problem):
    """Answer 401: the token does not verify, has expired, or its user is gone (RFC 6750, 3.1).

    The only exception that verifying a token raises; other credentials get it when their user is gone. `reason` says in
    one word why, for logs and tests; the client is told no more than whether the token expired, which only the holder
    of a genuine token can learn.
    """

    code = "invalid_token"
    status = 401
    title = "The credentials are not valid"
    response_headers: ClassVar[Mapping[str, str]] = _CHALLENGE

    def __init__(self, reason: str = "invalid", *, challenge: str = "Bearer") -> None:
        self.reason = reason
        super().__init__(
            "The token has expired." if reason == "expired" else "",
            headers={"WWW-Authenticate": f'{challenge} error="invalid_token"'},
        )


class InsufficientScopeError(Problem):
    """Answer 403: the token lacks a scope. The challenge names what the route needs (RFC 6750, 3.1)."""

    code = "insufficient_scope"
    status = 403
    title = "The credentials lack a scope"
    response_headers: ClassVar[Mapping[str, str]] = _CHALLENGE

    def __init__(self, scopes: Iterable[str]) -> None:
        challenge = f'Bearer error="insufficient_scope", scope="{" ".join(sorted(scopes))}"'
        super().__init__(headers={"WWW-Authenticate": challenge})


class ForbiddenError(Problem):
    """Answer 403: the caller is known, and may not do this."""

    code = "forbidden"
    status = 403
    title = "You may not do this"


class CsrfError(Problem):
    """Answer 403: the request has our cookies, but another site may have made it."""

    code = "csrf_failed"
    status = 403
    title = "The request may come from another site"


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


class InvalidGrantError(_Refusal, Problem):
    """Answer 400: the refresh token is not good, or not any more (RFC 6749, 5.2). The user has to log in again.

    `reason` says in one word why, for logs and tests: "unknown", "expired", "ended" or "replayed". The client is
    not told.
    """

    code = "invalid_grant"
    status = 400
    title = "The log-in has ended"
    response_headers: ClassVar[Mapping[str, str]] = _NO_STORE
    error: Annotated[str, Field(examples=["invalid_grant"])]

    def __init__(self, reason: str = "unknown") -> None:
        self.reason = reason
        super().__init__(headers={"Cache-Control": "no-store"}, error="invalid_grant")


class InvalidScopeError(Problem):
    """Answer 400: a refresh asked for a scope that the log-in does not have (RFC 6749, 5.2 and 6)."""

    code = "invalid_scope"
    status = 400
    title = "The log-in does not have this scope"
    response_headers: ClassVar[Mapping[str, str]] = _NO_STORE
    error: Annotated[str, Field(examples=["invalid_scope"])]

    def __init__(self) -> None:
        super().__init__(headers={"Cache-Control": "no-store"}, error="invalid_scope")


class InvalidApiKeyError(_Refusal, Problem):
    """Answer 401: the API key is not known, was revoked or has expired.

    `reason` says in one word why, for logs and tests: "form", "checksum", "unknown", "secret", "revoked" or "expired".
    The client is told no more than whether the key expired, which only the holder of a genuine key can learn.
    """

    code = "invalid_api_key"
    status = 401
    title = "The API key is not valid"
    response_headers: ClassVar[Mapping[str, str]] = _CHALLENGE

    def __init__(self, reason: str = "unknown") -> None:
        self.reason = reason
        super().__init__(
            "The API key has expired." if reason == "expired" else "",
            headers={"WWW-Authenticate": 'ApiKey error="invalid_api_key"'},
        )
