"""What a request pays for a session of the kit, against `with maker()` written in the endpoint.

By hand has SQLAlchemy's own engine with pre-ping, 5 + 10 connections and `expire_on_commit=False`. In the rows with a
star it has the kit's engine, so that what the session costs can be told from what the engine does.
"""

import os
import secrets
import socket
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from benchmarks.data import Scenario
from benchmarks.measure import compare, request
from benchmarks.wire import counted
from fastapi_kit.db import Database, SyncDatabase

POSTGRES_URL = os.environ.get("KIT_TEST_POSTGRES_URL", "postgresql+asyncpg://root@127.0.0.1:5432/test")
POOL: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 5, "max_overflow": 10}

WARM_UP_REQUESTS, COUNTED_REQUESTS = 10, 20

READ, READ_ONLY, WRITE = (
    Scenario("read", "/read", aim=1.1),
    Scenario("read-only", "/read-only", aim=1.0),
    Scenario("write", "/write", aim=1.1, method="POST", status=201),
)


class Base(DeclarativeBase): ...


class Row(Base):
    __tablename__ = f"kit_bench_{secrets.token_hex(4)}"  # the database may be one that others use
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@dataclass(frozen=True)
class Result:
    """µs a request by hand and of the kit, and the median ratio of neighbouring blocks."""

    name: str
    hand_us: float
    kit_us: float
    ratio: float
    aim: float | None


def postgres_answers() -> bool:
    """Return whether there is a server at `POSTGRES_URL`."""
    url = make_url(POSTGRES_URL)
    try:
        socket.create_connection((url.host or "", url.port or 5432), timeout=2).close()
    except OSError:
        return False
    return True


def by_hand(engine: AsyncEngine) -> FastAPI:
    app = FastAPI()
    maker = async_sessionmaker(engine, expire_on_commit=False)

    @app.get("/read")
    @app.get("/read-only")
    async def read() -> str:
        async with maker() as session:
            return (await session.get_one(Row, 1)).name

    @app.post("/write", status_code=201)
    async def write() -> int:
        async with maker() as session:
            row = Row(name="new")
            session.add(row)
            await session.commit()
            return row.id

    return app


def by_kit(db: Database) -> FastAPI:
    app = FastAPI()

    @app.get("/read")
    async def read(session: Annotated[AsyncSession, db.per_request]) -> str:
        return (await session.get_one(Row, 1)).name

    @app.get("/read-only")
    async def read_only(session: Annotated[AsyncSession, db.per_request_read_only]) -> str:
        return (await session.get_one(Row, 1)).name

    @app.post("/write", status_code=201)
    async def write(session: Annotated[AsyncSession, db.per_request]) -> int:
        row = Row(name="new")
        session.add(row)
        await session.flush()
        return row.id

    return app


def by_hand_sync(engine: Engine) -> FastAPI:
    app = FastAPI()
    maker = sessionmaker(engine, expire_on_commit=False)

    @app.get("/read")
    @app.get("/read-only")
    def read() -> str:
        with maker() as session:
            return session.get_one(Row, 1).name

    @app.post("/write", status_code=201)
    def write() -> int:
        with maker() as session:
            row = Row(name="new")
            session.add(row)
            session.commit()
            return row.id

    return app


def by_kit_sync(db: SyncDatabase) -> FastAPI:
    app = FastAPI()

    @app.get("/read")
    def read(session: Annotated[Session, db.per_request]) -> str:
        return session.get_one(Row, 1).name

    @app.get("/read-only")
    def read_only(session: Annotated[Session, db.per_request_read_only]) -> str:
        return session.get_one(Row, 1).name

    @app.post("/write", status_code=201)
    def write(session: Annotated[Session, db.per_request]) -> int:
        row = Row(name="new")
        session.add(row)
        session.flush()
        return row.id

    return app


@asynccontextmanager
async def opened(url: str | URL, **options: Any) -> AsyncGenerator[Database]:
    """Give a database with the table and its first row, and drop the table at the end."""
    db = Database(url, **options)
    await db.create_all(Base.metadata)
    async with db.session() as session:
        session.add(Row(name="first"))
    try:
        yield db
    finally:
        async with db.engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        await db.dispose()


async def measure() -> AsyncGenerator[Result]:
    """Yield one result after the other: SQLite, and PostgreSQL if it answers."""
    with tempfile.TemporaryDirectory() as folder:
        async for result in _measure(
            "sqlite", f"sqlite+aiosqlite:///{folder}/app.db", f"sqlite+pysqlite:///{folder}/app.db"
        ):
            yield result
    if postgres_answers():
        url = make_url(POSTGRES_URL)
        for driver in ("asyncpg", "psycopg"):
            sync_url = url.set(drivername="postgresql+psycopg") if driver == "psycopg" else None
            async for result in _measure(driver, url.set(drivername=f"postgresql+{driver}"), sync_url):
                yield result


async def _measure(name: str, url: str | URL, sync_url: str | URL | None) -> AsyncGenerator[Result]:
    plain = create_async_engine(url, **POOL)
    async with opened(url) as db:
        kit, hand, on_same_engine = by_kit(db), by_hand(plain), by_hand(db.engine)
        for scenario in (READ, READ_ONLY, WRITE):
            yield await _compare(f"{name} {scenario.name}", hand, kit, scenario, scenario.aim)
        for scenario in (READ, READ_ONLY, WRITE):
            yield await _compare(f"{name} {scenario.name} *", on_same_engine, kit, scenario)
        if sync_url is not None:
            sync_plain, sync_db = create_engine(sync_url, **POOL), SyncDatabase(sync_url)
            for scenario in (READ, READ_ONLY, WRITE):
                apps = by_hand_sync(sync_plain), by_kit_sync(sync_db)
                yield await _compare(f"{name} sync {scenario.name}", *apps, scenario)
            sync_plain.dispose()
            sync_db.dispose()
    await plain.dispose()


async def _compare(name: str, hand: FastAPI, kit: FastAPI, scenario: Scenario, aim: float | None = None) -> Result:
    result = await compare(hand, kit, scenario)
    return Result(name, result.first_us, result.second_us, result.ratio, aim)


async def count_round_trips() -> AsyncGenerator[tuple[str, float, float]]:
    """Yield the scenario and the round trips that a request takes by hand and with the kit, on PostgreSQL."""
    url = make_url(POSTGRES_URL)
    for driver in ("asyncpg", "psycopg"):
        async with (
            opened(url.set(drivername=f"postgresql+{driver}")) as admin,
            counted(admin.engine.url) as (there, wire),
        ):
            plain, db = create_async_engine(there, **POOL), Database(there)
            for scenario in (READ, READ_ONLY, WRITE):
                figures = []
                for app in (by_hand(plain), by_kit(db)):
                    for _ in range(WARM_UP_REQUESTS):
                        await request(app, scenario)
                    before = wire.round_trips
                    for _ in range(COUNTED_REQUESTS):
                        await request(app, scenario)
                    figures.append((wire.round_trips - before) / COUNTED_REQUESTS)
                yield f"{driver} {scenario.name}", figures[0], figures[1]
            await plain.dispose()
            await db.dispose()
