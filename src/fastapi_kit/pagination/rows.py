"""What tells two rows of a `Select` apart, and whether it has a row more than once."""
# ruff: noqa: SLF001

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi_kit.errors import needs_extra
from fastapi_kit.pagination.selects import (
    AnySelect,
    distinct_on,
    is_folded,
    is_nullable,
    is_one_row_each,
    is_source,
    named,
    table_of,
)

with needs_extra("pagination"):
    from sqlalchemy import (
        CTE,
        BindParameter,
        Column,
        ColumnElement,
        FromClause,
        Join,
        Label,
        Select,
        Subquery,
        Table,
        TextClause,
        UniqueConstraint,
    )
    from sqlalchemy.sql import operators, visitors
    from sqlalchemy.sql.elements import (
        BinaryExpression,
        BooleanClauseList,
        ColumnClause,
    )

__all__ = ["Sources", "identity"]


def identity(statement: AnySelect, sources: "Sources | None" = None) -> Sequence[ColumnElement[Any]] | None:
    """Return the columns that tell all rows of a statement apart; None where nothing is known to."""
    if statement._group_by_clauses:
        return _if_repeatable([named(statement, clause) for clause in statement._group_by_clauses])
    if told_apart := distinct_on(statement):
        return told_apart
    if statement._distinct:
        return _if_repeatable([part for column in statement._raw_columns for part in _told_apart_by(column)])
    if not any(is_source(column) for column in statement._raw_columns) and not is_one_row_each(statement):
        return None
    sources = sources or Sources.of(statement)
    return sources.identity(source for column in statement._raw_columns for source in column._from_objects)


def _told_apart_by(column: Any) -> Iterable[ColumnElement[Any]]:
    if is_source(column):
        return [*column.primary_key] or [*column.c]
    return [column]


def _if_repeatable(columns: Sequence[ColumnElement[Any]]) -> Sequence[ColumnElement[Any]] | None:
    # An expression with parameters is another one to the database when it stands in ORDER BY again.
    return columns if all(isinstance(column, ColumnClause | Label) for column in columns) else None


@dataclass(frozen=True, slots=True)
class _Equality:
    """`column` of `source` equals something of the sources `others`, in each row."""

    source: FromClause
    column: str
    others: frozenset[FromClause]


