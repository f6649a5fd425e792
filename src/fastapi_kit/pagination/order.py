"""One key of an ORDER BY, taken apart: what is ordered, which way, and where the NULLs go."""

from dataclasses import dataclass, replace
from typing import Any

from fastapi_kit.errors import needs_extra

with needs_extra("pagination"):
    from sqlalchemy import ColumnElement, Label, UnaryExpression, asc, desc, nulls_first, nulls_last
    from sqlalchemy.sql import operators

__all__ = ["OrderKey"]

_DIRECTIONS = {operators.asc_op: False, operators.desc_op: True}
_NULLS = {operators.nulls_first_op: True, operators.nulls_last_op: False}
_NULLS_ARE_LARGEST = frozenset({"postgresql", "oracle"})
_KNOWS_NULLS_FIRST = frozenset({"postgresql", "oracle", "sqlite"})


@dataclass(frozen=True, slots=True)
class OrderKey:
    """`expression`, ascending unless `descending`; `nulls_first` is None where the database is to decide."""

    expression: ColumnElement[Any]
    descending: bool = False
    nulls_first: bool | None = None

    @classmethod
    def of(cls, clause: ColumnElement[Any]) -> "OrderKey":
        """Take apart `Book.title`, `Book.title.desc()`, `Book.title.desc().nulls_last()`."""
        descending, has_nulls_first = False, None
        while isinstance(clause, UnaryExpression):
            if clause.modifier in _DIRECTIONS:
                descending = _DIRECTIONS[clause.modifier]
            elif clause.modifier in _NULLS:
                has_nulls_first = _NULLS[clause.modifier]
            else:
                break
            clause = clause.element
        return cls(clause, descending, has_nulls_first)

    @property
    def operand(self) -> ColumnElement[Any]:
        """Return the expression without a label, as WHERE and GROUP BY take it."""
        return self.expression.element if isinstance(self.expression, Label) else self.expression

    def reversed(self) -> "OrderKey":
        """Return the key of the same order read from its end."""
        turned = None if self.nulls_first is None else not self.nulls_first
        return replace(self, descending=not self.descending, nulls_first=turned)

    def has_nulls_first(self, dialect: str) -> bool:
        """Tell where a database puts the NULLs."""
        if self.nulls_first is None:
            return self.descending == (dialect in _NULLS_ARE_LARGEST)
        return self.nulls_first

    def clause(self) -> UnaryExpression[Any]:
        """Return what `order_by` takes."""
        ordered: UnaryExpression[Any] = desc(self.expression) if self.descending else asc(self.expression)
        if self.nulls_first is None:
            return ordered
        placed: UnaryExpression[Any] = nulls_first(ordered) if self.nulls_first else nulls_last(ordered)
        return placed

    def clauses(self, dialect: str) -> list[UnaryExpression[Any]]:
        """Return what `order_by` takes on a database: without NULLS FIRST where it needs none, or knows none."""
        plain = replace(self, nulls_first=None)
        if plain.has_nulls_first(dialect) == self.has_nulls_first(dialect):
            return [plain.clause()]
        if dialect in _KNOWS_NULLS_FIRST:
            return [self.clause()]
        is_null = self.operand.is_(None)
        return [desc(is_null) if self.nulls_first else asc(is_null), plain.clause()]
