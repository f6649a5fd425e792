"""The statements that fetch one page, whoever executes them."""

from collections.abc import Generator, Sequence
from typing import Any

from fastapi_kit.errors import needs_extra
from fastapi_kit.pagination.cursor_parameters import BesideRowParams, CursorParams
from fastapi_kit.pagination.cursors import InvalidCursorError, LongCursorError
from fastapi_kit.pagination.keyset import Keyset
from fastapi_kit.pagination.parameters import PageNumberParams, SkipLimitParams
from fastapi_kit.pagination.positions import BACKWARDS, Position, neighbours
from fastapi_kit.pagination.selects import AnySelect
from fastapi_kit.pagination.slices import AnyParams, Slice
from fastapi_kit.pagination.statement import AnyTotal, AtMost, Listing

with needs_extra("pagination"):
    from sqlalchemy import Label, Select, select
    from sqlalchemy.engine import Result
    from sqlalchemy.exc import InvalidRequestError

__all__ = ["Fetching", "fetching"]

_AnyResult = Result[*tuple[Any, ...]]
Fetching = Generator[AnySelect, _AnyResult, Slice[Any, Any]]
"""Yields each statement, is sent its result, and returns the page."""


def fetching(
    statement: AnySelect, params: AnyParams, total: AnyTotal | None, dialect: str, *, as_rows: bool = False
) -> Fetching:
    """Fetch one page: see `fetch`. `as_rows`: leave the rows as they are, with all columns by their names."""
    listing = Listing(statement, dialect)
    if isinstance(params, SkipLimitParams | PageNumberParams):
        page = yield from _by_offset(_Reading(listing, True if total is None else total, as_rows), params)
    else:
        page = yield from _by_place(_Reading(listing, total or False, as_rows), params)
    page.add_link_header()
    return page


class _Reading:
    """Send the statement of a page with columns for its total and the places of its rows, and take them off again."""

    def __init__(self, listing: Listing, wanted: AnyTotal, as_rows: bool) -> None:
        self.listing = listing
        self.is_exact = wanted is True
        self.total: int | None = None
        self.is_capped = False
        self._wanted = wanted
        self._as_rows = as_rows

    def send(
        self, statement: AnySelect, places: Sequence[Label[Any]] = (), *, is_first: bool
    ) -> Generator[AnySelect, _AnyResult, tuple[Sequence[Any], Sequence[tuple[Any, ...]]]]:
        """Return the items, and the place of each.

        `is_first`: whether the rows begin with the first of all. Only a page past the end, which has no row to carry
        the total, costs a second statement.
        """
        total = [] if self._wanted is False else [self.listing.total(self._wanted)]
        result = yield statement.add_columns(*total, *places) if total or places else statement
        items, extra = self._read(result)
        places_of_rows = [row[len(total) :] for row in extra]
        if total:
            if not extra and not is_first:
                # not the count by itself, since options of the statement may filter it
                _, extra = self._read((yield self.listing.window(0, 1).add_columns(*total)))
            if not extra and isinstance(self._wanted, Select):
                extra = [(yield select(*total)).one()]
            self._take(extra[0][0] if extra else 0)
        return items, places_of_rows

    def _read(self, result: _AnyResult) -> tuple[Sequence[Any], Sequence[tuple[Any, ...]]]:
        width = self.listing.width
        try:
            if width > 1 and not self._as_rows:
                frozen = result.freeze()
                return frozen().columns(*range(width)).all(), [row[width:] for row in frozen().all()]
            rows = result.all()
        except InvalidRequestError as exc:
            raise TypeError(
                "a collection that is loaded by a join multiplies the rows of a page:"
                " load it with selectinload() in place of joinedload() or contains_eager()"
            ) from exc
        keeps_rows = self._as_rows and not self.listing.is_entity
        return rows if keeps_rows else [row[0] for row in rows], [row[width:] for row in rows]

    def _take(self, count: int | None) -> None:
        self.total = count or 0
        if isinstance(self._wanted, AtMost) and self.total > self._wanted.rows:
            self.total, self.is_capped = self._wanted.rows, True


