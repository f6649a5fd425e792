"""The same limits by another URL, on a real server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastapi import Depends, FastAPI
from limits import parse
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter
from redis.exceptions import TimeoutError as RedisTimeoutError

from fastapi_kit.ratelimit import Limiter

from .support import PATIENT, STRATEGIES


@pytest.fixture(params=STRATEGIES)
async def limiter(request: pytest.FixtureRequest, redis_url: str, prefix: str) -> AsyncIterator[Limiter]:
    limiter = Limiter(redis_url + PATIENT, strategy=request.param, prefix=prefix)
    yield limiter
    await limiter.aclose()


def client_of(limiter: Limiter, rates: str, **arguments: Any) -> httpx2.AsyncClient:
    app = FastAPI()

    @app.get("/items/{item_id}", dependencies=[Depends(limiter(rates, **arguments))])
    async def item(item_id: int) -> int:
        return item_id

    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test")


@pytest.mark.anyio
async def test_counts_are_exact_with_200_requests_at_once(limiter: Limiter) -> None:
    async with client_of(limiter, "50/hour") as client:
        responses = await asyncio.gather(*[client.get(f"/items/{n}") for n in range(200)])
    codes = [response.status_code for response in responses]
    assert (codes.count(200), codes.count(429)) == (50, 150)


@pytest.mark.anyio
async def test_several_limits_with_fields_and_nothing_consumed_when_refused(limiter: Limiter) -> None:
    async with client_of(limiter, "2/hour; 9/day") as client:
        responses = [await client.get("/items/1") for _ in range(4)]
    assert [response.status_code for response in responses] == [200, 200, 429, 429]
    assert int(responses[3].headers["Retry-After"]) in range(1, 3601)
    names = [member.split(";t=")[0] for member in responses[3].headers["RateLimit"].split(", ")]
    assert names == ['"2-per-hour";r=0', '"9-per-day";r=7']


@pytest.mark.anyio
async def test_it_serves_again_after_it_was_closed(limiter: Limiter) -> None:
    async with client_of(limiter, "1/hour") as client:
        assert (await client.get("/items/1")).status_code == 200
        await limiter.aclose()
        assert (await client.get("/items/1")).status_code == 429


@pytest.mark.anyio
async def test_an_equal_scope_is_shared_with_the_synchronous_engine_that_slowapi_uses(
    redis_url: str, prefix: str
) -> None:
    limiter = Limiter(redis_url, prefix=prefix)
    storage = RedisStorage(redis_url)
    engine = FixedWindowRateLimiter(storage)
    async with client_of(limiter, "2/hour", scope="login") as client:
        assert (await client.get("/items/1")).status_code == 200
        assert engine.hit(parse("2/hour"), prefix, "127.0.0.1", "login")
        assert (await client.get("/items/1")).status_code == 429
    await limiter.aclose()
    storage.storage.close()


@pytest.mark.anyio
async def test_a_server_that_does_not_answer_is_given_up_after_the_time_out() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        limiter = Limiter(f"redis://127.0.0.1:{port}/0?socket_timeout=0.05&socket_connect_timeout=0.05")
        async with client_of(limiter, "1/hour") as client:
            with pytest.raises(RedisTimeoutError):
                await client.get("/items/1")
        await limiter.aclose()
