"""What a column is, and what a client may send to be compared with it.

No value that passes can be an error of a driver: the bounds are those of PostgreSQL, which casts each
parameter to the type of the column, and of the drivers of SQLite. SQLAlchemy does not publish the
variants of a type: the underscored attribute that holds them is read here and nowhere else.
"""
# ruff: noqa: SLF001

import enum
import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from inspect import signature
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, NaiveDatetime
from pydantic_core import PydanticCustomError

from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.schemas import UTCDateTime

with needs_extra("pagination"):
    from sqlalchemy import (
        REAL,
        BigInteger,
        Boolean,
        ColumnElement,
        Date,
        DateTime,
        Double,
        Enum,
        Float,
        Integer,
        Interval,
        Numeric,
        SmallInteger,
        String,
        Time,
        TypeDecorator,
        Uuid,
    )
    from sqlalchemy.orm import QueryableAttribute, Relationship
    from sqlalchemy.types import TypeEngine

__all__ = ["Text", "expression_of", "is_text", "plain", "query_type", "refuse_nul"]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # what an Interval is counted from where a database has none


def expression_of(column: object, where: str) -> ColumnElement[Any]:
    """Return the SQL of an attribute, a column or an expression; raise `ConfigurationError` for anything else."""
    found: object = column
    if isinstance(column, QueryableAttribute):
        found = None if isinstance(column.comparator, Relationship.Comparator) else column.expression
    if not isinstance(found, ColumnElement):
        raise ConfigurationError(
            f"{where} needs a column, such as Book.title, or an expression of columns:"
            f" a {type(column).__name__} is none, nor is a relationship"
        )
    return found


def is_text(column: ColumnElement[Any]) -> bool:
    """Tell whether the database can search the column with LIKE."""
    type_ = _looked_through(column.type)[0]
    return isinstance(type_, String) and not isinstance(type_, Enum)


def query_type(column: ColumnElement[Any], as_type: Any, where: str) -> Any:
    """Return the annotation of a query parameter that is compared with the column.

    `as_type`: what to take in place of the column's own type, None to take that. Raises `ConfigurationError` where
    neither tells.
    """
    type_, declared = _looked_through(column.type)
    make = next((make for kind, make in _KINDS if isinstance(type_, kind)), None)
    if make is not None and declared in {None, type_.python_type} and (as_type is None or as_type is type_.python_type):
        return make(type_)
    if as_type is not None:
        return plain(as_type)
    if isinstance(declared, type) and issubclass(declared, enum.Enum):
        return _of_enum_class(declared)
    if declared in {bool, date, str, UUID}:  # of these none is too large for whatever the column makes of it
        return plain(declared)
    raise ConfigurationError(
        f"{where} cannot tell from the type {type_!r} what a client may send: say so with as_type=..."
    )


def plain(as_type: Any) -> Any:
    """Return the annotation for a type that is named by hand: bounded by what databases take where it is a bare one."""
    if as_type is datetime:
        raise ConfigurationError("as_type=datetime leaves open the time zone: say AwareDatetime or NaiveDatetime")
    return _PLAIN.get(as_type, as_type) if isinstance(as_type, type) else as_type


def _looked_through(type_: TypeEngine[Any]) -> tuple[TypeEngine[Any], Any]:
    """Return what PostgreSQL makes of a type, and what Python type its decorator says it takes, if it has one."""
    declared = None
    while True:
        type_ = type_._variant_mapping.get("postgresql", type_)
        if not isinstance(type_, TypeDecorator) or isinstance(type_, Interval):
            return type_, declared
        declared = declared or _declared(type(type_))
        type_ = type_.impl_instance


def _declared(decorator: type[TypeDecorator[Any]]) -> Any:
    """Return the annotation of what a decorator converts, None if it converts nothing, `object` if it does not say."""
    convert = decorator.process_bind_param
    if convert is TypeDecorator.process_bind_param:
        return None
    try:
        hints = get_type_hints(convert)
    except NameError:  # one that is imported for type checkers alone
        return object
    hint = hints.get(list(signature(convert).parameters)[1], object)
    if get_origin(hint) not in {Union, UnionType}:
        return hint
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 else object


