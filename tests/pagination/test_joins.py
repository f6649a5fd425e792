"""Joins: to one they are proven, to many they are refused where they would repeat an entity."""

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, contains_eager, joinedload, with_polymorphic

from fastapi_kit.pagination import SkipLimitParams, fetch, rows
from tests.pagination.kinds import Author, Badge, Book, Car, Loan, Vehicle, after, walk

pytestmark = [pytest.mark.anyio]

writer = aliased(Author)
car = aliased(Car)
twice = (Book.place * 2).label("twice")
copy = aliased(Book)
first_loans = select(Loan.shelf, Loan.place, func.min(Loan.id).label("first")).group_by(Loan.shelf, Loan.place)
loans_cte = first_loans.cte("first_loans")
loans_sub = first_loans.subquery("first_loans")
codes = select(Loan.code).distinct().subquery("codes")
vehicles = with_polymorphic(Vehicle, [Car])
texts = union_all(select(Author.name.label("n")), select(Vehicle.name)).subquery("texts")

TO_ONE = {
    "primary key": (select(Book).join(Book.author).order_by(Author.name), 5),
    "outer join": (select(Book).outerjoin(Book.author).order_by(Author.name.desc()), 7),
    "outer join, nulls last": (select(Book).outerjoin(Book.author).order_by(Author.name.nulls_last()), 7),
    "alias": (select(copy).join(writer, writer.id == copy.author_id).order_by(writer.name), 5),
    "reversed equality": (select(Book).join(Author, Book.author_id == Author.id).order_by(Author.name), 5),
    "unique constraint": (
        select(Loan).join(Book, and_(Book.shelf == Loan.shelf, Book.place == Loan.place)).order_by(Book.code.desc()),
        12,
    ),
    "unique index": (select(Loan).join(Book, Book.code == Loan.code).order_by(Book.place.desc()), 6),
    "shared key": (select(Author).join(Badge).order_by(Badge.color), 2),
    "shared key, outer": (select(Author).outerjoin(Badge).order_by(Badge.color.desc()), 5),
    "cte with group by": (
        select(Book)
        .outerjoin(loans_cte, and_(loans_cte.c.shelf == Book.shelf, loans_cte.c.place == Book.place))
        .order_by(loans_cte.c.first.desc()),
        7,
    ),
    "subquery with group by": (
        select(Book)
        .join(loans_sub, and_(loans_sub.c.shelf == Book.shelf, loans_sub.c.place == Book.place))
        .order_by(loans_sub.c.first),
        6,
    ),
    "distinct subquery": (select(Book).join(codes, codes.c.code == Book.code).order_by(codes.c.code.desc()), 3),
    "equality in WHERE": (select(Book).where(Book.author_id == Author.id).order_by(Author.name), 5),
    "fixed in WHERE": (
        select(Vehicle).join(Author, literal(1) == 1).where(Author.id == 3).order_by(Vehicle.name.desc()),
        9,
    ),
    "fixed in ON": (select(Vehicle).join(Author, Author.id == 3).order_by(Vehicle.name.desc()), 9),
    "chain": (
        select(Loan)
        .join(Book, and_(Book.shelf == Loan.shelf, Book.place == Loan.place))
        .outerjoin(Book.author)
        .outerjoin(Badge, Badge.author_id == Author.id)
        .order_by(Badge.color, Author.name),
        12,
    ),
    "chain from the far end": (
        select(Loan)
        .select_from(Author)
        .join(Book, Book.author_id == Author.id)
        .join(Loan, and_(Book.shelf == Loan.shelf, Book.place == Loan.place))
        .order_by(Author.name),
        10,
    ),
    "joinedload next to a join": (
        select(Book).join(writer, Book.author_id == writer.id).options(joinedload(Book.author)).order_by(writer.name),
        5,
    ),
    "contains_eager": (
        select(Book).join(Book.author).options(contains_eager(Book.author)).order_by(Author.name.desc()),
        5,
    ),
    "distinct over many": (select(Author).join(Author.books).distinct(), 2),
    "exists": (select(Author).where(exists().where(Book.author_id == Author.id)).order_by(Author.name), 3),
    "any": (select(Author).where(Author.books.any(Book.id > 4)).order_by(Author.name), 1),
    "joined inheritance": (select(Car).order_by(Car.doors, Car.name), 6),
    "base of joined inheritance": (select(Vehicle).order_by(Vehicle.name.desc()), 9),
    "polymorphic": (select(vehicles).order_by(vehicles.Car.doors.desc(), vehicles.name), 9),
    "alias of joined inheritance": (select(car).order_by(car.doors.desc()), 6),
}


@pytest.mark.parametrize(("statement", "total"), TO_ONE.values(), ids=TO_ONE)
async def test_join_to_one_has_full_pages_of_distinct_entities(
    kinds_session: AsyncSession, statement: Any, total: int
) -> None:
    seen = await walk(kinds_session, statement, 2)

    assert len({*map(id, seen)}) == len(seen) == total
    assert (await fetch(kinds_session, statement, SkipLimitParams(1, 2))).total == total


