"""Limits that count by what was answered."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, Form, HTTPException, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from starlette.testclient import TestClient

from fastapi_kit import errors, ratelimit
from fastapi_kit.errors import ConfigurationError, Problem
from fastapi_kit.ratelimit import Limiter

pytestmark = pytest.mark.anyio


class WrongPassword(Problem):
    status = 401
    code = "password_of_this_test"


class Service:
    """A log-in with three ways to answer 401, and one that answers when `open` is set."""

    def __init__(self, limiter: Limiter, rates: str, install: Callable[[FastAPI], None] = errors.install) -> None:
        self.app = FastAPI()
        install(self.app)
        self.open = asyncio.Event()
        self.open.set()
        self.looked_at = 0

        @self.app.post("/{way}", dependencies=[Depends(limiter(rates, only={401}, scope="login"))])
        async def log_in(way: str, password: Annotated[str, Form()], response: Response) -> Any:
            self.looked_at += 1
            await self.open.wait()
            if password == "right":
                return {}
            if way == "raised":
                raise HTTPException(401)
            if way == "problem":
                raise WrongPassword("No.")
            if way == "crash":
                raise RuntimeError
            if way == "set":
                response.status_code = 401
                return {}
            return JSONResponse({}, 401)

    async def posts(self, way: str, *passwords: str) -> list[Any]:
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return await asyncio.gather(*[client.post(f"/{way}", data={"password": word}) for word in passwords])

    async def statuses(self, way: str, *passwords: str) -> list[int]:
        return [(await self.posts(way, word))[0].status_code for word in passwords]


@pytest.mark.parametrize("way", ["raised", "returned", "problem", "set"])
async def test_a_refused_password_counts_and_a_right_one_does_not(limiter: Limiter, way: str) -> None:
    service = Service(limiter, "2/hour; 50/day")
    words = ["right"] * 5 + ["wrong"] + ["right"] * 5 + ["wrong", "wrong", "right"]
    assert await service.statuses(way, *words) == [200] * 5 + [401] + [200] * 5 + [401, 429, 429]


@pytest.mark.parametrize("way", ["raised", "returned"])
async def test_of_100_guesses_at_once_exactly_the_quota_is_looked_at(limiter: Limiter, way: str) -> None:
    service = Service(limiter, "5/hour", ratelimit.install)
    statuses = [response.status_code for response in await service.posts(way, *["wrong"] * 100)]
    assert (statuses.count(401), statuses.count(429), service.looked_at) == (5, 95, 5)
    assert await service.statuses(way, "right") == [429]


async def test_right_ones_at_once_are_all_given_back(limiter: Limiter) -> None:
    service = Service(limiter, "5/hour")
    assert [response.status_code for response in await service.posts("raised", *["right"] * 5)] == [200] * 5
    assert await service.statuses("raised", *["wrong"] * 6) == [401] * 5 + [429]


async def test_a_request_counts_while_it_is_under_way(limiter: Limiter) -> None:
    service = Service(limiter, "1/hour")
    service.open.clear()
    first = asyncio.create_task(service.posts("raised", "right"))
    while not service.looked_at:
        await asyncio.sleep(0.01)
    assert await service.statuses("raised", "right") == [429]
    service.open.set()
    assert [response.status_code for response in await first] == [200]
    assert await service.statuses("raised", "right") == [200]


async def test_the_fields_tell_what_is_left_after_the_answer(limiter: Limiter) -> None:
    service = Service(limiter, "2/hour")
    [right], [wrong] = await service.posts("raised", "right"), await service.posts("raised", "wrong")
    assert right.headers["RateLimit"].startswith('"2-per-hour";r=2;')
    assert wrong.headers["RateLimit"].startswith('"2-per-hour";r=1;')


async def test_a_crash_and_an_invalid_form_are_no_401(limiter: Limiter) -> None:
    service = Service(limiter, "1/hour")
    assert await service.statuses("crash", "wrong", "wrong") == [500, 500]
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(service.app), base_url="http://test") as client:
        assert [(await client.post("/raised")).status_code for _ in range(2)] == [422, 422]
    assert await service.statuses("raised", "wrong", "wrong") == [401, 429]


async def test_a_client_that_goes_away_before_the_answer_stays_counted(limiter: Limiter) -> None:
    service = Service(limiter, "1/hour")
    service.open.clear()
    gone = asyncio.create_task(service.posts("raised", "wrong"))
    while not service.looked_at:
        await asyncio.sleep(0.01)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert await service.statuses("raised", "right") == [429]


async def test_what_two_limits_share_is_given_back_once() -> None:
    app, limiter = FastAPI(), Limiter()
    errors.install(app)
    attempts = limiter.attempts("2/hour", by="address")

    @app.post("/")
    async def log_in(request: Request) -> None:
        await attempts.begin(request, "ada")
        await attempts.succeeded(request, "ada", "1")
        await attempts.succeeded(request, "ada", "1")

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        assert [(await client.post("/")).status_code for _ in range(5)] == [200] * 5


async def test_without_a_layer_that_sees_the_response_it_is_a_crash_that_names_the_remedy() -> None:
    service = Service(Limiter(), "1/hour", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"call errors.install\(app\) or ratelimit.install\(app\)"):
        TestClient(service.app).post("/raised", data={"password": "wrong"})


def test_on_a_websocket_it_is_a_crash_that_names_it() -> None:
    app = FastAPI()
    ratelimit.install(app)

    @app.websocket("/", dependencies=[Depends(Limiter()("1/hour", only={401}))])
    async def talk(socket: WebSocket) -> None: ...

    with pytest.raises(ConfigurationError, match="no WebSocket"), TestClient(app).websocket_connect("/"):
        raise AssertionError


@pytest.mark.parametrize("only", [set[int](), {42}, {401, 600}, {"401"}, 401])
def test_what_is_no_status_is_told_where_it_is_written(only: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"only=\{401\}"):
        Limiter()("1/hour", only=only)
