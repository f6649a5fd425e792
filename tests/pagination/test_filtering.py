"""What a client may filter by, over HTTP, and the rows that it gets."""

import enum
from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, Query, WebSocket
from fastapi.security import APIKeyQuery
from pydantic import BaseModel
from sqlalchemy import (
    Boolean,
    Enum,
    ForeignKey,
    Integer,
    Numeric,
    String,
    cast,
    column,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from fastapi_kit import errors
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.pagination import Conditions, Filter, Ordering, Page, SkipLimit, filter_by, paginate, sort_by
from fastapi_kit.schemas import ReadModel

pytestmark = pytest.mark.anyio


class Status(enum.Enum):
    NEW = "new"
    SOLD = "sold"


class Base(DeclarativeBase):
    pass


class Maker(Base):
    __tablename__ = "filtered_maker"

    id: Mapped[int] = mapped_column(primary_key=True)


class Ware(Base):
    __tablename__ = "filtered_ware"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    note: Mapped[str | None] = mapped_column(String(40))
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    status: Mapped[Status] = mapped_column(Enum(Status))
    maker_id: Mapped[int | None] = mapped_column(ForeignKey("filtered_maker.id"))
    maker: Mapped[Maker | None] = relationship()


class WareRead(ReadModel):
    id: int


NAMES = [
    "Red Lamp",
    "red 50% off",
    "snake_case",
    "snakeXcase",
    r"back\slash",
    "a/b",
    'O\'Neil "the" lamp',
    "50 lamps",
]
FILTERS = {
    "id": Filter.any_of(Ware.id),
    "name": Filter.equals(Ware.name),
    "names": Filter.any_of(Ware.name),
    "filter[status]": Filter.any_of(Ware.status),
    "price[gte]": Filter.at_least(Ware.price),
    "price[lte]": Filter.at_most(Ware.price),
    "price[gt]": Filter.above(Ware.price),
    "price[lt]": Filter.below(Ware.price, description="Cheaper."),
    "prefix": Filter.starts_with(Ware.name),
    "q": Filter.search(Ware.name, Ware.note),
    "unnoted": Filter.is_null(Ware.note),
    "long": Filter(bool, lambda long: func.length(Ware.name) > 10 if long else None),
}


@pytest.fixture(scope="module")
async def client(engine: AsyncEngine) -> AsyncIterator[httpx2.AsyncClient]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session, session.begin():
        session.add_all(
            Ware(
                id=n,
                name=name,
                note="Lamp, bright" if n == 3 else None,
                price=Decimal(n),
                status=Status.SOLD if n > 6 else Status.NEW,
            )
            for n, name in enumerate(NAMES, 1)
        )
    app = FastAPI()

    @app.get("/wares")
    async def wares(
        page: SkipLimit,
        sort: Annotated[Ordering, sort_by({"id": Ware.id})],
        where: Annotated[Conditions, filter_by(FILTERS)],
    ) -> Page[WareRead]:
        async with AsyncSession(engine) as session:
            return await paginate(session, select(Ware).where(*where).order_by(*sort), page, WareRead)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop") as client:
        yield client


@pytest.mark.parametrize(
    ("parameters", "ids"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"id": "3"}, [3]),
        ({"id": "3,1"}, [1, 3]),
        ({"id": ["3,1", "8"]}, [1, 3, 8]),
        ({"name": "a/b"}, [6]),
        ({"name": ""}, []),
        ({"names": ["a/b", "50 lamps"]}, [6, 8]),
        ({"names": "a/b,50 lamps"}, []),
        ({"filter[status]": "sold"}, [7, 8]),
        ({"filter[status]": "sold,new"}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"price[gte]": "7"}, [7, 8]),
        ({"price[gt]": "7.00"}, [8]),
        ({"price[lte]": "2"}, [1, 2]),
        ({"price[lt]": "2"}, [1]),
        ({"price[gt]": "2", "price[lt]": "4"}, [3]),
        ({"prefix": "snake_"}, [3]),
        ({"prefix": "50"}, [8]),
        ({"prefix": "%"}, []),
        ({"prefix": "a/"}, [6]),
        ({"prefix": "back\\"}, [5]),
        ({"prefix": ""}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"q": "lamp"}, [1, 3, 7, 8]),
        ({"q": "  LAMP  red "}, [1]),
        ({"q": "lamp snake"}, [3]),
        ({"q": "bright"}, [3]),
        ({"q": "%"}, [2]),
        ({"q": "50%"}, [2]),
        ({"q": "_"}, [3]),
        ({"q": "e_c"}, [3]),
        ({"q": "\\"}, [5]),
        ({"q": "/"}, [6]),
        ({"q": "'"}, [7]),
        ({"q": '"the"'}, [7]),
        ({"q": "'; --"}, []),
        ({"q": "\t \n"}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"q": ""}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"unnoted": "false"}, [3]),
        ({"unnoted": "true", "id": "3,4"}, [4]),
        ({"long": "true"}, [2, 7]),
        ({"long": "false"}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"q": "lamp", "filter[status]": "sold", "sort": "-id", "limit": "1"}, [8]),
    ],
    ids=str,
)
async def test_rows_are_those_asked_for(
    client: httpx2.AsyncClient, parameters: dict[str, str | list[str]], ids: list[int]
) -> None:
    response = await client.get("/wares", params={"sort": "id", **parameters})

    assert [item["id"] for item in response.json()["items"]] == ids


