"""What a transaction promises on each server: it is whole, it is repeated where it may be, and reads do not write."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import FastAPI
from sqlalchemy import insert, make_url, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_kit.db import Database
from fastapi_kit.errors import ConflictError, UnavailableError
from tests.db.faults import DRIVERS, POSTGRES, Behind, behind, until
from tests.db.support import Owner, app_of, client_of, on_mariadb, on_postgres, on_sqlite, owners, served
from tests.db.sync_support import sync_on_mariadb, sync_owners

pytestmark = pytest.mark.anyio


@pytest.fixture(params=DRIVERS)
async def there(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncGenerator[Behind]:
    url = request.getfixturevalue("postgres_url" if request.param in POSTGRES else "mariadb_url")
    async with behind(url, request.param, pool_size=1) as there:
        yield there


only_postgres = pytest.mark.parametrize("there", POSTGRES, indirect=True)
only_mariadb = pytest.mark.parametrize("there", ["asyncmy", "aiomysql"], indirect=True)
ANN = insert(Owner).values(name="ann", visits=0)
BOB = insert(Owner).values(name="bob", visits=0)
DDL = ("CREATE TABLE made (n INT)", "DROP TABLE owners", "TRUNCATE owners", "ALTER TABLE owners ADD COLUMN n INT")
DEADLOCK = "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213"  # on MariaDB; it does not roll back itself


# an error that the application catches


@only_postgres
async def test_a_caught_error_that_undid_the_transaction_is_the_answer_of_the_commit(there: Behind) -> None:
    app = FastAPI()

    @app.post("/", status_code=201)
    async def create(session: Annotated[AsyncSession, there.database.per_request], savepoint: bool) -> None:
        await session.execute(BOB)
        try:
            if savepoint:
                async with session.begin_nested():
                    await session.execute(ANN)
            else:
                await session.execute(ANN)
        except DBAPIError:
            pass

    async with there.database.session() as session:
        await session.execute(ANN)
    async with served(app) as client:
        assert (await client.post("/?savepoint=false")).status_code == 409
        assert await there.names() == ["ann"]
        assert (await client.post("/?savepoint=true")).status_code == 201
        assert await there.names() == ["ann", "bob"]
    await there.is_clean()


@only_postgres
async def test_an_error_before_a_rollback_says_nothing_about_the_next_transaction(there: Behind) -> None:
    async with there.database.session() as session:
        with pytest.raises(DBAPIError):
            await session.execute(text("SELECT nonsense"))
        await session.rollback()
        await session.execute(ANN)
    assert await there.names() == ["ann"]


@only_mariadb
async def test_a_caught_deadlock_is_the_answer_of_the_commit_on_mariadb(there: Behind) -> None:
    async with there.database.session() as session:
        await session.execute(ANN)
        await session.execute(BOB)
    meet = asyncio.Barrier(2)

    async def work(first: str, second: str) -> None:
        async with there.database.session() as session:
            await session.execute(update(Owner).where(Owner.name == first).values(visits=1))
            await meet.wait()
            try:
                await session.execute(update(Owner).where(Owner.name == second).values(visits=1))
            except DBAPIError:
                await session.execute(insert(Owner).values(name=f"after {first}", visits=0))

    ends = await asyncio.gather(work("ann", "bob"), work("bob", "ann"), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["NoneType", "UnavailableError"]
    assert await there.names() == ["ann", "bob"]
    await there.is_clean()


@only_mariadb
async def test_a_deadlock_within_a_savepoint_is_repeated_by_run(there: Behind) -> None:
    async with there.database.session() as session:
        await session.execute(ANN)
        await session.execute(BOB)
    meet = asyncio.Barrier(2)
    attempts: list[str] = []

    async def work(first: str, second: str) -> None:
        async def unit_of_work(session: AsyncSession) -> None:
            attempts.append(first)
            await session.execute(update(Owner).where(Owner.name == first).values(visits=Owner.visits + 1))
            if attempts.count(first) == 1:
                await meet.wait()
            async with session.begin_nested():
                await session.execute(update(Owner).where(Owner.name == second).values(visits=Owner.visits + 1))

        await there.database.run(unit_of_work)

    await asyncio.gather(work("ann", "bob"), work("bob", "ann"))
    assert len(attempts) == 3
    assert await visits(there.database) == 2
    await there.is_clean()


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_commit_that_was_refused_and_whose_rollback_is_lost_leaves_the_pool_clean(
    there: Behind, is_cancelled: bool
) -> None:
    async with there.database.session() as session:
        await session.execute(ANN)

    async def work() -> None:
        async with there.database.session() as session:
            await session.execute(BOB)
            with contextlib.suppress(DBAPIError):
                await session.execute(ANN if there.is_postgres else text(DEADLOCK))
            if is_cancelled:
                there.proxy.delay(b"ROLLBACK", 0.3)
            else:
                there.proxy.lose(b"ROLLBACK")

    async def is_rolling_back() -> bool:
        return any(b"ROLLBACK" in request for request in there.proxy.requests)

    task = asyncio.create_task(work())
    if is_cancelled:
        await until(is_rolling_back)
        task.cancel()
    with pytest.raises(asyncio.CancelledError if is_cancelled else (ConflictError, UnavailableError)):
        await task
    assert await there.names() == ["ann"]
    await there.is_clean()
    async with there.database.session() as session:
        await session.execute(BOB)
    assert await there.names() == ["ann", "bob"]


async def test_a_caught_error_that_made_sqlite_roll_back_is_the_answer_of_the_commit(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        async with database.session() as session:
            await session.execute(ANN)
        with pytest.raises(ConflictError):
            async with database.session() as session:
                await session.execute(BOB)
                with pytest.raises(DBAPIError):
                    await session.execute(text("INSERT OR ROLLBACK INTO owners (name, visits) VALUES ('ann', 0)"))
        async with database.session() as session:
            with pytest.raises(DBAPIError):
                await session.execute(ANN)
            await session.execute(insert(Owner).values(name="eve", visits=0))
        assert await owners(database) == ["ann", "eve"]


# conflicts of transactions that run at the same time


async def visit(session: AsyncSession) -> None:
    owner = (await session.scalars(select(Owner).where(Owner.name == "ann"))).one()
    visits = owner.visits
    await asyncio.sleep(0.001)
    owner.visits = visits + 1


async def visits(database: Database) -> int | None:
    async with database.session() as session:
        return await session.scalar(select(Owner.visits).where(Owner.name == "ann"))


async def test_run_repeats_until_each_of_many_increments_is_kept(there: Behind) -> None:
    async with there.database.session() as session:
        await session.execute(ANN)
    attempts = 0

    async def count(session: AsyncSession) -> None:
        nonlocal attempts
        attempts += 1
        await visit(session)

    await asyncio.gather(*(there.database.run(count, retries=100, isolation_level="SERIALIZABLE") for _ in range(8)))
    assert await visits(there.database) == 8
    assert attempts > 8
    await there.is_clean()


async def test_run_gives_up_after_its_retries_and_repeats_nothing_else(there: Behind) -> None:
    attempts = 0
    async with there.database.session() as session:
        await session.execute(ANN)
    failing = "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$" if there.is_postgres else DEADLOCK

    async def conflict(session: AsyncSession) -> None:
        nonlocal attempts
        attempts += 1
        await session.execute(text(failing))

    async def violate(session: AsyncSession) -> None:
        nonlocal attempts
        attempts += 1
        await session.execute(ANN)

    async def conflict_elsewhere(session: AsyncSession) -> None:
        async with there.database.session() as other:
            await conflict(other)

    async def conflict_in_a_task(session: AsyncSession) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(conflict_elsewhere(session))

    for unit_of_work, expected in ((conflict, 3), (conflict_elsewhere, 6)):
        with pytest.raises(UnavailableError):
            await there.database.run(unit_of_work, retries=2)
        assert attempts == expected
    with pytest.raises(ExceptionGroup):
        # In a task of its own: a group of CPython 3.11.2 leaves the mark of a cancellation on the task that it ran in.
        await asyncio.create_task(there.database.run(conflict_in_a_task, retries=2))
    assert attempts == 9
    with pytest.raises(ConflictError):
        await there.database.run(violate)
    assert attempts == 10
    await there.is_clean()


@only_postgres
async def test_a_serialization_failure_at_the_commit_is_a_503(there: Behind) -> None:
    async with there.database.session() as session:
        await session.execute(ANN)
        await session.execute(BOB)
    meet = asyncio.Barrier(2)

    async def skew(name: str) -> None:
        async with there.database.session(isolation_level="SERIALIZABLE") as session:
            await session.execute(text("SELECT sum(visits) FROM owners"))
            await session.execute(update(Owner).where(Owner.name == name).values(visits=1))
            await meet.wait()

    ends = await asyncio.gather(skew("ann"), skew("bob"), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["NoneType", "UnavailableError"]
    await there.is_clean()


@only_postgres
async def test_a_deferred_constraint_is_a_409_and_no_row(there: Behind) -> None:
    async with served(app_of(there.database)) as client:
        assert (await client.post("/items/987")).status_code == 409
        assert (await client.post("/owners/ann")).status_code == 201
    await there.is_clean()


# sessions that only read


@only_postgres
async def test_a_read_only_session_saves_the_begin_and_the_rollback(there: Behind) -> None:
    async def round_trips(*, read_only: bool) -> list[bytes]:
        sent: list[bytes] = []
        for _ in range(8):  # what is prepared, and switched, once, is not counted
            there.proxy.requests.clear()
            async with there.database.session(read_only=read_only) as session:
                await session.scalar(select(Owner.name))
            sent = list(there.proxy.requests)
        return sent

    writing, reading = await round_trips(read_only=False), await round_trips(read_only=True)
    assert len(reading) == len(writing) - 2
    assert not any(word in part for part in reading for word in (b"BEGIN", b"COMMIT", b"ROLLBACK", b"SET "))


@only_postgres
async def test_the_connection_of_a_reader_writes_again_for_the_next(there: Behind) -> None:
    for number in range(3):
        async with there.database.session(read_only=True) as session:
            with pytest.raises(DBAPIError, match="read-only"):
                await session.execute(ANN)
            assert await session.scalar(text("SELECT 1")) == 1
        async with there.database.session() as session:
            await session.execute(insert(Owner).values(name=f"o{number}", visits=0))
    assert await there.names() == ["o0", "o1", "o2"]
    assert len(await there.connections()) == 1
    await there.is_clean()


@only_postgres
@pytest.mark.parametrize("read_only", [True, False])
async def test_a_switch_to_reading_that_is_cancelled_or_lost_leaves_no_doubt(there: Behind, read_only: bool) -> None:
    async def use(name: str, *, read_only: bool) -> None:
        async with there.database.session(read_only=read_only) as session:
            await session.execute(select(1) if read_only else insert(Owner).values(name=name, visits=0))

    await use("warm", read_only=not read_only)
    there.proxy.lose(b"default_transaction_read_only")
    with pytest.raises(UnavailableError):
        await use("lost", read_only=read_only)
    await use("warm again", read_only=not read_only)
    there.proxy.hold()
    task = asyncio.create_task(use("cancelled", read_only=read_only))
    await there.proxy.quiet()
    there.proxy.release()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with there.database.session(read_only=True) as session:
        with pytest.raises(DBAPIError, match="read-only"):
            await session.execute(ANN)
    await use("last", read_only=False)
    assert "last" in await there.names()
    await there.is_clean()


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
async def test_a_snapshot_sees_one_moment_while_another_writes(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    match kind:
        case "sqlite":
            context = on_sqlite(tmp_path)
        case "postgres":
            context = on_postgres(request.getfixturevalue("postgres_url"))
        case _:
            context = on_mariadb(request.getfixturevalue("mariadb_url"))
    async with context as database:
        async with database.session(snapshot=True) as moment, database.session(read_only=True) as current:
            count = text("SELECT count(*) FROM owners")
            assert (await moment.scalar(count), await current.scalar(count)) == (0, 0)
            async with database.session() as session:
                await session.execute(ANN)
            assert (await moment.scalar(count), await current.scalar(count)) == (0, 1)
            with pytest.raises(DBAPIError, match=r"(?i)read-? ?only"):
                await moment.execute(BOB)
        assert await owners(database) == ["ann"]


@only_mariadb
@pytest.mark.parametrize("snapshot", [False, True])
async def test_what_ends_a_transaction_is_refused_too_and_the_connection_writes_again_for_the_next(
    there: Behind, snapshot: bool
) -> None:
    for number, statement in enumerate(DDL):
        async with there.database.session(read_only=True, snapshot=snapshot) as session:
            with pytest.raises(DBAPIError, match="READ ONLY"):
                await session.execute(text(statement))
        async with there.database.session(read_only=True, snapshot=snapshot) as session:
            await session.commit()
            with pytest.raises(DBAPIError, match="READ ONLY"):
                await session.execute(ANN)
        async with there.database.session() as session:
            await session.execute(insert(Owner).values(name=f"o{number}", visits=0))
    assert await there.names() == ["o0", "o1", "o2", "o3"]
    assert len(await there.connections()) == 1
    await there.is_clean()


@pytest.mark.parametrize("snapshot", [False, True])
def test_what_ends_a_transaction_is_refused_for_def_too(mariadb_url: str, snapshot: bool) -> None:
    with sync_on_mariadb(mariadb_url, pool_size=1, max_overflow=0) as database:
        for number, statement in enumerate(DDL):
            with database.session(read_only=True, snapshot=snapshot) as reader:
                with pytest.raises(DBAPIError, match="READ ONLY"):
                    reader.execute(text(statement))
            with database.session() as session:
                session.execute(insert(Owner).values(name=f"o{number}", visits=0))
        assert sync_owners(database) == ["o0", "o1", "o2", "o3"]


async def test_a_snapshot_can_be_streamed(there: Behind) -> None:
    async with there.database.session() as session:
        await session.execute(ANN)
        await session.execute(BOB)
    async with there.database.session(snapshot=True) as session:
        assert [name async for name in await session.stream_scalars(select(Owner.name).order_by(Owner.id))] == [
            "ann",
            "bob",
        ]
    await there.is_clean()


# two databases


async def test_two_databases_in_a_request_commit_each_for_itself(there: Behind, tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as other:
        app = FastAPI()

        @app.post("/{name}", status_code=201)
        async def create(
            name: str,
            second: Annotated[AsyncSession, other.per_request],
            first: Annotated[AsyncSession, there.database.per_request],
        ) -> None:
            first.add(Owner(name=name, visits=0))
            second.add(Owner(name="same", visits=0))

        async with there.database.lifespan(app), other.lifespan(app), client_of(app) as client:
            assert (await client.post("/ann")).status_code == 201
            assert (await client.post("/bob")).status_code == 409  # the last that is taken commits first
            assert await there.names() == ["ann", "bob"]
            assert await owners(other) == ["same"]
        assert make_url(other.engine.url).drivername == "sqlite+aiosqlite"
    await there.is_clean()


async def test_an_unknown_isolation_level_is_refused_before_there_is_a_connection(database: Database) -> None:
    async def work(session: AsyncSession) -> None:
        await session.execute(text("SELECT 1"))

    with pytest.raises(ValueError, match="isolation_level is 'SERIALISABLE': give one of READ COMMITTED, REP"):
        await database.run(work, isolation_level="SERIALISABLE")  # type: ignore[arg-type]
    assert database.pool_states()["primary"].in_use == 0


async def test_a_lock_of_the_same_request_is_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with on_sqlite(tmp_path, busy_timeout_seconds=0.05) as database, database.session() as outer:
        await outer.execute(ANN)
        with pytest.raises(UnavailableError):
            async with database.session() as inner:
                await inner.execute(BOB)
    assert "another session holds the lock of SQLite, perhaps one of the same request" in caplog.text
