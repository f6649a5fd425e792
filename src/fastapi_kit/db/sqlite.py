"""SQLite with transactions that hold from the first statement on, a SELECT included, and readers without one."""

import sqlite3
from contextlib import AbstractContextManager
from threading import RLock
from time import monotonic, sleep
from typing import Any, Self, cast

from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy import event
    from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection
    from sqlalchemy.engine import Connection, Dialect, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection

__all__ = ["Transactional", "keep_transactions", "reading", "writing"]

_LEVEL = "fastapi_kit_begin"
_READING = ""
_QUERY_ONLY = "fastapi_kit_query_only"
_RETRY_SECONDS = 0.01


class Transactional(sqlite3.Connection):
    """Begin a transaction at the first statement of any kind, with the lock that `isolation_level` names.

    Python's own begins at the first write, so that what was read before may have changed by then.
    SQLAlchemy's recipe, a BEGIN from its event, costs one more round trip to the driver's thread for each
    transaction; here it is sent from that thread. `isolation_level` None begins nothing, as it always did.

    `lock` is held while a statement runs: Python crashes if another thread closes the connection meanwhile.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self.lock: AbstractContextManager[bool] = RLock()
        super().__init__(*args, **options)
        try:
            self._set_pragmas()
        except BaseException:
            self.close()
            raise

    def _set_pragmas(self) -> None:
        # The change to WAL takes a read lock and then wants to write. Where two connections open a new file together,
        # SQLite fails one of them at once, whatever its busy time-out: to wait would be a deadlock.
        (milliseconds,) = super().execute("PRAGMA busy_timeout").fetchone()
        latest = monotonic() + milliseconds / 1000
        while True:
            try:
                self.executescript("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > latest:
                    raise
                sleep(_RETRY_SECONDS)  # no event loop runs in this thread
            else:
                return

    def cursor(self, factory: Any = None) -> Any:
        """Return a cursor that begins the transaction."""
        return super().cursor(_Cursor)

    def commit(self) -> None:
        """Commit, or roll back if that fails, as other databases do.

        SQLite stays in the transaction (a deferred constraint), and SQLAlchemy takes it for ended: the next user of
        the connection would commit it.
        """
        with self.lock:
            try:
                super().commit()
            except sqlite3.Error:
                super().rollback()
                raise

    def rollback(self) -> None:
        """Roll back, after what another thread does."""
        with self.lock:
            super().rollback()

    def close(self) -> None:
        """Close, and roll back before: with a cursor still open SQLite would keep the transaction, and its lock."""
        with self.lock:
            super().rollback()
            super().close()


class _Cursor(sqlite3.Cursor):
    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._lock = cast(Transactional, connection).lock

    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        with self._lock:
            self._begin(sql)
            return super().execute(sql, parameters)

    def executemany(self, sql: str, seq_of_parameters: Any, /) -> Self:
        with self._lock:
            self._begin(sql)
            return super().executemany(sql, seq_of_parameters)

    def fetchone(self) -> Any:  # the fetches run the statement further
        with self._lock:
            return super().fetchone()

    def fetchmany(self, size: int | None = None) -> list[Any]:
        with self._lock:
            return super().fetchmany(self.arraysize if size is None else size)

    def fetchall(self) -> list[Any]:
        with self._lock:
            return super().fetchall()

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


def keep_transactions(engine: Engine, *, is_async: bool) -> None:
    """Set up each connection of an engine whose factory is `Transactional`, and each transaction's lock."""
    if is_async:
        event.listen(engine, "do_connect", _connect)
    event.listen(engine, "begin", _choose_lock)


def writing(engine: Engine) -> Engine:
    """Return the same engine and pool for transactions that will write.

    SQLite has one writer at a time. A transaction that reads first and writes later fails at once if another
    has written in between; one that takes the lock when it begins waits for its turn.
    """
    return engine.execution_options(**{_LEVEL: "IMMEDIATE"})


def reading(engine: Engine, *, query_only: bool = False, snapshot: bool = False) -> Engine:
    """Return the same engine and pool for what should only read.

    A SELECT begins no transaction, so each one sees what is committed by then, as in PostgreSQL's default isolation
    level, and nothing has to be ended. Any other statement begins one, so that it is rolled back with the request.
    With `query_only` SQLite refuses what would write. With `snapshot` the first SELECT begins one too.
    """
    return engine.execution_options(**{_LEVEL: "DEFERRED" if snapshot else _READING, _QUERY_ONLY: query_only})


def _connect(dialect: Dialect, record: object, args: list[Any], params: dict[str, Any]) -> DBAPIConnection:
    adapted: Any = dialect.connect(*args, **params)
    return cast(DBAPIConnection, _Adapted(adapted.dbapi, adapted.driver_connection))


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
