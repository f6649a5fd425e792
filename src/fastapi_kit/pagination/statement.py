"""A `Select` made into pages: its order completed, and its count."""
# ruff: noqa: SLF001

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi_kit.errors import needs_extra
from fastapi_kit.pagination.order import OrderKey
from fastapi_kit.pagination.rows import Sources, identity
from fastapi_kit.pagination.selects import (
    AnySelect,
    distinct_on,
    is_folded,
    is_nullable,
    is_one_row_each,
    is_source,
    named,
)

with needs_extra("pagination"):
    from sqlalchemy import (
        ColumnClause,
        ColumnElement,
        FromClause,
        Label,
        Over,
        Select,
        TextClause,
        func,
        literal_column,
        select,
    )
    from sqlalchemy.sql import visitors

__all__ = ["AnyTotal", "AtMost", "Listing", "at_most"]


_COUNT = func.count()


@dataclass(frozen=True, slots=True)
class AtMost:
    """Count up to `rows` and no further."""

    rows: int


def at_most(rows: int) -> AtMost:
    """Return the `total` that counts no further than `rows` (1 or more): "10,000+" costs what 10,000 rows cost.

    Raises `ValueError` for a number below 1.

    >>> at_most(10_000)
    AtMost(rows=10000)
    """
    if rows < 1:
        raise ValueError(f"at_most({rows}) must be 1 or more; total=False counts nothing")
    return AtMost(rows)


AnyTotal = bool | AtMost | Select[int]
"""True counts all rows, False none, `at_most(n)` up to `n`; a `Select` of one number is used as it is."""