@pytest.mark.parametrize("values", ["1,1099511627776", "1099511627776,1"])
async def test_an_expression_without_a_type_is_compared_with_numbers_of_any_size(
    session: AsyncSession, values: str
) -> None:
    app = FastAPI()

    @app.get("/wares")
    async def wares(
        where: Annotated[Conditions, filter_by({"n": Filter.any_of(literal_column("n"), as_type=int)})],
    ) -> list[int]:
        numbers = select((literal_column("1", Integer)).label("n")).subquery()
        return list(await session.scalars(select(numbers.c.n).where(*where)))

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop") as client:
        assert (await client.get("/wares", params={"n": values})).json() == [1]


def _make_app(filters: dict[str, Filter] = FILTERS, *, ignore_unknown: bool = False) -> FastAPI:
    app = FastAPI()
    errors.install(app)

    @app.get("/wares", dependencies=[Depends(APIKeyQuery(name="api-key", auto_error=False))])
    async def wares(
        page: SkipLimit, where: Annotated[Conditions, filter_by(filters, ignore_unknown=ignore_unknown)]
    ) -> list[str]:
        return [str(condition.compile(compile_kwargs={"literal_binds": True})) for condition in where]

    return app


def _get(app: FastAPI, parameters: dict[str, Any]) -> httpx2.Response:
    return TestClient(app).get("/wares", params=parameters)


def _one_error(response: httpx2.Response) -> tuple[str, str]:
    assert response.status_code == 422
    [error] = response.json()["errors"]
    assert error["in"] == "query"
    return error["name"], error["detail"]


NUL = "Text should not have the character NUL in it"