OF_SEVERAL = {
    "two entities": (select(Author, Book).join(Book).order_by(Author.name.desc()), 5),
    "two entities, outer": (select(Author, Book).outerjoin(Book).order_by(Book.id.desc()), 7),
    "cross join": (select(Author.id, Badge.color).join(Badge, text("1 = 1")).order_by(Badge.color), 10),
    "many to many": (select(Author.name, Book.code).join(Author.books).order_by(Book.code), 9),
    "many rows of columns": (select(Author.name).join(Book).order_by(Author.name), 5),
    "labels": (select(Book.id, (Book.place * 2).label("twice")).order_by("twice"), 7),
    "label itself": (select(Book.id, twice).order_by(twice.desc()), 7),
    "group by the label itself": (select(twice, func.count()).group_by(twice).order_by(func.count()), 7),
    "group by": (
        select(Book.author_id, func.count().label("books")).group_by(Book.author_id).order_by(func.count().desc()),
        4,
    ),
    "group by and having": (
        select(Book.shelf, func.max(Book.place).label("most"))
        .group_by(Book.shelf)
        .having(func.count() > 1)
        .order_by(func.max(Book.place)),
        3,
    ),
    "group by a label": (select(func.lower(Book.code).label("l"), func.count()).group_by("l").order_by("l"), 5),
    "aggregate by entity": (
        select(Author, func.count(Book.id).label("books")).outerjoin(Book).group_by(Author.id).order_by("books"),
        5,
    ),
    "distinct": (select(Author.name).distinct().order_by(Author.name.desc()), 2),
    "distinct of several": (select(Book.shelf, Book.author_id).distinct(), 5),
    "subquery": (select(first_loans.subquery()).order_by("first"), 6),
    "cte": (select(loans_cte.c.first, loans_cte.c.place).order_by(loans_cte.c.place.desc()), 6),
    "window in a subquery": (
        select(
            numbered := select(Book.id, func.row_number().over(order_by=Book.place).label("n")).subquery("q")
        ).order_by(numbered.c.n.desc()),
        7,
    ),
    "union in a subquery": (
        select(union_all(select(Author.id.label("n")), select(Vehicle.id + 100)).subquery("u")).order_by("n"),
        14,
    ),
}


@pytest.mark.parametrize(("statement", "total"), OF_SEVERAL.values(), ids=OF_SEVERAL)
async def test_rows_of_any_select_are_walked(kinds_session: AsyncSession, statement: Any, total: int) -> None:
    assert len(await walk(kinds_session, statement, 2)) == total


async def test_distinct_entities_may_be_in_the_order_of_what_is_joined_to_one(kinds_session: AsyncSession) -> None:
    statement = select(Book).join(writer, Book.author_id == writer.id).distinct().order_by(func.lower(writer.name))
    if kinds_session.get_bind().dialect.name != "postgresql":  # which has no such pages by offset
        assert len(await walk(kinds_session, statement, 2)) == 5

    page = await fetch(kinds_session, statement, after(3))
    rest = await fetch(kinds_session, statement, after(3, page.next_cursor))

    assert sorted(book.id for book in [*page.items, *rest.items]) == [1, 2, 3, 4, 5]


async def test_full_join_is_walked(kinds_session: AsyncSession) -> None:
    if kinds_session.get_bind().dialect.name == "mysql":
        pytest.skip("MariaDB has no FULL JOIN")
    statement = select(Author, Book).join(Book, Book.author_id == Author.id, full=True).order_by(Author.name)

    assert len(await walk(kinds_session, statement, 2)) == 9


_loose = Table(
    "nowhere",
    MetaData(),
    Column("code", String),
    Index("ix_partial", "code", unique=True, postgresql_where=text("code > 'a'")),
)
Index("ix_of_an_expression", func.lower(_loose.c.code), unique=True)

TO_MANY = {
    "partial index, index of an expression": select(Book).join(_loose, _loose.c.code == Book.code),
    "foreign key": select(Author).join(Book),
    "foreign key, outer": select(Author).outerjoin(Book),
    "secondary": select(Author).join(Author.books),
    "part of a key": select(Loan).join(Book, Book.shelf == Loan.shelf),
    "part of a group": select(Book).join(loans_sub, loans_sub.c.shelf == Book.shelf),
    "or": select(Loan).join(Book, or_(Book.code == Loan.code, Book.place == Loan.place)),
    "more": select(Book).join(Author, Book.author_id >= Author.id),
    "cross join": select(Author).join(Badge, text("1 = 1")),
    "in WHERE": select(Author).where(Book.author_id == Author.id),
    "full join": select(Book).join(Author, Book.author_id == Author.id, full=True),
    "outer join from the other side": select(Author).select_from(Book).outerjoin(Author, Author.id == Book.author_id),
    "not equal to itself": select(Author).join(Book, Book.id == Book.place),
    "one of a list": select(Author).join(Book).where(Book.id.in_([1, 2, 3])),
    "subquery of its own row": select(Author).join(
        Book, Book.id == select(func.max(Loan.place)).where(Loan.place == Book.place).correlate(Book).scalar_subquery()
    ),
    "null": select(Author).join(Book, Book.id.is_(null())),
    "nested": select(Author).join(Book).join(Badge, Badge.author_id == Author.id),
    "union": select(Author).join(texts, texts.c.n == Author.name),
}


