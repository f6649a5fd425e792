"""What a request pays for a rate limit with its fields: in memory, and in Redis.

In memory against `limits.aio` written in the endpoint, in Redis against slowapi's decorator. slowapi is synchronous, so
of several requests at once each waits for those before it; `limits.aio` on redis-py's client is what is left when it
does not block. The limits are so high that nothing is refused.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import slowapi
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from limits import parse
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import STRATEGIES
from redis.asyncio.connection import BlockingConnectionPool
from slowapi.util import get_remote_address

from benchmarks.data import Scenario
from benchmarks.measure import compare, request
from benchmarks.network import REDIS_URL, network
from fastapi_kit import ratelimit
from fastapi_kit.ratelimit import Limiter, Strategy

RATE = "1000000/minute"
PREFIX = "kit-bench"
AT_ONCE = 20
WARM_UP_BLOCKS, COUNTED_REQUESTS = 5, 20
NETWORK_SECONDS = 0.001

LIMITED = Scenario("limited", "/limited", aim=1.15)
REDIS_AIM = 0.5


@dataclass(frozen=True)
class InMemory:
    """µs a request by hand and of the kit, and the median ratio of neighbouring blocks."""

    name: str
    hand_us: float
    kit_us: float
    ratio: float
    aim: float


@dataclass(frozen=True)
class InRedis:
    """µs a request, wall time and CPU time of the app's process, for slowapi, by hand and the kit.

    `ratio` is the median ratio of the kit to slowapi in neighbouring blocks.
    """

    name: str
    wall_us: tuple[float, float, float]
    cpu_us: tuple[float, float, float]
    ratio: float
    aim: float


def by_hand(strategy: Strategy, storage: Storage) -> FastAPI:
    app = FastAPI()
    engine: Callable[[Storage], Any] = STRATEGIES[strategy]
    limiter, limit = engine(storage), parse(RATE)

    @app.get("/limited")
    async def limited(request: Request, response: Response) -> dict[str, str]:
        client = request.client.host if request.client else ""
        allowed = await limiter.hit(limit, PREFIX, client, "limited")
        window = await limiter.get_window_stats(limit, PREFIX, client, "limited")
        if not allowed:
            raise HTTPException(429, headers={"Retry-After": str(int(window.reset_time))})
        response.headers["RateLimit"] = f'"default";r={window.remaining};t={int(window.reset_time)}'
        response.headers["RateLimit-Policy"] = f'"default";q={limit.amount};w={limit.get_expiry()}'
        return {"status": "ok"}

    return app


def by_kit(limiter: Limiter, *, installed: bool = False) -> FastAPI:
    app = FastAPI()
    if installed:
        ratelimit.install(app)

    @app.get("/limited", dependencies=[Depends(limiter(RATE))])
    async def limited() -> dict[str, str]:
        return {"status": "ok"}

    return app


def by_slowapi(url: str) -> FastAPI:
    app = FastAPI()
    limiter = slowapi.Limiter(get_remote_address, storage_uri=url, headers_enabled=True, key_prefix=PREFIX)
    app.state.limiter = limiter

    @app.get("/limited")
    @limiter.limit(RATE)
    async def limited(request: Request, response: Response) -> dict[str, str]:
        return {"status": "ok"}

    return app


async def measure_memory() -> AsyncGenerator[InMemory]:
    """Yield one result after the other: each strategy, as a dependency alone and with `ratelimit.install`."""
    strategies: tuple[Strategy, ...] = ("fixed-window", "moving-window", "sliding-window-counter")
    for strategy in strategies:
        for installed in (False, True):
            hand, kit = by_hand(strategy, MemoryStorage()), by_kit(Limiter(strategy=strategy), installed=installed)
            result = await compare(hand, kit, LIMITED)
            name = f"{strategy}{', installed' if installed else ''}"
            yield InMemory(name, result.first_us, result.second_us, result.ratio, LIMITED.aim)


async def measure_redis() -> AsyncGenerator[InRedis]:
    """Yield one result after the other, all on the Redis at `REDIS_URL`."""
    async with _Apps(REDIS_URL) as apps:
        yield await _compare("loopback", apps.all, _one_by_one, blocks=150, size=10)
        yield await _compare(f"loopback, {AT_ONCE} at once", apps.all, _at_once, blocks=100, size=AT_ONCE)
    with network() as relay:
        relay.take(NETWORK_SECONDS)
        async with _Apps(relay.url) as apps:
            name = f"{NETWORK_SECONDS * 1000:.0f} ms away"
            yield await _compare(name, apps.all, _one_by_one, blocks=60, size=10)
            yield await _compare(f"{name}, {AT_ONCE} at once", apps.all, _at_once, blocks=60, size=AT_ONCE)


async def count_round_trips() -> tuple[float, float, float]:
    """Return how often a request of slowapi, by hand and of the kit asks Redis, on connections that are open."""
    figures = []
    with network() as relay:
        async with _Apps(relay.url) as apps:
            for app in apps.all:
                await _one_by_one(app, WARM_UP_BLOCKS)
                before = relay.round_trips()
                await _one_by_one(app, COUNTED_REQUESTS)
                figures.append((relay.round_trips() - before) / COUNTED_REQUESTS)
    slow, hand, kit = figures
    return slow, hand, kit


class _Apps:
    """slowapi's app, the one by hand and the kit's, on one Redis; at the end their counts are forgotten."""

    def __init__(self, url: str) -> None:
        make: Any = BlockingConnectionPool.from_url
        self._pool: Any = make(url, max_connections=AT_ONCE, timeout=5)
        storage = RedisStorage(f"async+{url}", implementation="redispy", connection_pool=self._pool)
        # With "deny", a Redis that fails is a 503, which stops the benchmark: it would measure memory otherwise.
        self._limiter = Limiter(url, prefix=PREFIX, on_failure="deny")
        self.all = (by_slowapi(url), by_hand("fixed-window", storage), by_kit(self._limiter))

    async def __aenter__(self) -> "_Apps":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._limiter.reset()
        await self._limiter.aclose()
        await self._pool.disconnect()


async def _one_by_one(app: FastAPI, requests: int) -> None:
    for _ in range(requests):
        await request(app, LIMITED)


async def _at_once(app: FastAPI, requests: int) -> None:
    await asyncio.gather(*(request(app, LIMITED) for _ in range(requests)))


async def _compare(
    name: str, apps: Sequence[FastAPI], run: Callable[[FastAPI, int], Awaitable[None]], *, blocks: int, size: int
) -> InRedis:
    """Time blocks of each app in turn; the order turns, too."""
    rounds: list[tuple[list[float], list[float]]] = []
    for number in range(WARM_UP_BLOCKS + blocks):
        wall, cpu = [0.0] * len(apps), [0.0] * len(apps)
        for at in range(len(apps)) if number % 2 else reversed(range(len(apps))):
            start, cpu_start = time.perf_counter(), time.process_time()
            await run(apps[at], size)
            cpu[at] = (time.process_time() - cpu_start) / size * 1e6
            wall[at] = (time.perf_counter() - start) / size * 1e6
        if number >= WARM_UP_BLOCKS:
            rounds.append((wall, cpu))
    return InRedis(
        name=name,
        wall_us=_medians([wall for wall, _ in rounds]),
        cpu_us=_medians([cpu for _, cpu in rounds]),
        ratio=statistics.median(wall[-1] / wall[0] for wall, _ in rounds),
        aim=REDIS_AIM,
    )


def _medians(rows: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    slow, hand, kit = map(statistics.median, zip(*rows, strict=True))
    return slow, hand, kit
