"""Types of fields that are easily got wrong."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError

__all__ = ["ExactDecimal", "Money", "Omittable", "ShortText", "UTCDateTime", "Username"]

T = TypeVar("T")


def _read_naive_as_utc(value: Any, info: ValidationInfo) -> Any:
    from_row = (info.config or {}).get("from_attributes", False)
    if from_row and isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


def _to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("datetime_range", "Input should be within the years 1 to 9999 in UTC") from None


UTCDateTime = Annotated[AwareDatetime, BeforeValidator(_read_naive_as_utc), AfterValidator(_to_utc)]
"""A moment, kept in UTC and sent with a Z (RFC 3339).

Input has to name its offset; it is converted. Without one it is an error (`timezone_aware`), since
nobody can tell which moment is meant. A Unix time is taken as well.

SQLite and MariaDB give back datetimes without an offset. In a model with `from_attributes`, any
`ReadModel`, a naive datetime object is therefore taken for UTC; store nothing else.
"""

Username = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{1,30}[a-z0-9]$"),
    Field(examples=["ada.lovelace"]),
]
"""3 to 32 of `a-z`, `0-9`, `_`, `.` and `-`, with a letter or digit at either end.

Capitals are an error and not lowered: whoever registers as Ada should know that the name is ada.
ASCII alone, since letters of other scripts look like them.
"""


ShortText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
"""1 to 200 characters without white space around them: a name, a title, a subject."""


def _refuse_inexact(value: Any) -> Any:
    if isinstance(value, float | bool):
        raise PydanticCustomError("decimal_inexact", "Input should be a decimal number in a string")
    return value


ExactDecimal = Annotated[
    Decimal,
    BeforeValidator(_refuse_inexact),
    WithJsonSchema({"type": "string", "format": "decimal", "examples": ["19.90"]}),
]
"""A decimal number as a string in JSON, in and out; add the digits with `Field`.

A JSON number with a fraction is refused: a float was made of it before it got here, and 0.1 is
none. Integers are taken. NaN and infinities are refused.
"""

Money = Annotated[ExactDecimal, Field(max_digits=12, decimal_places=2)]
"""An amount up to 9,999,999,999.99 either way, never a float; it fits `NUMERIC(12, 2)`.

For prices add `Field(ge=0)`; for a currency without two decimals, build on `ExactDecimal`.
"""


class _NotNull:
    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        return schema["schema"] if schema["type"] == "nullable" else schema


Omittable = Annotated[T | None, _NotNull()]
"""`name: Omittable[str] = None`: may be left out, may not be sent as null.

None is what the attribute holds when it was left out; validation and OpenAPI know only the type.
"""
