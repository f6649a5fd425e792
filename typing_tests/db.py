"""What type checkers make of the db and pagination blocks in an app's own code; checked and never run."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from typing import Annotated, assert_type

from fastapi import FastAPI
from fastapi.params import Depends
from sqlalchemy import func, select
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from fastapi_kit.db import Database, DatabaseOptions, PoolState, SyncDatabase
from fastapi_kit.pagination import (
    NumberedPage,
    Page,
    PageNumber,
    PageNumberParams,
    SkipLimit,
    SkipLimitParams,
    paginate,
    paginate_sync,
    skip_limit,
)
from fastapi_kit.schemas import ReadModel


class Base(DeclarativeBase): ...


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class ItemRead(ReadModel):
    id: int
    name: str


db = Database("sqlite+aiosqlite://", create_all=Base.metadata)
RequestSession = Annotated[AsyncSession, db.per_request]
UpTo500 = Annotated[SkipLimitParams, skip_limit(maximum=500)]
app = FastAPI(lifespan=db.lifespan)
assert_type(db.per_request, Depends)
assert_type(db.engine, AsyncEngine)


@app.get("/items")
async def items(session: RequestSession, page: SkipLimit, more: UpTo500) -> Page[ItemRead]:
    assert_type(session, AsyncSession)
    assert_type(page, SkipLimitParams)
    assert_type(more, SkipLimitParams)
    return assert_type(await paginate(session, select(Item), page, ItemRead), Page[ItemRead])


@app.get("/numbered")
async def numbered(session: RequestSession, page: PageNumber) -> NumberedPage[ItemRead]:
    assert_type(page, PageNumberParams)
    found = await paginate(session, select(Item), page, ItemRead, total=False)
    assert_type(found.items, list[ItemRead])
    assert_type(found.total, int | None)
    return assert_type(found, NumberedPage[ItemRead])


@app.get("/columns")
async def columns(session: RequestSession, page: SkipLimit) -> Page[ItemRead]:
    statement = select(Item.name, func.count(Item.id).label("id")).group_by(Item.name)
    return assert_type(await paginate(session, statement, page, ItemRead), Page[ItemRead])


def in_a_script(session: Session, page: SkipLimitParams, number: PageNumberParams) -> None:
    assert_type(paginate_sync(session, select(Item), page, ItemRead), Page[ItemRead])
    assert_type(paginate_sync(session, select(Item), number, ItemRead), NumberedPage[ItemRead])


async def mistakes(session: AsyncSession, page: SkipLimitParams) -> None:
    await paginate(session, select(Item), page, Item)  # type: ignore[type-var]
    await paginate(session, "SELECT 1", page, ItemRead)  # type: ignore[call-overload]


async def work() -> None:
    async with db.session() as session:
        assert_type(session, AsyncSession)
        assert_type(await session.get(Item, 1), Item | None)

    async def name_of_first(session: AsyncSession) -> str:
        return (await session.get_one(Item, 1)).name

    assert_type(await db.run(name_of_first, isolation_level="SERIALIZABLE"), str)
    assert_type(db.pool_states(), dict[str, PoolState])
    await db.run(lambda session: 1)  # type: ignore[arg-type, return-value]
    async with db.session(isolation_level="NONE"):  # type: ignore[arg-type]
        pass


options: DatabaseOptions = {"pool_size": 2, "statement_timeout_seconds": None}
blocking = SyncDatabase("sqlite+pysqlite://", **options)
assert_type(blocking.engine, Engine)
Database("sqlite+aiosqlite://", pool_sise=2)  # type: ignore[call-arg]


@app.get("/blocking")
def in_a_thread(session: Annotated[Session, blocking.per_request]) -> int:
    return assert_type(session.scalars(select(Item.id)).one(), int)


def blocking_work() -> None:
    with blocking.session(read_only=True) as session:
        assert_type(session, Session)
    assert_type(blocking.run(lambda session: session.get_one(Item, 1).name), str)
