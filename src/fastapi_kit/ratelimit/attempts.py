"""Limits on the guesses at a password, by account and by address."""

import time
import unicodedata
from hashlib import sha256
from typing import Literal, Protocol, get_args

from starlette.requests import HTTPConnection

from fastapi_kit.errors import ConfigurationError, raises
from fastapi_kit.ratelimit.counters import Counters
from fastapi_kit.ratelimit.errors import RateLimitExceededError
from fastapi_kit.ratelimit.keys import ClientIP, bounded
from fastapi_kit.ratelimit.rates import parse_rates, refusal

__all__ = ["Attempts", "CountedBy"]

CountedBy = Literal["account_and_address", "account", "address"]
"""What attempts are counted by."""


class _Switch(Protocol):
    enabled: bool


class Attempts:
    """Bound the guesses at passwords, made by `limiter.attempts(...)`: `login_router(..., limit=[...])`.

    Each attempt is counted before the password is looked at, so of any number of guesses at the same moment no more
    pass than the rate allows. A log-in that succeeds clears what was counted for its account. It never clears what was
    counted for its address alone: an attacker would log in to an account of his own between guesses.

    Security: who counts by account lets anybody lock anybody out, by guessing wrong on purpose; who counts by address
    alone is open to a botnet. So count by several, the narrow one strictly and the others loosely:

        limit=[
            limiter.attempts("5/15 minutes", by="account_and_address"),  # one machine against one account
            limiter.attempts("100/day", by="account"),  # many machines against one account
            limiter.attempts("100/hour", by="address"),  # one machine, or one office, against many accounts
        ]

    The first locks out nobody but the guesser. The second can still lock an owner out; make it as loose as your weakest
    password allows. The third has to leave room for all who share an address, since log-ins that succeed count too.

    Accounts are hashed, and names that differ in case, accents, spaces or invisible characters share a count, since
    they may be one to the database. Where it takes still more for the same, look accounts up by a column that does
    not, or each spelling has attempts of its own.

    Raises `ConfigurationError` for rates, a `by` or a scope that cannot work.
    """

    def __init__(
        self,
        switch: _Switch,
        *,
        counters: Counters,
        prefix: tuple[str, ...],
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
        self._prefix = prefix
        self._by: CountedBy = by
        self._scope = scope
        self._address = address

    @raises(RateLimitExceededError)
    async def begin(self, connection: HTTPConnection, account: str, /) -> None:
        """Count an attempt; raise `RateLimitExceededError` (429, `rate_limited`) if it is one too many."""
        if not self._switch.enabled:
            return
        verdict = await self._counters.take(self._items, self._bucket(connection, account), 1)
        if verdict.refused:
            connection.state.view_rate_limit = None  # slowapi's handler reads it, and fails without
            raise refusal(self._items, verdict, time.time(), {}, key=self._address, scope=self._scope, cost=1)

    async def succeeded(self, connection: HTTPConnection, account: str, /) -> None:
        """Forget the attempts at this account, from this address where both are counted."""
        if self._switch.enabled and self._by != "address":
            await self._counters.clear(self._items, self._bucket(connection, account))

    def _bucket(self, connection: HTTPConnection, account: str) -> tuple[str, ...]:
        address = bounded(self._address.key_of(connection)) if self._by != "account" else ""
        who = _digest(account) if self._by != "address" else ""
        return (*self._prefix, "attempts", self._by, who, address, self._scope)


def _digest(account: str) -> str:
    """Return the SHA-256 of an account's name, alike for all spellings that a database may take for one."""
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", account).casefold())
    kept = "".join(letter for letter in letters if unicodedata.category(letter)[0] not in "MCZ")
    return sha256(kept.encode()).hexdigest()
