"""One query parameter and the condition that it makes."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter
from pydantic_core import PydanticCustomError

from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.pagination.columns import Text, expression_of, is_text, plain, query_type, refuse_nul

with needs_extra("pagination"):
    from sqlalchemy import BigInteger, ColumnElement, SQLColumnExpression, and_, or_, type_coerce
    from sqlalchemy.types import NullType

__all__ = ["Filter", "FilterColumn"]

FilterColumn: TypeAlias = SQLColumnExpression[Any]
"""What a filter compares: an attribute of an entity, a column, any expression of them."""

_MOST_VALUES = 100
_MOST_WORDS = 10


@dataclass(frozen=True, slots=True)
class Filter:
    """What one query parameter takes, and the condition that it makes; `filter_by` gives it its name.

    The class methods take the type from the column, and bound it by what the databases hold, so that a value out
    of range is 422 and no error of a driver. They raise `ConfigurationError` for what is no column, and for a column
    whose type does not tell: name it with `as_type`, which may be any that a query parameter can have. A bare
    `int`, `float`, `Decimal`, `str`, `timedelta` or `AwareDatetime` is bounded too, by the column or else by the
    widest of a database; what `Annotated` says is taken as it is.

    `as_type`: the type, for a filter of one's own. `condition`: makes the condition of a validated value; None is
    no condition. `description`: for the OpenAPI.

    >>> from sqlalchemy import Integer, column
    >>> from fastapi_kit.pagination import Filter
    >>> pages = column("pages", Integer)
    >>> thick = Filter(bool, lambda is_thick: pages > 500 if is_thick else pages <= 500, description="Of 500 pages.")
    """

    as_type: Any
    condition: Callable[[Any], ColumnElement[bool] | None]
    _: KW_ONLY
    description: str | None = None

    def __post_init__(self) -> None:
        if self.as_type is datetime:
            raise ConfigurationError("as_type=datetime may have a zone or none: say AwareDatetime or NaiveDatetime")
        object.__setattr__(self, "as_type", plain(self.as_type))

    @classmethod
    def equals(
        cls, column: FilterColumn, *, description: str | None = "Equal to this.", as_type: Any = None
    ) -> "Filter":
        """Return the filter for rows where the column is the value."""
        return cls._comparing(column, operator.eq, description, as_type)

    @classmethod
    def at_least(
        cls, column: FilterColumn, *, description: str | None = "This or more.", as_type: Any = None
    ) -> "Filter":
        """Return the filter for rows where the column is the value or more."""
        return cls._comparing(column, operator.ge, description, as_type)

    @classmethod
    def at_most(
        cls, column: FilterColumn, *, description: str | None = "This or less.", as_type: Any = None
    ) -> "Filter":
        """Return the filter for rows where the column is the value or less."""
        return cls._comparing(column, operator.le, description, as_type)

    @classmethod
    def above(
        cls, column: FilterColumn, *, description: str | None = "More than this.", as_type: Any = None
    ) -> "Filter":
        """Return the filter for rows where the column is more than the value."""
        return cls._comparing(column, operator.gt, description, as_type)

    @classmethod
    def below(
        cls, column: FilterColumn, *, description: str | None = "Less than this.", as_type: Any = None
    ) -> "Filter":
        """Return the filter for rows where the column is less than the value."""
        return cls._comparing(column, operator.lt, description, as_type)

    @classmethod
    def any_of(
        cls,
        column: FilterColumn,
        *,
        description: str | None = "One of these, 100 at most.",
        as_type: Any = None,
    ) -> "Filter":
        """Return the filter for rows where the column is one of the values, 100 at most.

        A client repeats the parameter; it may also put commas between values that have none: all but text.
        """
        expression = expression_of(column, "Filter.any_of()")
        one = query_type(expression, as_type, "Filter.any_of()")
        several: Any = Annotated[list[one], Field(max_length=_MOST_VALUES)]  # type: ignore[valid-type]
        if _is_without_commas(one):
            several = Annotated[several, BeforeValidator(_split)]
        if as_type is int and isinstance(expression.type, NullType):
            expression = type_coerce(
                expression, BigInteger()
            )  # else the first value would say how large the others are
        return cls(several, expression.in_, description=description)

    @classmethod
    def is_null(
        cls,
        column: FilterColumn,
        *,
        description: str | None = "true for those without a value, false for those with one.",
        as_type: Any = bool,
    ) -> "Filter":
        """Return the filter for rows where the column is NULL, or for `false`, is not."""
        expression = expression_of(column, "Filter.is_null()")
        return cls(
            as_type, lambda value: expression.is_(None) if value else expression.is_not(None), description=description
        )

    @classmethod
    def starts_with(
        cls, column: FilterColumn, *, description: str | None = "Begins with this.", as_type: Any = None
    ) -> "Filter":
        """Return the filter for rows where the text begins with the value (200 characters at most).

        An empty one is no condition. LIKE wildcards stand for themselves. Whether case counts is up to the database.
        """
        [expression] = _texts([column], "Filter.starts_with()", as_type)
        return cls(
            _Start if as_type is None else plain(as_type),
            lambda value: expression.startswith(value, autoescape=True) if value else None,
            description=description,
        )

    @classmethod
    def search(
        cls,
        *columns: FilterColumn,
        description: str | None = "Words that must all occur, 10 at most.",
        as_type: Any = None,
    ) -> "Filter":
        """Return the filter for rows where each word of the value occurs in one of the columns.

        It may be part of a longer word. LIKE wildcards stand for themselves; capitals do not count, of the letters
        that the database knows them of (SQLite: ASCII alone). A client sends 200 characters and 10 words at most;
        none is no condition. The database reads every row for it: for large tables take its full-text search.
        """
        expressions = _texts(columns, "Filter.search()", as_type)

        def condition(value: str) -> ColumnElement[bool] | None:
            found = [
                or_(*(expression.icontains(word, autoescape=True) for expression in expressions))
                for word in value.split()
            ]
            return and_(*found) if found else None

        return cls(_Words if as_type is None else plain(as_type), condition, description=description)

    @classmethod
    def _comparing(
        cls,
        column: FilterColumn,
        compare: Callable[[Any, Any], ColumnElement[bool]],
        description: str | None,
        as_type: Any,
    ) -> "Filter":
        expression = expression_of(column, "a Filter")
        one = query_type(expression, as_type, "a Filter")
        if one is bool and compare is not operator.eq:
            raise ConfigurationError("true is not more than false: a boolean has Filter.equals() alone")
        return cls(one, lambda value: compare(expression, value), description=description)


def _texts(columns: Sequence[FilterColumn], where: str, as_type: Any) -> list[ColumnElement[Any]]:
    expressions = [expression_of(column, where) for column in columns]
    if not expressions or (as_type is None and not all(is_text(expression) for expression in expressions)):
        raise ConfigurationError(f"{where} needs a column of text: cast(column, String) makes one of another")
    return expressions


def _is_without_commas(one: Any) -> bool:
    schema = TypeAdapter[Any](one).json_schema()
    if "enum" in schema:
        return not any("," in str(word) for word in schema["enum"])
    return schema.get("type") != "string" or "format" in schema


def _split(parts: list[str]) -> list[str]:
    return [value for part in parts[: _MOST_VALUES + 1] for value in part.split(",", _MOST_VALUES)]


def _check_words(text: str) -> str:
    if len(text.split()) > _MOST_WORDS:
        raise PydanticCustomError("too_many_words", "Text should have 10 words at most")
    return text


_Start = Annotated[Text, Field(max_length=200)]
_Words = Annotated[str, Field(max_length=200), AfterValidator(refuse_nul), AfterValidator(_check_words)]
