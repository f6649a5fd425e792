"""One page of what is in memory already."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar, overload

from pydantic import BaseModel

from fastapi_kit.pagination.cursor_parameters import CursorParams
from fastapi_kit.pagination.cursors import InvalidCursorError
from fastapi_kit.pagination.pages import CursorPage, NumberedPage, Page, enveloped
from fastapi_kit.pagination.parameters import PageNumberParams, SkipLimitParams
from fastapi_kit.pagination.positions import BACKWARDS, Position, neighbours
from fastapi_kit.pagination.slices import Slice

__all__ = ["fetch_list", "paginate_list"]

ItemT = TypeVar("ItemT")
ModelT = TypeVar("ModelT", bound=BaseModel)
ParamsT = TypeVar("ParamsT", bound=SkipLimitParams | PageNumberParams | CursorParams)
_Key = Callable[[ItemT], tuple[Any, ...]]
_ORDER = ["list"]


@overload
def paginate_list(
    items: Sequence[ItemT], params: SkipLimitParams, model: type[ModelT], *, key: None = None
) -> Page[ModelT]: ...
@overload
def paginate_list(
    items: Sequence[ItemT], params: PageNumberParams, model: type[ModelT], *, key: None = None
) -> NumberedPage[ModelT]: ...
@overload
def paginate_list(
    items: Sequence[ItemT], params: CursorParams, model: type[ModelT], *, key: _Key[ItemT]
) -> CursorPage[ModelT]: ...
def paginate_list(
    items: Sequence[ItemT],
    params: SkipLimitParams | PageNumberParams | CursorParams,
    model: type[ModelT],
    *,
    key: _Key[ItemT] | None = None,
) -> Page[ModelT] | NumberedPage[ModelT] | CursorPage[ModelT]:
    """Return one page of a list or a tuple, each item made into a `model` by its attributes.

    `key`: for cursors alone, the values by which the items are sorted, smallest first; no two items
    may have the same. The list may be another one at each request, as long as its items are sorted.

    Raises `InvalidCursorError` (400, `invalid_cursor`); `TypeError` where `key` is missing and
    `ValueError` where the items are not sorted by it, which are mistakes in the endpoint.
    """
    return enveloped(fetch_list(items, params, key=key), model)


def fetch_list(items: Sequence[ItemT], params: ParamsT, *, key: _Key[ItemT] | None = None) -> Slice[ItemT, ParamsT]:
    """Return one page of a list as it is, for an envelope of one's own; see `paginate_list`."""
    page = _by_key(items, params, key) if isinstance(params, CursorParams) else _by_offset(items, params)
    page.add_link_header()
    return page


def _by_offset(items: Sequence[ItemT], params: Any) -> Slice[ItemT, Any]:
    return Slice(
        items=items[params.skip : params.skip + params.limit],
        params=params,
        has_previous=params.skip > 0,
        has_next=params.skip + params.limit < len(items),
        total=len(items),
    )


def _by_key(items: Sequence[ItemT], params: CursorParams, key: _Key[ItemT] | None) -> Slice[ItemT, Any]:
    if key is None:
        raise TypeError("a cursor in a list needs the key by which its items are sorted: key=lambda book: (book.id,)")
    places = [key(item) for item in items]
    if not all(isinstance(place, tuple) for place in places):
        raise TypeError("the key of a list returns a tuple: key=lambda book: (book.id,)")
    if any(first >= second for first, second in pairwise(places)):
        raise ValueError("the items are not sorted by their key, smallest first, or two have the same")
    position = params.position(_ORDER)
    try:
        start, end = _bounds(places, position, params.limit)
    except TypeError:  # the code had another key when it made the cursor
        raise InvalidCursorError from None
    is_backwards = position is not None and position.reach in BACKWARDS
    behind, ahead = neighbours(position, places[start:end], has_more=start > 0 if is_backwards else end < len(items))
    return Slice(
        items=items[start:end],
        params=params,
        has_previous=behind is not None,
        has_next=ahead is not None,
        total=len(items),
        previous_cursor=params.cursor_of(behind, _ORDER) if behind else None,
        next_cursor=params.cursor_of(ahead, _ORDER) if ahead else None,
    )


def _bounds(places: Sequence[tuple[Any, ...]], position: Position | None, limit: int) -> tuple[int, int]:
    if position is None:
        return 0, limit
    if position.reach in BACKWARDS:
        end = (bisect_left if position.reach == "before" else bisect_right)(places, position.values)
        return max(0, end - limit), end
    start = (bisect_right if position.reach == "after" else bisect_left)(places, position.values)
    return start, start + limit
