"""What a token of an outside issuer can be answered with, besides a `TokenError`."""

from collections.abc import Mapping
from typing import ClassVar

from fastapi_kit.errors import Problem

__all__ = ["IssuerUnavailableError"]


class IssuerUnavailableError(Problem):
    """Answer 503 with Retry-After: the keys of an outside issuer are not known and cannot be fetched now.

    It is no 401, since the token may be good, and a client that gets a 401 throws it away. Why they cannot be fetched
    is the error's `__cause__`, and in the log; the client is not told.
    """

    code = "issuer_unavailable"
    status = 503
    title = "The issuer of the token does not answer"
    response_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "Seconds to wait before the next try."}

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("Try again in a few seconds.", headers={"Retry-After": str(retry_after_seconds)})
