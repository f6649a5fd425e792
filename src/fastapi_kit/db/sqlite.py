"""SQLite with transactions that hold from the first statement on, a SELECT included."""

import sqlite3
from typing import Any, Self

from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy import event
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import PoolResetState

__all__ = ["Transactional", "keep_transactions", "writing"]

_LEVEL = "fastapi_kit_begin"


class Transactional(sqlite3.Connection):
    """Begin a transaction at the first statement of any kind, with the lock that `isolation_level` names.

    Python's own begins at the first write, so that what was read before may have changed by then.
    SQLAlchemy's recipe, a BEGIN from its event, costs one more round trip to the driver's thread for each
    transaction; here it is sent from that thread. `isolation_level` None begins nothing, as it always did.
    """

    def cursor(self, factory: Any = None) -> Any:
        """Return a cursor that begins the transaction."""
        return super().cursor(_Cursor)


class _Cursor(sqlite3.Cursor):
    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        self._begin()
        return super().execute(sql, parameters)

    def executemany(self, sql: str, seq_of_parameters: Any, /) -> Self:
        self._begin()
        return super().executemany(sql, seq_of_parameters)

    def _begin(self) -> None:
        connection = self.connection
        if not connection.in_transaction and connection.isolation_level is not None:
            super().execute(f"BEGIN {connection.isolation_level}")


def keep_transactions(engine: AsyncEngine) -> None:
    """Set up each connection of an engine whose factory is `Transactional`, and each transaction's lock."""
    event.listen(engine.sync_engine, "connect", _set_pragmas)
    event.listen(engine.sync_engine, "begin", _choose_lock)
    event.listen(engine.sync_engine, "reset", _roll_back)


def writing(engine: AsyncEngine) -> AsyncEngine:
    """Return the same engine and pool for transactions that will write; a server's engine unchanged.

    SQLite has one writer at a time. A transaction that reads first and writes later fails at once if another
    has written in between; one that takes the lock when it begins waits for its turn.
    """
    return engine.execution_options(**{_LEVEL: "IMMEDIATE"}) if engine.dialect.name == "sqlite" else engine


def _set_pragmas(connection: Any, record: object) -> None:
    def pragmas(driver: Any) -> Any:
        return driver.executescript("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON")

    connection.run_async(pragmas)


def _roll_back(connection: Any, record: object, state: PoolResetState) -> None:
    # In place of the pool's own ROLLBACK, which costs a round trip to the driver's thread after a commit as well.
    if not state.terminate_only and connection.driver_connection.in_transaction:
        connection.rollback()


def _choose_lock(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("isolation_level") != "AUTOCOMMIT":
        driver: Any = connection.connection.driver_connection
        driver.isolation_level = options.get(_LEVEL, "DEFERRED")
