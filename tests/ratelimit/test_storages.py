"""From a URL to counters, and counters over a storage of one's own."""

import asyncio
import sys
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from limits import parse_many
from limits.aio.storage import MemoryStorage, Storage
from starlette.testclient import TestClient

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.ratelimit import Limiter
from fastapi_kit.ratelimit.memory import MemoryCounters
from fastapi_kit.ratelimit.storages import StorageCounters, open_counters


class FixedOnlyStorage(Storage):
    """A storage of a service's own that can do no moving window, and lets others run between its steps."""

    STORAGE_SCHEME = None

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


def test_memory_is_the_default() -> None:
    assert isinstance(open_counters("memory://", "fixed-window"), MemoryCounters)


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("mysql://app:s3cret@db/x", "mysql://"),
        ("redis://app:s3cret@cache:port", "redis://"),
        ("redis+cluster://app:s3cret@cache:7000", "redis+cluster://"),  # its client package is not installed
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


def test_a_missing_redis_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fastapi_kit.ratelimit.redis", raising=False)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'fastapi-service-kit\[redis\]'"):
        Limiter("redis://localhost:6379/0")


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


@pytest.mark.anyio
async def test_the_quota_holds_though_requests_interleave() -> None:
    counters = StorageCounters(FixedOnlyStorage(), "fixed-window")
    verdicts = await asyncio.gather(*[counters.take(parse_many("50/minute"), ("ann", "x"), 1) for _ in range(200)])
    assert sum(not verdict.refused for verdict in verdicts) == 50


@pytest.mark.anyio
async def test_reset_empties_the_storage_and_close_leaves_it_to_its_owner() -> None:
    storage = MemoryStorage()
    counters = StorageCounters(storage, "fixed-window")
    await counters.take(parse_many("1/minute"), ("ann", "x"), 1)
    await counters.aclose()
    assert (await counters.take(parse_many("1/minute"), ("ann", "x"), 1)).refused == (0,)
    await counters.reset()
    assert (await counters.take(parse_many("1/minute"), ("ann", "x"), 1)).refused == ()
