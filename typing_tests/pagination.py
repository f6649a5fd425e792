"""What type checkers make of the pagination block in an app's own code; checked and never run."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from decimal import Decimal
from typing import Annotated, Any, assert_type

from fastapi import FastAPI
from fastapi.params import Depends
from sqlalchemy import ColumnElement, Select, UnaryExpression, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column

from fastapi_kit.pagination import Conditions, Filter, Ordering, filter_by, sort_by


class Base(DeclarativeBase): ...


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    price: Mapped[Decimal | None]


Sort = Annotated[
    Ordering,
    sort_by(
        {
            "title": Book.title,
            "price": (Book.price.desc().nulls_last(), Book.id),
            "length": func.length(Book.title),
            "other": [aliased(Book).title, Book.__table__.c.id],
        },
        default=("-price", "title"),
        name="order",
    ),
]
Where = Annotated[
    Conditions,
    filter_by(
        {
            "title": Filter.equals(Book.title, description="The whole title."),
            "id": Filter.any_of(Book.id, as_type=int),
            "min_price": Filter.at_least(Book.price),
            "length": Filter.below(func.length(Book.title)),
            "q": Filter.search(Book.title, aliased(Book).title),
            "free": Filter(bool, lambda free: Book.price == 0 if free else None),
        },
        ignore_unknown=True,
    ),
]
app = FastAPI()

assert_type(sort_by({"id": Book.id}), Depends)
assert_type(filter_by({"id": Filter.equals(Book.id)}), Depends)
assert_type(Filter.is_null(Book.price), Filter)


@app.get("/books")
async def books(sort: Sort, where: Where) -> None:
    assert_type(sort[0], UnaryExpression[Any])
    assert_type(where[0], ColumnElement[bool])
    assert_type(select(Book).where(*where).order_by(*sort), Select[Book])


sort_by({"title": "title"})  # type: ignore[dict-item]
sort_by({"title": Book.title}, "title")  # type: ignore[call-arg]
Filter.equals("title")  # type: ignore[arg-type]
filter_by({"title": Book.title})  # type: ignore[dict-item]
filter_by({"title": Filter.equals(Book.title)}, True)  # type: ignore[call-arg]
