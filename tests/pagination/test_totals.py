"""Totals: exact, capped, none or of one's own, and what they cost."""

import re
from typing import Any

import pytest
from sqlalchemy import Select, and_, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, with_loader_criteria

from fastapi_kit.pagination import (
    AtMost,
    NumberedPage,
    PageNumberParams,
    SkipLimitParams,
    at_most,
    fetch,
    paginate,
)
from tests.pagination.support import Item, ItemRead, Owner, Tag

pytestmark = pytest.mark.anyio

FIRST, PAST = SkipLimitParams(0, 5), SkipLimitParams(500, 5)
writer = aliased(Owner)


@pytest.mark.parametrize(
    ("cap", "expected"),
    [(1, (1, True)), (22, (22, True)), (23, (23, False)), (24, (23, False)), (10**6, (23, False))],
)
@pytest.mark.parametrize("params", [FIRST, PAST, SkipLimitParams(20, 5)], ids=["first", "past", "last"])
async def test_capped_total_says_whether_there_are_more(
    session: AsyncSession, params: SkipLimitParams, cap: int, expected: tuple[int, bool]
) -> None:
    for statement in (select(Item), select(Item.id).distinct(), select(Item.id, func.count()).group_by(Item.id)):
        page = await fetch(session, statement, params, total=at_most(cap))

        assert (page.total, page.total_capped) == expected
        assert page.has_next == (params is FIRST)


async def test_capped_total_of_a_numbered_page(session: AsyncSession) -> None:
    page = await paginate(session, select(Item), PageNumberParams(2, 5), ItemRead, total=at_most(10))

    assert (page.total, page.total_capped, page.pages) == (10, True, 2)
    assert type(page) is NumberedPage[ItemRead]


async def test_capped_count_stops_there(session: AsyncSession, sent: list[str]) -> None:
    await fetch(session, select(Item).order_by(Item.name), FIRST, total=at_most(10))

    [count] = re.findall(r"\(SELECT count\(\*\).*?FROM \((.*?)\) AS", sent[0], re.DOTALL)
    assert "LIMIT" in count
    assert "item.name" not in count
    assert "ORDER BY" not in count


@pytest.mark.parametrize("rows", [0, -1])
def test_cap_below_one_is_refused(rows: int) -> None:
    with pytest.raises(ValueError, match=f"at_most\\({rows}\\) must be 1 or more; total=False counts nothing"):
        at_most(rows)


def test_cap_is_a_value() -> None:
    assert at_most(3) == AtMost(3)


async def test_total_by_a_statement_of_ones_own(session: AsyncSession, sent: list[str]) -> None:
    estimate: Select[int] = select(literal(1000))
    counted: Select[int] = select(func.count()).select_from(Item).where(Item.id < 5)

    for params in (FIRST, PAST):
        assert (await fetch(session, select(Item), params, total=estimate)).total == 1000
        assert (await fetch(session, select(Item), params, total=counted)).total == 4
    assert len(sent) == 6  # past the end it costs one more


async def test_total_of_ones_own_is_asked_for_where_there_are_no_rows(session: AsyncSession) -> None:
    nothing = select(Item).where(Item.id < 0)

    for params in (FIRST, PAST):
        assert (await fetch(session, nothing, params, total=select(literal(7)))).total == 7
        assert (await fetch(session, nothing, params, total=select(func.max(Item.id)).where(Item.id < 0))).total == 0
        assert (await fetch(session, nothing, params)).total == 0
        assert (await fetch(session, nothing, params, total=at_most(3))).total == 0


COUNTED = {
    "outer join to one": (select(Item).outerjoin(Item.owner).order_by(Owner.name), 23, False),
    "outer join to one, twice": (
        select(Item).outerjoin(Item.owner).outerjoin(writer, writer.id == Item.owner_id),
        23,
        False,
    ),
    "outer join asked for in WHERE": (select(Item).outerjoin(Item.owner).where(Owner.name == "ada"), 11, True),
    "outer join that another needs": (
        select(Item)
        .outerjoin(Item.owner)
        .outerjoin(writer, and_(writer.id == Owner.id, writer.name == "ada"))
        .where(writer.name.is_not(None)),
        11,
        True,
    ),
    "inner join": (select(Item).join(Item.owner), 23, True),
    "outer join to many": (select(Item.id).outerjoin(Item.tags), 46, True),
    "outer join of columns to one": (select(Item.id, Item.name).outerjoin(Item.owner), 23, False),
    "columns of both": (select(Item.id, Owner.name).outerjoin(Item.owner), 23, None),
    "outer join from another root": (select(Item).select_from(Item).outerjoin(Item.owner), 23, None),
    "full chain of joins to many": (select(Owner.id).outerjoin(Item).outerjoin(Tag), 47, True),
    "criteria of a loader on what is joined": (
        select(Item).outerjoin(Item.owner).options(with_loader_criteria(Owner, Owner.id == 1)),
        23,
        None,
    ),
}


@pytest.mark.parametrize(("statement", "total", "has_join"), COUNTED.values(), ids=COUNTED)
async def test_count_leaves_out_the_joins_it_does_not_need(
    session: AsyncSession, sent: list[str], statement: Any, total: int, has_join: bool | None
) -> None:
    assert len((await session.execute(statement)).all()) == total  # or the table above is wrong
    sent.clear()

    for params in (FIRST, PAST):
        page = await fetch(session, statement, params)
        assert page.total == total

    [count] = re.findall(r"\(SELECT count\(\*\)(.*?)\) AS fastapi_kit_total", sent[0], re.DOTALL)
    assert "ORDER BY" not in count
    if has_join is not None:
        assert ("JOIN" in count) is has_join


async def test_total_of_one_statement_is_not_that_of_another_of_the_same_form(session: AsyncSession) -> None:
    totals = [
        (await fetch(session, select(Item).outerjoin(Item.owner).where(Item.id > number), FIRST)).total
        for number in (0, 10, 20)
    ]

    assert totals == [23, 13, 3]


@pytest.mark.parametrize(
    ("statement", "total"),
    [
        (select(Item).join(Item.tags).distinct(), 23),
        (select(Item).join(Item.tags).where(Tag.name == "red").distinct().order_by(Item.name), 23),
        (select(Item.name, Item.owner_id).distinct(), 4),
        (select(Owner).outerjoin(Item).group_by(Owner.id).having(func.count(Item.id) > 0), 2),
        (select(func.count(Item.id)), 1),
        (select(func.count(Item.id)).having(func.count(Item.id) > 99), 0),
        (select(func.max(Item.id)).group_by(Item.owner_id), 2),
        (select(func.lower(Item.name)), 23),
        (select(func.coalesce(Item.name, "x"), Item.id + 1), 23),
    ],
)
async def test_total_of_what_is_folded(session: AsyncSession, statement: Any, total: int) -> None:
    for params in (FIRST, PAST, SkipLimitParams(0, 100)):
        page = await fetch(session, statement, params)

        assert page.total == total
    assert len(page.items) == total