def _by_offset(reading: _Reading, params: SkipLimitParams | PageNumberParams) -> Fetching:
    peeks = not reading.is_exact  # an exact total says whether there are more
    statement = reading.listing.window(params.skip, params.limit + peeks)
    items, _ = yield from reading.send(statement, is_first=params.skip == 0)
    has_more = len(items) > params.limit if peeks else params.skip + len(items) < (reading.total or 0)
    return Slice(
        items=items[: params.limit],
        params=params,
        has_previous=params.skip > 0,
        has_next=has_more,
        total=reading.total,
        total_capped=reading.is_capped,
    )


def _by_place(reading: _Reading, params: CursorParams | BesideRowParams) -> Fetching:
    keyset = Keyset(reading.listing)
    order = keyset.signature()
    if isinstance(params, CursorParams):
        position = yield from _looked_up(keyset, params.position(order))
    else:
        position = yield from _beside(keyset, params)
    statement = keyset.page(position, params.limit + 1)
    items, places = yield from reading.send(statement, keyset.places(), is_first=position is None)
    has_more = len(items) > params.limit
    if has_more:
        yield from _refuse_ties(reading.listing, keyset, *places[params.limit - 1 :])
    if position is not None and places:
        _refuse_cut_off(keyset, position.values, places[0])
    items, places = items[: params.limit], places[: params.limit]
    if position is not None and position.reach in BACKWARDS:
        items, places = items[::-1], places[::-1]
    behind, ahead = neighbours(position, places, has_more=has_more)
    return Slice(
        items=items,
        params=params,
        has_previous=behind is not None,
        has_next=ahead is not None,
        total=reading.total,
        total_capped=reading.is_capped,
        previous_cursor=_cursor(keyset, params, behind, order),
        next_cursor=_cursor(keyset, params, ahead, order),
    )


def _refuse_ties(
    listing: Listing, keyset: Keyset, last: tuple[Any, ...], following: tuple[Any, ...]
) -> Generator[AnySelect, _AnyResult, None]:
    """Raise `ValueError` where the border of a page is at no place of its own; without a known key it is asked for."""
    _refuse_cut_off(keyset, last, following)
    if not listing.is_total and len((yield keyset.rows_at(last)).all()) > 1:
        raise ValueError(
            "two rows are at the same place of the order, and a cursor between them would lose one:"
            " add to order_by what tells them apart"
        )


def _refuse_cut_off(keyset: Keyset, first: Sequence[Any], second: Sequence[Any]) -> None:
    if keyset.is_cut_off(first, second):
        raise ValueError(
            "MariaDB sorts text by its first 1,024 bytes (max_sort_length), so a cursor may lose rows that begin alike:"
            " order by func.substr(column, 1, 200)"
        )


def _cursor(
    keyset: Keyset, params: CursorParams | BesideRowParams, position: Position | None, order: list[str]
) -> str | None:
    if position is None or isinstance(params, BesideRowParams):
        return None
    try:
        return params.cursor_of(position, order)
    except LongCursorError:
        # Whoever may store a long text must not break the list: such a row is found again by its key.
        identity = keyset.identity_of(position.values)
        if not identity:
            raise
        return params.cursor_of(Position(identity, position.reach, is_key=True), order)


def _looked_up(keyset: Keyset, position: Position | None) -> Generator[AnySelect, _AnyResult, Position | None]:
    if position is None or not position.is_key:
        return position
    row = (yield keyset.place_with(position.values)).first()
    if row is None:
        raise InvalidCursorError("The row at this place is gone: start again without the cursor.")
    return Position(tuple(row), position.reach)


def _beside(keyset: Keyset, params: BesideRowParams) -> Generator[AnySelect, _AnyResult, Position | None]:
    key = params.before if params.after is None else params.after
    if key is None:
        return None
    row = (yield keyset.place_of(key)).first()
    if row is None:
        raise InvalidCursorError("There is no such row in this list: start again without it.")
    return Position(tuple(row), "before" if params.after is None else "after")
