"""The answer to a request that is one too many."""

from collections.abc import Mapping
from typing import ClassVar

from starlette.exceptions import HTTPException

from fastapi_kit.errors import Problem, needs_extra

with needs_extra("ratelimit"):
    from slowapi.errors import RateLimitExceeded

__all__ = ["RateLimitExceededError"]


class _SlowapiError(RateLimitExceeded):
    """slowapi's exception with the constructor of `HTTPException`, which `Problem` builds on."""

    def __init__(self, status_code: int, detail: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        HTTPException.__init__(self, status_code, detail, headers)


class RateLimitExceededError(Problem, _SlowapiError):
    """Answer 429: the quota is used up (RFC 6585 section 4).

    Carries `Retry-After` in whole seconds (at least 1), the same number as the extension
    `retry_after`, and the `RateLimit` fields. It is slowapi's `RateLimitExceeded` too, so a
    handler registered for that one keeps working and finds slowapi's `limit` on it.
    """

    code = "rate_limited"
    status = 429
    title = "Too many requests"
    response_headers: ClassVar[Mapping[str, str]] = {
        "Retry-After": "Whole seconds until a request is let pass again, at least 1.",
        "RateLimit": "What is left of each limit, and the seconds until its window ends.",
        "RateLimit-Policy": "The quota of each limit, and the length of its window in seconds.",
    }
    retry_after: int
