"""What a client is told when the database refuses: 409 for a conflict, 503 for what may work later."""

import logging
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

from starlette.requests import HTTPConnection

from fastapi_kit.errors import ConflictError, PreconditionFailedError, Problem, UnavailableError, needs_extra
from fastapi_kit.errors.groups import leaves_of

with needs_extra("db"):
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, PendingRollbackError, SQLAlchemyError
    from sqlalchemy.exc import TimeoutError as PoolTimeoutError
    from sqlalchemy.orm.exc import StaleDataError

__all__ = ["is_serialization_failure", "name_lost_connections", "problem_for", "problems_raised"]

_log = logging.getLogger("fastapi_kit.db")

RETRY_AFTER_SECONDS = "1"
_LOST_BEFORE = "8s2b"  # SQLAlchemy's code for a session whose connection was lost at an error that somebody caught

# PostgreSQL, and MariaDB where it sends one: serialization failure, deadlock.
SERIALIZATION_STATES = frozenset({"40001", "40P01"})
# Lock not available, statement over its time, transaction idle for too long, server going down or starting; with the
# classes 08 (connection) and 53 (too many connections, no memory, no disk).
TRANSIENT_STATES = SERIALIZATION_STATES | {"55P03", "57014", "25P03", "57P01", "57P02", "57P03"}
TRANSIENT_CLASSES = frozenset({"08", "53"})
# MariaDB: deadlock, snapshot too old; too many connections, shutting down, lock wait, statement over its time; then
# no connection.
SERIALIZATION_ERRNOS = frozenset({1213, 1020})
TRANSIENT_ERRNOS = SERIALIZATION_ERRNOS | {1040, 1053, 1205, 1969, 2002, 2003, 2006, 2013}
TRANSIENT_SQLITE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN})


def problem_for(exc: BaseException, *, if_match: bool = False) -> Problem | None:
    """Return the problem that a database error is to a client, or None where it is a defect of the service.

    A violated constraint and a stale version are `ConflictError` (409). A pool time-out, a lost or refused
    connection, a deadlock, a serialization failure and a lock that was not had in time are `UnavailableError`
    (503) with `Retry-After`. The driver's own code decides, so that it is the same under each driver. The
    texts are fixed: no value, column or constraint name reaches the client.

    `if_match`: whether the request has an `If-Match`; a stale version is `PreconditionFailedError` (412) then.
    """
    if isinstance(exc, StaleDataError) and if_match:
        return PreconditionFailedError("The stored version is another than that of If-Match.")
    if isinstance(exc, StaleDataError) or (isinstance(exc, DBAPIError) and _is_conflict(exc)):
        return ConflictError("The change conflicts with the data that is stored.")
    is_lost = isinstance(exc, PendingRollbackError) and exc.code == _LOST_BEFORE
    if is_lost or isinstance(exc, PoolTimeoutError) or (isinstance(exc, DBAPIError) and _is_transient(exc)):
        return UnavailableError(
            "The database is not available at the moment.", headers={"Retry-After": RETRY_AFTER_SECONDS}
        )
    return None


@contextmanager
def problems_raised(connection: HTTPConnection | None = None) -> Generator[None]:
    """Raise the problem of a database error in its place, where it has one; the error is its `__cause__`.

    So too in the place of an `ExceptionGroup`, as task groups raise them, whose errors are all of one problem; its
    first error is the `__cause__`. Any other group goes on as it is.

    `connection`: the request, if there is one.
    """
    try:
        yield
    except (SQLAlchemyError, ExceptionGroup) as raised:
        if_match = connection is not None and "if-match" in connection.headers
        exc, *others = leaves_of(raised)
        problem = problem_for(exc, if_match=if_match)
        if problem is None or any(type(problem_for(other, if_match=if_match)) is not type(problem) for other in others):
            raise
        if isinstance(problem, UnavailableError):  # the client is told nothing of it
            cause = getattr(exc, "orig", None) or exc
            _log.warning("%s: %s: %s", _reason(exc), type(cause).__name__, cause)
        raise problem from exc


def _reason(exc: Exception) -> str:
    if is_serialization_failure(exc):
        return "the database undid a transaction because of another"
    cause = _driver_exception(exc) if isinstance(exc, DBAPIError) else None
    if getattr(cause, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return "another session holds the lock of SQLite, perhaps one of the same request"
    return "the database is not available"


def is_serialization_failure(exc: BaseException | None) -> bool:
    """Return whether the database undid a transaction because of another: the same again may well succeed.

    `exc` may be a problem whose `__cause__` is the database's error, or a group of nothing but such. A lost connection
    is none of these, since the transaction may have been committed.
    """
    if isinstance(exc, ExceptionGroup):
        return all(is_serialization_failure(leaf) for leaf in leaves_of(cast("ExceptionGroup[Exception]", exc)))
    if isinstance(exc, Problem):
        exc = exc.__cause__
    if not isinstance(exc, DBAPIError) or exc.connection_invalidated:
        return False
    return _state(exc) in SERIALIZATION_STATES or _errno(exc) in SERIALIZATION_ERRNOS


def name_lost_connections(context: ExceptionContext) -> BaseException | None:
    """Return SQLAlchemy's error for an `OSError` that a driver let through: reset, or no answer in time (asyncpg)."""
    cause = context.original_exception
    if isinstance(cause, getattr(context.dialect.loaded_dbapi, "InternalClientError", ())):
        context.is_disconnect = True  # asyncpg has read the server's farewell, and not yet that it has gone
    if not isinstance(cause, OSError):
        return None
    context.is_disconnect = True
    return OperationalError(context.statement, None, cause, connection_invalidated=True)


_ALTERED = "InvalidCachedStatementError"
"""Of SQLAlchemy's asyncpg: a table was altered since the connection prepared a statement; it succeeds the next time."""


def _is_conflict(exc: DBAPIError) -> bool:
    # MariaDB's drivers raise an OperationalError for a violated CHECK; its state is that of all constraints.
    return isinstance(exc, IntegrityError) or _state(exc).startswith("23")


def _is_transient(exc: DBAPIError) -> bool:
    if exc.connection_invalidated or type(exc.orig).__name__ == _ALTERED:
        return True
    if state := _state(exc):
        return state in TRANSIENT_STATES or state[:2] in TRANSIENT_CLASSES or _errno(exc) in TRANSIENT_ERRNOS
    driver = _driver_exception(exc)
    if isinstance(driver, sqlite3.Error):
        code = getattr(driver, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in TRANSIENT_SQLITE
    if _errno(exc) in TRANSIENT_ERRNOS:
        return True
    # No state and no statement: psycopg, and asyncpg through `engine.py`, could not connect.
    return isinstance(exc, OperationalError) and exc.statement is None


def _state(exc: DBAPIError) -> str:
    return getattr(_driver_exception(exc), "sqlstate", None) or ""


def _errno(exc: DBAPIError) -> object:
    return next(iter(getattr(_driver_exception(exc), "args", ())), None)


def _driver_exception(exc: DBAPIError) -> BaseException | None:
    try:
        return exc.driver_exception
    except ValueError:  # SQLAlchemy made the error itself, of none of the driver's
        return exc.orig
