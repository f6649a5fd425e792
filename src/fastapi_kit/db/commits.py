"""Commits that would keep nothing, since the database undid the transaction at an error that somebody caught."""

import sqlite3
from contextlib import suppress
from typing import cast

from fastapi_kit.db.errors import is_serialization_failure
from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy import event
    from sqlalchemy.engine import Connection, Engine, ExceptionContext
    from sqlalchemy.exc import DBAPIError, StatementError

__all__ = ["UNDOING_ERROR", "refuse_empty_commits"]

UNDOING_ERROR = "fastapi_kit_error"
"""Where a connection keeps the error that may have undone its transaction."""
_NO_SUCH_SAVEPOINT = 1305  # MariaDB
# Those after which SQLite may have rolled back; a violated constraint does so under ON CONFLICT ROLLBACK.
_UNDOING_SQLITE = frozenset(
    {
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
    }
)


def refuse_empty_commits(engine: Engine) -> None:
    """Make a commit raise the error that undid its transaction, if the application caught it and went on.

    PostgreSQL answers such a COMMIT with a ROLLBACK, and no driver tells. MariaDB goes on after a deadlock, and SQLite
    after a full disk, as if what came before were still there. An error within `begin_nested()` undoes only that.
    """
    event.listen(engine, "handle_error", _remember, retval=True)
    event.listen(engine, "commit", _refuse)
    event.listen(engine, "rollback", _forget)
    event.listen(engine, "begin", _forget)  # a commit that failed is not rolled back


def _remember(context: ExceptionContext) -> BaseException | None:
    connection, error = context.connection, context.sqlalchemy_exception
    if connection is None or error is None or context.is_disconnect:  # without a connection there is no commit
        return None
    if next(iter(context.original_exception.args), None) == _NO_SUCH_SAVEPOINT and UNDOING_ERROR in connection.info:
        return cast(BaseException, connection.info[UNDOING_ERROR])  # a deadlock has undone the savepoint too
    if _may_have_undone(connection, error):
        connection.info[UNDOING_ERROR] = error
    return None


def _may_have_undone(connection: Connection, error: StatementError) -> bool:
    match connection.dialect.name:
        case "postgresql":
            return True
        case "sqlite":
            driver = connection.connection.driver_connection
            code = getattr(getattr(error, "driver_exception", None), "sqlite_errorcode", 0)
            return code & 0xFF in _UNDOING_SQLITE and not getattr(driver, "in_transaction", True)
        case _:
            return is_serialization_failure(error)


def _refuse(connection: Connection) -> None:
    error = connection.info.pop(UNDOING_ERROR, None)
    if error is None:
        return
    if connection.dialect.name == "postgresql":
        try:
            connection.exec_driver_sql("SELECT 1")
        except DBAPIError:
            pass
        else:  # what failed was within a savepoint
            return
    with suppress(Exception):  # a rollback that is lost is one too
        _roll_back(connection)
    raise error from error.__cause__


def _roll_back(connection: Connection) -> None:
    """Roll back; SQLAlchemy takes the transaction for ended by its commit, and would not."""
    try:
        connection.connection.rollback()
    except BaseException:
        connection.invalidate()  # nobody knows where it is
        raise


def _forget(connection: Connection) -> None:
    if not connection.invalidated:
        connection.info.pop(UNDOING_ERROR, None)
