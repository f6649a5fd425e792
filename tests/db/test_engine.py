import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import make_url, text
from sqlalchemy.pool import NullPool, QueuePool

from fastapi_kit.db import Database, SyncDatabase
from fastapi_kit.db.engines import Engines, PoolState
from fastapi_kit.db.hosts import Hosts
from fastapi_kit.db.options import Settings
from fastapi_kit.db.sqlite import Transactional
from fastapi_kit.errors import ConfigurationError, UnavailableError

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("", "write driver://user:password@host:port/database"),
        ("app.db", "write driver://"),
        ("postgresql+asyncpg://kit:hidden@host:hidden/x", "percent-encode"),
        ("postgresql+asyncpg://kit:hid:den@host:1:hidden/x", "percent-encode"),
        ("postgresql+asyncpg://kit:p@hidden@host/x", "write it as %40"),
        ("oracle://kit:hidden@host/x", "unknown scheme 'oracle': write one of sqlite"),
        ("sqlite:///app.db", r"write sqlite\+aiosqlite:// instead"),
        ("postgresql://kit:hidden@host/x", r"write postgresql\+asyncpg:// instead"),
        ("postgresql+psycopg2://kit:hidden@host/x", r"write postgresql\+asyncpg:// instead"),
        ("postgres://kit:hidden@host/x", r"write postgresql\+asyncpg:// instead"),
        ("mysql+pymysql://kit:hidden@host/x", r"write mysql\+asyncmy:// instead"),
        ("mariadb://kit:hidden@host/x", r"write mariadb\+asyncmy:// instead"),
        ("sqlite+aiosqlite:///a\0b", "has a NUL character"),
        ("sqlite+aiosqlite://app.db", "write three slashes before a relative path"),
        ("postgresql+asyncpg://kit:hid\0den@host/x", "has a NUL character"),
        ("postgresql+asyncpg://kit:hidden@host/x?sslmode=require", "asyncpg does not know: write ssl="),
    ],
)
def test_a_url_that_cannot_be_used_names_the_remedy_and_hides_the_password(url: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match="^`url`.*" + remedy) as refused:
        Database(url)
    assert "hid" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "module", "command"),
    [
        ("sqlite+aiosqlite://", "aiosqlite", r"fastapi-service-kit\[db\]"),
        ("postgresql+asyncpg://host/x", "asyncpg", r"fastapi-service-kit\[postgres\]"),
        ("postgresql+psycopg://host/x", "psycopg", r"fastapi-service-kit\[psycopg\]"),
        ("mysql+asyncmy://host/x", "asyncmy", r"fastapi-service-kit\[mariadb\]"),
        ("mariadb+aiomysql://host/x", "aiomysql", "aiomysql"),
    ],
)
def test_a_driver_that_is_not_installed_names_the_pip_command(
    url: str, module: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=f"driver '{module}'.* pip install '{command}'"):
        Database(url)


