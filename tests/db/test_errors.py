import asyncio
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError

from fastapi_kit.db import Database, SyncDatabase, problem_for
from fastapi_kit.errors import ConflictError, Problem, UnavailableError
from tests.db.support import let_sqlite_stop, on_mariadb, on_postgres

pytestmark = pytest.mark.anyio


class DriverError(Exception):
    """What a driver raises, with its state."""

    def __init__(self, *args: Any, sqlstate: str | None = None) -> None:
        super().__init__(*args)
        self.sqlstate = sqlstate


def status_of(exc: BaseException) -> int | None:
    problem = problem_for(exc)
    return problem.status if problem else None


async def error_of(database: Database, *statements: str) -> BaseException:
    """Return SQLAlchemy's own error: it leaves the session as it is, or as the cause of the problem that it is."""
    with pytest.raises((DBAPIError, Problem)) as raised:
        async with database.session() as session:
            for statement in statements:
                await session.execute(text(statement))
    cause = raised.value.__cause__ if isinstance(raised.value, Problem) else raised.value
    assert cause is not None
    assert getattr(raised.value, "status", None) == status_of(cause)
    return cause


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_postgres_states(driver: str, postgres_url: str) -> None:
    database = Database(make_url(postgres_url).set(drivername=f"postgresql+{driver}"))

    async def status(state: str) -> int | None:
        raising = f"DO $$ BEGIN RAISE EXCEPTION 'value' USING ERRCODE = '{state}'; END $$"
        return status_of(await error_of(database, raising))

    for state in ("23505", "23503", "23502", "23514", "23P01"):
        assert await status(state) == 409, state
    for state in ("40001", "40P01", "55P03", "57P03", "53300", "08006"):
        assert await status(state) == 503, state
    for state in ("42601", "22P02", "P0001", "42501"):
        assert await status(state) is None, state
    await database.dispose()


@pytest.mark.parametrize("driver", ["asyncmy", "aiomysql"])
async def test_mariadb_errors(driver: str, mariadb_url: str) -> None:
    async with on_mariadb(make_url(mariadb_url).set(drivername=f"mariadb+{driver}")) as database:
        ann = "INSERT INTO owners (name) VALUES ('ann')"
        assert status_of(await error_of(database, ann, ann)) == 409
        check = "CREATE TABLE checked (n INT CHECK (n > 0))"
        assert status_of(await error_of(database, check, "INSERT INTO checked VALUES (0)")) == 409
        assert status_of(await error_of(database, "SELECT nonsense")) is None
        deadlock = "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213"
        assert status_of(await error_of(database, deadlock)) == 503
        lock_wait = "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1205"
        assert status_of(await error_of(database, lock_wait)) == 503


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_the_time_outs_of_postgres_are_a_503(driver: str, postgres_url: str) -> None:
    url = make_url(postgres_url).set(drivername=f"postgresql+{driver}")
    database = Database(url, statement_timeout_seconds=0.1, idle_in_transaction_timeout_seconds=0.1)
    error = await error_of(database, "SELECT pg_sleep(5)")
    assert isinstance(error, DBAPIError)
    assert (getattr(error.driver_exception, "sqlstate", None), status_of(error)) == ("57014", 503)
    with pytest.raises(
        UnavailableError
    ):  # 25P03, which the server says before it closes, or the loss of the connection
        async with database.session() as session:
            await session.execute(text("SELECT 1"))
            await asyncio.sleep(0.3)
    await database.ping()
    await database.dispose()


@pytest.mark.parametrize("driver", ["asyncmy", "aiomysql"])
async def test_the_time_out_of_a_statement_of_mariadb_is_a_503(driver: str, mariadb_url: str) -> None:
    url = make_url(mariadb_url).set(drivername=f"mariadb+{driver}")
    database = Database(url, statement_timeout_seconds=0.1)
    error = await error_of(database, "SELECT SLEEP(5) FROM (SELECT 1) AS one")
    assert isinstance(error, DBAPIError)
    assert (error.driver_exception.args[0], status_of(error)) == (1969, 503)
    await database.dispose()


def test_the_time_outs_are_a_503_for_def(postgres_url: str) -> None:
    url = make_url(postgres_url).set(drivername="postgresql+psycopg")
    database = SyncDatabase(url, statement_timeout_seconds=0.1)
    with pytest.raises(UnavailableError) as late, database.session() as session:
        session.execute(text("SELECT pg_sleep(5)"))
    assert getattr(late.value.__cause__, "connection_invalidated", None) is False
    database.dispose()


