"""No value of a client is an error of a driver: each column type, on each database and driver."""

import enum
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import (
    REAL,
    BigInteger,
    DateTime,
    Double,
    Enum,
    Float,
    Integer,
    Interval,
    Numeric,
    SmallInteger,
    String,
    Text,
    Time,
    TypeDecorator,
    Uuid,
    select,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_kit.db.types import UTCTimestamp
from fastapi_kit.pagination import Conditions, Filter, filter_by

pytestmark = pytest.mark.anyio


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Pair(enum.Enum):
    ONE = (1, 1)
    TWO = (2, 2)


class Lower(TypeDecorator[str]):
    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: object) -> str | None:
        return None if value is None else value.lower()


class Base(DeclarativeBase):
    pass


class Kinds(Base):
    __tablename__ = "kinds"

    id: Mapped[int] = mapped_column(primary_key=True)
    small: Mapped[int] = mapped_column(SmallInteger)
    whole: Mapped[int] = mapped_column(Integer)
    big: Mapped[int] = mapped_column(BigInteger)
    variant: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"))
    narrow: Mapped[int] = mapped_column(BigInteger().with_variant(SmallInteger, "postgresql"))
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    units: Mapped[Decimal] = mapped_column(Numeric(5))
    exact: Mapped[Decimal] = mapped_column(Numeric)
    loose: Mapped[float] = mapped_column(Numeric(10, 2, asdecimal=False))
    ratio: Mapped[float]
    double: Mapped[float] = mapped_column(Double)
    single: Mapped[float] = mapped_column(REAL)
    half: Mapped[float] = mapped_column(Float(24))
    decimal: Mapped[Decimal] = mapped_column(Float(53, asdecimal=True))
    name: Mapped[str] = mapped_column(String(20))
    text: Mapped[str] = mapped_column(Text)
    lower: Mapped[str] = mapped_column(Lower)
    done: Mapped[bool]
    colour: Mapped[Colour] = mapped_column(Enum(Colour))
    level: Mapped[Level] = mapped_column(Enum(Level))
    pair: Mapped[Pair] = mapped_column(Enum(Pair))
    word: Mapped[str] = mapped_column(Enum("new", "old", name="word"))
    key: Mapped[uuid.UUID]
    key_text: Mapped[str] = mapped_column(Uuid(as_uuid=False))
    day: Mapped[date]
    at: Mapped[datetime]
    zoned: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    utc: Mapped[datetime] = mapped_column(UTCTimestamp)
    clock: Mapped[time]
    zoned_clock: Mapped[time] = mapped_column(Time(timezone=True))
    span: Mapped[timedelta] = mapped_column(Interval)


KEY = uuid.UUID(int=7)
INSTANT = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
ROW: dict[str, Any] = {
    "small": 7,
    "whole": 7,
    "big": 2**62,
    "variant": 2**40,
    "narrow": 7,
    "price": Decimal("19.90"),
    "units": Decimal(7),
    "exact": Decimal(7),
    "loose": 1.5,
    "ratio": 0.5,
    "double": 0.1,
    "single": 0.5,
    "half": 0.5,
    "decimal": Decimal("0.5"),
    "name": "Ada",
    "text": "Ada",
    "lower": "ada",
    "done": True,
    "colour": Colour.RED,
    "level": Level.HIGH,
    "pair": Pair.TWO,
    "word": "new",
    "key": KEY,
    "key_text": str(KEY),
    "day": date(2024, 2, 29),
    "at": datetime(2024, 2, 29, 12, 30),  # noqa: DTZ001
    "zoned": INSTANT,
    "utc": INSTANT,
    "clock": time(12, 30),
    "zoned_clock": time(12, 30, tzinfo=UTC),
    "span": timedelta(hours=7),
}
SENT = ROW | {
    "done": "true",
    "colour": "red",
    "level": "2",
    "pair": "TWO",
    "lower": "ADA",
    "at": "2024-02-29T12:30:00",
    "zoned": "2024-02-29T13:30:00+01:00",
    "utc": "2024-02-29T13:30:00+01:00",
    "zoned_clock": "12:30:00Z",
    "span": "PT7H",
}


