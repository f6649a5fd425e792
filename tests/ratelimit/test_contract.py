"""Memory and Redis count alike: the same hits at the same times get the same answers.

The time of Redis cannot be moved, so it passes in the data: each key expires sooner, each remembered hit was earlier.
No decision may be near the end of something, where a slow machine could decide it otherwise. So the windows are days
long, and the random times are multiples of 10,210 s: with windows of 864,000 and 2,592,000 s and amounts of at most 7,
each is more than a second away from any moment at which a window ends, a hit leaves or a share falls by one. (1021 is
prime to 86,400, so time x amount is no multiple of a window, and both are multiples of 10 s: at least 10 / 7 s off.)
"""

import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from limits import RateLimitItem, parse_many
from redis.asyncio import Redis

from fastapi_kit.ratelimit.counters import Counters, Standing, Strategy, Taken, Verdict
from fastapi_kit.ratelimit.memory import MemoryCounters
from fastapi_kit.ratelimit.redis import RedisCounters

STRATEGIES: list[Strategy] = ["fixed-window", "moving-window", "sliding-window-counter"]
PATIENT_SECONDS = 30.0  # a busy machine must not look like a hung Redis
DAY = 24 * 3600
GRID_SECONDS = 10_210


def items_of(rates: str) -> tuple[RateLimitItem, ...]:
    return tuple(parse_many(rates))


