from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, HTTPException
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_kit.db import Database
from fastapi_kit.errors import UnavailableError
from tests.db.support import Owner, client_of, on_sqlite, owners

pytestmark = pytest.mark.anyio


async def test_what_was_read_does_not_change_within_a_transaction(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        async with database.engine.connect() as reading:
            assert await reading.scalar(text("SELECT count(*) FROM owners")) == 0
            async with database.session() as session:
                session.add(Owner(name="ann"))
            assert await reading.scalar(text("SELECT count(*) FROM owners")) == 0
        assert await owners(database) == ["ann"]


async def test_a_write_upon_what_is_no_longer_true_fails(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path, busy_timeout_seconds=0.1) as database:
        async with database.engine.connect() as stale:
            await stale.execute(text("SELECT count(*) FROM owners"))
            async with database.session() as session:
                session.add(Owner(name="ann"))
            with pytest.raises(OperationalError, match="locked"):
                await stale.execute(text("DELETE FROM owners"))
        assert await owners(database) == ["ann"]


async def test_tables_and_savepoints_are_part_of_the_transaction(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        async with database.session() as session:
            await session.execute(text("CREATE TABLE extra (id INTEGER)"))
            async with session.begin_nested():
                await session.execute(text("INSERT INTO extra VALUES (1)"))
            await session.rollback()
            tables = await session.scalar(text("SELECT count(*) FROM sqlite_master WHERE name = 'extra'"))
        assert tables == 0


async def test_many_rows_at_once_are_part_of_the_transaction(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        async with database.session() as session:
            insert = text("INSERT INTO owners (name, visits) VALUES (:name, 0)")
            await session.execute(insert, [{"name": "ann"}, {"name": "bob"}])
            await session.rollback()
        assert await owners(database) == []


async def test_autocommit_begins_nothing(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        async with database.engine.connect() as connection:
            autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await autocommit.execute(text("VACUUM"))  # which fails within a transaction
            await autocommit.execute(text("INSERT INTO owners (name, visits) VALUES ('ann', 0)"))
        assert await owners(database) == ["ann"]
        async with database.engine.connect() as connection:  # the same connection, from the pool
            await connection.execute(text("DELETE FROM owners"))
        assert await owners(database) == ["ann"]


async def test_a_second_writer_waits_and_then_is_told(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path, busy_timeout_seconds=0.1) as database, database.session() as session:
        await session.execute(text("SELECT 1"))
        with pytest.raises(UnavailableError) as told:
            async with database.session() as other:
                await other.execute(text("SELECT 1"))
        assert "locked" in str(told.value.__cause__)
        async with database.engine.connect() as reading:  # readers do not wait
            await reading.execute(text("SELECT count(*) FROM owners"))


async def test_an_in_memory_database_stays(anyio_backend: str) -> None:
    database = Database("sqlite+aiosqlite:///:memory:")
    async with database.session() as session:
        await session.execute(text("CREATE TABLE extra (id INTEGER)"))
    async with database.session() as session:
        assert await session.scalar(text("SELECT count(*) FROM extra")) == 0
    await database.dispose()


async def test_a_safe_request_reads_what_is_committed_and_holds_no_transaction(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        app = FastAPI()

        @app.get("/")
        async def read(session: Annotated[AsyncSession, database.per_request]) -> list[object]:
            counts: list[object] = []
            for name in ("ann", "bob"):
                counts.append(await session.scalar(select(func.count()).select_from(Owner)))
                async with database.session() as other:
                    other.add(Owner(name=name))
            raw = await (await session.connection()).get_raw_connection()
            driver: Any = raw.driver_connection
            return [*counts, driver.in_transaction]

        async with client_of(app) as http:
            assert (await http.get("/")).json() == [0, 1, False]


async def test_a_safe_request_that_writes_all_the_same_commits_or_rolls_back(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        app = FastAPI()

        @app.get("/")
        async def write(session: Annotated[AsyncSession, database.per_request], fail: bool = False) -> None:
            statement = "WITH new(name) AS (SELECT 'n' || count(*) FROM owners) "
            await session.execute(text(statement + "INSERT INTO owners (name, visits) SELECT name, 0 FROM new"))
            if fail:
                raise HTTPException(418)

        async with client_of(app) as http:
            assert (await http.get("/")).status_code == 200
            assert (await http.get("/?fail=true")).status_code == 418
        assert await owners(database) == ["n0"]


async def test_a_connection_that_was_closed_has_nothing_to_end(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database, database.engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        await driver.close()
        await connection.rollback()
        await connection.invalidate()


async def test_a_transaction_of_another_kind_may_write_after_a_read_only_one(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path, pool_size=1, max_overflow=0) as database:  # so all have the same connection

        async def read() -> int | None:
            async with database.session(read_only=True) as session:
                return await session.scalar(select(func.count()).select_from(Owner))

        insert = "INSERT INTO owners (name, visits) VALUES (:name, 0)"
        assert await read() == 0
        async with database.engine.begin() as connection:
            await connection.execute(text(insert), {"name": "ann"})
        assert await read() == 1
        async with database.engine.connect() as connection:
            autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await autocommit.execute(text("VACUUM"))
            await autocommit.execute(text(insert), {"name": "bob"})
        assert await read() == 2


@pytest.mark.parametrize(
    "write",
    [
        "WITH new(name) AS (SELECT 'ann') INSERT INTO owners (name, visits) SELECT name, 0 FROM new",
        "/* SELECT */ DELETE FROM owners",
        "CREATE TABLE extra (id INTEGER)",
        "PRAGMA user_version = 5",
    ],
)
async def test_a_read_only_session_refuses_a_write_however_it_is_written(tmp_path: Path, write: str) -> None:
    async with on_sqlite(tmp_path) as database:
        with pytest.raises(OperationalError, match="attempt to write a readonly database"):
            async with database.session(read_only=True) as session:
                await session.execute(text(write))
        async with database.session(read_only=True) as session:
            assert await session.scalar(text("WITH one AS (SELECT 1) SELECT * FROM one")) == 1
            assert await session.scalar(text("PRAGMA user_version")) == 0
