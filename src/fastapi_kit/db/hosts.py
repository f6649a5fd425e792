"""Where new connections go, to one server or to several replicas in turn, and which old ones still lead somewhere."""

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import count
from time import monotonic
from typing import Any, TypeVar

from fastapi_kit.errors import ConfigurationError, needs_extra

with needs_extra("db"):
    from sqlalchemy import event
    from sqlalchemy.engine import URL, Dialect, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
    from sqlalchemy.pool import ConnectionPoolEntry

    # Nothing that is documented puts a time limit on what SQLAlchemy awaits for a driver.
    from sqlalchemy.util import await_only, greenlet_spawn

__all__ = ["Hosts", "without_time_outs"]

ResultT = TypeVar("ResultT")

_log = logging.getLogger("fastapi_kit.db")

_FALLBACK_UNTIL = "fastapi_kit_fallback_until"
_HOST = "fastapi_kit_host"
_TRUSTED_UNTIL = "fastapi_kit_trusted_until"
_TIME_OUTS = frozenset({"command_timeout", "read_timeout"})
_has_time_outs: ContextVar[bool] = ContextVar("fastapi_kit_time_outs", default=True)


@contextmanager
def without_time_outs() -> Generator[None]:
    """Let the drivers wait for ever on connections that are made within the block: a migration may take its time."""
    token = _has_time_outs.set(False)
    try:
        yield
    finally:
        _has_time_outs.reset(token)