@pytest.mark.parametrize(
    "setting",
    [
        {"pool_size": 0},
        {"max_overflow": -1},
        {"pool_timeout_seconds": 0},
        {"pool_recycle_seconds": -1},
        {"connect_timeout_seconds": 0},
        {"idle_in_transaction_timeout_seconds": float("nan")},
        {"busy_timeout_seconds": -5},
    ],
)
def test_a_number_out_of_range_names_its_setting(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(setting))}` is"):
        Database("sqlite+aiosqlite://", **setting)


def test_a_url_object_will_do_and_the_pool_is_bounded() -> None:
    pool = Database(make_url("sqlite+aiosqlite:///app.db")).engine.pool
    assert isinstance(pool, QueuePool)
    assert pool.size() == 5
    assert pool._max_overflow == 10


async def test_a_pool_of_ones_own_may_count_nothing(postgres_url: str) -> None:
    url = make_url(postgres_url)
    without_pool: dict[str, Any] = {"engine_options": {"poolclass": NullPool}, "pool_size": 3}
    database = Database(url, **without_pool)
    async with database.lifespan(FastAPI()), database.session() as session:
        await session.execute(text("SELECT 1"))
        assert database.pool_states() == {"primary": PoolState(0, 0, 0)}
    sync = SyncDatabase(url.set(drivername="postgresql+psycopg"), **without_pool)
    async with sync.lifespan(FastAPI()):
        with sync.session() as sync_session:
            sync_session.execute(text("SELECT 1"))
            assert sync.pool_states() == {"primary": PoolState(0, 0, 0)}


async def test_sqlite_has_foreign_keys_wal_and_a_busy_time_out(tmp_path: Any) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db", busy_timeout_seconds=2.5)
    async with database.session() as session:
        pragmas = [
            await session.scalar(text(f"PRAGMA {name}")) for name in ("foreign_keys", "journal_mode", "busy_timeout")
        ]
    await database.dispose()
    assert pragmas == [1, "wal", 2500]


def test_workers_that_open_a_new_sqlite_file_together_all_get_in(tmp_path: Path) -> None:
    together = Barrier(8)

    def open_and_write(url: str) -> None:
        database = SyncDatabase(url)
        together.wait()
        with database.session() as session:
            session.execute(text("CREATE TABLE IF NOT EXISTS t (x INT)"))
        database.engine.dispose()

    with ThreadPoolExecutor(8) as threads:
        for number in range(40):  # without the retry about two runs of three fail
            list(threads.map(open_and_write, [f"sqlite+pysqlite:///{tmp_path}/{number}.db"] * 8))


class BusyAtFirst(Transactional):
    """Fails at once as SQLite does when another connection opens the same new file."""

    asked = 0

    def executescript(self, script: str) -> Any:
        self.asked += 1
        if self.asked < 3:
            busy = sqlite3.OperationalError("database is locked")
            busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise busy
        return super().executescript(script)


def test_a_new_sqlite_file_that_is_busy_is_tried_again(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "app.db", factory=BusyAtFirst)
    assert (connection.asked, connection.execute("PRAGMA journal_mode").fetchone()) == (3, ("wal",))
    connection.close()
    with pytest.raises(sqlite3.OperationalError):
        sqlite3.connect(tmp_path / "app.db", factory=BusyAtFirst, timeout=0)


def test_a_sqlite_file_that_stays_locked_is_refused_when_the_busy_time_out_is_over(tmp_path: Path) -> None:
    holder = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    database = SyncDatabase(f"sqlite+pysqlite:///{tmp_path}/app.db", busy_timeout_seconds=0.1)
    with pytest.raises(UnavailableError) as raised, database.session() as session:
        session.execute(text("SELECT 1"))
    assert "locked" in str(raised.value.__cause__)
    holder.close()
    with database.session() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
    database.engine.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_postgres_is_named_and_times_out_when_idle_in_a_transaction(driver: str, postgres_url: str) -> None:
    database = Database(
        make_url(postgres_url).set(drivername=f"postgresql+{driver}"),
        application_name="shop",
        idle_in_transaction_timeout_seconds=0.75,
    )
    async with database.session() as session:
        assert await session.scalar(text("SHOW application_name")) == "shop"
        assert await session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "750ms"
    await database.dispose()


async def test_engine_options_have_the_last_word_and_keep_the_rest(postgres_url: str) -> None:
    database = Database(
        postgres_url,
        engine_options={"pool_size": 1, "connect_args": {"server_settings": {"search_path": "shop"}}},
    )
    async with database.session() as session:
        assert await session.scalar(text("SHOW search_path")) == "shop"
        assert await session.scalar(text("SHOW application_name")) == "fastapi-service-kit"
    await database.dispose()


async def test_what_is_said_to_libpq_is_added_to_and_psycopg_gives_up_a_network_that_is_gone(postgres_url: str) -> None:
    database = Database(
        make_url(postgres_url).set(drivername="postgresql+psycopg"),
        statement_timeout_seconds=7,
        engine_options={"connect_args": {"options": "-c search_path=shop"}},
    )
    async with database.session() as session:
        assert await session.scalar(text("SHOW search_path")) == "shop"
        assert await session.scalar(text("SHOW statement_timeout")) == "7s"
        connection = await (await session.connection()).get_raw_connection()
        driver: Any = connection.driver_connection
        assert driver.info.get_parameters()["tcp_user_timeout"] == "12000"
    await database.dispose()


async def test_a_connection_that_the_server_closed_is_replaced_unseen(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hosts, "trust_seconds", 0)
    database, admin = Database(postgres_url), Database(postgres_url)
    async with database.session() as session:
        backend = await session.scalar(text("SELECT pg_backend_pid()"))
    async with admin.session() as session:
        await session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})
    async with database.session() as session:
        assert await session.scalar(text("SELECT pg_backend_pid()")) != backend
    await database.dispose()
    await admin.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "asyncmy"])
async def test_statements_may_have_no_limit(driver: str, request: pytest.FixtureRequest) -> None:
    is_mariadb = driver == "asyncmy"
    url = make_url(request.getfixturevalue("mariadb_url" if is_mariadb else "postgres_url"))
    database = Database(url.set(drivername=f"{url.get_backend_name()}+{driver}"), statement_timeout_seconds=None)
    async with database.session() as session:
        limit = await session.scalar(text("SELECT @@max_statement_time" if is_mariadb else "SHOW statement_timeout"))
    await database.dispose()
    assert float(limit) == 0


def test_a_child_forgets_the_connections_of_its_parent_and_leaves_them_open(tmp_path: Any) -> None:
    engines = Engines(
        f"sqlite+pysqlite:///{tmp_path}/app.db", [], Settings(), fall_back_to_primary=True, is_async=False
    )
    with engines.primary.connect() as connection:
        parents = connection.connection.driver_connection
    assert engines.pool_states()["primary"].idle == 1
    engines.forget()
    assert engines.pool_states()["primary"].idle == 0
    assert isinstance(parents, sqlite3.Connection)
    assert parents.execute("SELECT 42").fetchone() == (42,)
    parents.close()


async def test_parameters_are_hidden_in_errors(postgres_url: str) -> None:
    database = Database(postgres_url)
    with pytest.raises(Exception, match="hidden due to hide_parameters") as raised:
        async with database.session() as session:
            await session.execute(text("SELECT nonsense WHERE 'a' = :secret"), {"secret": "pass-word"})
    await database.dispose()
    assert "pass-word" not in str(raised.value)


@pytest.mark.parametrize(("database", "driver"), [(Database, "asyncpg"), (SyncDatabase, "psycopg")])
def test_replicas_have_an_engine_of_their_own(database: Any, driver: str) -> None:
    url = f"postgresql+{driver}://db-1/shop"
    assert database(url).replica_engine is None
    assert database(url, replicas=[url.replace("db-1", "db-2")]).replica_engine.url.host == "db-2"
