"""Sessions that commit before the response is sent, on SQLite, PostgreSQL and MariaDB."""

from typing import TYPE_CHECKING, Any

from fastapi_kit.db.engines import PoolState
from fastapi_kit.db.errors import problem_for
from fastapi_kit.db.options import DatabaseOptions
from fastapi_kit.db.outcome import RollbackRoute
from fastapi_kit.db.sync import SyncDatabase
from fastapi_kit.db.transactions import IsolationLevel

if TYPE_CHECKING:
    from fastapi_kit.db.database import Database

__all__ = [
    "Database",
    "DatabaseOptions",
    "IsolationLevel",
    "PoolState",
    "RollbackRoute",
    "SyncDatabase",
    "problem_for",
]


def __getattr__(name: str) -> Any:
    # When it is asked for, since SQLAlchemy's asyncio part cannot be imported without greenlet.
    if name != "Database":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fastapi_kit.db.database import Database  # noqa: PLC0415

    return Database
