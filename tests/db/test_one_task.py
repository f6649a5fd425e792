"""A session that several tasks use, by mistake: one is refused, and none is left behind in the connection."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, HTTPException
from sqlalchemy import insert, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_kit.db import Database
from tests.db.faults import POSTGRES, behind, until
from tests.db.support import Owner, client_of, on_sqlite, owners

pytestmark = pytest.mark.anyio

SLOW = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500000) SELECT count(*) FROM n",
    "postgresql": "SELECT pg_sleep(0.2)",
    "mysql": "SELECT SLEEP(0.2)",
}


@pytest.fixture(params=["sqlite", *POSTGRES, "asyncmy"])
async def database(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Database]:
    if request.param == "sqlite":
        async with on_sqlite(tmp_path, pool_size=1, max_overflow=0) as database:
            yield database
        return
    url = request.getfixturevalue("postgres_url" if request.param in POSTGRES else "mariadb_url")
    async with behind(url, request.param, is_direct=True, pool_size=1, max_overflow=0) as there:
        yield there.database
        await there.is_clean()


def slow(session: AsyncSession) -> Any:
    return session.execute(text(SLOW[session.get_bind().dialect.name]))


async def stray(session: AsyncSession) -> asyncio.Task[Any]:
    """Return a task that waits for a statement of the session, after an insert."""
    await session.execute(insert(Owner).values(name="ann", visits=0))
    task = asyncio.create_task(slow(session))

    async def waits() -> bool:
        return getattr(session.sync_session, "task", None) is task

    await until(waits)
    return task


async def is_usable(database: Database) -> None:
    assert await owners(database) == []
    async with database.session() as session:
        await session.execute(insert(Owner).values(name="bob", visits=0))
    assert await owners(database) == ["bob"]
    assert database.pool_states()["primary"].in_use == 0


async def test_a_second_task_is_refused_and_the_first_goes_on(database: Database) -> None:
    async with database.session() as session:

        async def refused(first: Awaitable[Any], second: Awaitable[Any]) -> None:
            ends: Any = await asyncio.gather(first, second, return_exceptions=True)
            done, error = ends
            assert not isinstance(done, BaseException)
            assert isinstance(error, InvalidRequestError)
            assert "another task waits for a statement of this session" in str(error)

        await refused(slow(session), session.execute(text("SELECT 1")))
        for second in (session.flush, session.commit, session.rollback, session.close):
            await refused(slow(session), second())
        session.add(Owner(name="ann", visits=0))
        await refused(session.flush(), session.execute(text("SELECT 1")))
        await session.execute(insert(Owner).values(name="bob", visits=0))
    assert await owners(database) == ["ann", "bob"]


@pytest.mark.parametrize("raises", [False, True])
async def test_a_task_that_still_waits_at_the_end_of_a_request_is_cancelled_and_nothing_stored(
    database: Database, raises: bool
) -> None:
    app = FastAPI()
    strays: list[asyncio.Task[Any]] = []

    @app.post("/")
    async def create(session: Annotated[AsyncSession, database.per_request]) -> None:
        strays.append(await stray(session))
        if raises:
            raise HTTPException(418)

    @app.get("/")
    async def read(session: Annotated[AsyncSession, database.per_request_read_only]) -> None:
        strays.append(asyncio.create_task(slow(session)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if raises:
            raise HTTPException(418)

    async with client_of(app) as client:
        for answer in (await client.post("/"), await client.get("/"), await client.post("/")):
            assert answer.status_code == (418 if raises else 500)
    assert [task.cancelled() for task in strays] == [True] * 3
    await is_usable(database)


@pytest.mark.parametrize("error", [None, KeyError])
async def test_a_task_that_still_waits_at_the_end_of_a_session_is_cancelled_and_nothing_stored(
    database: Database, error: type[Exception] | None
) -> None:
    for _ in range(2):
        with pytest.raises(error or InvalidRequestError, match=None if error else "a task still waited"):
            async with database.session() as session:
                task = await stray(session)
                if error:
                    raise error
        assert task.cancelled()
    await is_usable(database)