@pytest.mark.parametrize("statement", TO_MANY.values(), ids=TO_MANY)
async def test_join_to_many_is_refused_with_the_remedy(kinds_session: AsyncSession, statement: Any) -> None:
    for params in (SkipLimitParams(0, 5), after(5)):
        with pytest.raises(TypeError, match=r"more than once.*add \.(distinct|join)\(\), or filter with exists\(\)"):
            await fetch(kinds_session, statement, params)


async def test_what_is_not_joined_is_refused_in_the_order_and_in_the_filter(kinds_session: AsyncSession) -> None:
    for params in (SkipLimitParams(0, 5), after(5)):
        with pytest.raises(ValueError, match=r"the order is by author, which is not joined: add \.join\(\)"):
            await fetch(kinds_session, select(Book).order_by(Author.name), params)
        with pytest.raises(TypeError, match=r"the WHERE is about author, which is not joined.*add \.join\(\)"):
            await fetch(kinds_session, select(Book).where(Author.name == "name 1"), params)


async def test_array_of_keys_does_not_make_a_join_to_one(kinds_session: AsyncSession) -> None:
    if kinds_session.get_bind().dialect.name != "postgresql":
        pytest.skip("PostgreSQL alone has arrays")
    for listed in (func.any([1, 2, 3, 4], type_=Integer), func.unnest([1, 2, 3, 4], type_=Integer)):
        with pytest.raises(TypeError, match="the join to book may return an entity more than once"):
            await fetch(kinds_session, select(Author).join(Book).where(Book.id == listed), after(5))


async def test_two_rows_at_one_place_are_an_error_and_never_lost(kinds_session: AsyncSession) -> None:
    tied = select(texts).order_by("n")

    with pytest.raises(ValueError, match=r"two rows are at the same place.*add to order_by"):
        await walk(kinds_session, tied, 2)

    assert len((await fetch(kinds_session, tied, after(50))).items) == 14  # nothing is cut there


async def test_texts_that_the_collation_holds_for_equal_are_at_one_place(kinds_session: AsyncSession) -> None:
    if kinds_session.get_bind().dialect.name != "mysql":
        pytest.skip("MariaDB alone compares without case, accents and trailing blanks by itself")
    for first, second in (("a", "A"), ("e", "é"), ("a", "a ")):
        tied = union_all(select(literal(first).label("n")), select(literal(second))).subquery()

        with pytest.raises(ValueError, match="two rows are at the same place"):
            await walk(kinds_session, select(tied).order_by("n"), 1)


@pytest.mark.parametrize(
    "statement",
    [
        select(Author.name).join(Book).distinct().order_by(Book.id),
        select(Author).join(Book).distinct().order_by(Book.place),
        select(Book.shelf).distinct().order_by(Book.place * 2),
    ],
)
async def test_distinct_rows_in_an_order_of_something_else_are_refused(
    kinds_session: AsyncSession, statement: Any
) -> None:
    with pytest.raises(ValueError, match="DISTINCT"):
        await fetch(kinds_session, statement, after(2))


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        (select(Book).order_by(text("place")), TypeError, r"text\(\)"),
        (select(Book).order_by(func.row_number().over()), ValueError, "window function"),
        (select(Book.id, func.rank().over().label("r")).order_by("r"), ValueError, "window function"),
        (select(texts), ValueError, "a cursor needs an order"),
        (select(func.max(Book.id)), ValueError, "a cursor needs an order"),
        (select(Book.id).order_by("nothing"), ValueError, "order_by or group_by names 'nothing'"),
    ],
)
async def test_order_that_has_no_places_is_refused(
    kinds_session: AsyncSession, statement: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await fetch(kinds_session, statement, after(5))


async def test_distinct_on_has_pages_by_offset_alone(kinds_session: AsyncSession) -> None:
    if kinds_session.get_bind().dialect.name != "postgresql":
        pytest.skip("PostgreSQL alone has DISTINCT ON")
    statement = select(Book).ext(distinct_on(Book.shelf)).order_by(Book.shelf, Book.place.desc())

    page = await fetch(kinds_session, statement, SkipLimitParams(0, 5))
    assert ([book.id for book in page.items], page.total) == ([6, 7, 5], 3)

    with pytest.raises(ValueError, match=r"DISTINCT ON: select from statement\.subquery"):
        await fetch(kinds_session, statement, after(5))


async def test_what_is_known_of_many_forms_of_joins_is_forgotten(
    kinds_session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_MOST_KNOWN", 2)
    monkeypatch.setattr(rows, "_known", {})

    for _ in range(2):
        for name in ("primary key", "outer join", "shared key", "unique index"):
            statement, total = TO_ONE[name]
            assert (await fetch(kinds_session, statement, after(1), total=True)).total == total
            assert len(rows._known) <= 2
