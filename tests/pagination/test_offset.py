"""`paginate` in an endpoint, and its sync twin."""

import importlib
import sys
from collections.abc import Iterator
from typing import Annotated, Any, assert_type

import httpx2
import pytest
from fastapi import Depends, FastAPI
from pydantic import ValidationError
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from starlette.testclient import TestClient

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.pagination import (
    NumberedPage,
    Page,
    PageNumber,
    PageNumberParams,
    SkipLimit,
    SkipLimitParams,
    paginate,
    paginate_sync,
)
from fastapi_kit.schemas import ReadModel
from tests.pagination.support import Base, Item, ItemRead, Owner, rows


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "ids", "rest"),
    [
        ("/skip?limit=2", [1, 2], {"total": 23, "total_capped": False, "skip": 0, "limit": 2}),
        ("/skip?skip=22", [23], {"total": 23, "total_capped": False, "skip": 22, "limit": 20}),
        ("/skip?skip=23", [], {"total": 23, "total_capped": False, "skip": 23, "limit": 20}),
        ("/page?size=2", [1, 2], {"total": 23, "total_capped": False, "page": 1, "size": 2, "pages": 12}),
        ("/page?size=2&page=12", [23], {"total": 23, "total_capped": False, "page": 12, "size": 2, "pages": 12}),
        ("/page?size=2&page=13", [], {"total": 23, "total_capped": False, "page": 13, "size": 2, "pages": 12}),
        ("/page?size=23", list(range(1, 24)), {"total": 23, "total_capped": False, "page": 1, "size": 23, "pages": 1}),
    ],
)
async def test_pages_over_http(engine: AsyncEngine, url: str, ids: list[int], rest: dict[str, Any]) -> None:
    app = FastAPI()

    @app.get("/skip")
    async def by_skip(params: SkipLimit) -> Page[ItemRead]:
        async with AsyncSession(engine) as session:
            return await paginate(session, select(Item), params, ItemRead)

    @app.get("/page")
    async def by_page(params: PageNumber) -> NumberedPage[ItemRead]:
        async with AsyncSession(engine) as session:
            return await paginate(session, select(Item), params, ItemRead)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop") as client:
        body = (await client.get(url)).json()

    assert [item["id"] for item in body.pop("items")] == ids
    assert body == rest


@pytest.mark.anyio
async def test_kind_of_page_and_items_follow_the_arguments(session: AsyncSession) -> None:
    page = await paginate(session, select(Item), SkipLimitParams(0, 1), ItemRead)
    numbered = await paginate(session, select(Item.id, Item.name), PageNumberParams(1, 1), ItemRead, total=False)

    assert_type(page, Page[ItemRead])
    assert_type(numbered, NumberedPage[ItemRead])
    assert type(page) is Page[ItemRead]
    assert type(numbered) is NumberedPage[ItemRead]
    assert (numbered.total, numbered.pages) == (None, None)


@pytest.mark.anyio
async def test_no_rows_are_no_pages(session: AsyncSession) -> None:
    nothing = select(Item).where(Item.id < 0)

    for number in (1, 2):
        page = await paginate(session, nothing, PageNumberParams(number, 5), ItemRead)
        assert (page.items, page.total, page.pages) == ([], 0, 0)


@pytest.mark.anyio
async def test_row_that_does_not_fit_the_model_is_an_error(session: AsyncSession) -> None:
    class Priced(ReadModel):
        price: int

    with pytest.raises(ValidationError, match=r"items\.0\.price"):
        await paginate(session, select(Item), SkipLimitParams(0, 1), Priced)


@pytest.fixture
def sync_session() -> Iterator[Session]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(rows())
        session.commit()
        yield session
    engine.dispose()


@pytest.mark.parametrize(("skip", "ids"), [(0, [1, 2]), (22, [23]), (30, [])])
def test_sync_session_has_the_same_pages(sync_session: Session, skip: int, ids: list[int]) -> None:
    page = paginate_sync(sync_session, select(Item), SkipLimitParams(skip, 2), ItemRead)

    assert_type(page, Page[ItemRead])
    assert ([item.id for item in page.items], page.total) == (ids, 23)


def test_sync_pages_by_number_and_without_total(sync_session: Session) -> None:
    numbered = paginate_sync(sync_session, select(Owner), PageNumberParams(2, 2), ItemRead)
    uncounted = paginate_sync(sync_session, select(Owner), PageNumberParams(9, 2), ItemRead, total=False)

    assert_type(numbered, NumberedPage[ItemRead])
    assert ([owner.name for owner in numbered.items], numbered.total, numbered.pages) == (["cleo"], 3, 2)
    assert (uncounted.items, uncounted.total, uncounted.pages) == ([], None, None)


def test_sync_endpoint(sync_session: Session) -> None:
    app = FastAPI()

    @app.get("/owners")
    def list_owners(session: Annotated[Session, Depends(lambda: sync_session)], params: SkipLimit) -> Page[ItemRead]:
        return paginate_sync(session, select(Owner), params, ItemRead)

    assert TestClient(app).get("/owners?limit=1").json() == {
        "items": [{"id": 1, "name": "ada"}],
        "total": 3,
        "total_capped": False,
        "skip": 0,
        "limit": 1,
    }


@pytest.mark.parametrize("package", ["sqlalchemy", "cryptography"])
def test_without_a_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == package or name.startswith("fastapi_kit.pagination"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed

    with pytest.raises(ConfigurationError, match=r"pip install 'fastapi-service-kit\[pagination\]'"):
        importlib.import_module("fastapi_kit.pagination")