class Hosts:
    """Connect to `urls` in turn; to the next where one does not answer, and to `fallback` where none does.

    A host that did not answer is tried last for `retry_seconds`, so that not every connection waits for it. After as
    long a connection to the fallback is replaced when it is next used, so that the load goes back.

    A connection that was used within `trust_seconds` is used again unasked: under load the question would be a round
    trip of every request. If its server has died unseen in that time, the request is a 503.
    """

    retry_seconds: float = 10.0
    trust_seconds: float = 0.5

    def __init__(self, urls: Sequence[URL], *, fallback: URL | None = None) -> None:
        self._urls = list(urls)
        self._fallback = fallback
        self._turns = count()
        self._avoided_until: dict[URL, float] = {}
        self._limit_seconds = 0.0
        drivers = {url.drivername for url in (*urls, *([fallback] if fallback else []))}
        if len(drivers) > 1:
            raise ConfigurationError(f"`replicas` have other drivers than the database: {', '.join(sorted(drivers))}")

    @property
    def first(self) -> URL:
        """Return the one whose settings the engine gets."""
        return self._urls[0]

    def serve(self, engine: Engine, *, limit_seconds: float, pings: bool) -> None:
        """Make the new connections of an engine here, each within `limit_seconds` under an async driver.

        `pings`: whether a connection is asked, before it is used again, if its server is still there. SQLAlchemy's
        `pool_pre_ping` does so too, but waits for ever for one that hangs, or lets through what asyncpg raises then.
        """
        self._limit_seconds = limit_seconds
        event.listen(engine, "do_connect", self._connect)
        event.listen(engine, "close", self._hang_up)
        event.listen(engine, "checkin", self._trust)
        if pings:
            event.listen(
                engine, "checkout", lambda connection, record, _: self._ping(engine.dialect, connection, record)
            )
        if self._fallback:
            event.listen(engine, "checkout", self._leave_fallback)

    def _connect(
        self, dialect: Dialect, record: ConnectionPoolEntry, args: list[Any], params: dict[str, Any]
    ) -> DBAPIConnection:
        # SQLAlchemy asks no other listener after one that connects, and the user's may have a fresh password.
        for listener in dialect.dispatch.do_connect:
            connection: DBAPIConnection | None = None
            if listener != self._connect:
                connection = listener(dialect, record, args, params)
            if connection is not None:
                record.info[_HOST] = self.first
                return connection
        *others, last = self._in_order()
        for url in others:
            try:
                return self._connect_to(url, dialect, record, args, params)
            except (OSError, dialect.loaded_dbapi.Error):
                self._avoid(url)
        try:
            return self._connect_to(last, dialect, record, args, params)
        except OSError as exc:  # asyncpg lets them through, refused, unresolved and timed out alike
            of_driver = [exc] if dialect.driver == "asyncpg" else []  # whose errors are SQLAlchemy's
            raise dialect.loaded_dbapi.OperationalError(f"{type(exc).__name__}: {exc}", *of_driver) from exc

    def _in_order(self) -> list[URL]:
        turn = next(self._turns) % len(self._urls)
        in_turn = self._urls[turn:] + self._urls[:turn]
        if self._fallback:
            in_turn.append(self._fallback)
        return sorted(in_turn, key=self._is_avoided)

    def _avoid(self, url: URL) -> None:
        if len(self._urls) > 1 or self._fallback:
            _log.warning("%s:%s does not answer and is left out for %g s", url.host, url.port, self.retry_seconds)
        self._avoided_until[url] = monotonic() + self.retry_seconds

    def _is_avoided(self, url: URL) -> bool:
        return self._avoided_until.get(url, 0) > monotonic()

    def _connect_to(
        self, url: URL, dialect: Dialect, record: ConnectionPoolEntry, args: list[Any], params: dict[str, Any]
    ) -> DBAPIConnection:
        _, of_first = dialect.create_connect_args(self.first)
        _, own = dialect.create_connect_args(url)
        # What differs, over what was given: a listener of the user's may have changed that.
        params = params | {k: v for k, v in own.items() if of_first.get(k) != v}
        if not _has_time_outs.get():
            params = {k: v for k, v in params.items() if k not in _TIME_OUTS}
        connection = self._in_time(dialect, lambda: dialect.connect(*args, **params))
        record.info[_HOST] = url
        record.info[_TRUSTED_UNTIL] = monotonic() + self.trust_seconds
        if url == self._fallback:
            record.info[_FALLBACK_UNTIL] = monotonic() + self.retry_seconds
        return connection

    def _in_time(self, dialect: Dialect, call: Callable[[], ResultT]) -> ResultT:
        """Return what a call of an async driver returns, within the limit; its own limits leave gaps."""
        if not dialect.is_async:
            return call()

        async def within_limit() -> ResultT:
            async with asyncio.timeout(self._limit_seconds):
                return await greenlet_spawn(call)

        return await_only(within_limit())

    def _ping(self, dialect: Dialect, connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        """Have a connection replaced that does not answer; with it all that are older, whose server has gone too."""
        is_closed = getattr(record.driver_connection, "is_closed", bool)  # asyncpg is told when its server goes
        if monotonic() < record.info.get(_TRUSTED_UNTIL, 0) and not is_closed():
            return
        lost: tuple[type[Exception], ...] = (OSError, dialect.loaded_dbapi.Error)
        ask = partial(dialect.do_ping, connection)
        if dialect.driver == "asyncpg":  # its own question makes one round trip, SQLAlchemy's `do_ping` three
            asyncpg: Any = dialect.loaded_dbapi.driver
            lost = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
            driver: Any = record.driver_connection
            ask = partial(_execute, driver)
        try:
            self._in_time(dialect, ask)
        except lost as exc:
            self._avoid(record.info[_HOST])
            raise InvalidatePoolError(f"{type(exc).__name__}: {exc}") from exc

    def _trust(self, connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        if connection and getattr(record.driver_connection, "is_in_transaction", bool)():
            record.invalidate()  # of asyncpg, which somebody else has begun: `text("BEGIN")`
        record.info[_TRUSTED_UNTIL] = monotonic() + self.trust_seconds

    def _hang_up(self, connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        # asyncpg says goodbye and waits two seconds for the answer, each time, of a server that hangs.
        if self._is_avoided(record.info[_HOST]):
            getattr(record.driver_connection, "terminate", lambda: None)()

    def _leave_fallback(self, connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: object) -> None:
        if monotonic() > record.info.get(_FALLBACK_UNTIL, monotonic()):
            raise DisconnectionError("a replica may answer again")


def _execute(asyncpg_connection: Any) -> bool:
    await_only(asyncpg_connection.execute("SELECT 1"))
    return True
