"""The port through which log-ins are limited."""

from typing import Protocol

from starlette.requests import HTTPConnection

__all__ = ["AttemptLimit"]


class AttemptLimit(Protocol):
    """What bounds the guesses at a password: `limiter.attempts(...)` of `ratelimit`, or your own.

    What `begin` can raise is declared on it with `errors.raises`, so that OpenAPI tells.
    """

    async def begin(self, connection: HTTPConnection, account: str, /) -> None:
        """Count an attempt before the password is looked at; raise a `Problem` such as a 429 if it is one too many.

        To count first is what many guesses at the same moment cannot slip through. `account` is what the client sent
        as the user name: there may be no such account, and the answer must be the same.
        """
        ...

    async def succeeded(self, connection: HTTPConnection, account: str, /) -> None:
        """Forget what was counted against this account, so that who logs in often is not locked out."""
        ...
