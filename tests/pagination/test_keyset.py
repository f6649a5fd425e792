"""Pages by cursor: one SELECT each, and right at their ends, whatever was deleted meanwhile."""

from typing import Any

import pytest
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import with_loader_criteria

from fastapi_kit.errors import BadRequestError
from fastapi_kit.pagination import AtMost, BesideRowParams, InvalidCursorError, at_most, fetch
from tests.pagination.kinds import Author, Badge, Book, Loan, Sample, after, walk
from tests.pagination.support import Item, Owner, Shelf

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("limit", [1, 2, 22, 23, 24])
@pytest.mark.parametrize(
    "order",
    [[], [Item.name], [Item.name.desc()], [Item.owner_id, Item.name.desc()], [Item.id.desc()], [Item.name, Item.id]],
    ids=lambda order: ", ".join(map(str, order)) or "none",
)
async def test_walk_over_ties_with_any_limit(session: AsyncSession, order: list[Any], limit: int) -> None:
    seen = await walk(session, select(Item).order_by(*order), limit)

    assert sorted(item.id for item in seen) == list(range(1, 24))


async def test_composite_key_ends_the_order(session: AsyncSession) -> None:
    seen = await walk(session, select(Shelf).order_by(Shelf.number.desc()), 2)

    assert [(shelf.aisle, shelf.number) for shelf in seen] == [(a, n) for n in (3, 2, 1) for a in (3, 2, 1)]


async def test_page_by_cursor_is_one_select_that_counts_nothing_off(session: AsyncSession, sent: list[str]) -> None:
    statement = select(Item).order_by(Item.name, Item.id.desc())

    page = await fetch(session, statement, after(5))
    for _ in range(2):
        page = await fetch(session, statement, after(5, page.next_cursor))
    page = await fetch(session, statement, after(5, page.previous_cursor))

    assert len(sent) == 4
    assert not [text for text in sent if "count(" in text.lower()]
    if session.get_bind().dialect.name != "sqlite":  # which is told OFFSET 0
        assert not [text for text in sent if "OFFSET" in text]
    assert page.total is None


async def test_values_are_bound_so_that_pages_share_a_compiled_statement(
    session: AsyncSession, sent: list[str]
) -> None:
    page = await fetch(session, select(Item).order_by(Item.name), after(2))
    second = await fetch(session, select(Item).order_by(Item.name), after(2, page.next_cursor))
    await fetch(session, select(Item).order_by(Item.name), after(2, second.next_cursor))

    assert sent[1] == sent[2]
    assert "name 0" not in sent[1]


@pytest.mark.parametrize(
    ("total", "expected"), [(True, (23, False)), (at_most(9), (9, True)), (AtMost(50), (23, False))]
)
async def test_total_beside_a_cursor_is_that_of_all_pages(
    session: AsyncSession, sent: list[str], total: Any, expected: tuple[int, bool]
) -> None:
    page = await fetch(session, select(Item), after(5), total=total)
    next_page = await fetch(session, select(Item), after(5, page.next_cursor), total=total)

    assert (page.total, page.total_capped) == (next_page.total, next_page.total_capped) == expected
    assert len(sent) == 2


async def test_order_with_a_cursor_of_another_order_is_refused(session: AsyncSession) -> None:
    cursor = (await fetch(session, select(Item).order_by(Item.name), after(5))).next_cursor

    for other in (Item.name.desc(), Item.id, Owner.name):
        with pytest.raises(InvalidCursorError):
            await fetch(session, select(Item).join(Item.owner).order_by(other), after(5, cursor))


async def test_loader_criteria_hold_for_cursors(session: AsyncSession) -> None:
    statement = select(Item).options(with_loader_criteria(Item, Item.id > 18)).order_by(Item.name)

    assert len(await walk(session, statement, 2)) == 5


