"""Migrations from within a service."""

import asyncio
import logging
from pathlib import Path

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from fastapi_kit.db import Database, SyncDatabase
from fastapi_kit.db.migrations import require_head, upgrade
from fastapi_kit.errors import ConfigurationError
from tests.db.migrations.support import AnyDatabase, Revisions, dispose, execute, scalar, tables

pytestmark = pytest.mark.anyio


async def test_upgrade_brings_the_database_to_its_head_and_then_does_nothing(
    db: AnyDatabase, revisions: Revisions
) -> None:
    revisions.add("one", 'op.execute("CREATE TABLE one (id INT)")')
    revisions.add("two", 'op.execute("CREATE TABLE two (id INT)")')
    await upgrade(db, revisions.config(db), "one")
    assert await tables(db) == {"alembic_version", "one"}
    await upgrade(db, revisions.config(db))
    await upgrade(db, revisions.config(db))
    assert await tables(db) == {"alembic_version", "one", "two"}


async def test_commands_of_alembic_work_while_the_event_loop_runs(db: AnyDatabase, revisions: Revisions) -> None:
    revisions.add("one", 'op.execute("CREATE TABLE one (id INT)")', 'op.execute("DROP TABLE one")')
    command.upgrade(revisions.config(db), "head")
    assert await tables(db) == {"alembic_version", "one"}
    command.downgrade(revisions.config(db), "base")
    assert await tables(db) == {"alembic_version"}
    assert await scalar(db, "SELECT count(*) FROM alembic_version") == 0


@pytest.mark.parametrize("driver", ["sqlite+aiosqlite", "postgresql+asyncpg"])
async def test_two_upgrades_in_one_process_take_turns(db: Database, revisions: Revisions) -> None:
    revisions.add("one", 'op.execute("CREATE TABLE one (id INT)")')
    await asyncio.gather(*(upgrade(db, revisions.config(db)) for _ in range(3)))
    assert await tables(db) == {"alembic_version", "one"}


@pytest.mark.parametrize("in_memory", [Database("sqlite+aiosqlite://"), SyncDatabase("sqlite+pysqlite://")])
async def test_an_in_memory_database_is_migrated_where_it_lives(in_memory: AnyDatabase, revisions: Revisions) -> None:
    db = in_memory
    revisions.add("one", 'op.execute("CREATE TABLE one (id INT)")')
    await upgrade(db, revisions.config(db))
    assert await tables(db) == {"alembic_version", "one"}
    with pytest.raises(CommandError, match="in memory"):
        command.upgrade(revisions.config(db), "head")
    await dispose(db)


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg"])
async def test_a_cancelled_upgrade_leaves_neither_a_lock_nor_a_part(db: Database, revisions: Revisions) -> None:
    revisions.add(
        "one", "op.execute(\"CREATE TABLE one AS SELECT pg_sleep(60)::text WHERE to_regclass('go') IS NULL\")"
    )
    running = asyncio.create_task(upgrade(db, revisions.config(db)))
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    while not await scalar(db, sleeping):
        assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert "one" not in await tables(db)
    await execute(db, "CREATE TABLE go (id INT)")
    await upgrade(db, revisions.config(db))
    assert "one" in await tables(db)


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy", "mysql+pymysql"])
async def test_a_migration_may_take_longer_than_a_statement_of_the_service(
    driver: str, url: str, revisions: Revisions
) -> None:
    sleep = "SELECT pg_sleep(1.5)" if driver.startswith("postgresql") else "SELECT SLEEP(1.5)"
    revisions.add("one", f'op.execute("{sleep}")\nop.execute("CREATE TABLE one (id INT)")')
    db: AnyDatabase = (SyncDatabase if driver == "mysql+pymysql" else Database)(url, statement_timeout_seconds=0.5)
    await upgrade(db, revisions.config(db))
    assert "one" in await tables(db)
    await dispose(db)