class Listing:
    """What the pages of one statement have in common."""

    def __init__(self, statement: AnySelect, dialect: str) -> None:
        _refuse_what_has_no_pages(statement)
        self.statement = statement
        self.dialect = dialect
        self._one_row_each = is_one_row_each(statement)
        self._sources = Sources.of(statement)
        columns = statement.column_descriptions
        self.width: int = len(columns)
        self.is_entity: bool = self.width == 1 and columns[0]["expr"] is columns[0].get("entity")
        if self.is_entity and self._one_row_each:
            _refuse_repeated_entities(statement, self._sources)
        self._identity = identity(statement, self._sources)
        own = [_key_of(statement, clause) for clause in statement._order_by_clauses]
        _refuse_order_of_what_is_not_joined(statement, self._sources, own)
        ordered = {key.operand for key in own}
        # in the direction of the last key, so that an index on the two is read either way
        added = [OrderKey(column, descending=bool(own and own[-1].descending)) for column in self._identity or ()]
        self._added = [key for key in added if key.operand not in ordered]
        self.keys: list[OrderKey] = [*own, *self._added]

    @property
    def is_total(self) -> bool:
        """Tell whether no two rows can be at the same place of the order."""
        return self._identity is not None and (self._one_row_each or is_folded(self.statement))

    @property
    def entity_key(self) -> Sequence[ColumnElement[Any]]:
        """Return the primary key of the entity; nothing unless the statement selects one entity alone."""
        entity: Any = self.statement._raw_columns[0]
        return list(entity.primary_key) if self.is_entity else []

    @property
    def identity(self) -> Collection[ColumnElement[Any]]:
        """Return what tells all rows apart; nothing where nothing is known to."""
        return self._identity or ()

    def may_be_null(self, operand: ColumnElement[Any]) -> bool:
        """Tell whether an expression may be NULL: by itself, by an outer join or by the sum of several groups."""
        return (
            is_nullable(operand)
            or self.is_grouped
            or any(source in self._sources.nullable for source in operand._from_objects)
        )

    @property
    def is_grouped(self) -> bool:
        """Tell whether its rows stand for groups."""
        return bool(self.statement._group_by_clauses)

    @property
    def is_of_text(self) -> bool:
        """Tell whether its order has a `text()` in it, of which nothing is known."""
        return any(isinstance(key.operand, TextClause) for key in self.keys)

    @property
    def is_order_selected(self) -> bool:
        """Tell whether the rows that a DISTINCT makes one of are all at one place of the order."""
        if not self.statement._distinct:
            return True
        raw: Sequence[Any] = self.statement._raw_columns
        entities = [source for column in raw if is_source(column) for source in column._from_objects]
        known = self._sources.determined_by(entities) if entities else set()
        selected: set[Any] = {getattr(column, "element", column) for column in raw if not is_source(column)}
        parts = (part for key in self.keys if key.operand not in selected for part in visitors.iterate(key.operand))
        columns = (part for part in parts if isinstance(part, ColumnClause))
        return all(column in selected or column.table in known for column in columns)

    @property
    def has_window(self) -> bool:
        """Tell whether a window function is selected or ordered by."""
        expressions = [*self.statement._raw_columns, *(key.operand for key in self.keys)]
        computed = (each for each in expressions if not (is_source(each) or isinstance(each, ColumnClause)))
        return any(isinstance(part, Over) for each in computed for part in visitors.iterate(each))

    @property
    def is_distinct_on(self) -> bool:
        """Tell whether it is PostgreSQL's DISTINCT ON, whose rows depend on the order."""
        return bool(distinct_on(self.statement))

    def in_order(self, keys: Sequence[OrderKey]) -> AnySelect:
        """Return the statement in the order of the keys."""
        if keys is self.keys and not any(key.nulls_first is not None for key in keys):
            return self._completed()
        return self.statement.order_by(None).order_by(*(part for key in keys for part in key.clauses(self.dialect)))

    def _completed(self) -> AnySelect:
        """Return the statement with what it lacks at the end of its order."""
        return self.statement.order_by(*(key.clause() if key.descending else key.expression for key in self._added))

    def window(self, skip: int, limit: int) -> AnySelect:
        """Return the statement of the rows after the first `skip`; both are bound, so it compiles once for all.

        Its order is completed, so that no two rows may change places from page to page.
        """
        statement = self._completed() if self.is_of_text else self.in_order(self.keys)
        return statement.limit(limit).offset(skip)

    def total(self, wanted: AnyTotal) -> Label[int]:
        """Return the count as a column of one value.

        A scalar subquery is worked out once for a statement, and uses an index of the filter;
        `COUNT(*) OVER ()` would make the database keep every row before it returns the first.
        """
        if isinstance(wanted, Select):
            count: AnySelect = wanted
        else:
            _refuse_locks(self.statement)
            count = self._count(wanted.rows + 1 if isinstance(wanted, AtMost) else None)
        # the FROM of the count is its own: correlated, it would count the rows of one row
        return count.correlate(None).scalar_subquery().label("fastapi_kit_total")

    def _count(self, limit: int | None) -> AnySelect:
        statement = self.statement.order_by(None)
        if self._one_row_each:
            statement = self._without_needless_joins(statement)
            if limit is None:
                return statement.with_only_columns(_COUNT, maintain_column_froms=True)
            statement = statement.with_only_columns(literal_column("1"), maintain_column_froms=True)
        elif self.is_entity and self._identity and not statement._group_by_clauses:
            # the keys alone are as distinct as the entities, and far smaller
            statement = statement.with_only_columns(*self._identity, maintain_column_froms=True)
        return select(_COUNT).select_from(statement.limit(limit).subquery())

    def _without_needless_joins(self, statement: AnySelect) -> AnySelect:
        """Leave out the outer joins of which nothing is asked, and that give one row at most for each row."""
        if not (needless := self._sources.needless_joins(statement)):
            return statement
        statement = statement._generate()
        kept = [join for number, join in enumerate(statement._setup_joins) if number not in needless]
        statement._setup_joins = tuple(kept)
        return statement


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


def _refuse_repeated_entities(statement: AnySelect, sources: Sources) -> None:
    own = statement._raw_columns[0]._from_objects
    if repeating := [source for source in sources.all if source not in sources.determined_by(own)]:
        names = _names(repeating)
        if not sources.joined.issuperset(repeating):
            raise TypeError(
                f"the WHERE is about {names}, which is not joined, so it may return an entity more than once:"
                " add .join(), or filter with exists() or relationship.any()"
            )
        raise TypeError(
            f"the join to {names} may return an entity more than once, so a page would hold fewer of them than it says:"
            " add .distinct(), or filter with exists() or relationship.any() in place of the join"
        )


def _refuse_order_of_what_is_not_joined(statement: AnySelect, sources: Sources, keys: Sequence[OrderKey]) -> None:
    mentioned = {*sources.all, *(source for column in statement._raw_columns for source in column._from_objects)}
    missing = {source for key in keys for source in key.operand._from_objects} - mentioned
    if missing:
        raise ValueError(f"the order is by {_names(missing)}, which is not joined: add .join() to the statement")


def _names(sources: Iterable[FromClause]) -> str:
    return ", ".join(sorted(str(getattr(source, "description", "a subquery")) for source in sources))


def _key_of(statement: AnySelect, clause: ColumnElement[Any]) -> OrderKey:
    key = OrderKey.of(named(statement, clause))
    return replace(key, expression=named(statement, key.expression))