async def test_a_connection_that_asyncpg_lost_track_of_is_a_503_and_is_not_used_again(postgres_url: str) -> None:
    database = Database(postgres_url)
    broken: Any = database.engine.dialect.loaded_dbapi
    async with database.session() as session:
        backend = await session.scalar(text("SELECT pg_backend_pid()"))

    def fail(*_: Any) -> None:  # as between the farewell of a server and the end of the connection
        raise broken.InternalClientError("cannot switch to state 12; another operation (2) is in progress", Exception())

    event.listen(database.engine.sync_engine, "do_execute", fail, once=True)
    with pytest.raises(UnavailableError):
        async with database.session() as session:
            await session.execute(text("SELECT 1"))
    async with database.session() as session:
        assert await session.scalar(text("SELECT pg_backend_pid()")) != backend
    await database.dispose()


async def test_a_table_that_is_altered_meanwhile_is_a_503_of_asyncpg_once(postgres_url: str) -> None:
    database = Database(make_url(postgres_url).set(drivername="postgresql+asyncpg"), pool_size=1, max_overflow=0)
    table = f"kit_altered_{uuid4().hex[:8]}"

    async def execute(statement: str) -> None:
        async with database.session() as session:
            await session.execute(text(statement.format(table)))

    await execute("CREATE TABLE {} (n integer)")
    await execute("SELECT * FROM {}")
    await execute("ALTER TABLE {} ALTER n TYPE varchar")
    with pytest.raises(UnavailableError):
        await execute("SELECT * FROM {}")
    await execute("SELECT * FROM {}")
    await execute("DROP TABLE {}")
    await database.dispose()


async def test_a_deadlock_in_postgres_is_a_503(postgres_url: str) -> None:
    async with on_postgres(postgres_url) as database:
        async with database.session() as session:
            await session.execute(text("INSERT INTO owners (name, visits) VALUES ('ann', 0), ('bob', 0)"))
        meet = asyncio.Barrier(2)

        async def lock(first: str, second: str) -> None:
            async with database.session() as session:
                update = text("UPDATE owners SET visits = 1 WHERE name = :name")
                await session.execute(update, {"name": first})
                await meet.wait()
                await session.execute(update, {"name": second})

        ends = await asyncio.gather(lock("ann", "bob"), lock("bob", "ann"), return_exceptions=True)
        assert [type(end) for end in ends if end is not None] == [UnavailableError]


def test_what_is_not_of_a_driver() -> None:
    assert isinstance(problem_for(StaleDataError("value")), ConflictError)
    assert isinstance(problem_for(PoolTimeoutError("value")), UnavailableError)
    assert problem_for(ValueError("value")) is None
    assert problem_for(OSError("value")) is None


def test_an_error_without_a_state_is_told_by_where_it_happened() -> None:
    assert status_of(OperationalError(None, None, DriverError("could not connect"))) == 503
    assert status_of(OperationalError("SELECT 1", None, DriverError("odd"))) is None
    assert status_of(ProgrammingError(None, None, DriverError())) is None
    assert status_of(OperationalError("SELECT 1", None, DriverError(2013, "lost"))) == 503
    assert status_of(DBAPIError("SELECT 1", None, DriverError(), connection_invalidated=True)) == 503


async def test_sqlite_codes(tmp_path: Any) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db", busy_timeout_seconds=0.05)
    assert status_of(await error_of(database, "SELECT nonsense")) is None
    unique = ("CREATE TABLE t (n UNIQUE)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)")
    assert status_of(await error_of(database, *unique)) == 409
    async with database.session() as session:
        await session.execute(text("SELECT 1"))
        assert status_of(await error_of(database, "SELECT 1")) == 503
    await database.dispose()
    nowhere = Database("sqlite+aiosqlite:////no/such/folder/app.db")
    assert status_of(await error_of(nowhere, "SELECT 1")) == 503
    await let_sqlite_stop()


def test_the_texts_are_fixed() -> None:
    conflict = problem_for(StaleDataError("value"))
    assert conflict is not None
    assert conflict.detail == "The change conflicts with the data that is stored."
    assert conflict.headers is None
    unavailable = problem_for(PoolTimeoutError("value"))
    assert unavailable is not None
    assert unavailable.detail == "The database is not available at the moment."
    assert unavailable.headers == {"Retry-After": "1"}
