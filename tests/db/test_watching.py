"""Slow statements and repeated SELECTs are logged, with what the application needs to find them."""

import asyncio
import logging
import re
import sys
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import FastAPI
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_kit.db import Database, SyncDatabase
from tests.db.support import Owner, client_of, on_postgres, on_sqlite

pytestmark = pytest.mark.anyio

NO_TIME = 1e-9


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings of the watch alone."""
    return [
        record.getMessage()
        for record in caplog.records
        if (record.name, record.levelno) == ("fastapi_kit.db", logging.WARNING)
    ]


def next_line() -> str:
    """Return the line after the one that calls this, as a warning names it."""
    caller = sys._getframe(1)
    return f" at {caller.f_code.co_filename}:{caller.f_lineno + 1}: "


@pytest.fixture
async def watched(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Database]:
    async with on_sqlite(tmp_path, repeated_queries=3) as database:
        yield database


def test_nothing_is_attached_unless_it_is_asked_for() -> None:
    def listeners(database: SyncDatabase) -> list[int]:
        engine = database.engine
        events = engine.dispatch.before_cursor_execute, engine.dispatch.after_cursor_execute
        return [len(list(each)) for each in (*events, engine.dialect.dispatch.handle_error)]

    ours = listeners(SyncDatabase("sqlite+pysqlite://"))
    assert ours[:2] == [0, 0]
    slow = listeners(SyncDatabase("sqlite+pysqlite://", slow_query_seconds=1))
    assert slow == [1, 1, ours[2] + 1]
    repeated = listeners(SyncDatabase("sqlite+pysqlite://", repeated_queries=2))
    assert repeated == [1, 0, ours[2]]


# slow_query_seconds


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_slow_statement_is_logged_with_its_time_and_its_line(
    driver: str, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres_url.replace("asyncpg", driver)
    database = Database(url, slow_query_seconds=0.2)
    async with database.session(read_only=True) as session:
        await session.execute(text("SELECT 1"))
        line = next_line()
        await session.execute(text("SELECT\n  pg_sleep(:long)"), {"long": 0.25})
    await database.dispose()
    [message] = messages(caplog)
    head, _, statement = message.partition(line)
    assert re.fullmatch(r"slow statement, (2[5-9]\d|[3-9]\d\d|\d{4}) ms", head)
    assert re.fullmatch(r"SELECT pg_sleep\(.*\)", statement)
    assert "0.25" not in message


async def test_a_statement_that_fails_after_a_long_time_is_logged_too(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(postgres_url, slow_query_seconds=0.2, statement_timeout_seconds=2)
    async with database.session() as session:
        with pytest.raises(DBAPIError, match="statement timeout"):
            await session.execute(text("SELECT pg_sleep(10)"))
        await session.rollback()
        with pytest.raises(DBAPIError, match="nonsense"):
            await session.execute(text("SELECT nonsense"))
        await session.rollback()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):  # long before the database's, or the two meet
                await session.execute(text("SELECT pg_sleep(11)"))
        await session.rollback()
    await database.dispose()
    logged = messages(caplog)
    assert [message.rpartition("SELECT ")[2] for message in logged] == ["pg_sleep(10)", "pg_sleep(11)"]


async def test_a_commit_that_fails_is_no_statement(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with on_postgres(postgres_url, slow_query_seconds=30) as database:
        with pytest.raises(Exception, match="conflicts"):
            async with database.session() as session:
                await session.execute(text("INSERT INTO items (owner_id) VALUES (987)"))
    assert messages(caplog) == []


async def test_a_flush_at_the_commit_of_a_request_names_no_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with on_sqlite(tmp_path, slow_query_seconds=NO_TIME) as database:
        app = FastAPI()

        @app.post("/{name}")
        async def create(name: str, session: Annotated[AsyncSession, database.per_request]) -> None:
            session.add(Owner(name=name))

        caplog.clear()
        async with client_of(app) as client:
            assert (await client.post("/ann")).status_code == 200
    [message] = messages(caplog)
    assert re.fullmatch(r"slow statement, \d+ ms: INSERT INTO owners .*", message)


async def test_many_rows_are_one_statement_cut_to_a_readable_length(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with on_sqlite(tmp_path, slow_query_seconds=NO_TIME) as database:
        caplog.clear()
        async with database.session() as session:
            await session.execute(insert(Owner), [{"name": f"o{n}"} for n in range(3)])
            await session.execute(select(Owner.id).where(Owner.id.in_(range(2000))))
    many, long = messages(caplog)
    assert "INSERT INTO owners" in many
    assert long.endswith(" ...")
    assert len(long) < 2500


def test_a_sync_database_names_the_line_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = SyncDatabase(f"sqlite+pysqlite:///{tmp_path}/app.db", slow_query_seconds=NO_TIME)
    with database.session() as session:
        line = next_line()
        session.execute(text("SELECT 1"))
    database.dispose()
    [message] = messages(caplog)
    assert message.endswith(f"{line}SELECT 1")


def test_a_call_without_a_line_of_the_application_names_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = SyncDatabase(f"sqlite+pysqlite:///{tmp_path}/app.db", slow_query_seconds=NO_TIME)
    with database.session() as session, ThreadPoolExecutor() as threads:
        threads.submit(session.execute, text("SELECT 1")).result()
    database.dispose()
    [message] = messages(caplog)
    assert re.fullmatch(r"slow statement, \d+ ms: SELECT 1", message)


async def test_replicas_are_watched_as_the_primary_is(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(postgres_url, replicas=[postgres_url], slow_query_seconds=NO_TIME)
    for read_only in (True, False):
        async with database.session(read_only=read_only) as session:
            caplog.clear()
            await session.execute(text("SELECT 'mine'"))
            assert "SELECT 'mine'" in messages(caplog)[-1]
    await database.dispose()


# repeated_queries


async def test_a_loop_of_selects_is_one_warning_with_its_line(
    watched: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched.session() as session:
        for number in range(5):
            line = next_line()
            await session.get(Owner, number)
    [message] = messages(caplog)
    assert message.startswith(
        f"3 times in one transaction{line}SELECT owners.id, owners.name, owners.visits FROM owners"
    )


def test_a_sync_session_is_counted_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = SyncDatabase(f"sqlite+pysqlite:///{tmp_path}/app.db", repeated_queries=2)
    with database.session(read_only=True) as session:
        for _ in range(3):
            session.execute(text("SELECT 1"))
    database.dispose()
    assert len(messages(caplog)) == 1


@pytest.mark.parametrize("read_only", [True, False])
async def test_each_transaction_counts_anew(
    read_only: bool, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Database(database.engine.url, repeated_queries=3)
    for _ in range(3):
        async with watched.session(read_only=read_only) as session:
            for _ in range(2):
                await session.execute(text("SELECT 1"))
    assert messages(caplog) == []
    async with watched.session(read_only=read_only) as session:
        for _ in range(3):
            await session.execute(text("SELECT 1"))
    await watched.dispose()
    assert len(messages(caplog)) == 1


async def test_other_statements_and_other_selects_are_not_counted(
    watched: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched.session() as session:
        for number in range(5):
            await session.execute(text("UPDATE owners SET visits = 0"))
            await session.execute(text(f"SELECT {number}"))
    assert messages(caplog) == []


async def test_requests_that_run_at_once_are_counted_apart(watched: Database, caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()

    @app.get("/")
    async def read(session: Annotated[AsyncSession, watched.per_request]) -> None:
        for _ in range(2):
            await session.execute(text("SELECT 1"))

    async with client_of(app) as client:
        await asyncio.gather(*(client.get("/") for _ in range(10)))
    assert messages(caplog) == []
