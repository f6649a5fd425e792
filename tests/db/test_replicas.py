"""Reads on a real standby, which goes down, hangs and comes back."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_kit.db import Database
from fastapi_kit.db.hosts import Hosts
from fastapi_kit.errors import ConfigurationError, UnavailableError
from tests.db.faults import POSTGRES, until
from tests.db.servers import Cluster, free_port
from tests.db.support import client_of
from tests.proxy import Proxy

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def asks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hosts, "trust_seconds", 0)


@asynccontextmanager
async def database_of(
    primary: Cluster, *replicas: str, driver: str = "asyncpg", **options: Any
) -> AsyncGenerator[Database]:
    database = Database(primary.url(driver), replicas=replicas, **{"connect_timeout_seconds": 5, **options})
    yield database
    await database.dispose()


async def is_replica(database: Database, *, read_only: bool = True) -> bool:
    async with database.session(read_only=read_only) as session:
        return bool(await session.scalar(text("SELECT pg_is_in_recovery()")))


@pytest.mark.parametrize("driver", POSTGRES)
async def test_reads_go_to_the_replica_and_writes_to_the_primary(
    driver: str, cluster: Cluster, standby: Cluster
) -> None:
    async with database_of(cluster, standby.url(driver), driver=driver) as database:
        assert await is_replica(database)
        assert not await is_replica(database, read_only=False)
        async with database.session(snapshot=True) as session:
            assert await session.scalar(text("SELECT pg_is_in_recovery()"))
        async with database.session(read_only=True) as session:
            with pytest.raises(DBAPIError, match="read-only"):
                await session.execute(text("CREATE TABLE written (n int)"))
        app = FastAPI()

        @app.get("/")
        async def where(
            own: Annotated[AsyncSession, database.per_request],
            replica: Annotated[AsyncSession, database.per_request_read_only],
        ) -> list[bool]:
            query = text("SELECT pg_is_in_recovery()")
            return [bool(await session.scalar(query)) for session in (own, replica)]

        async with client_of(app) as client:
            assert (await client.get("/")).json() == [False, True]
        states = database.pool_states()
        assert {name: (state.in_use, state.idle) for name, state in states.items()} == {
            "primary": (0, 1),
            "replicas": (0, 1),
        }


@pytest.mark.parametrize("driver", POSTGRES)
async def test_reads_fall_back_while_the_replica_is_down_and_return_to_it(
    driver: str, cluster: Cluster, standby: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(Hosts, "retry_seconds", 0.3)
    async with database_of(cluster, standby.url(driver), driver=driver) as database:
        assert await is_replica(database)
        await asyncio.to_thread(standby.stop)
        try:
            started = time.perf_counter()
            answers = await asyncio.gather(*(is_replica(database) for _ in range(10)))
            assert answers == [False] * 10
            assert time.perf_counter() - started < 3
        finally:
            await asyncio.to_thread(standby.start)
        await until(lambda: is_replica(database))
        assert not await is_replica(database, read_only=False)
    assert "pass-word" not in caplog.text


async def test_without_the_fallback_reads_are_a_503_while_writes_go_on(cluster: Cluster) -> None:
    nowhere = f"postgresql+asyncpg://kit:pass-word@127.0.0.1:{free_port()}/postgres"
    async with database_of(cluster, nowhere, nowhere, fall_back_to_primary=False) as database:
        with pytest.raises(UnavailableError) as down:
            await is_replica(database)
        assert down.value.headers == {"Retry-After": "1"}
        assert "pass-word" not in str(down.value.__cause__)
        assert not await is_replica(database, read_only=False)
    async with database_of(cluster, nowhere) as database:
        assert not await is_replica(database)
    async with database_of(Cluster(cluster.folder, free_port()), nowhere) as database:
        with pytest.raises(UnavailableError):
            await is_replica(database)


async def test_replicas_share_the_connections(cluster: Cluster, standby: Cluster) -> None:
    async with (
        Proxy("127.0.0.1", standby.port).serving() as one,
        Proxy("127.0.0.1", standby.port).serving() as other,
    ):
        urls = [str(make_url(standby.url()).set(port=proxy.port)) for proxy in (one, other)]
        async with database_of(cluster, *urls) as database:
            together = asyncio.Barrier(4)

            async def read() -> None:
                async with database.session(read_only=True) as session:
                    await session.execute(text("SELECT 1"))
                    await together.wait()

            await asyncio.gather(*(read() for _ in range(4)))
            assert [one.connections, other.connections] == [2, 2]


async def test_a_replica_that_hangs_delays_those_that_found_it_hung_and_no_more(
    cluster: Cluster, standby: Cluster
) -> None:
    async with Proxy("127.0.0.1", standby.port).serving() as proxy:
        url = make_url(standby.url()).set(port=proxy.port).render_as_string(hide_password=False)
        async with database_of(cluster, url, connect_timeout_seconds=0.5) as database:
            assert all(await asyncio.gather(*(is_replica(database) for _ in range(4))))
            proxy.hold()
            started = time.perf_counter()
            assert not await is_replica(database)
            assert 0.4 < time.perf_counter() - started < 3
            started = time.perf_counter()
            for _ in range(8):  # more than there are connections that hang
                assert not await is_replica(database)
            assert time.perf_counter() - started < 2  # each that waits takes 0.5 s
            proxy.release()


@pytest.mark.parametrize(
    ("url", "replica", "message"),
    [
        ("postgresql+asyncpg://kit@a/x", "postgresql+psycopg://kit:pass-word@b/x", "other drivers than the database"),
        ("sqlite+aiosqlite:///a.db", "sqlite+aiosqlite:///b.db", "SQLite has none"),
    ],
)
def test_replicas_that_cannot_be_used_are_refused(url: str, replica: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        Database(url, replicas=[replica])
    assert "pass-word" not in str(refused.value)
