"""What a client may sort by, over HTTP, and the order that it gets."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import ForeignKey, String, column, func, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, column_property, composite, mapped_column, relationship

from fastapi_kit import errors
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.pagination import Ordering, Page, SkipLimit, paginate, sort_by
from fastapi_kit.schemas import ReadModel

pytestmark = pytest.mark.anyio


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "sorted_author"

    id: Mapped[int] = mapped_column(primary_key=True)


class Book(Base):
    __tablename__ = "sorted_book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(20))
    year: Mapped[int]
    rating: Mapped[int | None]
    author_id: Mapped[int | None] = mapped_column(ForeignKey("sorted_author.id"))
    author: Mapped[Author] = relationship()
    pair: Mapped[tuple[int, int]] = composite(lambda year, rating: (year, rating), "year", "rating")
    half: Mapped[int] = column_property(literal_column("year % 2"))


class BookRead(ReadModel):
    id: int


ROWS = [
    {"id": 1, "title": "b", "year": 2001, "rating": None},
    {"id": 2, "title": "a", "year": 2003, "rating": 5},
    {"id": 3, "title": "c", "year": 2003, "rating": 3},
    {"id": 4, "title": "a", "year": 2002, "rating": None},
]
COLUMNS = {
    "title": Book.title,
    "year": Book.year.desc(),
    "both": (Book.year, Book.title.desc()),
    "length": func.length(Book.title) * -Book.year,
    "half": Book.half,
}


@pytest.fixture(scope="module")
async def client(engine: AsyncEngine) -> AsyncIterator[httpx2.AsyncClient]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session, session.begin():
        session.add_all(Book(**row) for row in ROWS)
    app = FastAPI()

    @app.get("/books")
    async def books(page: SkipLimit, sort: Annotated[Ordering, sort_by(COLUMNS)]) -> Page[BookRead]:
        async with AsyncSession(engine) as session:
            return await paginate(session, select(Book).order_by(*sort), page, BookRead)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop") as client:
        yield client


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", [1, 2, 3, 4]),
        ("sort=title", [2, 4, 1, 3]),
        ("sort=-title", [3, 1, 4, 2]),
        ("sort=title,-year", [4, 2, 1, 3]),
        ("sort=title&sort=-year", [4, 2, 1, 3]),
        ("sort=title,year", [2, 4, 1, 3]),
        ("sort=year,title", [2, 3, 4, 1]),
        ("sort=-year", [1, 4, 2, 3]),
        ("sort=both", [1, 4, 3, 2]),
        ("sort=-both", [2, 3, 4, 1]),
        ("sort=length", [2, 3, 4, 1]),
        ("sort=half,-title&sort=-both", [4, 3, 1, 2]),
    ],
)
async def test_rows_come_in_the_order_asked_for(client: httpx2.AsyncClient, query: str, ids: list[int]) -> None:
    response = await client.get(f"/books?{query}")

    assert [item["id"] for item in response.json()["items"]] == ids


@pytest.mark.parametrize(
    ("columns", "word", "sql"),
    [
        ({"rating": Book.rating.nulls_last()}, "rating", "rating ASC NULLS LAST"),
        ({"rating": Book.rating.nulls_last()}, "-rating", "rating DESC NULLS LAST"),
        ({"rating": Book.rating.desc().nulls_first()}, "rating", "rating DESC NULLS FIRST"),
        ({"rating": Book.rating.desc().nulls_first()}, "-rating", "rating ASC NULLS FIRST"),
        ({"rating": aliased(Book).rating.label("stars")}, "-rating", "rating DESC"),
    ],
)
async def test_nulls_stay_where_the_endpoint_puts_them(columns: dict[str, Any], word: str, sql: str) -> None:
    assert (await _read(columns, f"sort={word}")).endswith(sql)


async def _read(columns: dict[str, Any], query: str, **options: Any) -> str:
    app = FastAPI()

    @app.get("/")
    async def read(sort: Annotated[Ordering, sort_by(columns, **options)]) -> str:
        return ", ".join(str(clause) for clause in sort)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop") as client:
        found: str = (await client.get(f"/?{query}")).json()
        return found


@pytest.mark.parametrize("default", ["-title,year", ["-title", "year"], ("-title,year",)])
@pytest.mark.parametrize(
    ("query", "sql"),
    [
        ("", "sorted_book.title DESC, sorted_book.year ASC"),
        ("order=year", "sorted_book.year ASC"),
        ("sort=year", "sorted_book.title DESC, sorted_book.year ASC"),
    ],
)
async def test_the_default_is_for_a_client_that_does_not_say(default: Any, query: str, sql: str) -> None:
    columns = {"title": Book.title, "year": Book.year}

    assert await _read(columns, query, default=default, name="order") == sql


def _make_app(**options: Any) -> FastAPI:
    app = FastAPI()
    errors.install(app)

    @app.get("/books/{sort}")
    async def books(
        found: Annotated[Ordering, sort_by({"title": Book.title, "year": Book.year}, **options)],
    ) -> None: ...

    return app


@pytest.mark.parametrize(
    "query",
    [
        "sort=secret-1",
        "sort=",
        "sort=-",
        "sort=,",
        "sort=title,",
        "sort=,title",
        "sort=title&sort=",
        "sort=title,-title",
        "sort=title&sort=title",
        "sort=--title",
        "sort=%20title",
        "sort=title,%20year",
        "sort=TITLE",
        "sort=title%00",
        "sort=%00",
        "sort=title,year,title",
        "sort=title;DROP",
        f"sort={','.join(['title'] * 10_000)}",
        "&".join(["sort=title"] * 5_000),
        f"sort={'x' * 60_000}",
    ],
    ids=lambda query: query[:40],
)
async def test_what_is_not_listed_is_422_and_the_message_lists_what_is(query: str) -> None:
    transport = httpx2.ASGITransport(_make_app())
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
        response = await client.get(f"/books/1?{query}")

    assert response.status_code == 422
    assert response.json()["errors"] == [
        {
            "detail": "Sort by title, year: each once at most, with - before it to turn its direction round",
            "code": "sort",
            "in": "query",
            "name": "sort",
        }
    ]


async def test_a_client_combines_no_more_words_than_it_may_and_the_endpoint_does() -> None:
    listed: dict[str, Any] = {"title": column("title"), "year": column("year")}
    Sort = Annotated[Ordering, sort_by(listed, default="-year,title", max_words=1)]
    app = FastAPI()
    errors.install(app)

    @app.get("/books")
    async def books(sort: Sort) -> list[str]:
        return [str(clause) for clause in sort]

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop") as client:
        refused = await client.get("/books?sort=title,year")
        assert (await client.get("/books")).json() == ["year DESC", "title ASC"]
        assert (await client.get("/books?sort=year")).json() == ["year ASC"]

    assert refused.status_code == 422
    assert "each once at most, 1 at most" in refused.json()["errors"][0]["detail"]
    with pytest.raises(ConfigurationError, match="max_words=0 must be 1 or more"):
        sort_by(listed, max_words=0)


@pytest.mark.parametrize(("options", "default"), [({}, None), ({"default": "-year,title"}, ["-year", "title"])])
def test_words_and_default_are_in_the_openapi(options: dict[str, Any], default: list[str] | None) -> None:
    [parameter] = _make_app(**options).openapi()["paths"]["/books/{sort}"]["get"]["parameters"]

    assert parameter["description"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("sort", "query", False)
    assert parameter["schema"] == {
        "type": "array",
        "items": {"type": "string", "enum": ["title", "-title", "year", "-year"]},
        "title": "Sort",
        **({"default": default} if default else {}),
    }


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({}, {}, "needs words and columns"),
        ({"": Book.title}, {}, "'' is no word to sort by"),
        ({"-title": Book.title}, {}, "'-title' is no word"),
        ({"a,b": Book.title}, {}, "'a,b' is no word"),
        ({"a b": Book.title}, {}, "'a b' is no word"),
        ({" a": Book.title}, {}, "' a' is no word"),
        ({"a\n": Book.title}, {}, r"'a\\n' is no word"),
        ({"title": ()}, {}, "no column to sort 'title' by"),
        ({"title": "title"}, {}, r"sort_by\('title'\) needs a column, such as Book.title.*a str is none"),
        ({"title": text("title")}, {}, "a TextClause is none"),
        ({"title": [Book.title, "year"]}, {}, "a str is none"),
        ({"author": Book.author}, {}, "nor is a relationship"),
        ({"author": aliased(Book).author}, {}, "nor is a relationship"),
        ({"book": Book}, {}, "needs a column"),
        ({"pair": Book.pair}, {}, "needs a column"),
        ({"title": Book.title}, {"default": "year"}, "default='year' is no order .*. Sort by title: each once"),
        ({"title": Book.title}, {"default": "title,-title"}, "is no order"),
        ({"title": Book.title}, {"default": ["title", ""]}, "is no order"),
        ({"title": Book.title}, {"name": ""}, "needs a name"),
    ],
)
def test_mistakes_are_told_when_the_app_is_built(columns: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        sort_by(columns, **options)


def test_a_model_that_is_not_whole_yet_can_be_sorted_by() -> None:
    class Early(Base):
        __tablename__ = "sorted_early"

        id: Mapped[int] = mapped_column(ForeignKey("sorted_late.id"), primary_key=True)
        late: Mapped[Any] = relationship("Late")

    sort_by({"id": Early.id})

    class Late(Base):
        __tablename__ = "sorted_late"

        id: Mapped[int] = mapped_column(primary_key=True)
