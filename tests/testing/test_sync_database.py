import asyncio
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from fastapi_kit.db import SyncDatabase
from fastapi_kit.db.threads import current_request
from fastapi_kit.errors import UnavailableError
from fastapi_kit.testing.database import rolled_back
from tests.db.support import Base, Owner, client_of
from tests.db.sync_support import (
    sync_app_of,
    sync_on_mariadb,
    sync_on_postgres,
    sync_on_sqlite,
    sync_owners,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "memory", "postgres", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[SyncDatabase]:
    match request.param:
        case "sqlite":
            context = sync_on_sqlite(tmp_path)
        case "memory":
            memory = SyncDatabase("sqlite+pysqlite://")
            memory.create_all(Base.metadata)
            yield memory
            memory.dispose()
            return
        case "postgres":
            context = sync_on_postgres(request.getfixturevalue("postgres_url"))
        case _:
            context = sync_on_mariadb(request.getfixturevalue("mariadb_url"))
    with context as database:
        yield database


async def test_requests_and_the_test_share_a_transaction_that_leaves_no_row(database: SyncDatabase) -> None:
    for _ in range(2):
        with rolled_back(database):
            async with client_of(sync_app_of(database)) as client:
                assert (await client.post("/owners/ann")).status_code == 201
                assert (await client.post("/unflushed/ann")).status_code == 409
                assert (await client.post("/owners/bob?fail=crash")).status_code == 500
                if database.engine.dialect.name != "mysql":
                    assert (await client.post("/items/987")).status_code == 409
                answers = await asyncio.gather(*(client.post(f"/owners/o{number}") for number in range(5)))
                assert [answer.status_code for answer in answers] == [201] * 5
                assert (await client.post("/both/eve")).json() == 6
                assert (await client.get("/owners")).json() == 7
                await database.ping()
            assert len(sync_owners(database)) == 7
    assert sync_owners(database) == []


def test_every_kind_of_session_works_within(database: SyncDatabase) -> None:
    with rolled_back(database):
        database.run(lambda session: session.add(Owner(name="ann", visits=0)))
        with database.session(isolation_level="SERIALIZABLE") as session:
            assert session.scalar(select(Owner.name)) == "ann"
        alone: list[dict[str, Any]] = [{"read_only": True}, {"snapshot": True}]
        for options in alone:
            with database.session(**options) as session:
                assert session.scalar(select(func.count()).select_from(Owner)) == 1
                with pytest.raises(DBAPIError, match=r"(?i)read-? ?only"):
                    session.execute(text("DELETE FROM owners"))
                assert session.scalar(text("WITH one AS (SELECT 1) SELECT * FROM one")) == 1
    assert sync_owners(database) == []


def test_threads_take_turns_and_lose_no_update(database: SyncDatabase) -> None:
    def visit(session: Session) -> None:
        owner = session.scalars(select(Owner).where(Owner.name == "ann")).one()
        owner.visits += 1

    with rolled_back(database):
        with database.session() as session:
            session.add(Owner(name="ann", visits=0))
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: database.run(visit), range(20)))
        with database.session() as session:
            assert session.scalar(select(Owner.visits)) == 20


def test_a_session_within_a_session_of_the_same_thread_joins_in(database: SyncDatabase) -> None:
    with rolled_back(database):
        with database.session() as outer:
            outer.add(Owner(name="ann", visits=0))
            outer.flush()
            assert sync_owners(database) == ["ann"]


def test_a_thread_that_cannot_have_its_turn_is_told(tmp_path: Path) -> None:
    with sync_on_sqlite(tmp_path) as database, rolled_back(database, wait_seconds=0.05):
        told: list[BaseException] = []

        def read() -> None:
            with pytest.raises(UnavailableError) as refused:
                sync_owners(database)
            told.append(refused.value)

        with database.session() as session:
            session.execute(text("SELECT 1"))
            thread = threading.Thread(target=read)
            thread.start()
            thread.join()
        assert len(told) == 1
        assert sync_owners(database) == []


async def test_sessions_opened_in_the_threads_of_other_requests_wait(tmp_path: Path) -> None:
    with sync_on_sqlite(tmp_path) as database:
        app = FastAPI()
        at_once, most = list[int](), list[int]()

        @app.post("/{name}")
        def create(name: str) -> None:
            with database.session() as session:
                session.add(Owner(name=name))
                session.flush()
                at_once.append(1)
                most.append(len(at_once))
                at_once.pop()

        with rolled_back(database):
            assert sync_owners(database) == []  # in this task, whose context the requests copy
            async with client_of(app) as client:
                answers = await asyncio.gather(*(client.post(f"/o{number}") for number in range(8)))
            assert {answer.status_code for answer in answers} == {200}
            assert len(sync_owners(database)) == 8
        assert max(most) == 1


async def test_a_request_leaves_nothing_in_the_task_that_called_the_app(tmp_path: Path) -> None:
    with sync_on_sqlite(tmp_path) as database:
        app = FastAPI()
        seen: list[object] = []

        @app.get("/")
        def read(session: Annotated[Session, database.per_request]) -> None:
            seen.append(current_request.get())

        before = current_request.get()
        async with client_of(app) as client:
            assert (await client.get("/")).status_code == 200
        assert seen != [before]
        assert current_request.get() is before


def test_a_dispose_within_leaves_no_connection_open(tmp_path: Path) -> None:
    with sync_on_sqlite(tmp_path) as database:
        with rolled_back(database):
            database.dispose()
            database.run(lambda session: session.add(Owner(name="ann")))
        assert sync_owners(database) == []
