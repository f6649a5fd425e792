"""What a developer gets wrong, and where it is told."""

from datetime import datetime
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.pagination import (
    BesideRowParams,
    CursorParams,
    Cursors,
    Filter,
    SkipLimitParams,
    cursor_limit,
    fetch,
    fetch_sync,
    filter_by,
    paginate,
    paginate_list,
    sort_by,
)
from tests.pagination.kinds import after
from tests.pagination.support import Item, ItemRead

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "annotation",
    [SkipLimitParams, CursorParams, Annotated[SkipLimitParams, Depends()]],
    ids=["no dependency", "no dependency of cursors", "bare Depends"],
)
def test_params_without_their_dependency_are_told_when_the_route_is_added(annotation: Any) -> None:
    def list_items(page: Any) -> None: ...

    list_items.__annotations__["page"] = annotation

    with pytest.raises(ConfigurationError, match=r"Annotated\[SkipLimitParams, skip_limit\(\)\]"):
        FastAPI().get("/items")(list_items)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Cursors, r"Cursors\(\) needs a secret"),
        (lambda: cursor_limit("a secret"), r"cursor_limit\(\) needs Cursors\(secret\), not a str"),  # type: ignore[arg-type]
        (lambda: sort_by([Item.name]), "needs words and columns"),  # type: ignore[arg-type]
        (lambda: filter_by({"name": Item.name}), "needs names and filters"),  # type: ignore[dict-item]
        (lambda: Filter(datetime, Item.name.__eq__), "say AwareDatetime or NaiveDatetime"),
    ],
    ids=["no secret", "secret for cursors", "list of columns", "column for a filter", "datetime of any kind"],
)
def test_mistakes_at_the_start(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_filters_of_ones_own_are_bounded_as_columns_are() -> None:
    for kind, value in ((int, 10**30), (str, "\0"), (float, float("nan"))):
        with pytest.raises(ValidationError):
            TypeAdapter(Filter(kind, Item.id.__eq__).as_type).validate_python(value)


async def test_session_of_the_other_kind_is_refused(session: AsyncSession) -> None:
    engine = create_engine("sqlite://")
    with Session(engine) as sync_session:
        with pytest.raises(TypeError, match="see paginate_sync and fetch_sync"):
            await fetch(sync_session, select(Item), SkipLimitParams(0, 1))  # type: ignore[call-overload]
    engine.dispose()
    with pytest.raises(TypeError, match="await paginate or fetch"):
        fetch_sync(session, select(Item), SkipLimitParams(0, 1))  # type: ignore[call-overload]


async def test_page_beside_a_row_has_no_envelope_of_the_kits(session: AsyncSession) -> None:
    with pytest.raises(TypeError, match=r"use fetch\(\) and one of your own"):
        await paginate(session, select(Item), BesideRowParams(1), ItemRead)  # type: ignore[call-overload]


def test_key_of_a_list_is_a_tuple() -> None:
    with pytest.raises(TypeError, match=r"key=lambda book: \(book.id,\)"):
        paginate_list([1, 2], after(1), ItemRead, key=lambda number: number)  # type: ignore[arg-type, return-value]
