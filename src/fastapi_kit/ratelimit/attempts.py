"""Limits on the guesses at a password, by account and by address."""

import logging
import time
import unicodedata
from hashlib import sha256
from typing import Literal, Protocol, get_args

from starlette.requests import HTTPConnection

from fastapi_kit.errors import ConfigurationError, UnavailableError, raises
from fastapi_kit.ratelimit.counters import Counters
from fastapi_kit.ratelimit.errors import RateLimitExceededError
from fastapi_kit.ratelimit.keys import ClientIP, bounded
from fastapi_kit.ratelimit.rates import parse_rates, refusal

__all__ = ["Attempts", "CountedBy"]

CountedBy = Literal["account_and_address", "account", "address"]
"""What attempts are counted by."""

_log = logging.getLogger("fastapi_kit.ratelimit")


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

    Attempts are counted in fixed windows, whatever the strategy of the limiter, so around the edge of one up to twice
    the rate can pass. What began in one window and succeeds in the next is given back in the next. By address alone,
    log-ins to accounts of one's own that are under way at the edge so win as many guesses as they are, at most the
    rate; by account they win none, since nobody else's log-in is given back to the account that was found.

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

    @raises(RateLimitExceededError, UnavailableError)
    async def begin(self, connection: HTTPConnection, account: str, /) -> None:
        """Count an attempt by the name that was typed, or by the address alone.

        Raises `RateLimitExceededError` (429, `rate_limited`) if it is one too many; `UnavailableError` (503) when the
        storage does not answer.
        """
        if not self._switch.enabled:
            return
        verdict = await self._counters.take_attempt(self._items, self._by_name(connection, account))
        if verdict.refused:
            connection.state.view_rate_limit = None  # slowapi's handler reads it, and fails without
            raise refusal(self._items, verdict, time.time(), {}, key=self._address, scope=self._scope, cost=1)

    @raises(UnavailableError)
    async def admits(self, connection: HTTPConnection, subject: str, /) -> bool:
        """Count the attempt by the account that was found; return whether it is not one too many.

        True where the address alone is counted. Raises `UnavailableError` (503) when the storage does not answer.
        """
        if not self._switch.enabled or self._by == "address":
            return True
        verdict = await self._counters.take_attempt(self._items, self._by_subject(connection, subject))
        return not verdict.refused

    async def succeeded(self, connection: HTTPConnection, account: str, subject: str, /) -> None:
        """Give back what `begin` and `admits` counted of this attempt.

        When the storage does not answer it stays counted, with a warning in the log of `fastapi_kit.ratelimit`.
        """
        if not self._switch.enabled:
            return
        try:
            await self._counters.give_back(self._items, self._by_name(connection, account))
            if self._by != "address":
                await self._counters.give_back(self._items, self._by_subject(connection, subject))
        except Exception as exc:  # noqa: BLE001 (whatever it is, the password was right)
            _log.warning("The attempt of a log-in that succeeded stays counted: %s", type(exc).__name__)

    def _by_name(self, connection: HTTPConnection, account: str) -> tuple[str, ...]:
        return self._bucket(connection, "name", _folded(account) if self._by != "address" else "")

    def _by_subject(self, connection: HTTPConnection, subject: str) -> tuple[str, ...]:
        return self._bucket(connection, "subject", subject)

    def _bucket(self, connection: HTTPConnection, kind: str, who: str) -> tuple[str, ...]:
        address = bounded(self._address.key_of(connection)) if self._by != "account" else ""
        digest = sha256(who.encode(errors="surrogatepass")).hexdigest()
        return (*self._prefix, "attempts", self._by, kind, digest, address, self._scope)


def _folded(account: str) -> str:
    """Return an account's name, alike for the spellings that differ in what is easily overlooked."""
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", account).casefold())
    return "".join(letter for letter in letters if unicodedata.category(letter)[0] not in "MCZ")
