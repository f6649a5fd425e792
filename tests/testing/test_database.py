import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from starlette.testclient import TestClient

from fastapi_kit.db import Database
from fastapi_kit.errors import ConflictError
from fastapi_kit.testing.database import rolled_back
from tests.db.support import Base, Item, Owner, app_of, client_of, on_mariadb, on_postgres, on_sqlite, owners

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "memory", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Database]:
    match request.param:
        case "sqlite":
            context = on_sqlite(tmp_path)
        case "memory":
            memory = Database("sqlite+aiosqlite://", create_all=Base.metadata)
            async with memory.lifespan(FastAPI()):
                yield memory
            return
        case _:
            context = on_postgres(request.getfixturevalue("postgres_url"))
    async with context as database:
        yield database


async def test_what_one_test_commits_the_next_does_not_see(database: Database) -> None:
    for _ in range(3):
        async with rolled_back(database), client_of(app_of(database)) as client:
            assert (await client.post("/owners/ann")).status_code == 201
            assert (await client.get("/owners")).json() == 1
            assert await owners(database) == ["ann"]
    assert await owners(database) == []


async def test_it_rolls_back_when_the_test_fails(database: Database) -> None:
    async def fails() -> None:
        async with rolled_back(database):
            async with database.session() as session:
                session.add(Owner(name="ann"))
            raise AssertionError

    with pytest.raises(AssertionError):
        await fails()
    assert await owners(database) == []


async def test_a_failed_request_undoes_its_own_rows_only(database: Database) -> None:
    async with rolled_back(database), client_of(app_of(database)) as client:
        assert (await client.post("/owners/ann")).status_code == 201
        assert (await client.post("/owners/bob?fail=crash")).status_code == 500
        assert (await client.post("/owners/ann")).status_code == 409
        assert (await client.post("/owners/eve")).status_code == 201
        assert await owners(database) == ["ann", "eve"]


async def test_a_deferred_constraint_fails_where_the_commit_would_be(database: Database) -> None:
    async with rolled_back(database), client_of(app_of(database)) as client:
        for _ in range(2):  # deferred again after the check
            assert (await client.post("/items/987")).status_code == 409
            async with database.session() as session:
                session.add(Item(owner_id=4))
                await session.flush()
                session.add(Owner(id=4, name="late"))
                await session.flush()
                await session.execute(text("DELETE FROM items"))
                await session.execute(text("DELETE FROM owners"))
        assert await owners(database) == []


async def test_a_deferred_constraint_fails_also_for_what_the_commit_flushes(database: Database) -> None:
    async with rolled_back(database):
        with pytest.raises(ConflictError):
            async with database.session() as session:
                session.add(Item(owner_id=987))


async def test_a_savepoint_of_the_code_under_test_checks_nothing_yet(database: Database) -> None:
    seen: list[int | None] = []

    async def store() -> None:
        async with rolled_back(database), database.session() as session:
            async with session.begin_nested():
                session.add(Item(owner_id=987))
            seen.append(await session.scalar(text("SELECT count(*) FROM items")))

    with pytest.raises(ConflictError):
        await store()
    assert seen == [1]


async def test_a_read_only_session_refuses_writes_and_the_next_may_write(database: Database) -> None:
    async with rolled_back(database):
        async with database.session() as outer:
            outer.add(Owner(name="ann"))
            await outer.flush()
            async with database.session(read_only=True) as session:
                async with session.begin_nested():
                    assert await session.scalar(select(func.count()).select_from(Owner)) == 1
                with pytest.raises(DBAPIError, match=r"read-?only"):
                    await session.execute(text("DELETE FROM owners"))
            outer.add(Owner(name="bob"))
        assert await owners(database) == ["ann", "bob"]


async def test_concurrent_requests_take_turns(database: Database) -> None:
    async with rolled_back(database), client_of(app_of(database)) as client:
        posts = (client.post(f"/owners/o{number}") for number in range(5))
        assert [answer.status_code for answer in await asyncio.gather(*posts)] == [201] * 5
        owner = (await client.post("/owners/ann")).json()
        visits = await asyncio.gather(*(client.post(f"/visits/{owner}") for _ in range(5)))
        assert sorted(answer.json() for answer in visits) == [1, 2, 3, 4, 5]
        assert (await client.get("/owners")).json() == 6
    assert await owners(database) == []


async def test_a_session_within_a_session_of_the_same_task_joins_in(database: Database) -> None:
    async with rolled_back(database):
        async with database.session() as outer:
            outer.add(Owner(name="ann"))
            await outer.flush()
            assert await owners(database) == ["ann"]
        assert await owners(database) == ["ann"]


async def test_a_request_that_cannot_have_its_turn_is_a_503(tmp_path: Path) -> None:
    async with (
        on_sqlite(tmp_path) as database,
        rolled_back(database, wait_seconds=0.05),
        database.session() as session,
        client_of(app_of(database)) as client,
    ):
        await session.execute(text("SELECT 1"))
        assert (await asyncio.create_task(client.get("/owners"))).status_code == 503
        await session.commit()
        assert (await asyncio.create_task(client.get("/owners"))).status_code == 200


async def test_a_turn_is_given_back_without_a_transaction(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database, rolled_back(database, wait_seconds=0.05):
        async with database.session() as session:
            await session.run_sync(lambda sync: sync.get_bind())
        await asyncio.create_task(owners(database))


async def test_sessions_are_those_of_the_database_again_afterwards(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        async with rolled_back(database):
            pass
        async with database.session() as session:
            session.add(Owner(name="ann"))
        assert await owners(database) == ["ann"]


async def test_ping_answers_within(database: Database) -> None:
    async with rolled_back(database):
        await database.ping()


async def test_mariadb(mariadb_url: str) -> None:
    async with on_mariadb(mariadb_url) as database:
        async with rolled_back(database), client_of(app_of(database)) as client:
            assert (await client.post("/owners/ann")).status_code == 201
            assert (await client.post("/owners/ann")).status_code == 409
            assert await owners(database) == ["ann"]
            async with database.session(read_only=True) as session:
                assert await session.scalar(text("SELECT count(*) FROM owners")) == 1
        assert await owners(database) == []


def test_it_works_with_the_sync_test_client(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db", create_all=Base.metadata)
    with TestClient(app_of(database)) as client:
        assert client.portal is not None
        for _ in range(2):
            with client.portal.wrap_async_context_manager(rolled_back(database)):
                assert client.post("/owners/ann").status_code == 201
                assert client.get("/owners").json() == 1
        assert client.get("/owners").json() == 0


async def test_it_costs_little(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        costs: list[float] = []
        for _ in range(20):
            started = time.perf_counter()
            async with rolled_back(database):
                pass
            costs.append(time.perf_counter() - started)
        assert sorted(costs)[10] < 0.005
