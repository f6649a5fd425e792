"""Starlette's TestClient over a database that forgets each test."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal
from fastapi import FastAPI
from starlette.testclient import TestClient

from fastapi_kit.db import Database, SyncDatabase
from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.testing.database.rollback import rolled_back

with needs_extra("db"):
    from sqlalchemy.orm import Session

__all__ = ["RolledBackClient", "rolled_back_client"]

ResultT = TypeVar("ResultT")


class RolledBackClient(TestClient):
    """A TestClient that can also look into the test's transaction."""

    def __init__(self, app: Any, database: Database | SyncDatabase, **options: Any) -> None:
        super().__init__(app, **options)
        self._database = database

    def in_session(self, work: Callable[[Session], ResultT]) -> ResultT:
        """Return what a function returns for a session of the test's transaction, and commit what it did there.

        >>> def test_create(client):
        ...     client.post("/items/pen")
        ...     assert client.in_session(lambda session: session.scalars(select(Item.name)).all()) == ["pen"]
        """
        database = self._database
        if isinstance(database, SyncDatabase):
            with database.session() as session:
                return work(session)

        async def in_loop() -> ResultT:
            async with database.session() as session:
                return await session.run_sync(work)

        return _portal(self).call(in_loop)


@contextmanager
def rolled_back_client(
    app: FastAPI | TestClient, database: Database | SyncDatabase, *, wait_seconds: float = 5.0, **options: Any
) -> Generator[RolledBackClient]:
    """Give a TestClient whose requests all work in one transaction, `rolled_back` at the end.

    The client is https, since cookies of the kit go over nothing else, and has no cookies of another test.

    - `app`: it is started, and stopped at the end. To start it once for many tests, give a TestClient
      that was entered (`with TestClient(app) as started`) in its place.
    - `wait_seconds`: as for `rolled_back`.
    - `options`: for the TestClient.

    Raises `ConfigurationError` for a TestClient that was not entered.
    """
    options = {"base_url": "https://test", **options}
    if isinstance(app, FastAPI):
        with RolledBackClient(app, database, **options) as client, _rolled_back(client, database, wait_seconds):
            yield client
        return
    client = RolledBackClient(app.app, database, **options)
    client.portal = _portal(app)  # so that both run in one event loop
    with _rolled_back(client, database, wait_seconds):
        yield client


@contextmanager
def _rolled_back(client: TestClient, database: Database | SyncDatabase, wait_seconds: float) -> Generator[None]:
    if isinstance(database, SyncDatabase):
        with rolled_back(database, wait_seconds=wait_seconds):
            yield
        return
    with _portal(client).wrap_async_context_manager(rolled_back(database, wait_seconds=wait_seconds)):
        yield


def _portal(client: TestClient) -> BlockingPortal:
    if client.portal is None:
        raise ConfigurationError("`app` is a TestClient that was not entered: write `with TestClient(app) as started`")
    return client.portal
