"""`Link` headers, read by the grammar of RFC 8288 and followed to the end."""

import re
from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Query
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_kit.pagination import (
    CursorPage,
    CursorParams,
    NumberedPage,
    Page,
    PageNumberParams,
    SkipLimitParams,
    at_most,
    cursor_limit,
    fetch,
    page_number,
    paginate,
    skip_limit,
)
from tests.pagination.kinds import CURSORS
from tests.pagination.support import Item, ItemRead

pytestmark = pytest.mark.anyio

BySkip = Annotated[SkipLimitParams, skip_limit(link_header=True)]
ByNumber = Annotated[PageNumberParams, page_number(names=("p", "per_page"), link_header=True)]
ByCursor = Annotated[CursorParams, cursor_limit(CURSORS, link_header=True)]
From = Annotated[int, Query(alias="filter[from]")]


def shop(engine: AsyncEngine) -> FastAPI:
    router = APIRouter(prefix="/v1")

    @router.get("/skip")
    async def skip(page: BySkip, start: From = 0) -> Page[ItemRead]:
        async with AsyncSession(engine) as session:
            return await paginate(session, select(Item).where(Item.id > start), page, ItemRead)

    @router.get("/number")
    async def number(page: ByNumber, start: From = 0) -> NumberedPage[ItemRead]:
        async with AsyncSession(engine) as session:
            return await paginate(session, select(Item).where(Item.id > start), page, ItemRead)

    @router.get("/cursor")
    async def cursor(page: ByCursor, start: From = 0) -> CursorPage[ItemRead]:
        async with AsyncSession(engine) as session:
            return await paginate(session, select(Item).where(Item.id > start), page, ItemRead)

    @router.get("/uncounted")
    async def uncounted(page: BySkip) -> Page[ItemRead]:
        async with AsyncSession(engine) as session:
            return await paginate(session, select(Item), page, ItemRead, total=False)

    @router.get("/capped")
    async def capped(page: ByNumber) -> NumberedPage[ItemRead]:
        async with AsyncSession(engine) as session:
            return await paginate(session, select(Item), page, ItemRead, total=at_most(10))

    @router.get("/silent")
    async def silent(page: Annotated[SkipLimitParams, skip_limit()]) -> list[str]:
        async with AsyncSession(engine) as session:
            return [*(await fetch(session, select(Item), page)).links.values()]

    app, mounted = FastAPI(), FastAPI()
    mounted.include_router(router)
    app.include_router(router, prefix="/api")
    app.mount("/mounted", mounted)
    return app


@pytest.fixture(scope="session")
async def client(engine: AsyncEngine) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(shop(engine))
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
        yield client


_URI = r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*"  # RFC 3986, 2
_LINK = re.compile(rf'<({_URI})>\s*;\s*rel="([a-z]+)"\s*(?:,\s*|$)')


def links(response: httpx2.Response) -> dict[str, str]:
    """Return the targets by relation type; the header must be nothing but links (RFC 8288, 3)."""
    [header] = response.headers.get_list("link")
    found, end = {}, 0
    while end < len(header):
        match = _LINK.match(header, end)
        assert match, f"no link at {end} of {header!r}"
        assert match[2] not in found
        found[match[2]], end = urljoin(str(response.url), match[1]), match.end()
    return found


