"""Pages of what is in memory."""

from dataclasses import dataclass
from typing import Any

import pytest

from fastapi_kit.pagination import (
    CursorPage,
    InvalidCursorError,
    NumberedPage,
    Page,
    PageNumberParams,
    SkipLimitParams,
    fetch_list,
    paginate_list,
)
from fastapi_kit.schemas import ReadModel
from tests.pagination.kinds import after


@dataclass
class Book:
    id: int
    title: str


class BookRead(ReadModel):
    title: str


BOOKS = [Book(number, f"t{number}") for number in range(1, 8)]


def by_id(book: Book) -> tuple[int]:
    return (book.id,)


def own(number: int) -> tuple[int]:
    return (number,)


@pytest.mark.parametrize(
    ("skip", "limit", "ids", "has_previous", "has_next"),
    [
        (0, 3, [1, 2, 3], False, True),
        (4, 3, [5, 6, 7], True, False),
        (5, 3, [6, 7], True, False),
        (7, 3, [], True, False),
        (99, 3, [], True, False),
        (0, 7, [1, 2, 3, 4, 5, 6, 7], False, False),
    ],
)
def test_pages_by_skip(skip: int, limit: int, ids: list[int], has_previous: bool, has_next: bool) -> None:
    page = fetch_list(BOOKS, SkipLimitParams(skip, limit))

    assert [book.id for book in page.items] == ids
    assert (page.has_previous, page.has_next, page.total) == (has_previous, has_next, 7)


def test_pages_in_envelopes() -> None:
    page = paginate_list(BOOKS, SkipLimitParams(2, 2), BookRead)
    numbered = paginate_list(tuple(BOOKS), PageNumberParams(2, 5), BookRead)
    by_cursor = paginate_list(BOOKS, after(2), BookRead, key=by_id)

    assert page == Page[BookRead](items=[BookRead(title="t3"), BookRead(title="t4")], total=7, skip=2, limit=2)
    assert ([book.title for book in numbered.items], numbered.pages) == (["t6", "t7"], 2)
    assert [book.title for book in by_cursor.items] == ["t1", "t2"]
    assert (type(numbered), type(by_cursor)) == (NumberedPage[BookRead], CursorPage[BookRead])


def test_empty_list_has_one_empty_page() -> None:
    for params in (SkipLimitParams(0, 3), PageNumberParams(1, 3), after(3)):
        page = fetch_list(list[Book](), params, key=by_id)

        assert ([*page.items], page.has_next, page.has_previous, page.total) == ([], False, False, 0)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_walk_by_cursor_there_and_back(limit: int) -> None:
    pages = [fetch_list(BOOKS, after(limit), key=by_id)]
    while pages[-1].next_cursor:
        assert pages[-1].has_next
        pages.append(fetch_list(BOOKS, after(limit, pages[-1].next_cursor), key=by_id))
    back = [pages[-1]]
    while back[0].previous_cursor:
        assert back[0].has_previous
        back.insert(0, fetch_list(BOOKS, after(limit, back[0].previous_cursor), key=by_id))

    assert [book for page in pages for book in page.items] == BOOKS
    assert [page.items for page in back] == [page.items for page in pages]


def test_items_may_change_between_pages() -> None:
    first = fetch_list([1, 3, 5, 7], after(2), key=own)

    second = fetch_list([0, 1, 2, 4, 5, 6], after(2, first.next_cursor), key=own)
    assert second.items == [4, 5]

    assert fetch_list([0, 1, 2, 3, 5, 6], after(2, second.previous_cursor), key=own).items == [2, 3]


def test_empty_pages_turn_round_to_the_item_at_their_place() -> None:
    first = fetch_list([1, 2, 3], after(2), key=own)
    end = fetch_list([1, 2], after(2, first.next_cursor), key=own)
    assert (end.items, end.has_next, end.has_previous) == ([], False, True)
    assert fetch_list([1, 2, 3], after(1, end.previous_cursor), key=own).items == [2]

    last = fetch_list([1, 2, 3], after(2, first.next_cursor), key=own)
    start = fetch_list([3, 4], after(2, last.previous_cursor), key=own)
    assert (start.items, start.has_previous, start.has_next) == ([], False, True)
    assert fetch_list([3, 4], after(2, start.next_cursor), key=own).items == [3, 4]


def test_cursor_needs_a_key() -> None:
    params: Any = after(2)
    with pytest.raises(TypeError, match=r"key=lambda book: \(book.id,\)"):
        fetch_list(BOOKS, params)


@pytest.mark.parametrize("items", [[2, 1], [1, 1], [1, 2, 2]])
def test_items_must_be_sorted_by_a_key_that_tells_them_apart(items: list[int]) -> None:
    with pytest.raises(ValueError, match="not sorted by their key, smallest first, or two have the same"):
        fetch_list(items, after(5), key=own)


def test_cursor_of_another_list_is_refused() -> None:
    page = fetch_list(BOOKS, after(2).bound_to("books"), key=by_id)

    with pytest.raises(InvalidCursorError):
        fetch_list(BOOKS, after(2, page.next_cursor), key=by_id)


def test_cursor_made_by_another_key_is_no_crash() -> None:
    page = fetch_list(["a", "b"], after(1), key=lambda word: (word,))

    with pytest.raises(InvalidCursorError):
        fetch_list([1, 2], after(1, page.next_cursor), key=own)
