"""What env.py's one call does with what Alembic hands it."""

import asyncio
import io
import logging
from contextlib import suppress
from pathlib import Path

import pytest
from alembic import command
from alembic.config import main as alembic
from sqlalchemy import Connection, inspect

from fastapi_kit.db import Database, SyncDatabase
from fastapi_kit.db.migrations import MigrationError, upgrade
from fastapi_kit.db.migrations.guards import _set_foreign_keys
from fastapi_kit.errors import ConfigurationError
from tests.db.migrations.support import AnyDatabase, Revisions, asked, tables

ONE = 'op.execute("CREATE TABLE one (id INT)")'
TRANSACTIONAL = pytest.mark.parametrize("driver", ["sqlite+aiosqlite", "sqlite+pysqlite", "postgresql+asyncpg"])


class ChangedTheirMindError(Exception):
    pass


@pytest.mark.anyio
@TRANSACTIONAL
@pytest.mark.parametrize("keep", [True, False])
async def test_an_injected_connection_keeps_its_own_transaction(
    db: AnyDatabase, revisions: Revisions, keep: bool
) -> None:
    revisions.add("one", ONE)
    config = revisions.config(db)

    def migrate(connection: Connection) -> None:
        if connection.dialect.name == "sqlite":
            _set_foreign_keys(connection, on=False)
        with connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            assert connection.in_transaction()
            if not keep:
                raise ChangedTheirMindError

    with suppress(ChangedTheirMindError):
        await asked(db, migrate)
    assert await tables(db) == ({"alembic_version", "one"} if keep else set())


@pytest.mark.anyio
@pytest.mark.parametrize("driver", ["sqlite+aiosqlite", "sqlite+pysqlite"])
async def test_an_injected_connection_that_would_delete_children_is_refused(
    db: AnyDatabase, revisions: Revisions
) -> None:
    revisions.add("one", ONE)
    config = revisions.config(db)

    def migrate(connection: Connection) -> None:
        with connection.begin():
            config.attributes["connection"] = connection
            command.current(config)  # which changes nothing
            command.upgrade(config, "head")

    with pytest.raises(MigrationError, match="enforces foreign keys"):
        await asked(db, migrate)
    assert await tables(db) == set()


@pytest.mark.anyio
@pytest.mark.parametrize("driver", ["sqlite+aiosqlite"])
async def test_an_injected_async_connection_is_refused(db: Database, revisions: Revisions) -> None:
    config = revisions.config(db)
    async with db.engine.connect() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(ConfigurationError, match=r"is a AsyncConnection: give a sqlalchemy\.Connection"):
            command.upgrade(config, "head")


@pytest.mark.parametrize("driver", ["sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy"])
def test_a_script_is_written_without_a_server(driver: str, revisions: Revisions) -> None:
    path = "/nowhere.db" if driver.startswith("sqlite") else "u:p@127.0.0.1:1/nowhere"
    revisions.add("one", 'op.execute("CREATE TABLE one (id INT DEFAULT 5)")')
    config = revisions.config(Database(f"{driver}:///{path}" if path.startswith("/") else f"{driver}://{path}"))
    config.output_buffer = io.StringIO()
    command.upgrade(config, "head", sql=True)
    script = config.output_buffer.getvalue()
    assert "CREATE TABLE one (id INT DEFAULT 5);" in script
    assert "INSERT INTO alembic_version (version_num) VALUES ('one')" in script
    assert script.startswith("CREATE" if driver.startswith("mysql") else "BEGIN;")


@pytest.mark.anyio
@pytest.mark.parametrize("driver", ["sqlite+aiosqlite"])
async def test_options_go_to_alembic(db: Database, revisions: Revisions) -> None:
    revisions.add("one", ONE)
    await upgrade(db, revisions.config(db, context_options={"version_table": "revisions"}))
    assert await tables(db) == {"revisions", "one"}


def test_the_command_line_shows_what_it_does(
    tmp_path: Path, revisions: Revisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("alembic.autogenerate", "alembic.runtime.migration", "fastapi_kit.db.migrations"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
    url = f"sqlite+aiosqlite:///{tmp_path}/app.db"
    ini = revisions.name_database(f"Database({url!r})")
    revisions.add("one", ONE)
    alembic(["-c", str(ini), "upgrade", "head"])
    assert logging.getLogger("alembic.runtime.migration").level == logging.INFO
    db = SyncDatabase(url.replace("aiosqlite", "pysqlite"))
    with db.engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == {"alembic_version", "one"}
    db.dispose()


@pytest.mark.anyio
@pytest.mark.parametrize("driver", ["postgresql+asyncpg"])
async def test_the_loop_goes_on_while_the_database_migrates(db: Database, revisions: Revisions) -> None:
    revisions.add("one", 'op.execute("CREATE TABLE one AS SELECT pg_sleep(0.1)::text")')
    running = asyncio.create_task(upgrade(db, revisions.config(db)))
    turns = 0
    while not running.done():
        turns += 1
        await asyncio.sleep(0)
    await running
    assert turns > 10
    assert await tables(db) == {"alembic_version", "one"}