def ids(response: httpx2.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


async def get(client: httpx2.AsyncClient, url: str) -> httpx2.Response:
    response = await client.get(url)
    assert response.status_code == 200, response.text
    return response


@pytest.mark.parametrize("prefix", ["/api/v1", "/mounted/v1"])
@pytest.mark.parametrize("path", ["/skip?limit=5", "/number?per_page=5", "/cursor?limit=5"])
async def test_links_are_followed_to_the_end_and_back(client: httpx2.AsyncClient, prefix: str, path: str) -> None:
    kept = "&filter[from]=3&tag=a&tag=b%26c&name=%C3%A9%20%22%3E"
    page = first = await get(client, prefix + path + kept)
    assert "prev" not in links(first)
    seen = [ids(first)]
    while "next" in links(page):
        page = await get(client, links(page)["next"])
        seen.append(ids(page))
    assert [number for numbers in seen for number in numbers] == list(range(4, 24))

    if "last" in links(first):
        assert ids(await get(client, links(first)["last"])) == seen[-1]
    assert ids(await get(client, links(page)["first"])) == seen[0]
    back = [ids(page)]
    while "prev" in links(page):
        page = await get(client, links(page)["prev"])
        back.insert(0, ids(page))
    assert back == seen

    paging = {"skip", "limit", "p", "per_page", "cursor"}
    for link in links(page).values():
        others = [item for item in parse_qsl(urlsplit(link).query) if item[0] not in paging]
        assert others == [("filter[from]", "3"), ("tag", "a"), ("tag", "b&c"), ("name", 'é ">')]


@pytest.mark.parametrize(
    ("url", "relations"),
    [
        ("/skip", {"first": "limit=20", "next": "limit=20&skip=20", "last": "limit=20&skip=20"}),
        ("/skip?limit=23", {"first": "limit=23", "last": "limit=23"}),
        (
            "/skip?skip=3&limit=5",
            {"first": "limit=5", "prev": "limit=5", "next": "limit=5&skip=8", "last": "limit=5&skip=20"},
        ),
        (
            "/skip?skip=100&limit=10",
            {"first": "limit=10", "prev": "limit=10&skip=20", "last": "limit=10&skip=20"},
        ),
        ("/skip?filter[from]=99", {"first": "limit=20", "last": "limit=20"}),
        (
            "/skip?filter[from]=99&skip=7",
            {"first": "limit=20", "prev": "limit=20", "last": "limit=20"},
        ),
        ("/number?per_page=10", {"first": "p=1&per_page=10", "next": "p=2&per_page=10", "last": "p=3&per_page=10"}),
        ("/number?per_page=10&p=3", {"first": "p=1&per_page=10", "prev": "p=2&per_page=10", "last": "p=3&per_page=10"}),
        ("/number?per_page=10&p=9", {"first": "p=1&per_page=10", "prev": "p=3&per_page=10", "last": "p=3&per_page=10"}),
        ("/number?filter[from]=99", {"first": "p=1&per_page=20", "last": "p=1&per_page=20"}),
        (
            "/number?filter[from]=99&p=2",
            {"first": "p=1&per_page=20", "prev": "p=1&per_page=20", "last": "p=1&per_page=20"},
        ),
        ("/cursor?limit=23", {"first": "limit=23"}),
        ("/cursor?filter[from]=99", {"first": "limit=20"}),
        ("/uncounted?limit=10&skip=20", {"first": "limit=10", "prev": "limit=10&skip=10"}),
        ("/uncounted?limit=10&skip=90", {"first": "limit=10", "prev": "limit=10&skip=80"}),
        ("/uncounted?limit=10", {"first": "limit=10", "next": "limit=10&skip=10"}),
        ("/capped?per_page=10", {"first": "p=1&per_page=10", "next": "p=2&per_page=10"}),
        ("/capped?per_page=10&p=3", {"first": "p=1&per_page=10", "prev": "p=2&per_page=10"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_first_last_empty_and_past_the_end(
    client: httpx2.AsyncClient, url: str, relations: dict[str, str]
) -> None:
    response = await get(client, f"/api/v1{url}")

    found = {
        relation: "&".join(sorted(part for part in urlsplit(link).query.split("&") if not part.startswith("filter")))
        for relation, link in links(response).items()
    }
    assert found == relations
    assert [*found] == [relation for relation in ("first", "prev", "next", "last") if relation in found]


@pytest.mark.parametrize(
    "hostile",
    [
        '"><script>',
        'a>; rel="next", <http://evil/',
        "\r\nSet-Cookie: a=b",
        "\0",
        "é\u2028",
        ", <x>",
        "%0d%0a",
        "\\",
        " ",
    ],
)
@pytest.mark.parametrize("path", ["skip", "number", "cursor"])
async def test_hostile_query_cannot_break_the_header(client: httpx2.AsyncClient, path: str, hostile: str) -> None:
    response = await client.get(f"/api/v1/{path}", params={"x": hostile, hostile: "x"})

    assert response.status_code == 200
    assert set(response.headers) == {"content-type", "content-length", "link"}
    found = links(response)
    assert set(found) <= {"first", "next", "last"}
    for link in found.values():
        assert urlsplit(link).netloc == "shop"
        assert {("x", hostile), (hostile, "x")} <= set(parse_qsl(urlsplit(link).query, keep_blank_values=True))


async def test_empty_and_repeated_parameters_are_kept(client: httpx2.AsyncClient) -> None:
    response = await get(client, "/api/v1/skip?q=&tag=b&tag=a&tag=b&flag&limit=3&limit=4&skip=0")

    query = parse_qsl(urlsplit(links(response)["next"]).query, keep_blank_values=True)
    assert query == [("q", ""), ("tag", "b"), ("tag", "a"), ("tag", "b"), ("flag", ""), ("skip", "4"), ("limit", "4")]


async def test_header_is_sent_where_it_is_asked_for_alone(client: httpx2.AsyncClient) -> None:
    response = await get(client, "/api/v1/silent?limit=20")

    assert "link" not in response.headers
    assert response.json() == ["?limit=20", "?skip=20&limit=20", "?skip=20&limit=20"]


async def test_params_of_no_request_have_no_links(session: AsyncSession) -> None:
    for params in (SkipLimitParams(0, 5), PageNumberParams(1, 5), CursorParams(5, None, CURSORS, "list")):
        page = await fetch(session, select(Item), params)

        assert (page.links, page.link_header) == ({}, "")


async def test_next_link_beyond_the_bounds_is_a_422_and_never_a_silent_end(engine: AsyncEngine) -> None:
    app = FastAPI()

    @app.get("/skip")
    async def skip(page: Annotated[SkipLimitParams, skip_limit(max_skip=10, link_header=True)]) -> Page[ItemRead]:
        async with AsyncSession(engine) as session:
            return await paginate(session, select(Item), page, ItemRead)

    @app.get("/number")
    async def number(
        page: Annotated[PageNumberParams, page_number(max_page=2, link_header=True)],
    ) -> NumberedPage[ItemRead]:
        async with AsyncSession(engine) as session:
            return await paginate(session, select(Item), page, ItemRead)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop") as client:
        for url in ("/skip?limit=6&skip=6", "/number?size=5&page=2"):
            refused = await client.get(links(await client.get(url))["next"])
            assert refused.status_code == 422
            assert "less than or equal to" in refused.text
