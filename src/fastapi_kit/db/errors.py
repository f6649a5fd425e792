"""What a client is told when the database refuses: 409 for a conflict, 503 for what may work later."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from fastapi_kit.errors import ConflictError, Problem, UnavailableError, needs_extra

with needs_extra("db"):
    from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
    from sqlalchemy.exc import TimeoutError as PoolTimeoutError
    from sqlalchemy.orm.exc import StaleDataError

__all__ = ["problem_for", "problems_raised"]

RETRY_AFTER_SECONDS = "1"

# PostgreSQL, and MariaDB where it sends one: serialization failure, deadlock, lock not available, server
# going down or starting; with the classes 08 (connection) and 53 (too many connections, no memory, no disk).
TRANSIENT_STATES = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03"})
TRANSIENT_CLASSES = frozenset({"08", "53"})
# MariaDB: too many connections, shutting down, lock wait, deadlock, snapshot too old; then no connection.
TRANSIENT_ERRNOS = frozenset({1040, 1053, 1205, 1213, 1020, 2002, 2003, 2006, 2013})
TRANSIENT_SQLITE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN})


def problem_for(exc: BaseException) -> Problem | None:
    """Return the problem that a database error is to a client, or None where it is a defect of the service.

    A violated constraint and a stale version are `ConflictError` (409). A pool time-out, a lost or refused
    connection, a deadlock, a serialization failure and a lock that was not had in time are `UnavailableError`
    (503) with `Retry-After`. The driver's own code decides, so that it is the same under each driver. The
    texts are fixed: no value, column or constraint name reaches the client.
    """
    if isinstance(exc, StaleDataError) or (isinstance(exc, DBAPIError) and _is_conflict(exc)):
        return ConflictError("The change conflicts with the data that is stored.")
    if isinstance(exc, PoolTimeoutError) or (isinstance(exc, DBAPIError) and _is_transient(exc)):
        return UnavailableError(
            "The database is not available at the moment.", headers={"Retry-After": RETRY_AFTER_SECONDS}
        )
    return None


@contextmanager
def problems_raised() -> Generator[None]:
    """Raise the problem of a database error in its place, where it has one; the error is its `__cause__`."""
    try:
        yield
    except SQLAlchemyError as exc:
        if (problem := problem_for(exc)) is None:
            raise
        raise problem from exc


def _is_conflict(exc: DBAPIError) -> bool:
    # MariaDB's drivers raise an OperationalError for a violated CHECK; its state is that of all constraints.
    return isinstance(exc, IntegrityError) or _state(exc).startswith("23")


def _is_transient(exc: DBAPIError) -> bool:
    if exc.connection_invalidated:
        return True
    if state := _state(exc):
        return state in TRANSIENT_STATES or state[:2] in TRANSIENT_CLASSES or _errno(exc) in TRANSIENT_ERRNOS
    driver = exc.driver_exception
    if isinstance(driver, sqlite3.Error):
        code = getattr(driver, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in TRANSIENT_SQLITE
    if _errno(exc) in TRANSIENT_ERRNOS:
        return True
    # No state and no statement: psycopg, and asyncpg through `engine.py`, could not connect.
    return isinstance(exc, OperationalError) and exc.statement is None


def _state(exc: DBAPIError) -> str:
    return getattr(exc.driver_exception, "sqlstate", None) or ""


def _errno(exc: DBAPIError) -> object:
    return next(iter(exc.driver_exception.args), None)
