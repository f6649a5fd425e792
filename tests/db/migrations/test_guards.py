"""Migrations beside others, and beside the service."""

import asyncio
import logging
import sqlite3
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from fastapi_kit.db import Database
from fastapi_kit.db.migrations import MigrationError, require_head, upgrade
from fastapi_kit.db.migrations.guards import _MARIADB_NAME, _POSTGRESQL_KEY
from fastapi_kit.errors import ConfigurationError, UnavailableError
from tests.db.migrations.support import AnyDatabase, Revisions, execute, scalar, tables

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
SERVERS = pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy"])
SQLITE = pytest.mark.parametrize("driver", ["sqlite+aiosqlite", "sqlite+pysqlite"])
LOCK = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": f"SELECT pg_advisory_lock({_POSTGRESQL_KEY})",
    "mysql": f"SELECT GET_LOCK({_MARIADB_NAME}, 0)",
}
WORKER = """\
import asyncio, sys
from alembic.config import Config
from fastapi_kit.db import Database
from fastapi_kit.db.migrations import upgrade

db = Database(sys.argv[1])
config = Config(attributes={"db": db, "metadata": None, "options": {}})
config.set_main_option("script_location", sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
asyncio.run(upgrade(db, config))
"""


def migrate_in_three_workers(url: str, revisions: Revisions) -> None:
    command = [sys.executable, "-c", WORKER, url, str(revisions.folder)]
    with ExitStack() as stack:
        workers = [stack.enter_context(Popen(command, cwd=ROOT, text=True, stdin=PIPE, stdout=PIPE)) for _ in range(3)]
        for worker in workers:
            stack.callback(worker.kill)
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        assert [worker.wait(60) for worker in workers] == [0, 0, 0]


@pytest.mark.parametrize("driver", ["sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy"])
async def test_workers_that_start_together_migrate_once(db: Database, url: str, revisions: Revisions) -> None:
    revisions.add("one", 'op.execute("CREATE TABLE one (id INT)")\ntime.sleep(0.5)')
    await asyncio.to_thread(migrate_in_three_workers, url, revisions)
    assert await tables(db) == {"alembic_version", "one"}