class InMemory:
    """Counts in memory, whose time is set."""

    def __init__(self, strategy: Strategy, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_800_000_000.0
        self.counters: Counters = MemoryCounters(strategy)
        monkeypatch.setattr(time, "time", lambda: self.now)

    async def pass_time(self, seconds: int) -> None:
        self.now += seconds


# In one step, so that none of the real time is lost between the reading and the writing.
_PASS_TIME = """
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
    local left = redis.call('PTTL', key) - ARGV[2] * 1000
    if left <= 0 then
        redis.call('DEL', key)
    else
        if redis.call('TYPE', key).ok == 'list' then
            for at, hit in ipairs(redis.call('LRANGE', key, 0, -1)) do
                redis.call('LSET', key, at - 1, string.format('%.6f', hit - ARGV[2]))
            end
        end
        redis.call('PEXPIRE', key, left)
    end
end
"""


class InRedis:
    """Counts in Redis, in whose data time passes."""

    def __init__(self, strategy: Strategy, url: str, prefix: str) -> None:
        self.counters: Counters = RedisCounters(url, strategy, timeout_seconds=PATIENT_SECONDS)
        self._redis: Any = Redis.from_url(url)
        self._prefix = prefix
        self._passed = 0
        self._passed_at: dict[int, int] = {}

    async def pass_time(self, seconds: int) -> None:
        self._passed += seconds
        await self._redis.eval(_PASS_TIME, 0, f"*{self._prefix}*", seconds)

    async def now(self) -> float:
        seconds, microseconds = await self._redis.time()
        return float(seconds + microseconds / 1e6 + self._passed)

    async def take(self, items: tuple[RateLimitItem, ...], bucket: tuple[str, ...], cost: int) -> Verdict:
        verdict = await self.counters.take(items, bucket, cost)
        if verdict.taken is not None:
            self._passed_at[id(verdict.taken)] = self._passed
        return verdict

    async def give_back(self, taken: Taken) -> None:
        """Give back what was charged by a mark as it reads now that time has passed in the data."""
        await self.counters.give_back(earlier(taken, self._passed - self._passed_at[id(taken)]))

    async def aclose(self) -> None:
        await self.counters.reset(self._prefix)
        await self.counters.aclose()
        await self._redis.aclose()


World = InMemory | InRedis


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> Strategy:
    strategy: Strategy = request.param
    return strategy


@pytest.fixture
def in_memory(strategy: Strategy, monkeypatch: pytest.MonkeyPatch) -> InMemory:
    return InMemory(strategy, monkeypatch)


@pytest.fixture
async def in_redis(strategy: Strategy, redis_url: str, prefix: str) -> AsyncIterator[InRedis]:
    world = InRedis(strategy, redis_url, prefix)
    yield world
    await world.aclose()


@pytest.fixture(params=["memory", "redis"])
async def world(
    request: pytest.FixtureRequest, strategy: Strategy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    if request.param == "memory":
        yield InMemory(strategy, monkeypatch)
        return
    world = InRedis(strategy, request.getfixturevalue("redis_url"), prefix)
    yield world
    await world.aclose()


def earlier(taken: Taken, seconds: int) -> Taken:
    """Return what would have been charged so long before."""
    return Taken(taken.items, taken.bucket, taken.cost, tuple(mark - seconds for mark in taken.marks))


async def left(world: World, rates: str, bucket: tuple[str, ...]) -> list[int]:
    """Return what is left of each limit."""
    return [standing.remaining for standing in (await world.counters.take(items_of(rates), bucket, 0)).standings]


def is_near(one: Standing, other: Standing, tolerance: float = 0.05) -> bool:
    return (
        one.remaining == other.remaining
        and abs(one.reset_seconds - other.reset_seconds) <= tolerance
        and abs(one.retry_seconds - other.retry_seconds) <= tolerance
    )


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(6))
async def test_the_same_sequence_gets_the_same_verdicts(
    in_memory: InMemory, in_redis: InRedis, seed: int, prefix: str
) -> None:
    items = items_of("5/10 day; 7/30 day")
    chance = random.Random(seed)
    taken: list[tuple[Taken, Taken]] = []
    seen: set[tuple[int, bool]] = set()
    for _ in range(100):
        step = chance.choice(["take"] * 6 + ["give back", "wait", "wait"])
        if step == "wait":
            seconds = GRID_SECONDS * chance.choice([1, 3, 5, 10, 17, 20, 37, 60, 90, 280])
            await in_memory.pass_time(seconds)
            await in_redis.pass_time(seconds)
            continue
        before = in_memory.now = await in_redis.now()  # so that how long the machine takes makes no difference
        if step == "give back" and taken:
            taken_here, taken_there = taken.pop(chance.randrange(len(taken)))
            await in_memory.counters.give_back(taken_here)
            await in_redis.give_back(taken_there)
        cost = chance.choice([0, 1, 1, 1, 1, 2, 3, 6, 8])
        here = await in_memory.counters.take(items, (prefix, "who"), cost)
        there = await in_redis.take(items, (prefix, "who"), cost)
        tolerance = 0.05 + await in_redis.now() - before
        for mine, theirs in zip(here.standings, there.standings, strict=True):
            assert is_near(mine, theirs, tolerance), (mine, theirs)
        assert (here.taken is None) == (there.taken is None)
        seen.add((cost, here.taken is not None))
        if here.taken is not None and there.taken is not None:
            taken.append((here.taken, there.taken))
    assert {(0, True), (1, True), (1, False), (8, False)} <= seen


@pytest.mark.anyio
async def test_a_refused_request_consumes_nothing_of_any_limit(world: World, prefix: str) -> None:
    rates = "2/day; 9/10 day"
    verdicts = [await world.counters.take(items_of(rates), (prefix, "who"), 1) for _ in range(4)]
    assert [verdict.taken is not None for verdict in verdicts] == [True, True, False, False]
    assert [standing.remaining for standing in verdicts[3].standings] == [0, 7]
    assert verdicts[3].standings[0].retry_seconds > 0
    assert verdicts[3].standings[1].retry_seconds == 0
    await world.pass_time(2 * DAY)
    assert await left(world, rates, (prefix, "who")) == [2, 7]


@pytest.mark.anyio
async def test_a_refused_request_does_not_open_a_window(world: World, prefix: str) -> None:
    assert (await world.counters.take(items_of("1/day; 5/10 day"), (prefix, "who"), 2)).taken is None
    await world.pass_time(DAY // 2)
    verdict = await world.counters.take(items_of("1/day"), (prefix, "who"), 1)
    assert is_near(verdict.standings[0], Standing(0, DAY))


@pytest.mark.anyio
async def test_a_cost_above_the_amount_is_refused_for_the_length_of_the_window(world: World, prefix: str) -> None:
    for expected in (Standing(5, 0, DAY), Standing(3, DAY, DAY)):
        verdict = await world.counters.take(items_of("5/day"), (prefix, "who"), 6)
        assert verdict.taken is None
        assert is_near(verdict.standings[0], expected)
        await world.counters.take(items_of("5/day"), (prefix, "who"), 2)


@pytest.mark.anyio
async def test_a_cost_of_nothing_is_never_refused_and_opens_no_window(world: World, prefix: str) -> None:
    items = items_of("1/day")
    verdict = await world.counters.take(items, (prefix, "who"), 0)
    assert verdict.taken is not None
    assert is_near(verdict.standings[0], Standing(1, 0))
    await world.counters.give_back(verdict.taken)
    await world.pass_time(DAY // 2)
    assert is_near((await world.counters.take(items, (prefix, "who"), 1)).standings[0], Standing(0, DAY))
    verdict = await world.counters.take(items, (prefix, "who"), 0)
    assert verdict.taken is not None
    assert is_near(verdict.standings[0], Standing(0, DAY))


@pytest.mark.anyio
@pytest.mark.parametrize("cost", [1, 2, 3])
async def test_a_refused_request_passes_when_it_is_told_and_no_sooner(world: World, prefix: str, cost: int) -> None:
    items = items_of("3/day")
    for _ in range(3):
        await world.counters.take(items, (prefix, "who"), 1)
        await world.pass_time(3 * 3600)
    refused = (await world.counters.take(items, (prefix, "who"), cost)).standings[0]
    await world.pass_time(round(refused.retry_seconds) - 60)
    again = await world.counters.take(items, (prefix, "who"), cost)
    assert again.taken is None
    assert abs(again.standings[0].retry_seconds - 60) < 5
    await world.pass_time(120)
    assert (await world.counters.take(items, (prefix, "who"), cost)).taken is not None


@pytest.mark.anyio
async def test_what_is_used_comes_back_when_it_is_told(world: World, prefix: str) -> None:
    items = items_of("4/day")
    for _ in range(3):
        await world.counters.take(items, (prefix, "who"), 1)
        await world.pass_time(3600)
    first = (await world.counters.take(items, (prefix, "who"), 0)).standings[0]
    await world.pass_time(round(first.reset_seconds) - 60)
    assert await left(world, "4/day", (prefix, "who")) == [1]
    await world.pass_time(10 * 3600)  # a share of the window that was falls
    assert (await left(world, "4/day", (prefix, "who")))[0] > 1


@pytest.mark.anyio
async def test_what_was_charged_can_be_given_back(world: World, prefix: str) -> None:
    rates = "4/day; 9/10 day"
    await world.counters.take(items_of(rates), (prefix, "who"), 1)
    taken = (await world.counters.take(items_of(rates), (prefix, "who"), 3)).taken
    assert taken is not None
    assert await left(world, rates, (prefix, "who")) == [0, 5]
    await world.counters.give_back(taken)
    assert await left(world, rates, (prefix, "who")) == [3, 8]


@pytest.mark.anyio
async def test_what_was_given_back_to_nothing_leaves_nothing(world: World, prefix: str) -> None:
    items = items_of("4/day")
    taken = (await world.counters.take(items, (prefix, "who"), 3)).taken
    assert taken is not None
    await world.counters.give_back(taken)
    assert is_near((await world.counters.take(items, (prefix, "who"), 0)).standings[0], Standing(4, 0))
    await world.counters.give_back(taken)  # never below nothing
    assert is_near((await world.counters.take(items, (prefix, "who"), 0)).standings[0], Standing(4, 0))


@pytest.mark.anyio
async def test_a_later_window_is_not_given_what_an_earlier_one_was_charged(world: World, prefix: str) -> None:
    items = items_of("4/day")
    taken = (await world.counters.take(items, (prefix, "who"), 2)).taken
    assert taken is not None
    await world.pass_time(3 * DAY)
    await world.counters.take(items, (prefix, "who"), 1)
    await world.counters.give_back(earlier(taken, 3 * DAY) if isinstance(world, InRedis) else taken)
    assert await left(world, "4/day", (prefix, "who")) == [3]


@pytest.mark.anyio
async def test_who_is_counted_apart_stays_apart(world: World, prefix: str) -> None:
    await world.counters.take(items_of("4/day"), (prefix, "who"), 3)
    assert await left(world, "4/day", (prefix, "other")) == [4]
    assert await left(world, "5/day", (prefix, "who")) == [5]


@pytest.mark.anyio
async def test_counts_of_one_prefix_are_forgotten_and_no_others(world: World, prefix: str) -> None:
    mine, others = f"{prefix}-[*]?", f"{prefix}-[*]?x"
    for first in (mine, others):
        await world.counters.take(items_of("4/day; 9/10 day"), (first, "who", "where"), 3)
    await world.counters.reset(mine)
    assert await left(world, "4/day; 9/10 day", (mine, "who", "where")) == [4, 9]
    assert await left(world, "4/day; 9/10 day", (others, "who", "where")) == [1, 6]
