"""The tables of the tests on each database that pagination is for, filled once."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from tests.pagination.kinds import KindsBase, loans, shop
from tests.pagination.support import Base, rows


@pytest.fixture(scope="session", params=["sqlite", "postgres", "mariadb"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[AsyncEngine]:
    if request.param == "sqlite":
        async with _filled("sqlite+aiosqlite://") as engine:
            yield engine
    else:
        server = request.getfixturevalue(f"{request.param}_url")
        async with _own_database(server) as url, _filled(url) as engine:
            yield engine


@asynccontextmanager
async def _own_database(server: str) -> AsyncIterator[str]:
    name = f"kit_pagination_{uuid.uuid4().hex[:8]}"
    admin = create_async_engine(server, isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
        try:
            yield make_url(server).set(database=name).render_as_string(hide_password=False)
        finally:
            await connection.execute(text(f"DROP DATABASE {name}"))
    await admin.dispose()


@asynccontextmanager
async def _filled(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session, session.begin():
        session.add_all(rows())
    try:
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session:
        yield session


@pytest.fixture
def sent(engine: AsyncEngine) -> Iterator[list[str]]:
    """Every statement that the database is sent while the test runs."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine.sync_engine, "before_cursor_execute", note)


@pytest.fixture(scope="session", params=["sqlite", "asyncpg", "psycopg", "mariadb"])
async def kinds(request: pytest.FixtureRequest) -> AsyncIterator[AsyncEngine]:
    """An engine of each driver, with the tables of `kinds.py`: `Sample` is empty."""
    if request.param == "sqlite":
        async with _with_kinds("sqlite+aiosqlite://") as engine:
            yield engine
        return
    server = request.getfixturevalue("mariadb_url" if request.param == "mariadb" else "postgres_url")
    if request.param == "psycopg":
        server = make_url(server).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    async with _own_database(server) as url, _with_kinds(url) as engine:
        yield engine


@asynccontextmanager
async def _with_kinds(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(KindsBase.metadata.create_all)
    async with AsyncSession(engine) as session, session.begin():
        session.add_all(shop())
        await session.flush()
        session.add_all(loans())
    try:
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture
async def kinds_session(kinds: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """A session on each driver; what it writes is rolled back."""
    async with AsyncSession(kinds) as session:
        yield session