async def fill(session: AsyncSession, count: int = 6) -> None:
    rows = [{"a": number, "b": "k", "rank": number // 2, "title": "t"} for number in range(count)]
    await session.execute(insert(Sample), rows)


ORDERED = select(Sample.a).order_by(Sample.rank.desc(), Sample.a)
"""4, 5, 2, 3, 0, 1."""


async def remove(session: AsyncSession, *numbers: int) -> None:
    await session.execute(delete(Sample).where(Sample.a.in_(numbers)))


async def test_rows_at_the_edges_of_a_page_may_be_deleted(kinds_session: AsyncSession) -> None:
    await fill(kinds_session)
    first = await fetch(kinds_session, ORDERED, after(2))
    second = await fetch(kinds_session, ORDERED, after(2, first.next_cursor))
    assert [*first.items, *second.items] == [4, 5, 2, 3]

    await remove(kinds_session, 5, 2)

    assert (await fetch(kinds_session, ORDERED, after(2, first.next_cursor))).items == [3, 0]
    assert (await fetch(kinds_session, ORDERED, after(2, second.previous_cursor))).items == [4]


async def test_empty_page_at_the_end_turns_round_to_the_row_at_its_place(kinds_session: AsyncSession) -> None:
    await fill(kinds_session)
    page = await fetch(kinds_session, ORDERED, after(4))
    await remove(kinds_session, 0, 1)

    empty = await fetch(kinds_session, ORDERED, after(4, page.next_cursor))
    assert (empty.items, empty.has_next, empty.next_cursor, empty.has_previous) == ([], False, None, True)

    back = await fetch(kinds_session, ORDERED, after(3, empty.previous_cursor))
    assert (back.items, back.has_previous) == ([5, 2, 3], True)


async def test_empty_page_at_the_beginning_turns_round_to_the_row_at_its_place(kinds_session: AsyncSession) -> None:
    await fill(kinds_session)
    first = await fetch(kinds_session, ORDERED, after(2))
    second = await fetch(kinds_session, ORDERED, after(2, first.next_cursor))
    await remove(kinds_session, 4, 5)

    empty = await fetch(kinds_session, ORDERED, after(2, second.previous_cursor))
    assert (empty.items, empty.has_previous, empty.previous_cursor, empty.has_next) == ([], False, None, True)

    again = await fetch(kinds_session, ORDERED, after(3, empty.next_cursor))
    assert (again.items, again.has_next) == ([2, 3, 0], True)


async def test_emptied_list_can_be_turned_in_for_ever(kinds_session: AsyncSession) -> None:
    await fill(kinds_session)
    cursor = (await fetch(kinds_session, ORDERED, after(2))).next_cursor
    await remove(kinds_session, *range(6))

    end = await fetch(kinds_session, ORDERED, after(2, cursor))
    start = await fetch(kinds_session, ORDERED, after(2, end.previous_cursor))
    assert (end.items, start.items) == ([], [])

    await fill(kinds_session)
    assert (await fetch(kinds_session, ORDERED, after(2, cursor))).items == [2, 3]
    assert (await fetch(kinds_session, ORDERED, after(9, end.previous_cursor))).items == [4, 5]
    assert (await fetch(kinds_session, ORDERED, after(9, start.next_cursor))).items == [2, 3, 0, 1]


async def test_no_rows_are_one_empty_page(session: AsyncSession) -> None:
    page = await fetch(session, select(Item).where(Item.id < 0), after(5))

    assert (page.items, page.has_previous, page.has_next) == ([], False, False)


async def test_pages_beside_a_row(kinds_session: AsyncSession) -> None:
    statement = select(Book).order_by(Book.code.desc().nulls_last())
    whole = [book.id for book in await walk(kinds_session, statement, 3)]

    async def ids(params: BesideRowParams) -> tuple[list[int], bool, bool]:
        page = await fetch(kinds_session, statement, params)
        assert (page.next_cursor, page.previous_cursor, page.links) == (None, None, {})
        return [book.id for book in page.items], page.has_previous, page.has_next

    assert await ids(BesideRowParams(3)) == (whole[:3], False, True)
    assert await ids(BesideRowParams(3, after=whole[2])) == (whole[3:6], True, True)
    assert await ids(BesideRowParams(3, after=whole[4])) == (whole[5:], True, False)
    assert await ids(BesideRowParams(3, before=whole[5])) == (whole[2:5], True, True)
    assert await ids(BesideRowParams(3, before=whole[2])) == (whole[:2], False, True)
    assert await ids(BesideRowParams(3, before=whole[0])) == ([], False, True)


async def test_pages_beside_a_row_of_a_join_or_a_composite_key(kinds_session: AsyncSession) -> None:
    joined = select(Author).join(Badge).order_by(Badge.color)
    assert [row.id for row in (await fetch(kinds_session, joined, BesideRowParams(3, after=2))).items] == [4]

    await fill(kinds_session)
    page = await fetch(
        kinds_session, select(Sample).order_by(Sample.rank.desc(), Sample.a), BesideRowParams(2, after=(5, "k"))
    )
    assert [row.a for row in page.items] == [2, 3]


@pytest.mark.parametrize("key", [99, 1])
async def test_row_that_is_not_in_the_list_is_400(kinds_session: AsyncSession, key: int) -> None:
    with pytest.raises(InvalidCursorError, match="no such row in this list"):
        await fetch(kinds_session, select(Book).where(Book.id > 1), BesideRowParams(3, after=key))


async def test_row_is_named_by_its_whole_key_in_a_list_of_one_entity(kinds_session: AsyncSession) -> None:
    for statement, key in (
        (select(Sample), 1),
        (select(Book.id), 1),
        (select(Loan, Book).join(Book, Book.id == Loan.id), 1),
    ):
        with pytest.raises(ValueError, match=r"the primary key has \d columns, not 1"):
            await fetch(kinds_session, statement, BesideRowParams(3, after=key))


def test_beside_row_params_are_checked() -> None:
    with pytest.raises(ValueError, match="limit=0 must be 1 or more"):
        BesideRowParams(0)
    with pytest.raises(BadRequestError, match="not both"):
        BesideRowParams(1, after=1, before=2)