@pytest.mark.parametrize("driver", ["postgresql+asyncpg"])
async def test_an_index_is_built_concurrently_while_other_workers_wait(
    db: Database, url: str, revisions: Revisions
) -> None:
    revisions.add("one", 'op.execute("CREATE TABLE one (id INT)")\ntime.sleep(0.5)')
    create = 'op.execute("CREATE INDEX CONCURRENTLY ix ON one (id)")'
    revisions.add("two", f"with op.get_context().autocommit_block():\n    {create}")
    await asyncio.to_thread(migrate_in_three_workers, url, revisions)
    assert await scalar(db, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix'::regclass")


@pytest.mark.parametrize("driver", ["sqlite+aiosqlite", "postgresql+asyncpg", "mysql+asyncmy"])
async def test_waiting_for_another_migration_has_an_end(
    driver: str, url: str, revisions: Revisions, caplog: pytest.LogCaptureFixture
) -> None:
    revisions.add("one", "pass")
    db = Database(url, busy_timeout_seconds=0.1)
    async with db.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as other:
        await other.execute(text(LOCK[driver.partition("+")[0]]))
        with caplog.at_level(logging.INFO, "fastapi_kit.db.migrations"):
            with pytest.raises(MigrationError, match=r"was not done in 0\.3 seconds"):
                await upgrade(db, revisions.config(db, wait_seconds=0.3))
        assert "waiting for another migration of this database" in caplog.messages
        with pytest.raises(ConfigurationError, match="at revision none"):
            await require_head(db, revisions.config(db))  # which looks, and need not wait
        await other.invalidate()
    await upgrade(db, revisions.config(db))
    await require_head(db, revisions.config(db))
    await db.dispose()


@pytest.mark.parametrize(
    ("driver", "sleep"),
    [
        ("postgresql+asyncpg", "SELECT pg_sleep(1)"),
        ("postgresql+psycopg", "SELECT pg_sleep(1)"),
        ("mysql+asyncmy", "SELECT SLEEP(1)"),
    ],
)
async def test_a_migration_outlasts_the_time_outs_of_the_server(url: str, sleep: str, revisions: Revisions) -> None:
    db = Database(url, statement_timeout_seconds=0.7, idle_in_transaction_timeout_seconds=0.3)
    revisions.add("one", f'op.execute("{sleep}")\ntime.sleep(0.6)\nop.execute("CREATE TABLE one (id INT)")')
    await upgrade(db, revisions.config(db))
    assert "one" in await tables(db)
    with pytest.raises(UnavailableError):  # requests have theirs still
        async with db.session() as session:
            await session.execute(text(f"{sleep} FROM information_schema.tables"))
    await db.dispose()


@SERVERS
async def test_a_migration_does_not_wait_long_for_a_table_in_use(db: Database, revisions: Revisions) -> None:
    revisions.add("one", 'op.execute("ALTER TABLE busy ADD COLUMN extra INT")')
    await execute(db, "CREATE TABLE busy (id INT)")
    async with db.session() as session:
        await session.execute(text("SELECT * FROM busy"))
        with pytest.raises(DBAPIError, match=r"lock timeout|Lock wait timeout"):
            await upgrade(db, revisions.config(db, table_lock_seconds=0.2))
    await upgrade(db, revisions.config(db, table_lock_seconds=0.2))
    assert await scalar(db, "SELECT count(extra) FROM busy") == 0


@pytest.mark.parametrize("driver", ["postgresql+asyncpg"])
async def test_a_migration_connects_as_the_service_does(url: str, revisions: Revisions) -> None:
    db = Database(url, application_name="the service")

    @event.listens_for(db.engine.sync_engine, "connect")
    def prepare(connection: Any, record: object) -> None:
        connection.cursor().execute("SET search_path = pg_temp, public")

    names = "SELECT current_setting('application_name') AS name, current_setting('search_path') AS path"
    revisions.add("one", f'op.execute("CREATE TABLE public.one AS {names}")')
    await upgrade(db, revisions.config(db))
    assert await scalar(db, "SELECT name || ', ' || path FROM one") == "the service, pg_temp, public"
    await db.dispose()


FAMILY = (
    "CREATE TABLE parents (id INTEGER PRIMARY KEY, name VARCHAR(9))",
    "CREATE TABLE children (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES parents (id) ON DELETE CASCADE)",
    "INSERT INTO parents VALUES (1, 'Ann')",
    "INSERT INTO children VALUES (10, 1)",
)
ALTER = 'with op.batch_alter_table("parents") as batch:\n    batch.alter_column("name", nullable=False)'


async def keeps_its_children(db: AnyDatabase, revisions: Revisions) -> None:
    revisions.add("one", ALTER)
    await execute(db, *FAMILY)
    await upgrade(db, revisions.config(db))
    with pytest.raises(IntegrityError, match="NOT NULL"):
        await execute(db, "INSERT INTO parents VALUES (2, NULL)")
    assert await scalar(db, "SELECT count(*) FROM children") == 1
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        await execute(db, "INSERT INTO children VALUES (11, 3)")


@SQLITE
async def test_a_table_made_anew_keeps_the_rows_that_refer_to_it(db: AnyDatabase, revisions: Revisions) -> None:
    await keeps_its_children(db, revisions)


async def test_foreign_keys_hold_again_in_memory(revisions: Revisions) -> None:
    db = Database("sqlite+aiosqlite://")
    await keeps_its_children(db, revisions)
    revisions.add("two", 'op.execute("no SQL")')
    with pytest.raises(DBAPIError):
        await upgrade(db, revisions.config(db))
    assert await scalar(db, "PRAGMA foreign_keys") == 1
    await db.dispose()


@SQLITE
async def test_rows_that_refer_to_nothing_undo_a_migration(db: AnyDatabase, revisions: Revisions) -> None:
    revisions.add("one", 'op.execute("CREATE TABLE one (id INT)")\nop.execute("DELETE FROM parents")')
    await execute(db, *FAMILY)
    with pytest.raises(MigrationError, match=r"migration of one 1 rows refer .* \(children -> parents\)"):
        await upgrade(db, revisions.config(db))
    assert "one" not in await tables(db)
    assert await scalar(db, "SELECT count(*) FROM parents") == 1


@pytest.mark.parametrize("driver", ["sqlite+aiosqlite"])
async def test_a_cancelled_migration_of_sqlite_leaves_nothing(db: Database, revisions: Revisions) -> None:
    started, others = revisions.folder / "started", set(threading.enumerate())
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500000) SELECT max(i) FROM n"
    steps = 'op.execute("CREATE TABLE one (id INT)")', f"open({str(started)!r}, 'w').close()", f'op.execute("{count}")'
    revisions.add("one", "\n".join(steps))
    running = asyncio.create_task(upgrade(db, revisions.config(db)))
    while not started.exists():
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    while any("_connection_worker_thread" in thread.name for thread in {*threading.enumerate()} - others):
        await asyncio.sleep(0.01)  # that of the migration ends with the statement, and reports to this loop
    assert "one" not in await tables(db)


@SQLITE
@pytest.mark.parametrize("as_list", [True, False])
async def test_own_callbacks_are_called_too(db: AnyDatabase, revisions: Revisions, as_list: bool) -> None:
    seen: list[str] = []

    def note(*, step: Any, **_: object) -> None:
        seen.append(step.up_revision_id)

    revisions.add("one", "pass")
    options = {"on_version_apply": [note] if as_list else note}
    await upgrade(db, revisions.config(db, context_options=options))
    assert seen == ["one"]


@pytest.mark.parametrize("driver", ["sqlite+aiosqlite"])
async def test_a_disk_that_fails_is_not_waited_for(db: Database, revisions: Revisions) -> None:
    revisions.add("one", "pass")

    @event.listens_for(db.engine.sync_engine, "before_cursor_execute")
    def fail(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement == "PRAGMA user_version":
            raise OperationalError(statement, None, sqlite3.OperationalError("disk I/O error"))

    with pytest.raises(OperationalError, match="disk I/O error"):
        await upgrade(db, revisions.config(db))
