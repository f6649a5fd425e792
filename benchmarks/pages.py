"""What a page costs: deep in a million rows against the first one, and against the same page written by hand.

By hand is one endpoint with `async with maker()` on SQLAlchemy's own engine, as in `sessions`; in the rows with a star
it has the kit's engine. Each server gets a database of its own, which is dropped at the end.
"""

import json
import os
import secrets
import socket
import statistics
import tempfile
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any

import httpx2
from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel
from sqlalchemy import URL, Index, Select, and_, func, insert, make_url, or_, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateTable
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks import data
from benchmarks.data import ITEMS, Item, ItemRead, Scenario, User
from benchmarks.hand import ItemPage
from benchmarks.measure import compare
from benchmarks.sessions import POOL, POSTGRES_URL, Result
from fastapi_kit.db import Database
from fastapi_kit.pagination import CursorPage, CursorParams, Cursors, Page, SkipLimit, cursor_limit, fetch, paginate
from fastapi_kit.pagination.keyset import Keyset
from fastapi_kit.pagination.positions import Position
from fastapi_kit.pagination.statement import Listing
from fastapi_kit.schemas import ReadModel

MARIADB_URL = os.environ.get("KIT_TEST_MARIADB_URL", "mysql+asyncmy://root@127.0.0.1:3306/test")

ROWS, DEEP, FEW, LIMIT = 1_000_000, 900_000, 10_000, 20
SECONDS, LEAST_ROUNDS = 2, 5
CURSORS = Cursors(secrets.token_bytes(64))


class Base(DeclarativeBase): ...


class Row(Base):
    __tablename__ = "kit_bench_rows"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    created: Mapped[datetime]
    score: Mapped[int]
    rating: Mapped[int | None]


class RowRead(ReadModel):
    id: int
    created: datetime
    score: int


class RowPage(BaseModel):
    items: list[RowRead]
    next_cursor: str | None
    previous_cursor: str | None


WITH_TOTAL, BY_CURSOR = Scenario("with total", "/items", aim=0.8), Scenario("by cursor", "/rows", aim=1.15)

INDEXES = (
    Index("kit_bench_newest", Row.created, Row.id),  # read from either end
    Index("kit_bench_best", Row.score.desc(), Row.created, Row.id),
    Index("kit_bench_rated", Row.rating, Row.id),
)
NEWEST = select(Row).order_by(Row.created.desc())
ORDERS = (
    ("created desc", 3.0, NEWEST),
    ("score desc, created", 3.0, select(Row).order_by(Row.score.desc(), Row.created)),
    ("created", None, select(Row).order_by(Row.created)),
    ("rating, some NULL", None, select(Row).order_by(Row.rating)),
)
"""The aim, if any, and the statement, to whose order the kit adds the primary key."""

# three rows to a second, a thousand to a score, every twentieth without a rating
FILL = "INSERT INTO kit_bench_rows SELECT n, {}, n * 7919 % 1000, CASE WHEN n % 20 > 0 THEN n * 31 % 1000 END FROM {}"
CREATED_AND_NUMBERS = {
    "sqlite": (
        "datetime('2026-01-01', '+' || (n / 3) || ' seconds') || '.000000'",
        "(WITH RECURSIVE up(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM up WHERE n < {}) SELECT n FROM up)",
    ),
    "postgresql": ("timestamp '2026-01-01' + n / 3 * interval '1 second'", "generate_series(0::bigint, {}) n"),
    "mysql": (
        "timestamp '2026-01-01 00:00:00' + interval n div 3 second",
        "(SELECT seq AS n FROM seq_0_to_{}) AS numbers",
    ),
}
ANALYZE = {"postgresql": "ANALYZE kit_bench_rows", "mysql": "ANALYZE TABLE kit_bench_rows"}


@dataclass(frozen=True)
class Depth:
    """Medians in ms: the first page, the one at row 900,000, the same by OFFSET; and the median ratio of the pages."""

    name: str
    first_ms: float
    deep_ms: float
    offset_ms: float
    ratio: float
    aim: float | None


