import sys
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.pool import QueuePool

from fastapi_kit.db import Database
from fastapi_kit.errors import ConfigurationError

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
        ("postgresql+psycopg://host/x", "psycopg", r"psycopg\[binary\]"),
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


async def test_sqlite_has_foreign_keys_wal_and_a_busy_time_out(tmp_path: Any) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db", busy_timeout_seconds=2.5)
    async with database.session() as session:
        pragmas = [
            await session.scalar(text(f"PRAGMA {name}")) for name in ("foreign_keys", "journal_mode", "busy_timeout")
        ]
    await database.dispose()
    assert pragmas == [1, "wal", 2500]


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


async def test_a_connection_that_the_server_closed_is_replaced_unseen(postgres_url: str) -> None:
    database, admin = Database(postgres_url), Database(postgres_url)
    async with database.session() as session:
        backend = await session.scalar(text("SELECT pg_backend_pid()"))
    async with admin.session() as session:
        await session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})
    async with database.session() as session:
        assert await session.scalar(text("SELECT pg_backend_pid()")) != backend
    await database.dispose()
    await admin.dispose()


async def test_parameters_are_hidden_in_errors(postgres_url: str) -> None:
    database = Database(postgres_url)
    with pytest.raises(Exception, match="hidden due to hide_parameters") as raised:
        async with database.session() as session:
            await session.execute(text("SELECT nonsense WHERE 'a' = :secret"), {"secret": "pass-word"})
    await database.dispose()
    assert "pass-word" not in str(raised.value)
