"""Transactions in which the database refuses to write."""

from fastapi_kit.db.sqlite import reading
from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy import event
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["read_only_engine"]


def read_only_engine(engine: AsyncEngine) -> AsyncEngine:
    """Return the same engine and pool for transactions in which each write is an error of the database's own."""
    match engine.dialect.name:
        case "sqlite":
            return reading(engine, query_only=True)
        case "postgresql":
            return engine.execution_options(postgresql_readonly=True)
        case _:
            readers = engine.execution_options()
            event.listen(readers.sync_engine, "begin", _start_read_only)
            return readers


def _start_read_only(connection: Connection) -> None:
    connection.exec_driver_sql("START TRANSACTION READ ONLY")