def by_hand(engine: AsyncEngine) -> FastAPI:
    app = FastAPI()
    maker = async_sessionmaker(engine, expire_on_commit=False)

    @app.get("/items")
    async def items(
        skip: Annotated[int, Query(ge=0, le=1_000_000)] = 0, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> ItemPage:
        mine = Item.owner_id == 1
        async with maker() as session:
            total = await session.scalar(select(func.count()).select_from(Item).where(mine))
            found = await session.scalars(select(Item).where(mine).order_by(Item.id).offset(skip).limit(limit))
            items = [ItemRead.model_validate(item) for item in found]
        return ItemPage(items=items, total=total or 0, skip=skip, limit=limit)

    @app.get("/rows")
    async def rows(cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> RowPage:
        is_back, statement = False, select(Row)
        if cursor is not None:
            is_back, created, key = read_cursor(cursor)
            statement = statement.where(
                and_(Row.created >= created, or_(Row.created > created, Row.id > key))
                if is_back
                else and_(Row.created <= created, or_(Row.created < created, Row.id < key))
            )
        order = (Row.created, Row.id) if is_back else (Row.created.desc(), Row.id.desc())
        async with maker() as session:
            found = (await session.scalars(statement.order_by(*order).limit(limit + 1))).all()
            items = [RowRead.model_validate(row) for row in found[:limit]]
        has_more = len(found) > limit
        if is_back:
            items.reverse()
        has_next, has_previous = (True, has_more) if is_back else (has_more, cursor is not None)
        return RowPage(
            items=items,
            next_cursor=write_cursor(items[-1], is_back=False) if items and has_next else None,
            previous_cursor=write_cursor(items[0], is_back=True) if items and has_previous else None,
        )

    return app


def write_cursor(row: RowRead, *, is_back: bool) -> str:
    return urlsafe_b64encode(json.dumps([is_back, row.created.isoformat(), row.id]).encode()).decode()


def read_cursor(cursor: str) -> tuple[bool, datetime, int]:
    try:
        is_back, created, key = json.loads(urlsafe_b64decode(cursor))
        return bool(is_back), datetime.fromisoformat(created), int(key)
    except (TypeError, ValueError):
        raise HTTPException(400, "invalid cursor") from None


def by_kit(db: Database) -> FastAPI:
    app = FastAPI()
    session_dependency = Annotated[AsyncSession, db.per_request_read_only]

    @app.get("/items")
    async def items(session: session_dependency, page: SkipLimit) -> Page[ItemRead]:
        return await paginate(session, select(Item).where(Item.owner_id == 1), page, ItemRead)

    @app.get("/rows")
    async def rows(
        session: session_dependency, page: Annotated[CursorParams, cursor_limit(CURSORS)]
    ) -> CursorPage[RowRead]:
        return await paginate(session, NEWEST, page, RowRead)

    return app


async def measure() -> AsyncGenerator[Result]:
    """Yield how pages of the kit compare to those by hand."""
    async for name, url in _databases({"asyncpg": POSTGRES_URL}):
        plain = create_async_engine(url, **POOL)
        async with _filled(url, FEW) as db:
            await db.create_all(data.Base.metadata)
            async with db.session() as session:
                session.add(User(id=1, name="ada", role="admin"))
                await session.flush()
                await session.execute(insert(Item), [{"owner_id": 1, "name": f"item {n}"} for n in range(ITEMS)])
            async for result in _compare(name, plain, db):
                yield result
        await plain.dispose()


async def measure_depth() -> AsyncGenerator[Depth]:
    """Yield how a page deep in a million rows compares to the first one."""
    async for name, url in _databases({"asyncpg": POSTGRES_URL, "mariadb": MARIADB_URL}):
        async with _filled(url, ROWS) as db:
            for order, aim, statement in ORDERS:
                yield await _depth(f"{name} {order}", aim, statement, db)


async def _databases(servers: Mapping[str, str]) -> AsyncGenerator[tuple[str, URL]]:
    """Yield an empty database on SQLite, and on each of the servers that answers."""
    with tempfile.TemporaryDirectory() as folder:
        yield "sqlite", make_url(f"sqlite+aiosqlite:///{folder}/app.db")
    for name, url in ((name, make_url(server)) for name, server in servers.items()):
        try:
            socket.create_connection((url.host or "", url.port or 0), timeout=2).close()
        except OSError:
            print(f"{name} was left out: no server answers at {url.host}:{url.port}")
            continue
        async with _own_database(url) as own:
            yield name, own


@asynccontextmanager
async def _own_database(server: URL) -> AsyncGenerator[URL]:
    name = f"kit_bench_{secrets.token_hex(4)}"
    admin = create_async_engine(server, isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield server.set(database=name)
    finally:
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE {name}"))
        await admin.dispose()


@asynccontextmanager
async def _filled(url: URL, rows: int) -> AsyncGenerator[Database]:
    db = Database(url)
    dialect = db.engine.dialect.name
    created, numbers = CREATED_AND_NUMBERS[dialect]
    async with db.engine.begin() as connection:
        await connection.execute(CreateTable(Row.metadata.tables[Row.__tablename__]))
        await connection.execute(text(FILL.format(created, numbers.format(rows - 1))))
        for index in INDEXES:  # once the rows are there, which is faster
            await connection.run_sync(index.create)
        if dialect in ANALYZE:  # which a server does by itself some time later
            await connection.execute(text(ANALYZE[dialect]))
    try:
        yield db
    finally:
        await db.dispose()


async def _depth(name: str, aim: float | None, statement: Select[Row], db: Database) -> Depth:
    """Time the first page and the deep one in turn, for `SECONDS`."""
    keyset = Keyset(Listing(statement, db.engine.dialect.name))
    by_offset = keyset.page(None, LIMIT).offset(DEEP)
    first = CursorParams(LIMIT, None, CURSORS, "rows")
    async with db.session(read_only=True) as session:
        before = keyset.page(None, 1).offset(DEEP - 1).with_only_columns(*keyset.places())
        place = Position(tuple((await session.execute(before)).one()), "after")
        deep = replace(first, cursor=first.cursor_of(place, keyset.signature()))
        if (await fetch(session, statement, deep)).items != (await session.scalars(by_offset)).all():
            raise RuntimeError(f"{name}: the cursor leads to other rows than the OFFSET")

    async def page_ms(params: CursorParams | None) -> float:
        start = time.perf_counter()
        async with db.session(read_only=True) as session:
            if params is None:
                (await session.scalars(by_offset)).all()
            else:
                await paginate(session, statement, params, RowRead)
        return (time.perf_counter() - start) * 1000

    offsets_ms = [await page_ms(None) for _ in range(LEAST_ROUNDS)]
    pairs: list[tuple[float, float]] = []
    end = time.perf_counter() + SECONDS
    while len(pairs) < LEAST_ROUNDS or time.perf_counter() < end:
        pairs.append((await page_ms(first), await page_ms(deep)))
    return Depth(
        name=name,
        first_ms=statistics.median(first_ms for first_ms, _ in pairs),
        deep_ms=statistics.median(deep_ms for _, deep_ms in pairs),
        offset_ms=statistics.median(offsets_ms),
        ratio=statistics.median(deep_ms / first_ms for first_ms, deep_ms in pairs),
        aim=aim,
    )


async def _compare(name: str, plain: AsyncEngine, db: Database) -> AsyncGenerator[Result]:
    """Yield how the kit's pages compare to those by hand, on an engine of its own and then on the kit's."""
    kit = by_kit(db)
    for hand, star in ((by_hand(plain), ""), (by_hand(db.engine), " *")):
        for scenario in (WITH_TOTAL, BY_CURSOR):
            (hand_page, by_hand_items), (kit_page, by_kit_items) = [await _second(app, scenario) for app in (hand, kit)]
            if by_hand_items != by_kit_items:
                raise RuntimeError(f"{name} {scenario.name}: the kit's page has other items than the one by hand")
            result = await compare(hand_page, kit_page, scenario)
            aim = None if star else scenario.aim
            yield Result(f"{name} {scenario.name}{star}", result.first_us, result.second_us, result.ratio, aim)


async def _second(app: ASGIApp, scenario: Scenario) -> tuple[ASGIApp, Any]:
    """Return an app that adds to each request what asks for a page further on, and the items of that page."""
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://bench") as client:
        cursor = (await client.get(scenario.path)).json().get("next_cursor")
        query = "skip=40" if cursor is None else f"cursor={cursor}"
        items = (await client.get(f"{scenario.path}?{query}")).json()["items"]

    async def ask(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "query_string": query.encode()}, receive, send)

    return ask, items
