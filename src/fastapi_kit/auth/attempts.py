"""The port through which log-ins are limited."""

from typing import Protocol

from starlette.requests import HTTPConnection

__all__ = ["AttemptLimit"]


class AttemptLimit(Protocol):
    """What bounds the guesses at a password: `limiter.attempts(...)` of `ratelimit`, or your own.

    A log-in calls `begin`, looks the account up, calls `admits` if there is one, looks at the password, and calls
    `succeeded` if it was right. What `begin` and `admits` can raise is declared on them with `errors.raises`, so that
    OpenAPI tells.
    """

    async def begin(self, connection: HTTPConnection, account: str, /) -> None:
        """Count an attempt before anything is looked up; raise a `Problem` such as a 429 if it is one too many.

        To count first is what many guesses at the same moment cannot slip through. `account` is what the client sent
        as the user name: there may be no such account, and the answer must be the same.
        """
        ...

    async def admits(self, connection: HTTPConnection, subject: str, /) -> bool:
        """Count the attempt against the account that was found; return whether its password may be looked at.

        `subject` is the account's own, however its name was spelled. False is answered as a wrong password is, after
        the same time: a 429 would tell which names exist.
        """
        ...

    async def succeeded(self, connection: HTTPConnection, account: str, subject: str, /) -> None:
        """Give back what this attempt counted, so that who logs in often is not locked out.

        No more than that: who logs in to an account of his own must not win guesses at another.
        """
        ...