@pytest.mark.parametrize(
    ("name", "value", "at", "detail"),
    [
        ("id", "", "id.0", "Input should be a valid integer, unable to parse string as an integer"),
        ("id", "1,x", "id.1", "Input should be a valid integer, unable to parse string as an integer"),
        ("id", "1,,2", "id.1", "Input should be a valid integer, unable to parse string as an integer"),
        ("id", str(2**31), "id.0", "Input should be less than 2147483648"),
        ("id", ",".join(["1"] * 101), "id", "List should have at most 100 items after validation, not 101"),
        ("id", ["1"] * 101, "id", "List should have at most 100 items after validation, not 101"),
        ("name", "a\0", "name", NUL),
        ("names", ["a", "\0"], "names.1", NUL),
        ("filter[status]", "SOLD", "filter[status].0", "Input should be 'new' or 'sold'"),
        ("filter[status]", "", "filter[status].0", "Input should be 'new' or 'sold'"),
        ("price[gte]", "nan", "price[gte]", "Input should be a finite number"),
        ("price[gte]", "1e100000", "price[gte]", "Decimal input should have no more than 10 digits in total"),
        ("price[gte]", "1.999", "price[gte]", "Decimal input should have no more than 2 decimal places"),
        ("prefix", "\0", "prefix", NUL),
        ("q", "\0", "q", NUL),
        ("q", "x" * 201, "q", "String should have at most 200 characters"),
        ("q", "a b c d e f g h i j k", "q", "Text should have 10 words at most"),
        ("unnoted", "maybe", "unnoted", "Input should be a valid boolean, unable to interpret input"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_not_of_the_type_is_422(name: str, value: Any, at: str, detail: str) -> None:
    assert _one_error(_get(_make_app(), {name: value})) == (at, detail)


def test_as_much_as_allowed_is_read() -> None:
    ids = _get(_make_app(), {"id": ",".join(map(str, range(100)))}).json()
    words = _get(_make_app(), {"q": "a b c d e f g h i j"}).json()

    assert ids[0].endswith("98, 99)")
    assert words[0].count(" AND ") == 9


@pytest.mark.parametrize("name", ["price", "price[gte]x", "stauts", "skip ", "SORT", "", "filter", "kit_filter_0"])
def test_an_unknown_parameter_is_422(name: str) -> None:
    at, detail = _one_error(_get(_make_app(), {name: "secret", "id": "1"}))

    assert at == name
    assert detail == (
        "There is no such parameter. What filters is: id, name, names, filter[status], price[gte], price[lte], "
        "price[gt], price[lt], prefix, q, unnoted, long"
    )


def test_each_unknown_parameter_is_told_up_to_10() -> None:
    response = _get(_make_app(), {f"x{n:03}": "" for n in range(15)})

    assert [error["name"] for error in response.json()["errors"]] == [f"x{n:03}" for n in range(10)]


@pytest.mark.parametrize("name", ["skip", "limit", "api-key"])
def test_what_another_dependency_reads_is_known(name: str) -> None:
    assert _get(_make_app(), {name: "1"}).status_code == 200


def test_unknown_parameters_pass_where_they_are_to_be_ignored() -> None:
    response = _get(_make_app(ignore_unknown=True), {"utm_source": "x", "name": "lamp"})

    assert response.json() == ["filtered_ware.name = 'lamp'"]


def test_fields_of_a_query_model_are_known() -> None:
    app = FastAPI()

    class Paging(BaseModel):
        after: int = 0

    @app.get("/wares")
    async def wares(paging: Annotated[Paging, Query()], where: Annotated[Conditions, filter_by(FILTERS)]) -> int:
        return paging.after

    assert _get(app, {"after": "3", "name": "x"}).json() == 3


def test_websockets_have_filters_too() -> None:
    app = FastAPI()

    @app.websocket("/wares")
    async def wares(websocket: WebSocket, where: Annotated[Conditions, filter_by(FILTERS)]) -> None:
        await websocket.accept()
        await websocket.send_json(len(where))
        await websocket.close()

    with TestClient(app).websocket_connect("/wares?id=1&name=x") as socket:
        assert socket.receive_json() == 2
    with pytest.raises(WebSocketDisconnect) as caught, TestClient(app).websocket_connect("/wares?ids=1"):
        pass
    assert caught.value.code == 1008


def test_filters_are_in_the_openapi() -> None:
    openapi = _make_app().openapi()
    parameters = {parameter["name"]: parameter for parameter in openapi["paths"]["/wares"]["get"]["parameters"][2:]}
    schemas = {name: parameter["schema"] for name, parameter in parameters.items()}

    assert list(parameters) == [*FILTERS]
    assert all(parameter["in"] == "query" and not parameter["required"] for parameter in parameters.values())
    assert [name for name, parameter in parameters.items() if not parameter.get("description")] == ["long"]
    assert parameters["price[lt]"]["description"] == "Cheaper."
    assert all("default" not in schema for schema in schemas.values())
    assert schemas["id"] == {
        "type": "array",
        "items": {"type": "integer", "minimum": -(2**31), "exclusiveMaximum": 2**31},
        "maxItems": 100,
        "title": "Id",
        "description": "One of these, 100 at most.",
    }
    assert schemas["filter[status]"]["items"] == {"$ref": "#/components/schemas/Status"}
    assert openapi["components"]["schemas"]["Status"]["enum"] == ["new", "sold"]
    assert schemas["q"] == {
        "type": "string",
        "maxLength": 200,
        "title": "Q",
        "description": "Words that must all occur, 10 at most.",
    }
    assert schemas["unnoted"]["type"] == "boolean"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Filter.equals("name"), "a Filter needs a column, such as Book.title, .* a str is none"),  # type: ignore[arg-type]
        (lambda: Filter.any_of(text("name")), r"Filter.any_of\(\) needs a column"),  # type: ignore[arg-type]
        (lambda: Filter.is_null(Ware.maker), r"Filter.is_null\(\) needs .* nor is a relationship"),
        (lambda: Filter.at_least(column("done", Boolean())), "a boolean has Filter.equals"),
        (lambda: Filter.below(Ware.id, as_type=bool), "true is not more than false"),
        (Filter.search, r"Filter.search\(\) needs a column of text: cast\(column, String\)"),
        (lambda: Filter.equals(column("x"), as_type=datetime), "say AwareDatetime or NaiveDatetime"),
        (lambda: Filter.search(Ware.name, Ware.id), "needs a column of text"),
        (lambda: Filter.starts_with(Ware.status), "needs a column of text"),
        (lambda: filter_by({}), r"filter_by\(\) needs names and filters"),
        (lambda: filter_by({"": Filter.is_null(Ware.note)}), "needs names and filters"),
    ],
)
def test_mistakes_are_told_when_the_app_is_built(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_a_column_that_is_cast_to_text_can_be_searched() -> None:
    app = _make_app({"q": Filter.search(cast(Ware.id, String))})

    assert _get(app, {"q": "1"}).json() == [
        "(lower(CAST(filtered_ware.id AS VARCHAR)) LIKE '%' || lower('1') || '%' ESCAPE '/')"
    ]


def test_a_filter_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Filter.is_null(Ware.note).as_type = int  # type: ignore[misc]
