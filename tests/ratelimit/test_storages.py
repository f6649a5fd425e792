"""From a URL to counters, and counters over a storage of one's own."""

import asyncio
import sys
import traceback
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from limits import parse_many
from limits.aio.storage import MemoryStorage, Storage
from starlette.testclient import TestClient

from fastapi_kit.errors import ConfigurationError, UnavailableError
from fastapi_kit.ratelimit import Limiter, by_ip
from fastapi_kit.ratelimit.counters import Strategy, Taken
from fastapi_kit.ratelimit.storages import StorageCounters

from .conftest import Clock
from .support import STRATEGIES


class FixedOnlyStorage(Storage):
    """A storage of a service's own that can do no moving window, and lets others run between its steps."""

    STORAGE_SCHEME: list[str] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        await asyncio.sleep(0)
        self.counts[key] = self.counts.get(key, 0) + amount
        return self.counts[key]

    async def get(self, key: str) -> int:
        await asyncio.sleep(0)
        return self.counts.get(key, 0)

    async def get_expiry(self, key: str) -> float:
        return 0.0

    async def check(self) -> bool:
        return True

    async def reset(self) -> int:
        self.counts.clear()
        return 0

    async def clear(self, key: str) -> None:
        self.counts.pop(key)


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("mysql://app:s3cret@db/x", "mysql://"),
        ("redis://app:s3cret@cache:port", "redis://"),
        ("memory", "without a scheme"),
        ("", "without a scheme"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_named_without_its_password(storage: str, shown: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Limiter(storage)
    assert f"cannot open the rate limit storage {shown} (" in str(error.value)
    assert '"redis://localhost:6379/0"' in str(error.value)
    assert "s3cret" not in str(error.value)


def test_a_missing_package_of_limits_is_named() -> None:
    with pytest.raises(ConfigurationError) as error:
        Limiter("memcached://app:s3cret@cache:11211")
    assert str(error.value) == (
        "cannot open the rate limit storage memcached://: it needs the package 'memcachio', which is not installed"
    )


@pytest.mark.parametrize("url", ["redis+cluster://localhost:7000", "redis+sentinel://localhost:26379/shop"])
def test_redis_with_more_than_one_server_needs_no_other_package(url: str) -> None:
    assert isinstance(Limiter(url), Limiter)


def test_a_missing_redis_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fastapi_kit.ratelimit.redis", raising=False)
    monkeypatch.setitem(sys.modules, "redis.asyncio.connection", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'fastapi-service-kit\[redis\]'"):
        Limiter("redis://localhost:6379/0")


def test_a_key_function_in_the_place_of_the_storage_is_told() -> None:
    key: Any = by_ip
    with pytest.raises(ConfigurationError, match=r"is no URL and no storage .* Limiter\(key=...\)"):
        Limiter(key)


@pytest.mark.anyio
async def test_ping_asks_the_storage_of_limits() -> None:
    class Unwell(FixedOnlyStorage):
        async def check(self) -> bool:
            return False

    await Limiter(FixedOnlyStorage()).ping()
    with pytest.raises(UnavailableError):
        await Limiter(Unwell()).ping()


def test_a_url_of_limits_opens_its_storage() -> None:
    class Registered(FixedOnlyStorage):
        STORAGE_SCHEME = ["async+fixed-only"]  # noqa: RUF012

        def __init__(self, uri: str | None = None, **_: Any) -> None:
            super().__init__()

    app = FastAPI()
    app.add_api_route("/", lambda: 1, dependencies=[Depends(Limiter("fixed-only://x")("1/minute"))])
    client = TestClient(app)
    assert [client.get("/").status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    "url",
    [
        "redis://:geheim/nis@h/0",
        "redis://u:/geheimnis@h/0",
        "redis://u:s3?cret@h/0",
        "memcachedx://u:geheim@h",
        "geheim@redis://h",
    ],
)
def test_no_part_of_a_password_is_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Limiter(url)
    shown = "".join(traceback.format_exception(error.value))
    raised = shown[shown.rindex("ConfigurationError: ") :]
    assert not any(part in raised for part in ("geheim", "nis@", "s3"))
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_an_unknown_strategy_is_named_with_the_known_ones() -> None:
    unknown: Any = "leaky-bucket"
    with pytest.raises(ConfigurationError, match="'leaky-bucket': use one of fixed-window, moving-window"):
        Limiter(strategy=unknown)


def test_a_strategy_that_the_storage_lacks_fails_at_once() -> None:
    with pytest.raises(ConfigurationError, match="FixedOnlyStorage cannot do the strategy 'moving-window'"):
        Limiter(FixedOnlyStorage(), strategy="moving-window")


def test_a_storage_of_limits_serves_an_app() -> None:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(Limiter(FixedOnlyStorage())("2/minute; 5/hour"))])
    async def home() -> None: ...

    client = TestClient(app)
    responses = [client.get("/") for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert responses[1].headers["RateLimit"] == '"2-per-minute";r=0;t=0, "5-per-hour";r=3;t=0'
    assert responses[2].headers["RateLimit"] == '"2-per-minute";r=0;t=0, "5-per-hour";r=3;t=0'


def counters_of(storage: Storage, strategy: Strategy = "fixed-window") -> StorageCounters:
    return StorageCounters(storage, strategy, timeout_seconds=5)


@pytest.mark.anyio
async def test_the_quota_holds_though_requests_interleave() -> None:
    counters = counters_of(FixedOnlyStorage())
    verdicts = await asyncio.gather(*[counters.take(parse_many("50/minute"), ("ann", "x"), 1) for _ in range(200)])
    assert sum(verdict.taken is not None for verdict in verdicts) == 50


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_cost_of_nothing_and_one_above_the_limit(strategy: Strategy) -> None:
    counters, items = counters_of(MemoryStorage(), strategy), parse_many("2/minute")
    assert [(await counters.take(items, ("ann",), cost)).taken is not None for cost in (1, 1, 0)] == [True, True, True]
    standings, taken = await counters.take(items, ("bob",), 3)
    assert (taken, standings[0].remaining, standings[0].retry_seconds) == (None, 2, 60.0)


@pytest.mark.anyio
async def test_what_was_charged_is_given_back_in_its_own_window(clock: Clock) -> None:
    counters, items = counters_of(MemoryStorage()), parse_many("2/minute; 9/hour")

    async def take(cost: int = 2) -> Taken | None:
        return (await counters.take(items, ("ann",), cost)).taken

    first = await take()
    assert first is not None
    assert await take(1) is None
    await counters.give_back(first)
    await counters.give_back(first)  # there is nothing left to give
    second = await take()
    assert second is not None
    clock.advance(61)
    third = await take(1)
    assert third is not None
    await counters.give_back(second)
    assert (await counters.take(items, ("ann",), 0)).standings[0].remaining == 1
    assert (await counters.take(items, ("ann",), 0)).standings[1].remaining == 8


@pytest.mark.anyio
async def test_a_storage_that_hangs_is_given_up_and_what_it_raises_is_known() -> None:
    class Hanging(FixedOnlyStorage):
        async def get(self, key: str) -> int:
            await asyncio.Event().wait()
            return 0

    counters = StorageCounters(Hanging(), "fixed-window", timeout_seconds=0.05)
    with pytest.raises(TimeoutError):
        await counters.take(parse_many("1/minute"), ("ann",), 1)
    assert {ValueError, TimeoutError, OSError} < set(counters.failures)
    app = FastAPI()
    app.add_api_route("/", lambda: 1, dependencies=[Depends(Limiter(Hanging(), timeout_seconds=0.05)("1/minute"))])
    assert [TestClient(app).get("/").status_code for _ in range(2)] == [200, 429]


@pytest.mark.anyio
async def test_other_windows_than_fixed_ones_can_give_nothing_back() -> None:
    counters = counters_of(MemoryStorage(), "moving-window")
    _, taken = await counters.take(parse_many("1/minute"), ("ann",), 1)
    assert taken is not None
    with pytest.raises(NotImplementedError):
        await counters.give_back(taken)
    with pytest.raises(ConfigurationError, match='only= needs strategy="fixed-window" in this storage'):
        Limiter(MemoryStorage(), strategy="moving-window")("1/minute", only={401})


@pytest.mark.anyio
async def test_reset_empties_the_storage_and_close_leaves_it_to_its_owner() -> None:
    limiter, items = Limiter(MemoryStorage(), prefix="shop"), parse_many("1/minute")
    counters = limiter._counters
    await counters.take(items, ("ann", "x"), 1)
    await limiter.aclose()
    assert (await counters.take(items, ("ann", "x"), 1)).taken is None
    await limiter.reset()
    assert (await counters.take(items, ("ann", "x"), 1)).taken is not None