@dataclass(slots=True)
class Sources:
    """The tables, aliases and subqueries that a statement's rows are joined of."""

    all: list[FromClause]
    equalities: list[_Equality] = field(default_factory=list)
    joined: set[FromClause] = field(default_factory=set)
    """Those that a JOIN names, and not a condition alone."""
    nullable: set[FromClause] = field(default_factory=set)
    """Those whose columns an outer join makes NULL where nothing matches."""
    _needless: frozenset[int] | None = None

    @classmethod
    def of(cls, statement: AnySelect) -> "Sources":
        """Return those of a statement."""
        mentioned = _mentioned(statement)
        if not statement._setup_joins and not statement._from_obj and len(mentioned) == 1:
            return cls([*mentioned])  # a statement on one table, which is most of them
        form = statement._generate_cache_key()
        known = _known.get(form.key) if form else None
        if known is not None:
            return known
        sources = cls([])
        for item in _froms(statement):
            sources._add(item)
        for condition in statement._where_criteria:
            sources._add_equalities(condition, None)
        if form and all(isinstance(source, Table) for source in sources.all):  # an alias is another one each time
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[form.key] = sources
        return sources

    def _add(self, item: FromClause) -> None:
        if not isinstance(item, Join):
            self.all.append(item)
            return
        first_of_left = len(self.all)
        self._add(item.left)
        first_of_right = len(self.all)
        self._add(item.right)
        self.joined |= {*self.all[first_of_left:]}
        if item.full:
            self.nullable |= {*self.all[first_of_left:]}
        elif item.isouter:
            self.nullable |= {*self.all[first_of_right:]}
        if not item.full and item.onclause is not None:
            # rows of the left side that match nothing stay in an outer join, so it says nothing of them
            self._add_equalities(item.onclause, self.all[first_of_right:] if item.isouter else None)

    def _add_equalities(self, condition: Any, told: Iterable[FromClause] | None) -> None:
        if isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
            for part in condition.clauses:
                self._add_equalities(part, told)
        elif isinstance(condition, BinaryExpression) and condition.operator is operators.eq:
            for side, other in ((condition.left, condition.right), (condition.right, condition.left)):
                source = side.table if isinstance(side, ColumnClause) else None
                is_simple = isinstance(other, ColumnClause | BindParameter)  # a subquery may look at any row
                if source is not None and is_simple and (told is None or source in told):
                    self.equalities.append(_Equality(source, side.name, frozenset(other._from_objects)))

    def determined_by(self, known: Iterable[FromClause]) -> set[FromClause]:
        """Return the sources of which there is one row at most for one row of those that are known."""
        found = set(known)
        grows = True
        while grows:
            more = {source for source in self.all if source not in found and self._is_determined(source, found)}
            grows = bool(more)
            found |= more
        return found

    def _is_determined(self, source: FromClause, known: set[FromClause]) -> bool:
        equal = {each.column for each in self.equalities if each.source == source and each.others <= known}
        return any({column.name for column in key} <= equal for key in _unique_keys(source))

    def identity(self, first: Iterable[FromClause]) -> Sequence[ColumnElement[Any]] | None:
        """Return the columns that tell all rows apart, beginning with those of `first`; None where nothing does."""
        columns: list[ColumnElement[Any]] = []
        known: set[FromClause] = set()
        for source in dict.fromkeys([*(source for source in first if source in self.all), *self.all]):
            if source not in known:
                key = next((key for key in _unique_keys(source) if _tells_apart(source, key)), None)
                if key is None:
                    return None
                columns += key
                known = self.determined_by({*known, source})
        return columns

    def needless_joins(self, statement: AnySelect) -> frozenset[int]:
        """Return the numbers of the joins that neither add nor remove a row, and of which nothing is asked."""
        if self._needless is None:
            self._needless = self._needless_joins(statement)
        return self._needless

    def _needless_joins(self, statement: AnySelect) -> frozenset[int]:
        joins = statement._setup_joins
        if not self.nullable or statement._from_obj:
            return frozenset()
        item, nested = _froms(statement)[0], list[Join]()
        while isinstance(item, Join):
            nested.append(item)
            item = item.left
        if len(nested) != len(joins):  # the root is a join itself, as in joined inheritance
            return frozenset()
        parts = [part for condition in statement._where_criteria for part in visitors.iterate(condition)]
        columns = [part for part in parts if isinstance(part, ColumnClause)]
        if any(column.table is None for column in columns) or any(isinstance(part, TextClause) for part in parts):
            return frozenset()  # of text nobody knows what it looks at
        needed = {*_mentioned(statement), *(column.table for column in columns)}
        needless = set[int]()
        for number, join in zip(range(len(joins) - 1, -1, -1), nested, strict=True):
            rest = [source for source in self.all if source != join.right]
            is_kept = join.full or not join.isouter or join.right in needed or isinstance(join.right, Join)
            if is_kept or join.right not in self.determined_by(rest):
                needed |= set(cast(Any, join.onclause)._from_objects)
            else:
                needless.add(number)
        return frozenset(needless)


_known: dict[Any, Sources] = {}
"""Those of the statements of late by their form, since SQLAlchemy needs half a millisecond to say what a join is of."""
_MOST_KNOWN = 500


def _froms(statement: AnySelect) -> Sequence[FromClause]:
    bare = statement._generate()
    bare._with_options = ()  # what joinedload() joins is loaded for each row, and makes none
    return bare.get_final_froms()


def _mentioned(statement: AnySelect) -> dict[FromClause, None]:
    found: dict[FromClause, None] = {}
    for column in statement._raw_columns:
        found |= dict.fromkeys(column._from_objects)
    for condition in statement._where_criteria:
        found |= dict.fromkeys(condition._from_objects)
    return found


def _unique_keys(source: FromClause) -> Iterator[Sequence[ColumnElement[Any]]]:
    """Yield the sets of columns that no two rows of a source have in common, the primary key first."""
    if (table := table_of(source)) is not None:
        for key in _keys_of_table(table):
            yield [column for column in source.c if column.name in {part.name for part in key}]
    elif isinstance(source, Subquery | CTE) and isinstance(source.element, Select):
        is_known = is_one_row_each(source.element) or is_folded(source.element)
        key = (identity(source.element) or ()) if is_known else ()
        columns = [source.corresponding_column(cast(Any, column)) for column in key]
        if found := [column for column in columns if column is not None]:
            yield from [found] if len(found) == len(columns) else []


def _tells_apart(source: FromClause, key: Sequence[ColumnElement[Any]]) -> bool:
    # A unique key takes many NULLs; a group has one.
    return table_of(source) is None or not any(is_nullable(column) for column in key)


def _keys_of_table(table: Table) -> Iterator[Sequence[ColumnElement[Any]]]:
    if primary := [*table.primary_key]:
        yield primary
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield [*constraint.columns]
    for index in table.indexes:
        is_partial = any(name.endswith("_where") for name in index.kwargs)
        if index.unique and not is_partial and all(isinstance(part, Column) for part in index.expressions):
            yield [*index.columns]