def filters_of(name: str) -> dict[str, Filter]:
    column = getattr(Kinds, name)
    filters = {"is": Filter.equals(column), "in": Filter.any_of(column)}
    return filters if name == "done" else filters | {"gte": Filter.at_least(column)}


@pytest.fixture(scope="module")
async def clients(engine: AsyncEngine) -> AsyncIterator[list[httpx2.AsyncClient]]:
    """One for each driver of the database."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session, session.begin():
        session.add(Kinds(**ROW))
    engines = [engine]
    if engine.dialect.name == "postgresql":
        engines.append(create_async_engine(engine.url.set(drivername="postgresql+psycopg")))
    yield [
        httpx2.AsyncClient(transport=httpx2.ASGITransport(_make_app(one)), base_url="http://shop") for one in engines
    ]
    for other in engines[1:]:
        await other.dispose()


def _make_app(engine: AsyncEngine) -> FastAPI:
    app = FastAPI()

    def add(name: str) -> None:
        @app.get(f"/{name}")
        async def kinds(where: Annotated[Conditions, filter_by(filters_of(name))]) -> int:
            async with AsyncSession(engine) as session:
                return len((await session.scalars(select(Kinds.id).where(*where))).all())

    for name in ROW:
        add(name)
    return app


@pytest.mark.parametrize("name", ROW)
async def test_what_a_row_holds_finds_it(clients: list[httpx2.AsyncClient], name: str) -> None:
    for client in clients:
        for parameter in filters_of(name):
            response = await client.get(f"/{name}", params={parameter: str(SENT[name])})

            assert (response.status_code, response.json()) == (200, 1), parameter


NUMBERS = [
    "-1",
    "0",
    *(str(sign * (2**bits + more)) for sign in (1, -1) for bits in (15, 31, 63, 64) for more in (-1, 0)),
    "99999999.99",
    "100000000",
    "1.999",
    "0.005",
    "9" * 35,
    "9" * 66,
    "9" * 5000,
    "0." + "9" * 40,
    "1e5",
    "1e38",
    "3.5e38",
    "1e300",
    "1e400",
    "1e-50",
    "1e-320",
    "1e100000",
    "0e999999999",
    "0e-999999999",
    "nan",
    "inf",
    "-Infinity",
    "sNaN",
    "1_000",
    "0x10",
    "٣",
]
TIMES = [
    "0001-01-01",
    "0001-01-01T00:00:00",
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999",
    "9999-12-31T23:59:59.999999-12:00",
    "9999-12-31T23:59:59.999999Z",
    "2024-02-30",
    "2024-02-29T12:30:60Z",
    "00:00",
    "23:59:59.999999",
    "00:00Z",
    "23:59:59+23:59",
    "24:00",
    "P999999999D",
    "-P999999999D",
    "P2932896DT23H59M59S",
    "-P719162D",
    "P1Y",
    "-PT0.000001S",
]
TEXTS = [
    "",
    "\0",
    "a\0b",
    "%",
    "_",
    "\\",
    "'",
    '"',
    "\\'; --",
    ":x",
    "%(x)s",
    "?",
    "$1",
    "{x}",
    "\ud7ff",
    "\U0010ffff",
    "é" * 300,
    ",",
]


def values_for(name: str) -> list[str]:
    """Of its own kind those that are hard, of the others one of each."""
    value = ROW[name]
    hard = NUMBERS if isinstance(value, int | float | Decimal) else TEXTS
    if isinstance(value, date | time | timedelta):
        hard = TIMES
    return [*hard, NUMBERS[2], TIMES[0], TEXTS[0], TEXTS[1], str(SENT[name])]


@pytest.mark.parametrize("name", ROW)
async def test_no_value_is_an_error_of_a_driver(clients: list[httpx2.AsyncClient], name: str) -> None:
    found = set[int]()
    for client in clients:
        for value in values_for(name):
            response = await client.get(f"/{name}", params=dict.fromkeys(filters_of(name), value))
            found.add(response.status_code)

    assert found == {200, 422}
