"""Cursors over HTTP: what they are good for, and what is a 400."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_kit import errors
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.pagination import CursorPage, CursorParams, Cursors, cursor_limit, paginate
from fastapi_kit.pagination.positions import Position
from fastapi_kit.pagination.sorting import Ordering, sort_by
from tests.pagination.kinds import CURSORS
from tests.pagination.support import Item, ItemRead

pytestmark = pytest.mark.anyio

OTHERS = Cursors("another-one-q8Yt3jd9s0ALqpwoeiruty56473829")
CursorLimit = Annotated[CursorParams, cursor_limit(CURSORS, default=5, maximum=50)]
Sort = Annotated[Ordering, sort_by({"name": Item.name, "id": Item.id}, default="id")]


def shop(engine: AsyncEngine) -> FastAPI:
    router = APIRouter(prefix="/v1")
    inner = APIRouter(prefix="/shop/{shop}")

    async def session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as opened:
            yield opened

    OpenSession = Annotated[AsyncSession, Depends(session)]

    @inner.get("/items")
    async def list_items(
        session: OpenSession, shop: int, page: CursorLimit, sort: Sort, owner: Annotated[int | None, Query()] = None
    ) -> CursorPage[ItemRead]:
        statement = select(Item).order_by(*sort)
        return await paginate(
            session, statement if owner is None else statement.where(Item.owner_id == owner), page, ItemRead
        )

    @inner.get("/mine")
    async def list_mine(session: OpenSession, shop: int, page: CursorLimit, user: str = "ada") -> CursorPage[ItemRead]:
        return await paginate(session, select(Item), page.bound_to("user", len(user)), ItemRead)

    @inner.get("/named")
    async def list_named(
        session: OpenSession,
        shop: int,
        page: Annotated[CursorParams, cursor_limit(CURSORS, names=("page[after]", "page[size]"))],
    ) -> CursorPage[ItemRead]:
        return await paginate(session, select(Item), page, ItemRead)

    @inner.get("/header-user")
    async def list_by_user(
        session: OpenSession, shop: int, page: CursorLimit, user: Annotated[str, Depends(lambda: USER[-1])]
    ) -> CursorPage[ItemRead]:
        return await paginate(session, select(Item), page.bound_to("user", user), ItemRead)

    router.include_router(inner)
    app = FastAPI()
    app.include_router(router, prefix="/api")
    whole = FastAPI()
    whole.mount("/mounted", app)
    whole.include_router(router, prefix="/api")
    for each in (app, whole):
        errors.install(each)
    return whole


USER = ["ada"]


@pytest.fixture(scope="session")
async def client(engine: AsyncEngine) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(shop(engine))
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
        yield client


ITEMS = "/api/v1/shop/1/items"


async def ids_and_next(client: httpx2.AsyncClient, url: str, **query: Any) -> tuple[list[int], str | None]:
    response = await client.get(url, params=query)
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]], response.json()["next_cursor"]


@pytest.mark.parametrize("url", [ITEMS, "/mounted/api/v1/shop/1/items"], ids=["included", "mounted"])
@pytest.mark.parametrize("query", [{}, {"sort": "-id"}, {"sort": "-name,id"}, {"owner": 2, "sort": ["name", "-id"]}])
async def test_walk_there_and_back(client: httpx2.AsyncClient, url: str, query: dict[str, Any]) -> None:
    everything = (await client.get(url, params={**query, "limit": 50})).json()
    assert (everything["next_cursor"], everything["previous_cursor"]) == (None, None)

    pages = [(await client.get(url, params=query)).json()]
    while (cursor := pages[-1]["next_cursor"]) is not None:
        pages.append((await client.get(url, params={**query, "cursor": cursor})).json())
    back = [pages[-1]]
    while (cursor := back[0]["previous_cursor"]) is not None:
        back.insert(0, (await client.get(url, params={**query, "cursor": cursor})).json())

    assert [item for page in pages for item in page["items"]] == everything["items"]
    assert [page["items"] for page in back] == [page["items"] for page in pages]
    assert len(everything["items"]) == (12 if "owner" in query else 23)


async def test_limit_may_change_and_parameters_may_come_in_another_order(client: httpx2.AsyncClient) -> None:
    _, cursor = await ids_and_next(client, ITEMS, sort="id", owner=2)

    response = await client.get(f"{ITEMS}?cursor={cursor}&limit=2&owner=2&sort=id")

    assert [item["id"] for item in response.json()["items"]] == [11, 13]


async def test_names_of_ones_own(client: httpx2.AsyncClient) -> None:
    url = "/api/v1/shop/1/named"
    first, cursor = await ids_and_next(client, url, **{"page[size]": 3})
    second, _ = await ids_and_next(client, url, **{"page[size]": 3, "page[after]": cursor})

    assert first + second == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("url", "query"),
    [
        (ITEMS, {"sort": "-id"}),
        (ITEMS, {"sort": "name"}),
        (ITEMS, {"owner": "2"}),
        (ITEMS, {"colour": "red"}),
        ("/api/v1/shop/2/items", {}),
        ("/mounted/api/v1/shop/1/items", {}),
        ("/api/v1/shop/1/mine", {}),
        ("/api/v1/shop/1/named", {"page[after]": "…"}),
    ],
    ids=str,
)
async def test_cursor_of_another_list_is_400(client: httpx2.AsyncClient, url: str, query: dict[str, str]) -> None:
    _, cursor = await ids_and_next(client, ITEMS)
    sent: dict[str, str] = {
        name: str(cursor) for name in ("cursor", "page[after]") if name == "cursor" or name in query
    }

    response = await client.get(url, params=query | sent)

    assert_refused(response)


async def test_cursor_of_another_user_is_400(client: httpx2.AsyncClient) -> None:
    url = "/api/v1/shop/1/header-user"
    _, cursor = await ids_and_next(client, url)
    assert (await ids_and_next(client, url, cursor=cursor))[0] == [6, 7, 8, 9, 10]

    USER.append("bob")
    try:
        assert_refused(await client.get(url, params={"cursor": str(cursor)}))
    finally:
        USER.pop()


@pytest.mark.parametrize(
    "damage",
    [
        lambda cursor: "",
        lambda cursor: cursor[:-1],
        lambda cursor: cursor[1:],
        lambda cursor: cursor + "A",
        lambda cursor: cursor + "=",
        lambda cursor: cursor[:9] + ("A" if cursor[9] != "A" else "B") + cursor[10:],
        lambda cursor: cursor.swapcase(),
        lambda cursor: cursor * 100,
        lambda cursor: "20",
        lambda cursor: "é\0\r\n",
        lambda cursor: OTHERS.encode(Position((5,), "after"), "list"),
    ],
    ids=[
        "empty",
        "cut",
        "headless",
        "longer",
        "padded",
        "changed",
        "other case",
        "huge",
        "number",
        "binary",
        "other key",
    ],
)
async def test_damaged_cursor_is_400_and_not_echoed(client: httpx2.AsyncClient, damage: Any) -> None:
    _, cursor = await ids_and_next(client, ITEMS)
    damaged = damage(str(cursor))

    response = await client.get(ITEMS, params={"cursor": damaged})

    assert_refused(response)
    assert len(damaged) < 3 or damaged not in response.text


async def test_cursor_given_twice_is_the_last_one_and_never_page_one(client: httpx2.AsyncClient) -> None:
    _, cursor = await ids_and_next(client, ITEMS)

    assert_refused(await client.get(f"{ITEMS}?cursor={cursor}&cursor=x"))


@pytest.mark.parametrize("limit", ["0", "-1", "51", "1e20", str(2**63), "x"])
async def test_limit_out_of_bounds_is_422(client: httpx2.AsyncClient, limit: str) -> None:
    assert (await client.get(ITEMS, params={"limit": limit})).status_code == 422


def assert_refused(response: httpx2.Response) -> None:
    assert response.status_code == 400, response.text
    assert response.json()["code"] == "invalid_cursor"
    assert response.headers["content-type"] == "application/problem+json"
    assert "start again without it" in response.text


async def test_parameters_and_400_are_in_the_openapi(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/api/v1/shop/{shop}/items"]["get"]
    parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}

    assert not parameters["cursor"]["required"]
    assert "next_cursor" in parameters["cursor"]["description"]
    assert parameters["limit"]["schema"].items() >= {"minimum": 1, "maximum": 50, "default": 5}.items()
    schema = operation["responses"]["400"]["content"]["application/problem+json"]["schema"]["$ref"].rpartition("/")[2]
    assert "invalid_cursor" in str(document["components"]["schemas"][schema]["properties"]["code"])


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"default": 0}, "default=0 must be between 1 and maximum=100"),
        ({"maximum": 0}, "maximum=0"),
        ({"names": ("cursor", "cursor")}, "two different query parameters"),
    ],
)
def test_bounds_that_contradict_are_refused(bounds: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        cursor_limit(CURSORS, **bounds)


def test_cursor_params_by_hand_are_checked_and_show_no_cursors() -> None:
    with pytest.raises(ValueError, match="limit=0 must be 1 or more"):
        CursorParams(0, None, CURSORS, "list")

    assert "Cursors" not in repr(CursorParams(1, None, CURSORS, "list"))


def test_bound_to_tells_parts_apart() -> None:
    params = CursorParams(1, None, CURSORS, "list")

    bound = [
        params.bound_to("a", "b"),
        params.bound_to("a,b"),
        params.bound_to('a", "b'),
        params.bound_to("ab"),
        params,
    ]

    assert len({each.list_id for each in bound}) == len(bound)
