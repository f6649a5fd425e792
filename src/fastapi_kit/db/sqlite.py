"""SQLite with transactions that hold from the first statement on, a SELECT included, and readers without one."""

import sqlite3
from typing import Any, Self, cast

from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy import event
    from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection
    from sqlalchemy.engine import Connection, Dialect
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["Transactional", "keep_transactions", "reading", "writing"]

_LEVEL = "fastapi_kit_begin"
_READING = ""
_QUERY_ONLY = "fastapi_kit_query_only"


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
        self._begin(sql)
        return super().execute(sql, parameters)

    def executemany(self, sql: str, seq_of_parameters: Any, /) -> Self:
        self._begin(sql)
        return super().executemany(sql, seq_of_parameters)

    def _begin(self, sql: str) -> None:
        connection = self.connection
        level = connection.isolation_level
        if level is None or connection.in_transaction or (level == _READING and _reads(sql)):
            return
        super().execute(f"BEGIN {level}")


def _reads(sql: str) -> bool:
    return sql[:6].upper() == "SELECT"


class _Adapted(AsyncAdapt_aiosqlite_connection):
    """Ends no transaction where there is none: each time would be a round trip to the driver's thread.

    No statement can still be running there unseen: SQLAlchemy gives up a connection whose statement was cancelled.
    """

    __slots__ = ()

    def commit(self) -> None:
        if self._in_transaction():
            super().commit()

    def rollback(self) -> None:
        if self._in_transaction():
            super().rollback()

    def _in_transaction(self) -> bool:
        try:
            return bool(self.driver_connection.in_transaction)
        except ValueError:  # it is closed
            return False


def keep_transactions(engine: AsyncEngine) -> None:
    """Set up each connection of an engine whose factory is `Transactional`, and each transaction's lock."""
    event.listen(engine.sync_engine, "do_connect", _connect)
    event.listen(engine.sync_engine, "connect", _set_pragmas)
    event.listen(engine.sync_engine, "begin", _choose_lock)


def writing(engine: AsyncEngine) -> AsyncEngine:
    """Return the same engine and pool for transactions that will write; a server's engine unchanged.

    SQLite has one writer at a time. A transaction that reads first and writes later fails at once if another
    has written in between; one that takes the lock when it begins waits for its turn.
    """
    return engine.execution_options(**{_LEVEL: "IMMEDIATE"}) if engine.dialect.name == "sqlite" else engine


def reading(engine: AsyncEngine, *, query_only: bool = False) -> AsyncEngine:
    """Return the same engine and pool for what should only read; a server's engine unchanged.

    A SELECT begins no transaction, so each one sees what is committed by then, as in PostgreSQL's default isolation
    level, and nothing has to be ended. Any other statement begins one, so that it is rolled back with the request.
    With `query_only` SQLite refuses what would write.
    """
    options = {_LEVEL: _READING, _QUERY_ONLY: query_only}
    return engine.execution_options(**options) if engine.dialect.name == "sqlite" else engine


def _connect(dialect: Dialect, record: object, args: list[Any], params: dict[str, Any]) -> DBAPIConnection:
    adapted: Any = dialect.connect(*args, **params)
    return cast(DBAPIConnection, _Adapted(adapted.dbapi, adapted.driver_connection))


def _set_pragmas(connection: Any, record: object) -> None:
    def pragmas(driver: Any) -> Any:
        return driver.executescript("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON")

    connection.run_async(pragmas)


def _choose_lock(connection: Connection) -> None:
    options = connection.get_execution_options()
    driver: Any = connection.connection.driver_connection
    query_only = options.get(_QUERY_ONLY, False)
    if query_only != connection.info.get(_QUERY_ONLY, False):  # the pragma stays on the connection
        driver.isolation_level = None  # it begins nothing
        connection.exec_driver_sql(f"PRAGMA query_only = {query_only:d}")
        connection.info[_QUERY_ONLY] = query_only
    if options.get("isolation_level") != "AUTOCOMMIT":
        driver.isolation_level = options.get(_LEVEL, "DEFERRED")
