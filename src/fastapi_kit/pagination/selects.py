"""What a `Select` holds, and what is known of its parts.

SQLAlchemy publishes how to build a statement, not how to ask what it holds: the underscored attributes that
this takes are read here, in `rows.py` and in `statement.py`, and nowhere else.
"""
# ruff: noqa: SLF001

from collections.abc import Sequence
from typing import Any

from fastapi_kit.errors import needs_extra

with needs_extra("pagination"):
    from sqlalchemy import (
        Alias,
        BindParameter,
        Case,
        Cast,
        Column,
        ColumnElement,
        FromClause,
        Function,
        Label,
        ScalarSelect,
        Select,
        Table,
        TypeCoerce,
        UnaryExpression,
    )
    from sqlalchemy.sql.elements import (
        BinaryExpression,
        ClauseList,
        ColumnClause,
        Grouping,
        TypeClause,
        _label_reference,
        _textual_label_reference,
    )

__all__ = ["AnySelect", "distinct_on", "is_folded", "is_nullable", "is_one_row_each", "is_source", "named", "table_of"]

AnySelect = Select[*tuple[Any, ...]]
"""A `Select` of whatever columns."""


def is_one_row_each(statement: AnySelect) -> bool:
    """Tell whether a statement returns just the rows of its FROM and WHERE: no groups, no aggregate, no DISTINCT."""
    if is_folded(statement) or statement._having_criteria:
        return False
    return all(_is_of_its_row(column) for column in statement._raw_columns)


def is_folded(statement: AnySelect) -> bool:
    """Tell whether a row of a statement may stand for several."""
    return bool(statement._distinct or statement._group_by_clauses)


def _is_of_its_row(column: Any) -> bool:
    """Tell whether an expression is known to have one value for each row: a function may be an aggregate, or a set."""
    if isinstance(column, ColumnClause):
        return column.table is not None  # literal_column("max(id)") has none
    if isinstance(column, Function) and column.name.lower() not in _SCALAR_FUNCTIONS:
        return False
    if isinstance(column, _MADE_OF_PARTS):
        return all(_is_of_its_row(part) for part in column.get_children())
    return is_source(column) or isinstance(column, ScalarSelect | BindParameter | TypeClause)


_MADE_OF_PARTS = (BinaryExpression, Case, Cast, ClauseList, Function, Grouping, Label, TypeCoerce, UnaryExpression)
_SCALAR_FUNCTIONS = frozenset({"abs", "coalesce", "concat", "length", "lower", "round", "substr", "trim", "upper"})


def distinct_on(statement: AnySelect) -> Sequence[ColumnElement[Any]]:
    """Return what a DISTINCT ON tells apart, by `.distinct(...)` or by the `distinct_on()` of SQLAlchemy's dialect."""
    found: Sequence[ColumnElement[Any]] = getattr(statement._pre_columns_clause, "_distinct_on", ())
    return statement._distinct_on or found


def is_source(column: object) -> bool:
    """Tell whether what is selected is an entity, a table or a subquery; a function is a FROM too, but is none."""
    return isinstance(column, FromClause) and not isinstance(column, ColumnElement)


def named(statement: AnySelect, clause: Any) -> Any:
    """Return the expression that a clause of ORDER BY or GROUP BY names, perhaps by the text of its label.

    Raises `ValueError` for a text that is no name of what is selected.
    """
    if isinstance(clause, _label_reference):
        clause = clause.element
    if isinstance(clause, _textual_label_reference):
        try:
            return statement.selected_columns[clause.element]
        except KeyError:
            raise ValueError(f"order_by or group_by names {clause.element!r}, which is not selected") from None
    return clause


def is_nullable(column: Any) -> bool:
    """Tell whether an expression may be NULL: all may but columns that were declared not to, and what keeps to them."""
    if isinstance(column, Function):
        parts = [is_nullable(part) for part in column.clauses]
        name = column.name.lower()
        return all(parts) if name == "coalesce" else name not in _STRICT_FUNCTIONS or any(parts)
    if isinstance(column, BindParameter):
        return column.value is None
    return not (isinstance(column, Column) and table_of(column.table) is not None and column.nullable is False)


_STRICT_FUNCTIONS = frozenset({"abs", "length", "lower", "substr", "trim", "upper"})
"""NULL for NULL, and for nothing else, on each database."""


def table_of(source: FromClause) -> Table | None:
    """Return the table that a source is, or is another name of."""
    table = source.element if isinstance(source, Alias) else source
    return table if isinstance(table, Table) else None
