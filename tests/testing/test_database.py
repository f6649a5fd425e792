import asyncio
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import FastAPI, HTTPException
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from fastapi_kit.db import Database, SyncDatabase
from fastapi_kit.errors import ConfigurationError, ConflictError
from fastapi_kit.testing.database import LostCommitWarning, rolled_back, rolled_back_client
from tests.db.support import Base, Item, Owner, app_of, client_of, on_mariadb, on_postgres, on_sqlite, owners
from tests.db.sync_support import sync_app_of

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
            answers = await asyncio.gather(*(client.post(f"/owners/o{number}") for number in range(5)))
            assert [answer.status_code for answer in answers] == [201] * 5
            async with database.session(read_only=True) as session:
                assert await session.scalar(text("SELECT count(*) FROM owners")) == 6
                with pytest.raises(DBAPIError, match="READ ONLY"):
                    await session.execute(text("DELETE FROM owners"))
        assert await owners(database) == []


async def test_every_kind_of_session_works_within(database: Database) -> None:
    async with rolled_back(database):

        async def store(session: AsyncSession) -> int:
            session.add(owner := Owner(name="ann"))
            await session.flush()
            return owner.id

        number = await database.run(store)
        async with database.session(isolation_level="SERIALIZABLE") as session:
            assert (await session.get_one(Owner, number)).name == "ann"
        async with database.session(snapshot=True) as session:
            rows = await session.stream_scalars(select(Owner.name))
            assert [name async for name in rows] == ["ann"]
            with pytest.raises(DBAPIError, match=r"read-?only"):
                await session.execute(text("DELETE FROM owners"))
            assert await session.scalar(select(Owner.name)) == "ann"  # a failure ends nothing
    assert await owners(database) == []


async def test_a_reader_and_a_writer_in_one_request_do_not_disturb_each_other(database: Database) -> None:
    app = FastAPI()

    @app.post("/{name}")
    async def both(
        name: str,
        writer: Annotated[AsyncSession, database.per_request],
        reader: Annotated[AsyncSession, database.per_request_read_only],
        fail: bool = False,
    ) -> int | None:
        before = await reader.scalar(select(func.count()).select_from(Owner))
        writer.add(Owner(name=name))
        await writer.flush()
        if fail:
            raise HTTPException(418)
        return before

    async with rolled_back(database), client_of(app) as client:
        assert [(await client.post(f"/o{number}")).json() for number in range(3)] == [0, 1, 2]
        assert (await client.post("/lost?fail=true")).status_code == 418
        assert await owners(database) == ["o0", "o1", "o2"]
    assert await owners(database) == []


async def test_what_another_session_stored_outlives_a_request_that_only_read(database: Database) -> None:
    app = FastAPI()

    @app.post("/{name}")
    async def refuse(name: str, session: Annotated[AsyncSession, database.per_request]) -> None:
        await session.scalar(select(func.count()).select_from(Owner))
        async with database.session() as own:
            own.add(Owner(name=name))
        raise HTTPException(401)

    async with rolled_back(database), client_of(app) as client:
        assert (await client.post("/attempt")).status_code == 401
        assert await owners(database) == ["attempt"]
    assert await owners(database) == []


async def test_what_it_cannot_keep_it_tells(database: Database) -> None:
    test = rolled_back(database)
    await test.__aenter__()
    with pytest.raises(RuntimeError):
        async with database.session() as outer:
            outer.add(Owner(name="outer"))
            await outer.flush()
            async with database.session() as own:
                own.add(Owner(name="inner"))
            raise RuntimeError
    assert await owners(database) == []
    with pytest.warns(LostCommitWarning):
        await test.__aexit__(None, None, None)


async def test_sessions_that_end_in_another_order_than_they_began(database: Database) -> None:
    async with rolled_back(database):
        async with database.session() as first:
            first.add(Owner(name="first"))
            await first.flush()
            async with database.session() as second:
                second.add(Owner(name="second"))
                await second.flush()
                await first.commit()
                second.add(Owner(name="third"))
        assert await owners(database) == ["first", "second", "third"]
        reading = database.session()
        session = await reading.__aenter__()
        await session.scalar(select(Owner.name))
        async with database.session() as writing:
            writing.add(Owner(name="fourth"))
            await writing.flush()
            await session.rollback()
        await reading.__aexit__(None, None, None)
        assert len(await owners(database)) == 4
    assert await owners(database) == []


async def test_a_session_below_one_that_is_rolled_back_goes_on(database: Database) -> None:
    test = rolled_back(database)
    await test.__aenter__()
    async with database.session() as first:
        first.add(Owner(name="first"))
        await first.flush()
        async with database.session() as second:
            second.add(Owner(name="second"))
            await second.flush()
            await first.rollback()
            await second.execute(text("INSERT INTO owners (name, visits) VALUES ('third', 0)"))
    assert await owners(database) == ["third"]
    with pytest.warns(LostCommitWarning):
        await test.__aexit__(None, None, None)


