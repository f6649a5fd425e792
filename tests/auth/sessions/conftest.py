from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from sqlalchemy import URL

from fastapi_kit.auth import Sessions
from fastapi_kit.auth.sessions.store import SessionStore
from fastapi_kit.db import Database
from tests.auth.sessions.support import (
    Base,
    Clock,
    in_memory,
    mariadb_database,
    on_mariadb,
    on_postgres,
    on_redis,
    on_sqlite,
    postgres,
    postgres_schema,
    sessions_of,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def schema(postgres_url: str) -> Generator[str]:
    with postgres_schema(postgres_url) as schema:
        yield schema


@pytest.fixture(scope="session")
def mariadb(mariadb_url: str) -> Generator[URL]:
    with mariadb_database(mariadb_url) as url:
        yield url


@pytest.fixture(params=["memory", "sqlite", "postgres", "mariadb", "redis"])
async def store(
    request: pytest.FixtureRequest, clock: Clock, tmp_path: Path, anyio_backend: str
) -> AsyncGenerator[SessionStore]:
    context: AbstractAsyncContextManager[SessionStore]
    match request.param:
        case "memory":
            context = in_memory(clock)
        case "sqlite":
            context = on_sqlite(tmp_path)
        case "postgres":
            context = on_postgres(request.getfixturevalue("postgres_url"), request.getfixturevalue("schema"))
        case "mariadb":
            context = on_mariadb(request.getfixturevalue("mariadb"))
        case _:
            context = on_redis(request.getfixturevalue("redis_url"))
    async with context as store:
        yield store


@pytest.fixture
def sessions(store: SessionStore, clock: Clock) -> Sessions:
    return sessions_of(store, clock)


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Database]:
    if request.param == "sqlite":
        database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db")
        await database.create_all(Base.metadata)
    else:
        database = postgres(request.getfixturevalue("postgres_url"), request.getfixturevalue("schema"))
    yield database
    await database.dispose()
