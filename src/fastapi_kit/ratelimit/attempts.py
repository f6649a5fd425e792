"""Limits on the guesses at a password, by account and by address."""

import unicodedata
from collections.abc import Sequence
from hashlib import sha256
from typing import Literal, Protocol, get_args

from starlette.requests import HTTPConnection

from fastapi_kit.errors import ConfigurationError, UnavailableError, raises
from fastapi_kit.ratelimit.client_ip import ClientIP
from fastapi_kit.ratelimit.counters import Counters, Standing
from fastapi_kit.ratelimit.errors import RateLimitExceededError
from fastapi_kit.ratelimit.keys import bounded
from fastapi_kit.ratelimit.ledger import Charge, ledger_of
from fastapi_kit.ratelimit.rates import parse_rates, refusal

__all__ = ["Attempts", "CountedBy"]

CountedBy = Literal["account_and_address", "account", "address"]
"""What attempts are counted by."""


_LONGEST_ACCOUNT = 320  # an address of mail (RFC 5321 section 4.5.3.1), and what `login_router` takes


class _Switch(Protocol):
    enabled: bool


class Attempts:
    """Bound the guesses at passwords, made by `limiter.attempts(...)`: `login_router(..., limit=[...])`.

    Each attempt is counted before the password is looked at, so of any number of guesses at the same moment no more
    pass than the rate allows. A log-in that succeeds gives back its own attempt, and no other: who logs in often is not
    locked out, while failures stay counted until their window ends, whoever logs in meanwhile.

    What counts by account counts twice. By the name that was typed, before anything is looked up, for known and
    unknown names alike: one too many is a 429. And by the subject of the account that was found, since a database may
    take many names for one: one too many is answered as a wrong password is, or a 429 would tell which names exist.

    An attempt is given back in the window in which it was counted, and in no later one. Attempts are counted by the
    strategy of the limiter: by fixed windows up to twice the rate can pass around the edge of one.

    While the storage fails no attempt passes (503), whatever the limiter's `on_failure`.

    Security: who counts by account lets anybody lock anybody out, by guessing wrong on purpose; who counts by address
    alone is open to a botnet. So count by several, the narrow one strictly and the others loosely:

        limit=[
            limiter.attempts("5/15 minutes", by="account_and_address"),  # one machine against one account
            limiter.attempts("100/day", by="account"),  # many machines against one account
            limiter.attempts("100/hour", by="address"),  # one machine, or one office, against many accounts
        ]

    The first locks out nobody but the guesser. The second can still lock an owner out; make it as loose as your weakest
    password allows. The third has to leave room for the mistakes of all who share an address.

    Names and subjects are stored hashed. Names that differ in case, accents, spaces or invisible characters share a
    count.

    Raises `ConfigurationError` for rates, a `by` or a scope that cannot work.
    """

    def __init__(
        self,
        switch: _Switch,
        *,
        counters: Counters,
        prefix: str,
        rates: str,
        by: CountedBy,
        scope: str,
        address: ClientIP,
    ) -> None:
        if by not in get_args(CountedBy):
            raise ConfigurationError(f"by={by!r}: use one of {', '.join(get_args(CountedBy))}")
        if not scope:
            raise ConfigurationError('scope="" names nothing: use for example scope="login", or leave it out')
        self._items = parse_rates(rates)
        self._switch = switch
        self._counters = counters
        self._prefix = (prefix,) if prefix else ()
        self._by: CountedBy = by
        self._scope = scope
        self._address = address

    @raises(RateLimitExceededError, UnavailableError)
    async def begin(self, connection: HTTPConnection, account: str, /) -> None:
        """Count an attempt by the name that was typed, or by the address alone.

        Raises `RateLimitExceededError` (429, `rate_limited`) if it is one too many; `UnavailableError` (503) when the
        storage does not answer.
        """
        if not self._switch.enabled:
            return
        standings = await self._take(connection, "name", _folded(account) if self._by != "address" else "")
        if standings is not None:
            connection.state.view_rate_limit = None  # slowapi's handler reads it, and fails without
            error = refusal(self._items, standings, 1, {}, key=self._address, scope=self._scope)
            await ledger_of(connection.scope).refuse(error)
            raise error

    @raises(UnavailableError)
    async def admits(self, connection: HTTPConnection, subject: str, /) -> bool:
        """Count the attempt by the account that was found; return whether it is not one too many.

        True where the address alone is counted. Raises `UnavailableError` (503) when the storage does not answer.
        """
        if not self._switch.enabled or self._by == "address":
            return True
        return await self._take(connection, "subject", subject) is None

    async def succeeded(self, connection: HTTPConnection, account: str, subject: str, /) -> None:
        """Give back what `begin` and `admits` counted of this attempt.

        When the storage does not answer it stays counted, with a warning in the log of `fastapi_kit.ratelimit`.
        """
        await ledger_of(connection.scope).give_back(self)

    async def _take(self, connection: HTTPConnection, kind: str, who: str) -> Sequence[Standing] | None:
        """Count one; return how the limits stand if they refuse it."""
        address = bounded(self._address.key_of(connection)) if self._by != "account" else ""
        digest = sha256(who.encode(errors="surrogatepass")).hexdigest()
        bucket = (*self._prefix, "attempts", self._by, kind, digest, address, self._scope)
        try:
            standings, taken = await self._counters.take(self._items, bucket, 1)
        except UnavailableError as exc:
            await ledger_of(connection.scope).refuse(exc)
            raise
        if taken is None:
            return standings
        ledger_of(connection.scope).add(Charge(self, self._counters, taken))
        return None


def _folded(account: str) -> str:
    """Return an account's name, alike for the spellings that differ in what is easily overlooked.

    One that is longer than any account's stays as it is: the time for marks that combine grows with their square.
    """
    if len(account) > _LONGEST_ACCOUNT:
        return account
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", account).casefold())
    return "".join(letter for letter in letters if unicodedata.category(letter)[0] not in "MCZ")