async def test_a_transaction_that_failed_does_not_commit(postgres_url: str) -> None:
    async with on_postgres(postgres_url) as database, rolled_back(database):
        for write in (False, True):
            with pytest.raises(DBAPIError, match="nonsense"):  # as without it, the error that was caught
                async with database.session() as session:
                    if write:
                        session.add(Owner(name="ann"))
                        await session.flush()
                    with pytest.raises(DBAPIError, match="nonsense"):
                        await session.execute(text("SELECT nonsense"))
            assert await owners(database) == []
        async with database.session() as session:
            await session.execute(text("SELECT 1"))
            with pytest.raises(DBAPIError, match="nonsense"):
                async with session.begin_nested():
                    await session.execute(text("SELECT nonsense"))


async def test_a_session_of_a_test_that_has_ended_says_so(database: Database) -> None:
    async with rolled_back(database):
        session = database.session()
        opened = await session.__aenter__()
        await opened.execute(text("SELECT 1"))
    with pytest.raises(InvalidRequestError, match="a test that has ended"):
        await opened.execute(text("SELECT 1"))
    await session.__aexit__(RuntimeError, RuntimeError(), None)
    assert await owners(database) == []


async def test_a_dispose_within_leaves_no_connection_open(database: Database) -> None:
    if database.engine.url.database is None:
        return  # in memory, where the data would be gone
    async with rolled_back(database), client_of(app_of(database)) as client:
        await database.dispose()
        assert (await client.post("/owners/ann")).status_code == 201
    assert await owners(database) == []


async def test_another_event_loop_is_told_of_the_client(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database, rolled_back(database):
        with pytest.raises(ConfigurationError, match="use `rolled_back_client`"):
            await asyncio.to_thread(TestClient(app_of(database)).get, "/owners")


# a TestClient


@pytest.fixture(params=["async", "sync"])
def in_file(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FastAPI, Database | SyncDatabase]:
    if request.param == "async":
        database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db", create_all=Base.metadata)
        return app_of(database), database
    sync = SyncDatabase(f"sqlite+pysqlite:///{tmp_path}/app.db", create_all=Base.metadata)
    return sync_app_of(sync), sync


def names(session: Session) -> list[str]:
    return list(session.scalars(select(Owner.name).order_by(Owner.id)))


def test_a_test_client_looks_into_the_same_transaction(in_file: tuple[FastAPI, Database | SyncDatabase]) -> None:
    app, database = in_file
    for _ in range(2):
        with rolled_back_client(app, database) as client:
            assert client.post("/owners/ann").status_code == 201
            assert client.post("/items/987").status_code == 409
            client.in_session(lambda session: session.add(Owner(name="bob")))
            assert client.in_session(names) == ["ann", "bob"]
            assert client.get("/owners").json() == 2


def test_an_app_that_is_started_once_serves_many_tests(in_file: tuple[FastAPI, Database | SyncDatabase]) -> None:
    app, database = in_file
    with TestClient(app) as started:
        for _ in range(2):
            with rolled_back_client(started, database) as client:
                assert client.post("/owners/ann").status_code == 201
                client.cookies["left"] = "over"
                assert not started.cookies
        assert started.get("/owners").json() == 0
        assert client.base_url == "https://test"


def test_a_client_that_was_not_entered_is_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db")
    with pytest.raises(ConfigurationError, match="was not entered"):
        with rolled_back_client(TestClient(app_of(database)), database):
            pass


def test_several_requests_at_once_with_a_test_client(in_file: tuple[FastAPI, Database | SyncDatabase]) -> None:
    app, database = in_file
    with rolled_back_client(app, database) as client, ThreadPoolExecutor(5) as threads:
        posts = threads.map(client.post, (f"/owners/o{number}" for number in range(5)))
        assert [answer.status_code for answer in posts] == [201] * 5
        assert len(client.in_session(names)) == 5


async def test_it_costs_little(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        costs: list[float] = []
        for _ in range(20):
            started = time.perf_counter()
            async with rolled_back(database):
                pass
            costs.append(time.perf_counter() - started)
        assert sorted(costs)[10] < 0.005


def test_no_other_name_is_made_up() -> None:
    with pytest.raises(ImportError):
        from fastapi_kit.testing.database import nonsense  # noqa: F401


async def test_an_error_that_was_caught_is_the_answer_of_the_commit_as_without_it(database: Database) -> None:
    async def store_twice() -> None:
        async with database.session() as session:
            await session.execute(insert(Owner).values(name="bob", visits=0))
            with suppress(IntegrityError):
                await session.execute(insert(Owner).values(name="ann", visits=0))

    async with rolled_back(database):
        async with database.session() as session:
            session.add(Owner(name="ann"))
        if database.engine.dialect.name == "postgresql":  # which undoes the transaction
            with pytest.raises(ConflictError):
                await store_twice()
            assert await owners(database) == ["ann"]
        else:
            await store_twice()
            assert await owners(database) == ["ann", "bob"]