def refuse_nul(value: str) -> str:
    """Return the text; raise Pydantic's error where PostgreSQL could not take it."""
    if "\0" in value:
        raise PydanticCustomError("text_nul", "Text should not have the character NUL in it")
    return value


Text = Annotated[str, AfterValidator(refuse_nul)]
"""Text that each database takes; a NUL is an error of PostgreSQL's."""


def _of_enum_class(kind: type[enum.Enum]) -> Any:
    if issubclass(kind, int) or all(isinstance(member.value, str) for member in kind):
        return kind
    return Annotated[Literal[tuple(kind.__members__)], AfterValidator(kind.__getitem__)]


def _enum(type_: Enum) -> Any:
    return Literal[tuple(type_.enums)] if type_.enum_class is None else _of_enum_class(type_.enum_class)


def _uuid(type_: Uuid[Any]) -> Any:
    return UUID if type_.as_uuid else Annotated[UUID, AfterValidator(str)]


def _integer(type_: Integer) -> Any:
    bits = 15 if isinstance(type_, SmallInteger) else 63 if isinstance(type_, BigInteger) else 31
    if getattr(type_, "unsigned", False):  # of MySQL
        return Annotated[int, Field(ge=0, lt=2 ** (bits + 1))]
    return Annotated[int, Field(ge=-(2**bits), lt=2**bits)]


def _spell_out(value: Decimal) -> Decimal:
    # 0e999999999 passes as one digit, and a driver writes all its zeros
    return Decimal(format(value, "f")) if value else Decimal(0)


def _numeric(type_: Numeric[Any]) -> Any:
    digits, places = type_.precision, type_.scale
    bounds = Field(max_digits=digits, decimal_places=places or 0) if digits else Field(max_digits=65, decimal_places=30)
    exact = Annotated[Decimal, bounds, AfterValidator(_spell_out)]
    return exact if type_.asdecimal else Annotated[exact, AfterValidator(float)]


def _to_single(value: float) -> float:
    try:
        single: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        raise PydanticCustomError("float_range", "Input should be a number of single precision") from None
    return single


def _float(type_: Float[Any]) -> Any:
    finite: Any = Annotated[float, Field(allow_inf_nan=False)]
    if isinstance(type_, REAL) or (not isinstance(type_, Double) and (type_.precision or 53) <= 24):
        finite = Annotated[finite, AfterValidator(_to_single)]
    return Annotated[finite, AfterValidator(lambda value: Decimal(repr(value)))] if type_.asdecimal else finite


def _has_zone(*, wanted: bool) -> AfterValidator:
    def check(value: time) -> time:
        offset = value.utcoffset()
        if (offset is not None) is not wanted:
            raise PydanticCustomError("time_zone", f"Input should {'' if wanted else 'not '}have a time zone")
        if offset is not None and abs(offset) >= timedelta(hours=16):
            raise PydanticCustomError("time_zone", "Input should be less than 16 hours from UTC")
        return value

    return AfterValidator(check)


def _refuse_long(value: timedelta) -> timedelta:
    try:
        _ = _EPOCH + value
    except OverflowError:
        raise PydanticCustomError("interval_range", "Input should be less than 1,900 years either way") from None
    return value


_Interval = Annotated[timedelta, AfterValidator(_refuse_long)]

_KINDS: tuple[tuple[type[TypeEngine[Any]], Callable[[Any], Any]], ...] = (
    (Enum, _enum),  # before String, which it is
    (String, lambda _: Text),
    (Boolean, lambda _: bool),
    (Integer, _integer),
    (Numeric, _numeric),
    (Float, _float),
    (DateTime, lambda type_: UTCDateTime if type_.timezone else NaiveDatetime),
    (Date, lambda _: date),
    (Time, lambda type_: Annotated[time, _has_zone(wanted=type_.timezone)]),
    (Interval, lambda _: _Interval),
    (Uuid, _uuid),
)

_PLAIN: dict[Any, Any] = {
    str: Text,
    int: _integer(BigInteger()),
    float: _float(Double()),
    Decimal: _numeric(Numeric()),
    timedelta: _Interval,
    AwareDatetime: UTCDateTime,
}
