"""What type checkers make of pages and slices in an app's own code; checked and never run."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Sequence
from typing import Annotated, assert_type

from fastapi import FastAPI
from fastapi.params import Depends
from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from fastapi_kit.pagination import (
    AtMost,
    BesideRowParams,
    CursorPage,
    CursorParams,
    Cursors,
    NumberedPage,
    Page,
    PageNumberParams,
    SkipLimitParams,
    Slice,
    at_most,
    cursor_limit,
    fetch,
    fetch_list,
    fetch_sync,
    paginate,
    paginate_list,
    paginate_sync,
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


app = FastAPI()
cursors = Cursors("a secret from the environment", b"an older one")
ByCursor = Annotated[CursorParams, cursor_limit(cursors, maximum=50, names=("after", "first"), link_header=True)]
assert_type(cursor_limit(cursors), Depends)
assert_type(at_most(10_000), AtMost)


@app.get("/items")
async def items(session: AsyncSession, page: ByCursor) -> CursorPage[ItemRead]:
    assert_type(page, CursorParams)
    assert_type(page.bound_to("tenant", 7), CursorParams)
    return assert_type(await paginate(session, select(Item), page, ItemRead), CursorPage[ItemRead])


async def envelopes(
    session: AsyncSession, skip: SkipLimitParams, number: PageNumberParams, cursor: CursorParams
) -> None:
    count = select(func.count()).select_from(Item)
    assert_type(await paginate(session, select(Item), skip, ItemRead, total=at_most(5)), Page[ItemRead])
    assert_type(await paginate(session, select(Item), number, ItemRead, total=count), NumberedPage[ItemRead])
    page = await paginate(session, select(Item.id, Item.name), cursor, ItemRead)
    assert_type(page.items, list[ItemRead])
    assert_type(page.next_cursor, str | None)


async def slices(session: AsyncSession, skip: SkipLimitParams, cursor: CursorParams, row: BesideRowParams) -> None:
    entities = await fetch(session, select(Item), cursor)
    assert_type(entities, Slice[Item, CursorParams])
    assert_type(entities.items, Sequence[Item])
    assert_type(entities.links, dict[str, str])
    assert_type(await fetch(session, select(Item.id), skip, total=False), Slice[int, SkipLimitParams])
    assert_type(await fetch(session, select(Item), row), Slice[Item, BesideRowParams])
    columns = await fetch(session, select(Item.id, Item.name), skip)
    assert_type(columns, Slice[Row[int, str], SkipLimitParams])
    assert_type(CursorPage[ItemRead].of(entities), CursorPage[ItemRead])
    assert_type(Page[ItemRead].of(columns, ({"id": 1, "name": "x"} for _ in columns.items)), Page[ItemRead])


def in_a_thread(session: Session, cursor: CursorParams, number: PageNumberParams) -> None:
    assert_type(paginate_sync(session, select(Item), cursor, ItemRead), CursorPage[ItemRead])
    assert_type(paginate_sync(session, select(Item), number, ItemRead), NumberedPage[ItemRead])
    assert_type(fetch_sync(session, select(Item), number), Slice[Item, PageNumberParams])
    assert_type(fetch_sync(session, select(Item.id, Item.name), number), Slice[Row[int, str], PageNumberParams])


def in_memory(skip: SkipLimitParams, number: PageNumberParams, cursor: CursorParams) -> None:
    found = [Item()]
    assert_type(paginate_list(found, skip, ItemRead), Page[ItemRead])
    assert_type(paginate_list((*found,), number, ItemRead), NumberedPage[ItemRead])
    assert_type(paginate_list(found, cursor, ItemRead, key=lambda item: (item.id,)), CursorPage[ItemRead])
    assert_type(fetch_list(found, cursor, key=lambda item: (item.id,)), Slice[Item, CursorParams])


async def mistakes(
    session: AsyncSession, blocking: Session, skip: SkipLimitParams, cursor: CursorParams, row: BesideRowParams
) -> None:
    await paginate(session, select(Item), cursor, Item)  # type: ignore[type-var]
    await paginate(session, select(Item), cursor, ItemRead, total=True)  # type: ignore[call-overload]
    await paginate(session, select(Item), row, ItemRead)  # type: ignore[call-overload]
    await paginate(blocking, select(Item), skip, ItemRead)  # type: ignore[call-overload]
    paginate_sync(session, select(Item), skip, ItemRead)  # type: ignore[call-overload]
    await fetch(session, "SELECT 1", skip)  # type: ignore[call-overload]
    paginate_list([Item()], cursor, ItemRead)  # type: ignore[call-overload]
    Page[ItemRead].of(await fetch(session, select(Item), cursor))  # type: ignore[arg-type]
    Page[int](items=["x"], total=0, skip=0, limit=1)  # type: ignore[list-item]
