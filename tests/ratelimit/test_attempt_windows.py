"""What a log-in that succeeds gives back, when a window ends, and what happens without the storage."""

import asyncio
import logging
from typing import Any, cast
from unittest.mock import ANY
from urllib.parse import urlsplit

import httpx2
import pytest
from limits.aio.storage import MemoryStorage
from redis.asyncio import Redis

from fastapi_kit import errors
from fastapi_kit.errors import UnavailableError
from fastapi_kit.errors.declaration import problems_of
from fastapi_kit.ratelimit import CountedBy, Limiter, RateLimitExceededError
from tests.proxy import Proxy

from .conftest import Clock
from .support import Service

pytestmark = pytest.mark.anyio


async def test_a_hundred_log_ins_in_a_row_leave_nothing_counted_and_a_wrong_one_does(limiter: Limiter) -> None:
    service = Service(
        limiter.attempts("2/15 minutes; 3/hour", by="account_and_address"), limiter.attempts("2/hour", by="address")
    )
    assert await service.attempts("ada", ["right"] * 50 + ["wrong"] + ["right"] * 50) == [200] * 101
    assert await service.attempts("ada", ["wrong", "right", "wrong"]) == [200, 429, 429]
    assert service.looked_at.count("wrong") == 2


async def test_log_ins_at_once_give_back_what_each_counted(limiter: Limiter) -> None:
    service = Service(limiter.attempts("4/hour", by="account"))
    assert await service.attempts("ada", ["right"] * 4, at_once=True) == [200] * 4
    assert await service.attempts("ada", ["wrong"] * 5) == [200] * 4 + [429]


async def test_redis_holds_no_account_in_plain(redis_url: str, prefix: str) -> None:
    limiter = Limiter(redis_url, prefix=prefix, timeout_seconds=30)
    limits = [limiter.attempts("5/hour", by="account"), limiter.attempts("5/hour", by="account_and_address")]
    service = Service(*limits, find=lambda _: "adas-subject")
    assert await service.attempts("ada@x.example", ["wrong"]) == [200]
    await limiter.aclose()
    async with cast(Any, Redis).from_url(redis_url) as redis:
        keys = [key.decode() async for key in redis.scan_iter(f"*{prefix}*")]
    assert len(keys) == 4
    assert not any("ada" in key for key in keys)


@pytest.fixture(params=["own", "limits"])
def in_memory(request: pytest.FixtureRequest, clock: Clock) -> Limiter:
    """Return a limiter over the kit's counters, and over a storage of `limits`, which counts as Redis does."""
    return Limiter("memory://" if request.param == "own" else MemoryStorage())


async def test_failures_stay_counted_until_their_window_ends(in_memory: Limiter, clock: Clock) -> None:
    service = Service(in_memory.attempts("2/minute", by="account"))
    assert await service.attempts("ada", ["wrong"]) == [200]
    clock.advance(50)
    assert await service.attempts("ada", ["right", "wrong", "right"]) == [200, 200, 429]
    clock.advance(10.001)
    assert await service.attempts("ada", ["wrong", "wrong", "wrong"]) == [200, 200, 429]


async def test_a_window_begins_with_an_attempt_that_was_not_given_back(in_memory: Limiter, clock: Clock) -> None:
    service = Service(in_memory.attempts("2/minute", by="account"))
    assert await service.attempts("ada", ["right"]) == [200]
    clock.advance(50)
    assert await service.attempts("ada", ["wrong", "wrong", "wrong"]) == [200, 200, 429]
    clock.advance(50)
    assert await service.attempts("ada", ["right"]) == [429]


async def test_a_log_in_that_ends_after_its_window_opens_none_below_zero(in_memory: Limiter, clock: Clock) -> None:
    service = Service(in_memory.attempts("2/minute", by="account"))
    service.open.clear()
    late = asyncio.create_task(service.attempts("ada", ["right"] * 2, at_once=True))
    await service.until_looked_at(2)
    clock.advance(61)
    service.open.set()
    assert await late == [200, 200]
    assert await service.attempts("ada", ["wrong", "wrong", "wrong"]) == [200, 200, 429]


