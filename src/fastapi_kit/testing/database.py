"""A database that forgets each test: everything in one transaction, rolled back at the end."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi_kit.db import Database
from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy import Connection, event
    from sqlalchemy.exc import IntegrityError
    from sqlalchemy.exc import TimeoutError as PoolTimeoutError
    from sqlalchemy.orm import Session, SessionTransaction
    from sqlalchemy.util import await_only

__all__ = ["rolled_back"]


@asynccontextmanager
async def rolled_back(database: Database, *, wait_seconds: float = 5.0) -> AsyncGenerator[None]:
    """Let every session of the database work inside one transaction that is rolled back at the end.

    Commits in the code under test become savepoints: later sessions see what they wrote, other connections
    never do. Deferred constraints are checked where the commit would have been, so that they fail there. The
    sessions share one connection and take turns, from a transaction's first statement to its end; a session
    opened in the same task as the one whose turn it is joins in. Create the tables before, and start the
    app's lifespan before where the database is in memory. On MariaDB a `session(read_only=True)` refuses no
    write here: it can refuse whole transactions only.

    `wait_seconds`: how long a session waits for its turn, before it gets the error of an exhausted pool (503
    in a request). It happens to a request in another task while the test holds a transaction open.

    >>> async def test_create(client, db):
    ...     async with rolled_back(db):
    ...         assert (await client.post("/items", json={"name": "pen"})).status_code == 201
    """
    async with database.engine.connect() as connection:
        transaction = await connection.begin()
        try:
            with database.bound_to(
                connection,
                sync_session_class=_TurnSession,
                join_transaction_mode="create_savepoint",
                info={"turn": _Turn(wait_seconds)},
            ):
                yield
        finally:
            await transaction.rollback()


class _Turn:
    """A lock on the connection, which the task that holds it may take again."""

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[Any] | None = None
        self._depth = 0

    async def take(self) -> None:
        task = asyncio.current_task()
        if self._task is not task:
            try:
                await asyncio.wait_for(self._lock.acquire(), self._wait_seconds)
            except TimeoutError:
                raise PoolTimeoutError(
                    "a session of another task holds this test's connection: let it commit or close first"
                ) from None
            self._task = task
        self._depth += 1

    def give_back(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._task = None
            self._lock.release()


class _TurnSession(Session):
    """Takes its turn when a transaction first needs the connection, and gives it back at the end."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._has_turn = False
        event.listen(self, "before_commit", _check_deferred)
        if self.info.get("read_only"):
            event.listen(self, "after_begin", _refuse_writes)
        event.listen(self, "after_transaction_end", self._end)

    def get_bind(self, *args: Any, **options: Any) -> Any:
        if not self._has_turn:
            await_only(self.info["turn"].take())
            self._has_turn = True
        return super().get_bind(*args, **options)

    def close(self) -> None:
        super().close()
        self._give_back()  # `get_bind` may have been called, and no transaction begun

    def _end(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            self._give_back()

    def _give_back(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self.info["turn"].give_back()


def _check_deferred(session: Session) -> None:
    if session.in_nested_transaction():
        return
    session.flush()
    connection = session.connection()
    dialect = connection.dialect.name  # MariaDB defers no constraint
    if dialect == "postgresql":
        # In a savepoint that is rolled back: each constraint has its own mode again afterwards.
        with connection.begin_nested() as savepoint:
            connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
            savepoint.rollback()
    elif dialect == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        cause = sqlite3.IntegrityError("FOREIGN KEY constraint failed")
        raise IntegrityError("COMMIT", None, cause) from cause


def _refuse_writes(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    if transaction.parent is not None:
        return

    def undo(session: Session, ended: SessionTransaction) -> None:
        if ended is transaction:
            connection.exec_driver_sql("PRAGMA query_only = OFF")

    match connection.dialect.name:
        case "postgresql":
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")  # until the end of the savepoint
        case "sqlite":
            connection.exec_driver_sql("PRAGMA query_only = ON")
            event.listen(session, "after_transaction_end", undo, insert=True)  # before the turn is given back
        case _:  # MariaDB would have to begin a transaction
            pass
