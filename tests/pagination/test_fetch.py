"""`fetch`, for envelopes and transformations of one's own, and its sync twin."""

from collections.abc import Iterator
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from sqlalchemy import create_engine, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from starlette.testclient import TestClient

from fastapi_kit.pagination import (
    CursorPage,
    CursorParams,
    NumberedPage,
    Page,
    PageNumberParams,
    SkipLimit,
    SkipLimitParams,
    cursor_limit,
    fetch,
    fetch_sync,
    paginate,
    paginate_sync,
)
from fastapi_kit.schemas import OutputModel, ReadModel
from tests.pagination.kinds import CURSORS, after
from tests.pagination.support import Base, Item, ItemRead, Owner, rows

FIRST = SkipLimitParams(0, 2)


class Titled(ReadModel):
    title: str


class Listed(OutputModel):
    data: list[ItemRead]
    has_more: bool


@pytest.mark.anyio
async def test_items_are_what_was_selected(session: AsyncSession) -> None:
    for params in (FIRST, PageNumberParams(1, 2), after(2)):
        entities = await fetch(session, select(Item), params)
        values = await fetch(session, select(Item.id), params)
        columns = await fetch(session, select(Item.id, Item.name), params)
        pairs = await fetch(session, select(Item, Owner).join(Item.owner), params)

        assert [type(item) for item in entities.items] == [Item, Item]
        assert values.items == [1, 2]
        assert [tuple(row) for row in columns.items] == [(1, "name 3"), (2, "name 2")]
        assert [(row.id, row.name) for row in columns.items] == [tuple(row) for row in columns.items]
        assert [(row.Item.id, row.Owner.id) for row in pairs.items] == [(1, 2), (2, 1)]
        assert all(len(row) == 2 for row in [*columns.items, *pairs.items])
        assert entities.params is params


@pytest.mark.anyio
@pytest.mark.parametrize("params", [FIRST, PageNumberParams(1, 2), after(2)], ids=["skip", "number", "cursor"])
async def test_rows_of_columns_and_of_entities_fit_models(session: AsyncSession, params: Any) -> None:
    class Both(ReadModel):
        Item: ItemRead
        Owner: Titled | ItemRead

    class Counted(ReadModel):
        name: str
        count: int

    both = await paginate(session, select(Item, Owner).join(Item.owner), params, Both)
    counted = select(Item.name, func.count().label("count")).group_by(Item.name).order_by(func.count())

    assert [(row.Item.id, row.Owner) for row in both.items] == [
        (1, ItemRead(id=2, name="bob")),
        (2, ItemRead(id=1, name="ada")),
    ]
    assert [row.count for row in (await paginate(session, counted, params, Counted)).items] == [5, 6]


@pytest.mark.anyio
async def test_items_may_be_transformed_for_the_kits_envelopes(session: AsyncSession) -> None:
    slice_ = await fetch(session, select(Item), FIRST)
    numbered = await fetch(session, select(Item), PageNumberParams(12, 2))
    by_cursor = await fetch(session, select(Item), after(2))

    page = Page[Titled].of(slice_, ({"title": item.name.upper()} for item in slice_.items))
    assert ([item.title for item in page.items], page.total, page.skip, page.limit) == (["NAME 3", "NAME 2"], 23, 0, 2)
    last = NumberedPage[Titled].of(numbered, [Titled(title="x")])
    assert (last.items, last.page, last.size, last.pages) == ([Titled(title="x")], 12, 2, 12)
    assert CursorPage[ItemRead].of(by_cursor).next_cursor == by_cursor.next_cursor
    assert CursorPage[ItemRead].of(by_cursor, []).items == []
    with pytest.raises(ValidationError):
        CursorPage[Titled].of(by_cursor)


class Books(Page[ItemRead]):
    shop: str = "mine"


@pytest.mark.anyio
async def test_subclass_of_a_page_is_made_of_a_slice(session: AsyncSession) -> None:
    page = Books.of(await fetch(session, select(Item), FIRST))

    assert type(page) is Books
    assert (page.shop, len(page.items)) == ("mine", 2)


@pytest.mark.anyio
async def test_envelopes_of_ones_own_over_http(engine: AsyncEngine) -> None:
    app = FastAPI()

    @app.get("/stripe")
    async def stripe(page: Annotated[CursorParams, cursor_limit(CURSORS, default=20)]) -> Listed:
        async with AsyncSession(engine) as session:
            found = await fetch(session, select(Item), page)
            return Listed(data=[ItemRead.model_validate(item) for item in found.items], has_more=found.has_next)

    @app.get("/json-api")
    async def json_api(page: SkipLimit) -> dict[str, Any]:
        async with AsyncSession(engine) as session:
            found = await fetch(session, select(Item.id), page)
            return {"data": found.items, "links": found.links, "meta": {"total": found.total}}

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop") as client:
        stripe_list = (await client.get("/stripe")).json()
        document = (await client.get("/json-api?skip=20&limit=10&x=1")).json()

    assert (len(stripe_list["data"]), stripe_list["has_more"]) == (20, True)
    assert document == {
        "data": [21, 22, 23],
        "links": {"first": "?x=1&limit=10", "prev": "?x=1&skip=10&limit=10", "last": "?x=1&skip=20&limit=10"},
        "meta": {"total": 23},
    }


@pytest.fixture
def sync_session() -> Iterator[Session]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(rows())
        session.commit()
        yield session
    engine.dispose()


def test_sync_session_has_the_same_slices(sync_session: Session) -> None:
    page = fetch_sync(sync_session, select(Item).order_by(Item.name), after(20))
    rest = fetch_sync(sync_session, select(Item).order_by(Item.name), after(20, page.next_cursor))

    assert len({item.id for item in [*page.items, *rest.items]}) == 23
    assert fetch_sync(sync_session, select(Item), SkipLimitParams(99, 5)).total == 23


def test_sync_endpoint_with_cursors(sync_session: Session) -> None:
    app = FastAPI()

    @app.get("/items")
    def list_items(
        page: Annotated[CursorParams, cursor_limit(CURSORS, default=20, link_header=True)],
    ) -> CursorPage[ItemRead]:
        return paginate_sync(sync_session, select(Item), page, ItemRead)

    client = TestClient(app)
    first = client.get("/items")
    second = client.get("/items", params={"cursor": first.json()["next_cursor"]})

    assert len(first.json()["items"]) + len(second.json()["items"]) == 23
    assert [link.partition("; ")[2] for link in second.headers["link"].split(", ")] == ['rel="first"', 'rel="prev"']
