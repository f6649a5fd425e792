"""What a request pays for parameters of the kit, against the same read by an `async def` dependency by hand.

The endpoints do nothing else, and each request gives what a client gives: a page, an order, filters. Neither app has
the kit's error handlers, whose price is that of the scenario `plain`.
"""

import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query
from sqlalchemy import ColumnElement, and_
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.data import Scenario
from benchmarks.measure import compare
from benchmarks.sessions import Result
from fastapi_kit.pagination import (
    Conditions,
    CursorParams,
    Cursors,
    Filter,
    Ordering,
    PageNumber,
    SkipLimit,
    cursor_limit,
    filter_by,
    sort_by,
)

AIM = 1.2
SCENARIOS = (
    Scenario("skip, limit", "/skip?skip=40&limit=20", AIM),
    Scenario("page, size", "/page?page=3&size=20", AIM),
    Scenario("cursor, limit", "/cursor?limit=20", AIM),
    Scenario("sort", "/sort?sort=-created,title", AIM),
    Scenario("filters", "/filters?status=new&status=used&min_price=100&q=room+own", AIM),
)


class Base(DeclarativeBase): ...


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    status: Mapped[str]
    price: Mapped[int]
    created: Mapped[int]


SORTABLE = {"title": Book.title, "created": Book.created, "price": Book.price}


@dataclass(frozen=True)
class Asked:
    """Which page a client asks for: `start` is a number of rows, of a page, or a cursor."""

    start: int | str | None
    size: int


Size = Annotated[int, Query(ge=1, le=100)]


def by_hand() -> FastAPI:
    app = FastAPI()

    async def read_skip(skip: Annotated[int, Query(ge=0, le=1_000_000)] = 0, limit: Size = 20) -> Asked:
        return Asked(skip, limit)

    async def read_page(page: Annotated[int, Query(ge=1, le=1_000_000)] = 1, size: Size = 20) -> Asked:
        return Asked(page, size)

    async def read_cursor(cursor: Annotated[str | None, Query()] = None, limit: Size = 20) -> Asked:
        return Asked(cursor, limit)

    async def read_sort(sort: Annotated[list[str] | None, Query()] = None) -> Sequence[Any]:
        clauses = []
        for word in (word for part in sort or ["-created"] for word in part.split(",")):
            column = SORTABLE.get(word.removeprefix("-"))
            if column is None:
                raise HTTPException(422, f"sort by {', '.join(SORTABLE)}")
            clauses.append(column.desc() if word.startswith("-") else column.asc())
        return clauses

    async def read_filters(
        status: Annotated[list[str] | None, Query(max_length=100)] = None,
        min_price: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
        q: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Sequence[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        if status is not None:
            conditions.append(Book.status.in_(status))
        if min_price is not None:
            conditions.append(Book.price >= min_price)
        if q is not None and (words := q.split()):
            conditions.append(and_(*(Book.title.icontains(word, autoescape=True) for word in words)))
        return conditions

    @app.get("/skip")
    async def skip(asked: Annotated[Asked, Depends(read_skip)]) -> int:
        return asked.size

    @app.get("/page")
    async def page(asked: Annotated[Asked, Depends(read_page)]) -> int:
        return asked.size

    @app.get("/cursor")
    async def cursor(asked: Annotated[Asked, Depends(read_cursor)]) -> int:
        return asked.size

    @app.get("/sort")
    async def sort(order: Annotated[Sequence[Any], Depends(read_sort)]) -> int:
        return len(order)

    @app.get("/filters")
    async def filters(where: Annotated[Sequence[ColumnElement[bool]], Depends(read_filters)]) -> int:
        return len(where)

    return app


def by_kit() -> FastAPI:
    app = FastAPI()
    cursors = Cursors(secrets.token_bytes(64))
    listed = {
        "status": Filter.any_of(Book.status),
        "min_price": Filter.at_least(Book.price),
        "q": Filter.search(Book.title),
    }

    @app.get("/skip")
    async def skip(asked: SkipLimit) -> int:
        return asked.limit

    @app.get("/page")
    async def page(asked: PageNumber) -> int:
        return asked.size

    @app.get("/cursor")
    async def cursor(asked: Annotated[CursorParams, cursor_limit(cursors)]) -> int:
        return asked.limit

    @app.get("/sort")
    async def sort(order: Annotated[Ordering, sort_by(SORTABLE, default="-created")]) -> int:
        return len(order)

    @app.get("/filters")
    async def filters(where: Annotated[Conditions, filter_by(listed)]) -> int:
        return len(where)

    return app


async def measure() -> AsyncGenerator[Result]:
    """Yield how the kit compares, one kind of parameters after the other."""
    hand, kit = by_hand(), by_kit()
    for scenario in SCENARIOS:
        result = await compare(hand, kit, scenario)
        yield Result(scenario.name, result.first_us, result.second_us, result.ratio, scenario.aim)
