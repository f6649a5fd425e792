"""What makes a migration safe beside others and beside the service: locks, time-outs, foreign keys."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from fastapi_kit.db.errors import problem_for
from fastapi_kit.db.migrations.errors import MigrationError
from fastapi_kit.db.sqlite import writing
from fastapi_kit.errors import UnavailableError, needs_extra

with needs_extra("db"):
    from sqlalchemy.engine import Connection
    from sqlalchemy.exc import OperationalError
with needs_extra("migrations"):
    from alembic import context
    from alembic.runtime.migration import MigrationContext, MigrationInfo

__all__ = ["guarded", "refuse_foreign_keys", "refuse_orphans"]

_log = logging.getLogger("fastapi_kit.db.migrations")

_POSTGRESQL_KEY = 0x66617374_6B6975  # any constant that is not that of `create_all`
_POSTGRESQL_TIME_OUTS = (
    "SELECT set_config(name, CASE name WHEN 'lock_timeout' THEN '{milliseconds}' ELSE '0' END, false) FROM pg_settings"
    " WHERE name IN ('lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)
# In a comment that MariaDB alone reads: MySQL knows no such variables.
_MARIADB_TIME_OUTS = (
    "SET SESSION lock_wait_timeout = {seconds}"
    " /*M! , SESSION max_statement_time = 0, SESSION idle_transaction_timeout = 0 */"
)
_MARIADB_NAME = "CONCAT('fastapi_kit_migrations.', MD5(DATABASE()))"  # such locks are the whole server's


@contextmanager
def guarded(connection: Connection, *, wait_seconds: float, table_lock_seconds: float) -> Generator[None]:
    """Hold the transaction of the configured context, alone among all who migrate this database.

    Raises `MigrationError` if another migration is not done within `wait_seconds`.
    """
    match connection.dialect.name:
        case "sqlite":
            with _without_foreign_keys(connection):
                connection.execution_options(**writing(connection.engine).get_execution_options())
                with context.begin_transaction():
                    _wait(lambda: _has_write_lock(connection), wait_seconds)
                    yield
        case "postgresql":
            _execute(connection, _POSTGRESQL_TIME_OUTS.format(milliseconds=round(table_lock_seconds * 1000)))
            _wait(lambda: _lock_postgresql(connection), wait_seconds)
            with context.begin_transaction():
                yield
        case _:
            _execute(connection, _MARIADB_TIME_OUTS.format(seconds=max(1, round(table_lock_seconds))))
            _wait(lambda: bool(_execute(connection, f"SELECT GET_LOCK({_MARIADB_NAME}, 1)")), wait_seconds)
            with context.begin_transaction():
                yield


def refuse_foreign_keys(connection: Connection) -> None:
    """Raise `MigrationError` if SQLite enforces foreign keys on a connection that is the caller's."""
    if connection.dialect.name == "sqlite" and _foreign_keys(connection):
        raise MigrationError(
            "the injected connection enforces foreign keys: where a migration makes a table anew, SQLite would delete"
            " the rows that refer to it. Call fastapi_kit.db.migrations.upgrade(db), which takes care, or execute"
            " PRAGMA foreign_keys = OFF before the transaction"
        )


def refuse_orphans(*, ctx: MigrationContext, step: MigrationInfo, **_: Any) -> None:
    """Raise `MigrationError`, before the commit, if a row refers to one that does not exist."""
    assert ctx.connection is not None  # noqa: S101  # it is None for a script, which has no steps to check
    orphans = ctx.connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if orphans:
        found = sorted({f"{child} -> {parent}" for child, _, parent, _ in orphans})
        raise MigrationError(
            f"after the migration of {step.up_revision_id} {len(orphans)} rows refer to rows that do not exist"
            f" ({', '.join(found)}), so all was undone: let the migration mend or delete them"
        )


@contextmanager
def _without_foreign_keys(connection: Connection) -> Generator[None]:
    """Let a table be dropped and made anew without the rows that refer to it being deleted."""
    enforced = _foreign_keys(connection)
    _set_foreign_keys(connection, on=False)
    try:
        yield
    finally:
        if not connection.invalidated:
            _set_foreign_keys(connection, on=enforced)


def _foreign_keys(connection: Connection) -> bool:
    return bool(connection.exec_driver_sql("PRAGMA foreign_keys").scalar())


def _set_foreign_keys(connection: Connection, *, on: bool) -> None:
    connection.rollback()
    pooled: Any = connection.connection
    pooled.driver_connection.isolation_level = None  # within a transaction the pragma does nothing
    cursor = pooled.cursor()
    cursor.execute(f"PRAGMA foreign_keys = {on:d}")
    cursor.close()


def _has_write_lock(connection: Connection) -> bool:
    try:
        connection.exec_driver_sql("PRAGMA user_version")  # the first statement, whatever it is, takes the lock
    except OperationalError as exc:
        if isinstance(problem_for(exc), UnavailableError):
            return False
        raise
    return True


def _lock_postgresql(connection: Connection) -> bool:
    # Who waits in pg_advisory_lock() has a snapshot open, and CREATE INDEX CONCURRENTLY waits for that: a deadlock.
    if _execute(connection, f"SELECT pg_try_advisory_lock({_POSTGRESQL_KEY})"):
        return True
    _execute(connection, "SELECT pg_sleep(0.2)")
    return False


def _execute(connection: Connection, statement: str) -> Any:
    """Return the first value; the lock and the settings outlast the transaction, which ends here."""
    result = connection.exec_driver_sql(statement)
    value = result.scalar() if result.returns_rows else None
    connection.commit()
    return value


def _wait(take: Callable[[], bool], seconds: float) -> None:
    deadline = monotonic() + seconds
    told = False
    while not take():
        if not told:
            _log.info("waiting for another migration of this database")
            told = True
        if monotonic() > deadline:
            raise MigrationError(
                f"another migration of this database was not done in {seconds:g} seconds: see whether it still runs"
            )