@pytest.mark.parametrize("by", ["account", "address"])
async def test_log_ins_of_ones_own_around_an_edge_buy_no_guess(in_memory: Limiter, clock: Clock, by: CountedBy) -> None:
    service = Service(in_memory.attempts("3/minute", by=by))
    service.open.clear()
    late = asyncio.create_task(service.attempts("ADA", ["right"] * 3, at_once=True))
    await service.until_looked_at(3)
    clock.advance(61)
    guesses = asyncio.create_task(service.attempts("ada", ["wrong"] * 3, at_once=True))
    await service.until_looked_at(6)
    service.open.set()
    assert await late + await guesses == [200] * 6
    assert await service.attempts("ada", ["wrong"] * 4) == [429] * 4
    assert service.looked_at.count("wrong") == 3


async def test_in_redis_a_count_that_has_expired_is_not_left_below_zero(redis_url: str, prefix: str) -> None:
    limiter = Limiter(redis_url, prefix=prefix, timeout_seconds=30)
    service = Service(limiter.attempts("2/hour", by="account"))
    service.open.clear()
    late = asyncio.create_task(service.attempts("ada", ["right"]))
    await service.until_looked_at(1)
    async with cast(Any, Redis).from_url(redis_url) as redis:
        pattern = f"*{prefix}*"
        assert await redis.delete(*[key async for key in redis.scan_iter(pattern)]) == 2
        service.open.set()
        assert await late == [200]
        assert [key async for key in redis.scan_iter(pattern)] == []
        assert await service.attempts("ada", ["wrong"] * 3) == [200, 200, 429]
        assert all([0 < await redis.ttl(key) <= 3600 async for key in redis.scan_iter(pattern)])
    await limiter.aclose()


async def test_log_ins_without_redis_are_a_503_that_says_when_to_try_again(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter("redis://:s3cret@127.0.0.1:1/0")
    service = Service(limiter.attempts("5/hour", by="account"))
    errors.install(service.app)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(service.app), base_url="http://test") as client:
        refused = await client.post("/login", data={"account": "ada", "password": "right"})
    assert (refused.status_code, refused.json()["code"]) == (503, "service_unavailable")
    assert refused.headers["Retry-After"] == "1"
    assert "s3cret" not in refused.text
    assert service.looked_at == []
    assert caplog.record_tuples == [("fastapi_kit.ratelimit", logging.WARNING, ANY)]
    assert caplog.messages[0].startswith("The storage of the rate limits does not answer: ConnectionError, from ")
    assert "s3cret" not in caplog.text


async def test_a_redis_that_goes_while_a_password_is_looked_at_refuses_no_right_one(
    redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    there = urlsplit(redis_url)
    async with Proxy(there.hostname or "", there.port or 6379).serving() as proxy:
        limiter = Limiter(f"redis://127.0.0.1:{proxy.port}", prefix=prefix, timeout_seconds=1)
        service = Service(limiter.attempts("5/hour", by="account"))
        service.open.clear()
        log_in = asyncio.create_task(service.attempts("ada", ["right"]))
        await service.until_looked_at(1)
        proxy.hold()
        service.open.set()
        assert await log_in == [200]
        proxy.release()
        await limiter.aclose()
    assert caplog.messages[-1] == "A request that should not count stays counted: UnavailableError"


def test_what_a_limit_can_answer_is_declared() -> None:
    limit = Limiter().attempts("5/hour", by="account")
    assert problems_of(limit.begin) == (RateLimitExceededError, UnavailableError)
    assert problems_of(limit.admits) == (UnavailableError,)


async def test_reset_forgets_attempts_too(in_memory: Limiter) -> None:
    service = Service(in_memory.attempts("1/hour", by="account"))
    assert await service.attempts("ada", ["wrong", "wrong"]) == [200, 429]
    await in_memory.reset()
    assert await service.attempts("ada", ["wrong"]) == [200]
