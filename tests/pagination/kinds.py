"""A table with a column of every kind, some ways to join, and the walk over pages that the tests of cursors share."""

import enum
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Double,
    Enum,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Numeric,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    case,
    func,
    select,
)
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column, relationship

from fastapi_kit.pagination import CursorParams, Cursors, SkipLimitParams, fetch

__all__ = [
    "CURSORS",
    "KEYS",
    "VALUES",
    "Author",
    "Badge",
    "Book",
    "Car",
    "KindsBase",
    "Loan",
    "Sample",
    "Vehicle",
    "after",
    "loans",
    "shop",
    "walk",
]

CURSORS = Cursors("x8Kk2jd9s0ALqpwoeiruty5647382910zmxncbv_QQ")


class KindsBase(DeclarativeBase):
    pass


class Color(enum.Enum):
    RED = "r"
    GREEN = "g"
    BLUE = "b"


class Reversed(TypeDecorator[str]):
    """Text that is stored back to front, so that its order in Python is another one."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return value and value[::-1]

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return value and value[::-1]


class Sample(KindsBase):
    __tablename__ = "sample"

    a: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    b: Mapped[str] = mapped_column(String(10), primary_key=True)
    rank: Mapped[int]
    title: Mapped[str] = mapped_column(String(20))
    whole: Mapped[int | None]
    big: Mapped[int | None] = mapped_column(BigInteger)
    text: Mapped[str | None] = mapped_column(String(20))
    fraction: Mapped[float | None] = mapped_column(Float)  # of single precision on MariaDB
    real: Mapped[float | None] = mapped_column(REAL)  # and this one on PostgreSQL
    double: Mapped[float | None] = mapped_column(Double)
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 3))
    written: Mapped[datetime | None] = mapped_column(server_default=func.now())
    moment: Mapped[datetime | None] = mapped_column(DateTime().with_variant(DATETIME(fsp=6), "mysql"))
    instant: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    day: Mapped[date | None]
    clock: Mapped[time | None]
    span: Mapped[timedelta | None]
    uid: Mapped[uuid.UUID | None]
    color: Mapped[Color | None]
    word: Mapped[Color | None] = mapped_column(Enum(Color, native_enum=False, length=10))
    flag: Mapped[bool | None]
    raw: Mapped[bytes | None] = mapped_column(LargeBinary(20))
    backwards: Mapped[str | None] = mapped_column(Reversed)


VALUES: dict[str, list[Any]] = {
    "rank": [0, 1, 2],
    "title": ["a", "b", "é"],
    "whole": [-2, 0, 1, 2**31 - 1],
    "big": [-(2**63), 0, 2**53 + 1, 2**53 + 2],
    "text": ["", "a", "A", "b", "é", "e", "ab", "ab ", "%", "\\"],
    "fraction": [0.1, 0.2, 1e-7, 1 / 3, 3.3333333333, 1e10],
    "real": [0.1, 0.2, 1e-7, 1 / 3, 1e10],
    "double": [0.1, 0.30000000000000004, 0.3, 1 / 3, 5e-300],
    "price": [Decimal("1.10"), Decimal("0.333"), Decimal("99.999"), Decimal(-5)],
    "written": [datetime(2026, 11, 21, 0, 0, 0), datetime(2026, 11, 21, 0, 0, 5), datetime(2030, 1, 1)],  # noqa: DTZ001
    "moment": [datetime(2026, 1, 1, 0, 0, 0, n) for n in (0, 1, 500_000)],  # noqa: DTZ001
    "instant": [datetime(2026, 1, n, tzinfo=UTC) for n in (1, 2)],
    "day": [date(1, 1, 1), date(2026, 1, 1), date(2026, 1, 2)],
    "clock": [time(0, 0), time(12, 30), time(23, 59, 59)],
    "span": [timedelta(0), timedelta(seconds=1), timedelta(days=3)],
    "uid": [uuid.UUID(int=n << 96) for n in (0, 1, 300)],
    "color": [*Color],
    "word": [*Color],
    "flag": [True, False],
    "raw": [b"", b"a", b"\xff\0"],
    "backwards": ["az", "za", "mm"],
}
"""What the columns of a `Sample` are filled with."""

_twin = aliased(Sample)
KEYS: dict[str, Any] = {
    **{name: getattr(Sample, name) for name in ("a", "b", *VALUES)},
    "lower": func.lower(Sample.text),
    "sum": Sample.whole / 2 + Sample.rank,
    "negative": -Sample.rank,
    "coalesce": func.coalesce(Sample.rank, 5),
    "never null": func.coalesce(Sample.whole, 1),
    "null": func.coalesce(Sample.text, Sample.backwards),
    "strict": func.lower(Sample.title),
    "strict, null": func.abs(Sample.price),
    "cut": func.substr(Sample.title, 1, 1),
    "case": case((Sample.rank == 1, "x"), (Sample.rank == 2, "b")),
    "compared": Sample.rank > 0,
    "subquery": select(func.count()).where(_twin.a == Sample.a).scalar_subquery(),
    "exists": select(_twin.a).where(_twin.rank > Sample.rank).exists(),
}
"""What `Sample` is ordered by."""


class Vehicle(KindsBase):
    __tablename__ = "vehicle"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(10))


class Car(Vehicle):
    __tablename__ = "car"
    __mapper_args__ = {"polymorphic_identity": "car"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(ForeignKey("vehicle.id"), primary_key=True)
    doors: Mapped[int | None]


_wrote = Table(
    "wrote",
    KindsBase.metadata,
    Column("author_id", ForeignKey("author.id"), primary_key=True),
    Column("book_id", ForeignKey("book.id"), primary_key=True),
)


class Author(KindsBase):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(10))
    books: Mapped[list["Book"]] = relationship(secondary=_wrote)


class Book(KindsBase):
    __tablename__ = "book"
    __table_args__ = (UniqueConstraint("shelf", "place"), Index("ix_book_code", "code", unique=True))

    id: Mapped[int] = mapped_column(primary_key=True)
    shelf: Mapped[int]
    place: Mapped[int]
    code: Mapped[str | None] = mapped_column(String(10))
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship()


class Loan(KindsBase):
    __tablename__ = "loan"
    __table_args__ = (ForeignKeyConstraint(["shelf", "place"], ["book.shelf", "book.place"]),)

    id: Mapped[int] = mapped_column(primary_key=True)
    shelf: Mapped[int]
    place: Mapped[int]
    code: Mapped[str] = mapped_column(String(10))


class Badge(KindsBase):
    """One for an author at most: its key is the author's."""

    __tablename__ = "badge"

    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"), primary_key=True)
    color: Mapped[str] = mapped_column(String(10))


