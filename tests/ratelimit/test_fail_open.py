"""The ways in which other limiters let requests pass, each shown there and closed here.

What slowapi 0.1.10 does is asserted as well, so that these tests say when a release of it changes. What is done by
hand, or in fastapi-limiter, is written out.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from slowapi import Limiter as SlowapiLimiter
from slowapi import _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.middleware import SlowAPIMiddleware
from slowapi.util import get_ipaddr, get_remote_address
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.ratelimit import ClientIP, Limiter


def slowapi_app(slowapi: SlowapiLimiter) -> FastAPI:
    app = FastAPI()
    app.state.limiter = slowapi
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type]
    return app


def limited_by_both(key: Callable[..., Any], rates: str = "1/hour", path: str = "/") -> tuple[TestClient, TestClient]:
    slowapi = SlowapiLimiter(key)
    theirs, ours = slowapi_app(slowapi), FastAPI()

    @theirs.get(path)
    @slowapi.limit(rates)
    async def home(request: Request) -> None: ...

    ours.add_api_route(path, lambda: 1, dependencies=[Depends(Limiter(key=key)(rates))])
    return TestClient(theirs), TestClient(ours)


def statuses(client: TestClient, *paths: str, **options: Any) -> list[int]:
    return [client.get(path, **options).status_code for path in paths]


def test_each_url_of_a_route_has_a_budget_of_its_own() -> None:
    theirs, ours = limited_by_both(get_remote_address, path="/items/{item_id}")
    assert statuses(theirs, "/items/1", "/items/2", "/items/3") == [200, 200, 200]
    assert statuses(ours, "/items/1", "/items/2", "/items/3") == [200, 429, 429]


def test_an_empty_key_is_no_limit() -> None:
    theirs, ours = limited_by_both(lambda: "")
    assert statuses(theirs, "/", "/", "/") == [200, 200, 200]
    assert statuses(ours, "/", "/", "/") == [200, 429, 429]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_async_key_is_no_limit() -> None:
    async def key() -> str:
        return "ann"

    theirs, ours = limited_by_both(key)
    assert statuses(theirs, "/", "/", "/") == [200, 200, 200]
    assert statuses(ours, "/", "/", "/") == [200, 429, 429]


def test_a_bad_rate_is_no_limit(caplog: pytest.LogCaptureFixture) -> None:
    slowapi = SlowapiLimiter(get_remote_address)
    theirs = slowapi_app(slowapi)

    @theirs.get("/")
    @slowapi.limit("5 times a minute")
    async def home(request: Request) -> None: ...

    assert statuses(TestClient(theirs), *["/"] * 9) == [200] * 9
    with pytest.raises(ConfigurationError, match="'5 times a minute' is no rate limit"):
        Limiter()("5 times a minute")


def test_handlers_of_one_name_pay_for_each_other() -> None:
    slowapi, limiter = SlowapiLimiter(get_remote_address), Limiter()
    theirs, ours = slowapi_app(slowapi), FastAPI()
    for path in ("/a", "/b"):

        async def same_name(request: Request) -> None: ...

        theirs.get(path)(slowapi.limit("2/hour")(same_name))
        ours.get(path, dependencies=[Depends(limiter("2/hour"))])(same_name)
    assert statuses(TestClient(theirs), "/b", "/b") == [200, 429]  # the limits of both count on each
    assert statuses(TestClient(ours), "/b", "/b", "/b", "/a") == [200, 200, 429, 200]


def test_a_limit_on_the_app_skips_included_routers() -> None:
    slowapi = SlowapiLimiter(get_remote_address, default_limits=["1/hour"])
    theirs, ours = slowapi_app(slowapi), FastAPI(dependencies=[Depends(Limiter()("1/hour"))])
    theirs.add_middleware(SlowAPIMiddleware)
    inner, outer = APIRouter(), APIRouter()
    inner.add_api_route("/items", lambda: 1)
    outer.include_router(inner, prefix="/v1")
    for app in (theirs, ours):
        app.include_router(outer)
    assert statuses(TestClient(theirs), "/v1/items", "/v1/items") == [200, 200]
    assert statuses(TestClient(ours), "/v1/items", "/v1/items") == [200, 429]


def test_a_decorator_in_the_wrong_place_is_no_limit() -> None:
    slowapi = SlowapiLimiter(get_remote_address)
    theirs, ours = slowapi_app(slowapi), FastAPI()

    @slowapi.limit("1/hour")
    @theirs.get("/")
    async def home(request: Request) -> None: ...

    assert statuses(TestClient(theirs), "/", "/") == [200, 200]
    with pytest.raises(ConfigurationError, match="would limit nothing"):
        ours.get("/", dependencies=[Depends(Limiter())])(lambda: 1)


def test_a_refused_request_uses_up_the_other_limits() -> None:
    theirs, ours = limited_by_both(get_remote_address, "3/hour; 1/minute")
    for client in (theirs, ours):
        assert statuses(client, *["/"] * 4) == [200, 429, 429, 429]
    hit = theirs.app.state.limiter.limiter.get_window_stats(parse("3/hour"), "testclient", "/")  # type: ignore[attr-defined]
    assert hit.remaining == 0
    assert '"3-per-hour";r=2;' in ours.get("/").headers["RateLimit"]


def test_a_client_chooses_its_address() -> None:
    theirs, _ = limited_by_both(get_ipaddr)
    _, ours = limited_by_both(ClientIP())
    forged = [{"X-Forwarded-For": f"192.0.2.{n}", "X_Forwarded_For": f"192.0.2.{n}"} for n in range(3)]
    assert [theirs.get("/", headers=headers).status_code for headers in forged] == [200] * 3
    assert [ours.get("/", headers=headers).status_code for headers in forged] == [200, 429, 429]


def test_behind_a_proxy_the_first_hop_is_what_the_client_wrote() -> None:
    async def first_hop(request: Request) -> str:  # the default identifier of fastapi-limiter 0.1.6, with the path
        forwarded = request.headers.get("X-Forwarded-For", "")
        return f"{forwarded.split(',')[0]}:{request.url.path}"

    clients: list[TestClient] = []
    for key in (first_hop, ClientIP(trusted_proxies=["10.0.0.1"])):
        app = FastAPI()
        app.add_api_route("/items/{item_id}", lambda: 1, dependencies=[Depends(Limiter(key=key)("1/hour"))])
        clients.append(TestClient(app, client=("10.0.0.1", 50000)))
    theirs, ours = clients
    forged = [{"X-Forwarded-For": f"192.0.2.{n}, 203.0.113.9"} for n in range(3)]
    assert [theirs.get("/items/1", headers=headers).status_code for headers in forged] == [200] * 3
    assert [theirs.get(f"/items/{n}", headers=forged[0]).status_code for n in range(2, 5)] == [200] * 3
    assert [ours.get(f"/items/{n}", headers=headers).status_code for n, headers in enumerate(forged)] == [200, 429, 429]


def test_an_ipv6_client_chooses_one_of_its_addresses() -> None:
    theirs, _ = limited_by_both(get_remote_address)
    _, ours = limited_by_both(ClientIP())
    for client, expected in ((theirs, [200] * 3), (ours, [200, 429, 429])):
        each = [TestClient(client.app, client=(f"2001:db8::{n}", 50000)) for n in range(3)]
        assert [one.get("/").status_code for one in each] == expected


@pytest.mark.anyio
async def test_a_limit_that_asks_first_and_counts_then_is_passed_by_requests_at_once() -> None:
    storage = MemoryStorage()
    engine, item = FixedWindowRateLimiter(storage), parse("5/hour")

    async def by_hand(connection: HTTPConnection) -> None:
        if not await engine.test(item, "who"):
            raise RateLimitExceeded(None)  # type: ignore[arg-type]
        await asyncio.sleep(0)  # as any storage over a network would
        await engine.hit(item, "who")

    passed = []
    for limit in (by_hand, Limiter()("5/hour")):
        app = FastAPI()
        app.add_api_route("/", lambda: 1, dependencies=[Depends(limit)])
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            answers = await asyncio.gather(*[client.get("/") for _ in range(20)], return_exceptions=True)
        passed.append(sum(isinstance(answer, httpx2.Response) and answer.status_code == 200 for answer in answers))
    assert passed == [20, 5]


def test_without_redis_each_request_is_a_crash() -> None:
    down = "redis://127.0.0.1:1/0"
    slowapi = SlowapiLimiter(get_remote_address, storage_uri=down)
    theirs, ours = slowapi_app(slowapi), FastAPI()

    @theirs.get("/")
    @slowapi.limit("1/hour")
    async def home(request: Request) -> None: ...

    ours.add_api_route("/", lambda: 1, dependencies=[Depends(Limiter(down)("1/hour"))])
    assert statuses(TestClient(theirs, raise_server_exceptions=False), "/", "/", "/") == [500] * 3
    assert statuses(TestClient(ours), "/", "/", "/") == [200, 429, 429]
