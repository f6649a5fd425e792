"""The rows beyond a place in an order, found through an index in place of being counted off."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from fastapi_kit.errors import needs_extra
from fastapi_kit.pagination.order import OrderKey
from fastapi_kit.pagination.positions import BACKWARDS, Position, Reach
from fastapi_kit.pagination.selects import AnySelect
from fastapi_kit.pagination.statement import Listing
from fastapi_kit.pagination.values import MYSQL, Values

with needs_extra("pagination"):
    from sqlalchemy import (
        Column,
        ColumnElement,
        Label,
        Table,
        and_,
        false,
        literal_column,
        or_,
        true,
        tuple_,
    )

__all__ = ["Keyset"]

_SORTED = 200
"""Characters by which MariaDB sorts: 1,024 bytes, of which most collations make two to five of one."""
_INCLUSIVE: frozenset[Reach] = frozenset({"from", "until"})


class Keyset:
    """The places in the order of a listing, and the statements of the rows beyond them."""

    def __init__(self, listing: Listing) -> None:
        _refuse_what_has_no_places(listing)
        self._listing = listing
        self._dialect = listing.dialect
        self._values = Values(listing.dialect)

    def signature(self) -> list[str]:
        """Return the order as text, the same in every process: a place in one order is none in another."""
        return [
            f"{_name(key.operand)} {type(key.operand.type).__name__} {'desc' if key.descending else 'asc'}"
            f" {key.has_nulls_first(self._dialect)}"
            for key in self._listing.keys
        ]

    def places(self) -> list[Label[Any]]:
        """Return the columns that hold the place of a row."""
        return [
            self._values.read(key.operand).label(f"fastapi_kit_key_{number}")
            for number, key in enumerate(self._listing.keys)
        ]

    def place_of(self, key: Any) -> AnySelect:
        """Return the statement of the place of the row with some primary key; a tuple where it has several columns.

        Raises `ValueError` unless the statement selects one entity, and for a key of another size.
        """
        columns = self._listing.entity_key
        values = key if isinstance(key, tuple) else (key,)
        if len(values) != len(columns):
            raise ValueError(
                f"the primary key has {len(columns)} columns, not {len(values)}, in a statement of one entity"
            )
        conditions = [column == value for column, value in zip(columns, values, strict=True)]
        return self._only_places(and_(*conditions)).limit(1)

    def place_with(self, identity: Sequence[Any]) -> AnySelect:
        """Return the statement of the place of the row with what `identity_of` returned."""
        return self._only_places(self._equal(self._identifying(), identity)).limit(1)

    def identity_of(self, place: Sequence[Any]) -> tuple[Any, ...]:
        """Return of a place what tells its row apart from all others."""
        return tuple(place[number] for number in self._identifying())

    def _identifying(self) -> list[int]:
        identity = {OrderKey(column).operand for column in self._listing.identity}
        return [number for number, key in enumerate(self._listing.keys) if key.operand in identity]

    def _equal(self, numbers: Iterable[int], values: Sequence[Any]) -> ColumnElement[bool]:
        keys = self._comparable(self._listing.keys)
        conditions = [
            self._values.compared(keys[number].operand).is_(None)
            if value is None
            else self._values.compared(keys[number].operand) == self._values.bound(keys[number].operand, value)
            for number, value in zip(numbers, values, strict=True)
        ]
        return and_(*conditions)

    def _only_places(self, condition: ColumnElement[bool]) -> AnySelect:
        statement = self._filtered(self._listing.statement.order_by(None), condition)
        return statement.with_only_columns(*self.places(), maintain_column_froms=True)

    def rows_at(self, place: Sequence[Any]) -> AnySelect:
        """Return the statement of the rows at a place, two at most; the database tells which values are the same."""
        rows = self._filtered(self._listing.statement.order_by(None), self._equal(range(len(place)), place))
        return rows.add_columns(*self.places()).limit(2)

    def is_cut_off(self, first: Sequence[Any], second: Sequence[Any]) -> bool:
        """Tell whether MariaDB may take two values for one where it sorts, and for two where it compares."""
        return self._dialect in MYSQL and any(
            isinstance(one, str | bytes) and len(one) > _SORTED and (other or "")[:_SORTED] == one[:_SORTED]
            for one, other in zip(first, second, strict=True)
        )

    def page(self, position: Position | None, limit: int) -> AnySelect:
        """Return the statement of `limit` rows beyond a position, in reading order; the first ones without one."""
        if position is None:
            return self._listing.in_order(self._listing.keys).limit(limit)
        backwards = position.reach in BACKWARDS
        keys = [key.reversed() for key in self._listing.keys] if backwards else self._listing.keys
        return self._filtered(self._listing.in_order(keys), self._beyond(keys, position)).limit(limit)

    def _filtered(self, statement: AnySelect, condition: ColumnElement[bool]) -> AnySelect:
        # the order of grouped rows may be one of aggregates, which WHERE does not know
        return statement.having(condition) if self._listing.is_grouped else statement.where(condition)

    def _beyond(self, keys: Sequence[OrderKey], position: Position) -> ColumnElement[bool]:
        inclusive = position.reach in _INCLUSIVE
        keys = self._comparable(keys)
        if self._can_compare_rows(keys):
            operands = [key.operand for key in keys]
            ours = tuple_(*map(self._values.compared, operands))
            theirs = tuple_(*(self._values.bound(*pair) for pair in zip(operands, position.values, strict=True)))
            if keys[0].descending:
                return ours <= theirs if inclusive else ours < theirs
            return ours >= theirs if inclusive else ours > theirs
        conditions = [self._after(key, value) for key, value in zip(keys, position.values, strict=True)]
        after, not_before = conditions.pop()
        beyond = not_before if inclusive else after
        for after, not_before in reversed(conditions):
            # `a >= x AND (a > x OR ...)`, since `a > x OR (a = x AND ...)` finds no index
            beyond = and_(not_before, or_(after, beyond))
        return beyond

    def _comparable(self, keys: Sequence[OrderKey]) -> Sequence[OrderKey]:
        if not (self._listing.is_grouped and self._dialect in MYSQL):
            return keys
        # HAVING knows there the labels of what is selected, but no expression of what the rows are grouped by
        labels = [literal_column(f"fastapi_kit_key_{number}", key.operand.type) for number, key in enumerate(keys)]
        return [replace(key, expression=label) for key, label in zip(keys, labels, strict=True)]

    def _can_compare_rows(self, keys: Sequence[OrderKey]) -> bool:
        """Tell whether `(a, b) > (x, y)` says it all; MariaDB would find no index for it."""
        return (
            self._dialect in {"postgresql", "sqlite"}
            and len({key.descending for key in keys}) == 1
            and not any(self._listing.may_be_null(key.operand) for key in keys)
        )

    def _after(self, key: OrderKey, value: Any) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        """Return the conditions "after the value" and "not before the value"."""
        column = self._values.compared(key.operand)
        nulls_first = key.has_nulls_first(self._dialect)
        if value is None:
            return (column.is_not(None), true()) if nulls_first else (false(), column.is_(None))
        bound = self._values.bound(key.operand, value)
        after, not_before = (column < bound, column <= bound) if key.descending else (column > bound, column >= bound)
        if nulls_first or not self._listing.may_be_null(key.operand):
            return after, not_before
        return or_(after, column.is_(None)), or_(not_before, column.is_(None))


def _name(operand: ColumnElement[Any]) -> str:
    if isinstance(operand, Column) and isinstance(operand.table, Table):
        return f"{operand.table.fullname}.{operand.name}"
    return str(operand)


def _refuse_what_has_no_places(listing: Listing) -> None:
    if listing.has_window:
        raise ValueError("a window function would begin anew on each page: select from statement.subquery()")
    if listing.is_distinct_on:
        raise ValueError("a cursor cannot go on in a DISTINCT ON: select from statement.subquery()")
    if listing.is_of_text:
        raise TypeError("a cursor cannot order by text(): order by a column or an expression")
    if not listing.is_order_selected:
        raise ValueError(
            "the rows of a DISTINCT have no place in the order of what they do not hold: select that too,"
            " or filter with exists() in place of the join"
        )
    if not listing.keys:
        raise ValueError("a cursor needs an order: give the statement an order_by")