async def test_a_database_that_is_behind_is_refused(db: AnyDatabase, revisions: Revisions) -> None:
    revisions.add("one", "pass")
    revisions.add("two", "pass")
    with pytest.raises(ConfigurationError, match="at revision none and this code needs two"):
        await require_head(db, revisions.config(db))
    assert await tables(db) == set()
    await upgrade(db, revisions.config(db), "one")
    with pytest.raises(ConfigurationError, match="at revision one and this code needs two: run `alembic upgrade head`"):
        await require_head(db, revisions.config(db))
    await upgrade(db, revisions.config(db))
    await require_head(db, revisions.config(db))


@pytest.mark.parametrize("driver", ["sqlite+aiosqlite"])
async def test_a_database_that_is_newer_is_let_pass(
    db: Database, revisions: Revisions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    revisions.add("one", "pass")
    older = Revisions(tmp_path / "older")
    older.add("zero", "pass")
    await upgrade(db, revisions.config(db))
    with caplog.at_level(logging.WARNING, "fastapi_kit.db.migrations"):
        await require_head(db, older.config(db))
    assert caplog.messages == ["the database is newer than this code: it is at one"]


@pytest.mark.parametrize("driver", ["sqlite+aiosqlite"])
async def test_configuration_is_read_from_a_file(db: Database, revisions: Revisions, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no .*alembic\.ini: give the path"):
        await upgrade(db, tmp_path / "alembic.ini")
    ini = revisions.name_database("None")
    revisions.add("one", 'op.execute("CREATE TABLE one (id INT)")')
    await upgrade(db, ini)  # on this database, whatever env.py names
    await require_head(db, str(ini))
    assert await tables(db) == {"alembic_version", "one"}


@pytest.mark.parametrize("driver", ["sqlite+aiosqlite", "sqlite+pysqlite", "postgresql+asyncpg"])
async def test_a_migration_that_fails_leaves_nothing(db: AnyDatabase, revisions: Revisions) -> None:
    revisions.add("one", 'op.execute("CREATE TABLE one (id INT)")\nop.execute("no SQL")')
    with pytest.raises(DBAPIError):
        await upgrade(db, revisions.config(db))
    assert "one" not in await tables(db)
    with pytest.raises(ConfigurationError, match="at revision none"):
        await require_head(db, revisions.config(db))


@pytest.mark.parametrize("driver", ["postgresql+asyncpg"])
async def test_each_migration_is_a_transaction_on_postgresql(db: Database, revisions: Revisions) -> None:
    revisions.add("one", "op.execute(\"CREATE TYPE mood AS ENUM ('sad')\")")
    revisions.add("two", "op.execute(\"ALTER TYPE mood ADD VALUE 'ok'\")")
    revisions.add("three", "op.execute(\"CREATE TABLE three AS SELECT 'ok'::mood AS mood\")")
    revisions.add("four", 'op.execute("DROP TABLE three")\nop.execute("no SQL")')
    with pytest.raises(DBAPIError):
        await upgrade(db, revisions.config(db))
    assert await scalar(db, "SELECT version_num FROM alembic_version") == "three"
    assert await scalar(db, "SELECT mood FROM three") == "ok"


@pytest.mark.parametrize("driver", ["sqlite+aiosqlite", "sqlite+pysqlite"])
async def test_all_that_are_due_are_one_transaction_on_sqlite(db: AnyDatabase, revisions: Revisions) -> None:
    revisions.add("one", 'op.execute("CREATE TABLE one (id INT)")')
    revisions.add("two", 'op.execute("no SQL")')
    with pytest.raises(DBAPIError):
        await upgrade(db, revisions.config(db))
    assert await tables(db) == set()


@pytest.mark.parametrize("driver", ["postgresql+asyncpg"])
async def test_the_pool_of_the_service_is_left_alone(db: Database, revisions: Revisions) -> None:
    revisions.add("one", 'op.execute("CREATE TABLE one (id INT)")')
    revisions.add("two", "pass")

    async def process_id() -> object:
        async with db.session() as session:
            return await session.scalar(text("SELECT pg_backend_pid()"))

    before = await process_id()
    command.upgrade(revisions.config(db), "one")
    await upgrade(db, revisions.config(db))
    assert await process_id() == before
