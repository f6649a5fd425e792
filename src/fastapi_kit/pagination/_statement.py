"""What a page needs to know and change of a `Select`.

SQLAlchemy publishes how to build a statement, not how to ask what it holds: the underscored
attributes that this takes are read here and nowhere else.
"""
# ruff: noqa: SLF001

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy import ColumnElement, Label, Row, Select, UnaryExpression, func, inspect, select
    from sqlalchemy.engine import Result
    from sqlalchemy.exc import InvalidRequestError
    from sqlalchemy.sql.expression import ColumnClause, FromClause

__all__ = ["AnySelect", "PagedStatement"]

AnySelect = Select[*tuple[Any, ...]]
"""A `Select` of whatever columns."""


class PagedStatement:
    """A statement cut into pages, with the total in a last column of every row."""

    def __init__(self, statement: AnySelect, *, counted: bool) -> None:
        _refuse_what_has_no_pages(statement)
        columns = statement.column_descriptions
        one_row_each = _is_one_row_each(statement)
        tie_break = _tie_break(statement, columns, one_row_each=one_row_each)
        paged: AnySelect = statement.order_by(*tie_break) if tie_break else statement
        if counted:
            _refuse_locks(statement)
            paged = paged.add_columns(_total(statement, one_row_each=one_row_each))
        self._paged = paged
        self._counted = counted
        self._entity_alone = len(columns) == 1 and columns[0]["expr"] is columns[0].get("entity")

    def window(self, skip: int, limit: int) -> AnySelect:
        """Return the statement of one page; both numbers are bound, so it compiles once for all."""
        return self._paged.limit(limit).offset(skip)

    def read(self, result: Result[*tuple[Any, ...]]) -> tuple[Sequence[Any], int | None]:
        """Return entities, or rows with named columns, and the total; None where no row could carry it."""
        try:
            rows: Sequence[Row[*tuple[Any, ...]]] = result.all()
        except InvalidRequestError as exc:
            raise TypeError(
                "a collection that is loaded by a join multiplies the rows of a page:"
                " load it with selectinload() in place of joinedload() or contains_eager()"
            ) from exc
        total = rows[0][-1] if rows and self._counted else None
        return [row[0] for row in rows] if self._entity_alone else rows, total


def _refuse_what_has_no_pages(statement: AnySelect) -> None:
    if not isinstance(statement, Select):
        raise TypeError(
            f"a page is cut from a Select, not from a {type(statement).__name__}:"
            " write a union as select(union.subquery()), a legacy Query as a select()"
        )
    if not (statement._limit_clause is statement._offset_clause is statement._fetch_clause is None):
        raise ValueError(
            "the statement has a LIMIT, OFFSET or FETCH of its own, which the page would replace:"
            " remove it, or select from statement.subquery()"
        )


def _refuse_locks(statement: AnySelect) -> None:
    if statement._for_update_arg is not None:
        raise ValueError(
            "the count of a statement with FOR UPDATE would lock the rows of all pages:"
            " pass total=False, or leave out with_for_update()"
        )


def _is_one_row_each(statement: AnySelect) -> bool:
    """Tell whether the statement returns just the rows of its FROM and WHERE.

    Only entities and plain columns are known to: an expression may hold an aggregate or a
    function that returns a set.
    """
    folded = statement._distinct or statement._group_by_clauses or statement._having_criteria
    return not folded and all(_is_plain_column(column) for column in statement._raw_columns)


def _is_plain_column(column: object) -> bool:
    if isinstance(column, ColumnClause):
        return column.table is not None  # literal_column("max(id)") has none
    return isinstance(column, FromClause)


def _total(statement: AnySelect, *, one_row_each: bool) -> Label[int]:
    """Return the count of all rows as a column.

    A scalar subquery is worked out once for a statement, and uses an index of the filter;
    `COUNT(*) OVER ()` would make the database keep every row before it returns the first.
    """
    unordered = statement.order_by(None)
    if one_row_each:
        count = unordered.with_only_columns(func.count(), maintain_column_froms=True)
    else:
        count = select(func.count()).select_from(unordered.subquery())
    # the FROM of the count is its own: correlated, it would count the rows of one row
    return count.correlate(None).scalar_subquery().label("fastapi_kit_total")


def _tie_break(statement: AnySelect, columns: Iterable[Any], *, one_row_each: bool) -> Sequence[ColumnElement[Any]]:
    ordered = {_without_direction(clause) for clause in statement._order_by_clauses}
    return [key for key in _primary_keys(columns, one_row_each=one_row_each) if key not in ordered]


def _primary_keys(columns: Iterable[Any], *, one_row_each: bool) -> Iterator[ColumnElement[Any]]:
    """Yield the key of each entity that a row stands for.

    Under DISTINCT and GROUP BY that is an entity selected whole: a lone column of it may stand
    for many, and the database would refuse to order by a key that is not selected.
    """
    seen = set[int]()
    for column in columns:
        entity = column.get("entity")
        if entity is None or id(entity) in seen or not (one_row_each or column["expr"] is entity):
            continue
        seen.add(id(entity))
        mapper = inspect(entity).mapper
        for key in mapper.primary_key:
            yield getattr(entity, mapper.get_property_by_column(key).key).expression


def _without_direction(clause: Any) -> Any:
    while isinstance(clause, UnaryExpression):
        clause = clause.element
    return clause
