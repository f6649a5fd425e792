"""The values of a place in an order, read and compared as the database holds them, past the types of SQLAlchemy.

A datetime that SQLite's own CURRENT_TIMESTAMP wrote, a decimal that it keeps as a float or a value of a `TypeDecorator`
would be another one after the way through Python and back, and a row would be lost.
"""

from typing import Any

from fastapi_kit.errors import needs_extra

with needs_extra("pagination"):
    from sqlalchemy import (
        ColumnElement,
        Date,
        DateTime,
        Double,
        Enum,
        Float,
        Integer,
        Interval,
        Text,
        bindparam,
        cast,
        literal_column,
        type_coerce,
    )
    from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

__all__ = ["MYSQL", "Values"]

MYSQL = frozenset({"mysql", "mariadb"})


class _AsStored(UserDefinedType[Any]):
    """The type of a value that is given to the driver, and taken from it, as it is."""

    cache_ok = True


_AS_STORED = _AsStored()


class Values:
    """How values are read from columns, bound and compared on one database."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    def compared(self, operand: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the side of a comparison that is the column."""
        if self._is_numbered(operand):
            return type_coerce(operand, Integer) + 0
        return type_coerce(operand, _AS_STORED)

    def read(self, operand: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return what is selected to get a value that can be bound again."""
        if self._is_text_itself(operand):
            return type_coerce(cast(operand, Text), _AS_STORED)
        kind = _plain(operand.type)
        if self._dialect != "sqlite" and isinstance(kind, Float) and not isinstance(kind, Double):
            # of a single-precision number MariaDB and psycopg tell six digits, which are another number
            return type_coerce(type_coerce(operand, Double) + literal_column("0e0"), _AS_STORED)
        if self._is_numbered(operand):
            return type_coerce(type_coerce(operand, Integer) + 0, _AS_STORED)
        return type_coerce(operand, _AS_STORED)

    def bound(self, operand: ColumnElement[Any], value: Any) -> ColumnElement[Any]:
        """Return the side of a comparison that is such a value."""
        bound = bindparam(None, value, type_=_AS_STORED, unique=True)
        return cast(cast(bound, Text), _plain(operand.type)) if self._is_text_itself(operand) else bound

    def _is_text_itself(self, operand: ColumnElement[Any]) -> bool:
        """Tell whether PostgreSQL's text says more than Python does: infinite times, and years of 360 days."""
        return self._dialect == "postgresql" and isinstance(_plain(operand.type), Date | DateTime | Interval)

    def _is_numbered(self, operand: ColumnElement[Any]) -> bool:
        """Tell whether it is an ENUM of MariaDB, which orders by number and compares by text."""
        kind = _plain(operand.type)
        return self._dialect in MYSQL and isinstance(kind, Enum) and kind.native_enum


def _plain(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    while isinstance(kind, TypeDecorator) and not isinstance(kind, Interval):
        kind = kind.impl_instance
    return kind
