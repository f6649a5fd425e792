"""A database that forgets each test: everything in one transaction, rolled back at the end."""

import warnings
from collections.abc import AsyncGenerator, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import TYPE_CHECKING, overload

from fastapi_kit.db.sync import SyncDatabase
from fastapi_kit.testing.database.isolation import Isolation, LostCommitWarning
from fastapi_kit.testing.database.turns import TaskTurns, ThreadTurns

if TYPE_CHECKING:
    from fastapi_kit.db.database import Database

__all__ = ["rolled_back"]


@overload
def rolled_back(database: SyncDatabase, *, wait_seconds: float = 5.0) -> AbstractContextManager[None]: ...
@overload
def rolled_back(database: "Database", *, wait_seconds: float = 5.0) -> AbstractAsyncContextManager[None]: ...
def rolled_back(
    database: "Database | SyncDatabase", *, wait_seconds: float = 5.0
) -> AbstractContextManager[None] | AbstractAsyncContextManager[None]:
    """Let every session of the database work inside one transaction that is rolled back at the end.

    `async with rolled_back(db)` for a `Database`, `with rolled_back(db)` for a `SyncDatabase`; for a TestClient over
    a `Database` see `rolled_back_client`. What the code under test commits, later sessions see, and other connections
    never do. Deferred constraints are checked where the commit would have been, so that they fail there. A session
    that reads only refuses writes. `isolation_level` has no effect. `db.engine` itself is not rolled back.

    The sessions share one connection and take turns, from a transaction's first statement to its end. Those of one
    task, or of one request to `def` endpoints, do not wait for each other. If such a session is rolled back in which
    another one stored rows by then, those are undone as well, and the end raises a `LostCommitWarning`.

    Create the tables before: on MariaDB a `CREATE TABLE` ends the transaction, and with it the isolation.

    `wait_seconds`: how long a session waits for its turn, before it gets the error of an exhausted pool (503
    in a request). It happens to a request in another task while the test holds a transaction open.

    >>> async def test_create(client, db):
    ...     async with rolled_back(db):
    ...         assert (await client.post("/items", json={"name": "pen"})).status_code == 201
    """
    if isinstance(database, SyncDatabase):
        return _rolled_back_sync(database, wait_seconds)
    return _rolled_back_async(database, wait_seconds)


@contextmanager
def _rolled_back_sync(database: SyncDatabase, wait_seconds: float) -> Generator[None]:
    with database.engine.connect() as connection:
        transaction, pool = connection.begin(), connection.engine.pool
        isolation = Isolation.of(connection, ThreadTurns(wait_seconds))
        try:
            with database.bound_to(isolation.engine_for):
                yield
        finally:
            isolation.end()
            transaction.rollback()
            if database.engine.pool is not pool:  # disposed of meanwhile: nobody else closes this connection
                connection.invalidate()
    _warn(isolation)


@asynccontextmanager
async def _rolled_back_async(database: "Database", wait_seconds: float) -> AsyncGenerator[None]:
    async with database.engine.connect() as connection:
        transaction, pool = await connection.begin(), connection.engine.pool
        isolation = await connection.run_sync(Isolation.of, TaskTurns(wait_seconds))
        try:
            with database.bound_to(isolation.engine_for):
                yield
        finally:
            await connection.run_sync(lambda _: isolation.end())
            await transaction.rollback()
            if database.engine.pool is not pool:
                await connection.invalidate()
    _warn(isolation)


def _warn(isolation: Isolation) -> None:
    if isolation.has_lost:
        message = "a session was rolled back after another one had stored rows in it, which are undone too"
        warnings.warn(message, LostCommitWarning, stacklevel=4)
