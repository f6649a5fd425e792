import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from fastapi_kit.ratelimit import Limiter

from .support import PATIENT, STRATEGIES


class Clock:
    """The time of day, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid4().hex}"


@pytest.fixture(params=[(storage, strategy) for storage in ["memory", "redis"] for strategy in STRATEGIES], ids=str)
async def limiter(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Limiter]:
    storage, strategy = request.param
    url = "memory://" if storage == "memory" else request.getfixturevalue("redis_url") + PATIENT
    limiter = Limiter(url, strategy=strategy, prefix=prefix)
    yield limiter
    await limiter.aclose()
