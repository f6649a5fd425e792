"""An app that moves over from slowapi, route by route."""

from typing import Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from slowapi import Limiter as SlowapiLimiter
from slowapi import _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
from slowapi.util import get_remote_address
from starlette.testclient import TestClient

from fastapi_kit import errors, ratelimit
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.ratelimit import Limiter

from .support import STRATEGIES


def app_of(slowapi: SlowapiLimiter) -> FastAPI:
    app = FastAPI()
    app.state.limiter = slowapi
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type]
    return app


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test")


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_route_that_moved_shares_its_count_with_those_that_did_not(
    strategy: str, redis_url: str, prefix: str
) -> None:
    slowapi = SlowapiLimiter(get_remote_address, storage_uri=redis_url, strategy=strategy, key_prefix=prefix)
    limiter = Limiter.from_slowapi(slowapi, timeout_seconds=30)
    app = app_of(slowapi)

    @app.get("/old")
    @slowapi.shared_limit("4/hour", scope="search")
    async def old(request: Request) -> None: ...

    @app.get("/new", dependencies=[Depends(limiter("4/hour", scope="search"))])
    async def new() -> None: ...

    async with client_of(app) as client:
        calls = [await client.get(path) for path in ("/old", "/new", "/new", "/old", "/new", "/old")]
    assert [call.status_code for call in calls] == [200, 200, 200, 200, 429, 429]
    assert calls[2].headers["RateLimit"].startswith('"4-per-hour";r=1;')
    await limiter.aclose()
    theirs: Any = slowapi._storage
    theirs.storage.close()


@pytest.mark.parametrize("middleware", [None, SlowAPIMiddleware, SlowAPIASGIMiddleware])
@pytest.mark.parametrize("install", [errors.install, ratelimit.install])
def test_both_on_one_route_beside_slowapis_middleware_both_hold(middleware: Any, install: Any) -> None:
    slowapi = SlowapiLimiter(get_remote_address, headers_enabled=True, default_limits=["50/hour"])
    limiter = Limiter.from_slowapi(slowapi, legacy_headers=False)
    app = app_of(slowapi)
    install(app)
    if middleware is not None:
        app.add_middleware(middleware)

    @app.get("/ours", dependencies=[Depends(limiter("2/hour"))])
    @slowapi.limit("3/hour")
    async def ours(request: Request, response: Response) -> None: ...

    @app.get("/theirs", dependencies=[Depends(limiter("3/hour"))])
    @slowapi.limit("2/hour")
    async def theirs(request: Request) -> JSONResponse:
        return JSONResponse({})

    client = TestClient(app)
    for path in ("/ours", "/theirs"):
        first, *others = [client.get(path) for _ in range(3)]
        assert [call.status_code for call in (first, *others)] == [200, 200, 429]
        assert first.headers["RateLimit"].startswith(f'"{2 if path == "/ours" else 3}-per-hour";r=')
        assert first.headers["X-RateLimit-Limit"] == ("3" if path == "/ours" else "2")
        if path == "/ours":  # slowapi's handler answers, and leaves out what the exception says
            assert others[-1].headers.get_list("RateLimit") == ['"2-per-hour";r=0;t=3600']
            assert int(others[-1].headers["Retry-After"]) > 3500


@pytest.mark.parametrize(("ours", "theirs"), [("2/hour", "3/hour"), ("3/hour", "2/hour")])
def test_of_the_older_fields_of_both_those_of_the_stricter_stay(ours: str, theirs: str) -> None:
    slowapi = SlowapiLimiter(get_remote_address, headers_enabled=True)
    app = app_of(slowapi)
    ratelimit.install(app)

    @app.get("/", dependencies=[Depends(Limiter.from_slowapi(slowapi)(ours))])
    @slowapi.limit(theirs)
    async def home(request: Request, response: Response) -> None: ...

    headers = TestClient(app).get("/").headers
    assert (headers.get_list("X-RateLimit-Limit"), headers["X-RateLimit-Remaining"]) == (["2"], "1")


def test_settings_are_taken_over_and_options_win() -> None:
    slowapi = SlowapiLimiter(lambda: "everybody", headers_enabled=True, enabled=False)
    app = FastAPI()
    limiter = Limiter.from_slowapi(slowapi)
    app.get("/", dependencies=[Depends(limiter("1/hour"))])(lambda: 1)
    client = TestClient(app)
    assert [client.get("/").status_code for _ in range(3)] == [200, 200, 200]
    limiter.enabled = True
    answer = client.get("/")
    assert (answer.status_code, answer.headers["X-RateLimit-Limit"]) == (200, "1")
    assert client.get("/").status_code == 429
    assert Limiter.from_slowapi(slowapi, enabled=True).enabled


def test_an_empty_key_shares_a_count_where_slowapi_lets_it_pass() -> None:
    slowapi = SlowapiLimiter(lambda: "")
    app = app_of(slowapi)
    app.get("/", dependencies=[Depends(Limiter.from_slowapi(slowapi)("1/hour"))])(lambda: 1)
    client = TestClient(app)
    assert [client.get("/").status_code for _ in range(2)] == [200, 429]


def test_what_cannot_be_taken_over_is_told() -> None:
    slowapi = SlowapiLimiter(
        get_remote_address, storage_uri="redis://127.0.0.1:1/0", storage_options={"key_prefix": "other"}
    )
    with pytest.raises(ConfigurationError, match="write the limiter out"):
        Limiter.from_slowapi(slowapi)
    url: Any = "redis://:s3cret@localhost/0"
    with pytest.raises(ConfigurationError, match="a str is no limiter of slowapi") as told:
        Limiter.from_slowapi(url)
    assert "s3cret" not in str(told.value)
