"""What a filter takes: the type of its column, or one that is named."""

import enum
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import AwareDatetime, StringConstraints
from sqlalchemy import (
    JSON,
    REAL,
    BigInteger,
    ColumnElement,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    TypeDecorator,
    column,
)
from sqlalchemy.dialects.mysql import INTEGER
from sqlalchemy.dialects.postgresql import INET
from starlette.testclient import TestClient

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.pagination import Conditions, Filter, filter_by


class Status(enum.Enum):
    NEW = "new"
    SOLD = "sold"


def _get(app: FastAPI, parameters: dict[str, Any]) -> httpx2.Response:
    return TestClient(app).get("/wares", params=parameters)


class Cents(TypeDecorator[Decimal]):
    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: object) -> int | None:
        return None if value is None else int(value * 100)


class Word(TypeDecorator[Status]):
    impl = String(8)
    cache_ok = True

    def process_bind_param(self, value: Status | None, dialect: object) -> str | None:
        return None if value is None else value.value


class Untold(TypeDecorator[str]):
    impl = String(8)
    cache_ok = True

    def process_bind_param(self, value, dialect):  # type: ignore[no-untyped-def]
        return value


class Late(TypeDecorator[str]):
    impl = String(8)
    cache_ok = True

    def process_bind_param(self, value: "Nowhere", dialect: object) -> Any:  # type: ignore[name-defined]  # noqa: F821
        return value


class Old(TypeDecorator[str]):
    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Optional[str], dialect: object) -> Any:  # noqa: UP045
        return value


class Wide(TypeDecorator[Any]):
    impl = String(8)
    cache_ok = True

    def process_bind_param(self, value: str | int | None, dialect: object) -> Any:
        return value


class Trimmed(TypeDecorator[str]):
    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: object) -> bytes | None:
        return None if value is None else value.encode()


class Plain(TypeDecorator[int]):
    impl = SmallInteger
    cache_ok = True


@pytest.mark.parametrize(
    ("of", "value", "status"),
    [
        (Plain(), str(2**15 - 1), 200),
        (Plain(), str(2**15), 422),
        (Word(), "sold", 200),
        (Word(), "SOLD", 422),
        (Trimmed(), "any", 200),
        (Old(), "any", 200),
        (Trimmed(), "\0", 422),
        (INTEGER(unsigned=True), str(2**32 - 1), 200),
        (INTEGER(unsigned=True), str(2**32), 422),
        (INTEGER(unsigned=True), "-1", 422),
        (Integer().with_variant(BigInteger(), "postgresql"), str(2**62), 200),
        (BigInteger().with_variant(Integer(), "postgresql"), str(2**31), 422),
        (Float(), "1e300", 200),
        (Float(), "inf", 422),
        (Float(24), "1e300", 422),
        (REAL(), "3.5e38", 422),
        (Numeric(), "9" * 35 + "." + "9" * 30, 200),
        (Numeric(), "9" * 36 + "." + "9" * 30, 422),
        (Numeric(5), "1.5", 422),
    ],
    ids=str,
)
def test_types_come_from_the_column(of: Any, value: str, status: int) -> None:
    app = FastAPI()

    @app.get("/wares")
    async def wares(where: Annotated[Conditions, filter_by({"x": Filter.equals(column("x", of))})]) -> int:
        return len(where)

    assert _get(app, {"x": value}).status_code == status


@pytest.mark.parametrize(
    "of", [Cents(), Untold(), Late(), Wide(), JSON(), LargeBinary(), INET(), column("x").type], ids=repr
)
def test_a_type_that_does_not_tell_is_refused_until_one_is_named(of: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"a Filter cannot tell from the type .* say so with as_type="):
        Filter.equals(column("x", of))
    with pytest.raises(ConfigurationError, match=r"Filter.any_of\(\) cannot tell"):
        Filter.any_of(column("x", of))

    Filter.equals(column("x", of), as_type=str)
    Filter.any_of(column("x", of), as_type=str)


@pytest.mark.parametrize(
    ("as_type", "value", "status"),
    [
        (str, "a", 200),
        (str, "\0", 422),
        (int, str(2**63 - 1), 200),
        (int, str(2**63), 422),
        (float, "nan", 422),
        (Decimal, "1e100", 422),
        (timedelta, "P2932897D", 422),
        (date, "2024-01-01", 200),
        (AwareDatetime, "2024-01-01T00:00:00", 422),
        (AwareDatetime, "0001-01-01T00:00:00+01:00", 422),
        (Literal["a", "b"], "c", 422),
        (Annotated[str, StringConstraints(max_length=2)], "abc", 422),
    ],
)
def test_a_type_may_be_named_and_is_bounded_where_it_is_a_bare_one(as_type: Any, value: str, status: int) -> None:
    untyped: ColumnElement[Any] = column("x")
    filters = {
        "equals": Filter.equals(untyped, as_type=as_type),
        "any_of": Filter.any_of(untyped, as_type=as_type),
        "starts_with": Filter.starts_with(untyped, as_type=as_type),
        "search": Filter.search(untyped, as_type=as_type),
    }
    app = FastAPI()

    @app.get("/wares")
    async def wares(where: Annotated[Conditions, filter_by(filters)]) -> None: ...

    for name in filters if as_type is str else ["equals", "any_of"]:
        assert _get(app, {name: value}).status_code == status


@pytest.mark.parametrize(("of", "bits"), [(Integer(), 31), (Plain(), 15)], ids=str)
def test_the_columns_own_type_by_name_has_the_columns_own_bounds(of: Any, bits: int) -> None:
    app = FastAPI()

    @app.get("/wares")
    async def wares(
        where: Annotated[Conditions, filter_by({"x": Filter.equals(column("x", of), as_type=int)})],
    ) -> None: ...

    assert _get(app, {"x": str(2**bits - 1)}).status_code == 200
    assert _get(app, {"x": str(2**bits)}).status_code == 422


@pytest.mark.parametrize(
    ("as_type", "split"),
    [
        (int, True),
        (UUID, True),
        (Literal["1", "2"], True),
        (Status, True),
        (str, False),
        (Literal["1,2", "3"], False),
        (Annotated[str, StringConstraints(min_length=1)], False),
    ],
)
def test_commas_are_between_values_that_have_none(as_type: Any, split: bool) -> None:
    app = FastAPI()

    @app.get("/wares")
    async def wares(where: Annotated[Conditions, filter_by({"x": Filter.any_of(column("x"), as_type=as_type)})]) -> int:
        return where[0].right.value.__len__()  # type: ignore[no-any-return]

    value = {Status: "new,sold", UUID: f"{UUID(int=1)},{UUID(int=2)}"}.get(as_type, "1,2")
    assert _get(app, {"x": value}).json() == (2 if split else 1)