def shop() -> list[KindsBase]:
    """Nine vehicles, six of them cars; five authors of seven books."""
    authors = [Author(id=n, name=f"name {n % 2}") for n in range(1, 6)]
    books = [
        Book(id=n, shelf=n % 3, place=n, code=f"c{n}" if n % 2 else None, author=authors[n % 3] if n < 6 else None)
        for n in range(1, 8)
    ]
    authors[0].books, authors[1].books = books[:4], books[2:]
    return [
        *(Vehicle(id=n, name=f"v{n % 2}") for n in range(1, 4)),
        *(Car(id=n, name=f"v{n % 2}", doors=n % 3 or None) for n in range(4, 10)),
        *authors,
        *books,
    ]


def loans() -> list[KindsBase]:
    """Return what refers to the rows of `shop()`."""
    return [
        *(Loan(id=n, shelf=n % 7 % 3, place=n % 7, code=f"c{n % 7}") for n in range(1, 14) if n % 7),
        *(Badge(author_id=n, color="red") for n in (2, 4)),
    ]


def after(limit: int, cursor: str | None = None) -> CursorParams:
    return CursorParams(limit, cursor, CURSORS, "test")


async def walk(session: AsyncSession, statement: Any, limit: int) -> list[Any]:
    """Return the rows of all pages, which are those of the way back, and of the pages by offset."""
    page = await fetch(session, statement, after(limit))
    assert not page.has_previous
    assert page.previous_cursor is None
    pages = [page.items]
    while page.next_cursor is not None:
        assert page.has_next
        assert len(page.items) == limit
        page = await fetch(session, statement, after(limit, page.next_cursor))
        assert page.has_previous
        assert page.items, "has_next told of a page without rows"
        pages.append(page.items)
        assert len(pages) < 500, "the walk does not end"
    assert not page.has_next

    back = [page.items]
    while page.previous_cursor is not None:
        assert page.has_previous
        page = await fetch(session, statement, after(limit, page.previous_cursor))
        assert page.has_next
        back.insert(0, page.items)
        assert len(back) <= len(pages), "the way back does not end"
    assert back == pages

    seen = [row for rows in pages for row in rows]
    assert (await fetch(session, statement, SkipLimitParams(0, 10_000))).items == seen
    return seen
