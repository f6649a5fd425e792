"""What the stores over SQLAlchemy share: checks of what they are given, and which errors are outages."""

import logging
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi_kit.errors import ConfigurationError, Problem, UnavailableError, needs_extra

with needs_extra("db"):
    from sqlalchemy import Table
    from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError
    from sqlalchemy.exc import TimeoutError as PoolTimeoutError
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

__all__ = [
    "DATABASE_ERRORS",
    "UnitOfWork",
    "checked_model",
    "checked_unit",
    "is_outage",
    "sql_error",
    "warn_of_outage",
]

UnitOfWork = Callable[[], AbstractAsyncContextManager[AsyncSession]]
"""Opens a session that commits at the end of its block: `db.session`, or `async_sessionmaker(...).begin`."""

DATABASE_ERRORS: tuple[type[Exception], ...] = (DBAPIError, PoolTimeoutError, OSError, UnavailableError)
"""What a unit of work raises when its database refuses; the last is what the kit's `Database` makes of most."""

_UNKNOWN_COLUMN = 1054  # MariaDB's drivers make an OperationalError of it

_log = logging.getLogger("fastapi_kit.auth")


def checked_unit(name: str, given: object, *, commits: bool = True) -> None:
    """Raise `ConfigurationError` for what opens no session, is one already, or (`commits`) would not commit it."""
    loses = commits and isinstance(given, async_sessionmaker)
    if not callable(given) or hasattr(type(given), "__aenter__") or loses:
        raise ConfigurationError(
            f"{name} is a {type(given).__name__}: give what opens a session for each call and commits it,"
            " db.session without parentheses, or begin of an async_sessionmaker"
        )


def checked_model(name: str, model: object, mixin: type[Any]) -> Table:
    """Return the table of a model; raise `ConfigurationError` unless a store can fill a row of it."""
    table: object = getattr(model, "__table__", None)
    if not (isinstance(model, type) and issubclass(model, mixin) and isinstance(table, Table)):
        given = model.__name__ if isinstance(model, type) else f"a {type(model).__name__}"
        raise ConfigurationError(
            f"{name} is {given}: give your model of this table, a class of {mixin.__name__} and your Base"
        )
    for column in table.columns:
        is_filled = column.nullable or column.default is not None or column.server_default is not None
        if not is_filled and column.name not in mixin.__annotations__:
            raise ConfigurationError(f"{model.__name__}.{column.name} has no default: columns of your own need one")
    return table


def is_outage(error: BaseException) -> bool:
    """Return whether the database is the one to blame; a statement that can never work is a defect."""
    cause = sql_error(error)
    if not isinstance(cause, DBAPIError):
        return True
    if isinstance(cause, DataError | IntegrityError | NotSupportedError | ProgrammingError):
        return False
    return _sqlite_code(cause) != sqlite3.SQLITE_ERROR and cause.driver_exception.args[:1] != (_UNKNOWN_COLUMN,)


def warn_of_outage(of: str, error: BaseException, *, if_locked: str) -> None:
    """Log the class of an error, no value; `if_locked` is what to do where a request keeps SQLite from itself."""
    cause = sql_error(error)
    hint = ""
    if _sqlite_code(cause) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        hint = f" (SQLite is locked: if the session of the same request holds the lock, {if_locked})"
    _log.warning("The database of the %s does not answer: %s%s", of, type(cause).__name__, hint)


def sql_error(error: BaseException) -> BaseException:
    """Return SQLAlchemy's error, also from under the problem that the kit's `Database` made of it."""
    return error.__cause__ if isinstance(error, Problem) and error.__cause__ is not None else error


def _sqlite_code(error: BaseException) -> int | None:
    """Return SQLite's primary code, `None` for the error of another database."""
    code: int | None = getattr(getattr(error, "driver_exception", None), "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
