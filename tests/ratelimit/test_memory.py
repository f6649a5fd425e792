"""Counts in memory agree with the engine's own, and expired ones go."""

import random
from typing import get_args

import pytest
from limits import RateLimitItem, parse, parse_many
from limits.aio.storage import MemoryStorage

from fastapi_kit.ratelimit import Strategy
from fastapi_kit.ratelimit.counters import Verdict
from fastapi_kit.ratelimit.memory import MemoryCounters
from fastapi_kit.ratelimit.storages import StorageCounters

from .conftest import Clock

STRATEGIES = get_args(Strategy)
BUCKET = ("192.0.2.1", "GET /items")


async def take(counters: MemoryCounters, rates: str, who: str = "ann", cost: int = 1) -> Verdict:
    return await counters.take(parse_many(rates), (who, "GET /items"), cost)


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("seed", range(5))
async def test_a_long_sequence_of_hits_has_the_verdicts_of_the_engine(
    strategy: Strategy, seed: int, clock: Clock
) -> None:
    rng = random.Random(seed)
    own, engine = MemoryCounters(strategy), StorageCounters(MemoryStorage(), strategy)
    items: list[RateLimitItem] = [parse("7/10 second"), parse("20/minute")]
    refusals = 0
    for hit in range(600):
        cost = rng.choice([1, 1, 1, 2, 3])
        verdict, expected = await own.take(items, BUCKET, cost), await engine.take(items, BUCKET, cost)
        assert verdict.refused == expected.refused
        for window, other in zip(verdict.windows, expected.windows, strict=True):
            assert window.remaining == other.remaining
            # The engine says 0 s at the very start of a sliding window, and anything of an unused one.
            if hit and other.remaining < 7:
                assert window.reset_time == pytest.approx(other.reset_time, abs=1e-6)
        refusals += bool(verdict.refused)
        # Odd steps, since engine and storage disagree on whether a hit of exactly one window ago counts.
        clock.advance(rng.choice([0.001, 0.4, 1.0, 2.5, 8.0]) * rng.uniform(0.9, 1.0))
    assert 50 < refusals < 550


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("strategy", "later"),
    [("fixed-window", 10.0), ("moving-window", 10.0), ("sliding-window-counter", 20.0)],
)
async def test_all_is_back_after_the_windows_have_passed(strategy: Strategy, later: float, clock: Clock) -> None:
    counters = MemoryCounters(strategy)
    clock.advance(3.3)
    assert (await take(counters, "4/10 second", cost=4)).windows[0].remaining == 0
    assert (await take(counters, "4/10 second")).refused == (0,)
    clock.advance(later)
    verdict = await take(counters, "4/10 second", cost=4)
    assert (verdict.refused, verdict.windows[0].remaining) == ((), 0)


@pytest.mark.anyio
async def test_the_sliding_window_gives_back_the_share_that_has_slid_out(clock: Clock) -> None:
    counters = MemoryCounters("sliding-window-counter")
    clock.advance(4)  # windows begin with the first hit, as in Redis
    await take(counters, "10/10 second", cost=10)
    clock.advance(15)  # half of the last window's hits still count
    verdict = await take(counters, "10/10 second", cost=5)
    assert (verdict.refused, verdict.windows[0].remaining) == ((), 0)
    assert (await take(counters, "10/10 second")).refused == (0,)
    assert verdict.windows[0].reset_time == pytest.approx(clock.now, abs=1.0)


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_limit_that_was_never_used_has_nothing_to_wait_for(strategy: Strategy, clock: Clock) -> None:
    counters = MemoryCounters(strategy)
    await take(counters, "1/minute")
    verdict = await take(counters, "1/minute; 9/hour")
    assert verdict.refused == (0,)
    assert verdict.windows[1] == (clock.now, 9)
    assert len(counters) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_expired_keys_go_as_new_ones_come(strategy: Strategy, clock: Clock) -> None:
    counters = MemoryCounters(strategy)
    for number in range(100):
        await take(counters, "5/second", who=f"flood {number}")
    await take(counters, "5/hour", who="victim", cost=5)
    assert len(counters) == 101
    clock.advance(3)
    for number in range(60):
        await take(counters, "5/minute", who=f"later {number}")
    assert len(counters) == 61
    assert (await take(counters, "5/hour", who="victim")).refused == (0,)


@pytest.mark.anyio
async def test_a_key_in_use_outlives_the_end_of_its_first_window(clock: Clock) -> None:
    counters = MemoryCounters("moving-window")
    await take(counters, "2/10 second")
    clock.advance(9)
    await take(counters, "2/10 second")
    clock.advance(2)
    await take(counters, "2/10 second", who="bob")  # sweeps
    verdict = await take(counters, "2/10 second", cost=2)
    assert (verdict.refused, verdict.windows[0].remaining) == ((0,), 1)
    assert verdict.windows[0].reset_time == pytest.approx(clock.now + 8)


@pytest.mark.anyio
async def test_a_key_that_comes_back_before_it_was_swept_is_held_once(clock: Clock) -> None:
    counters = MemoryCounters("fixed-window")
    for number in range(6):
        await take(counters, "1/second", who=f"user {number}")
        clock.advance(0.01)
    clock.advance(1)
    assert (await take(counters, "1/second", who="user 5")).refused == ()
    assert len(counters) == 4
    for number in range(4):
        await take(counters, "1/second", who=f"other {number}")
    assert len(counters) == 5
    assert (await take(counters, "1/second", who="user 5")).refused == (0,)


@pytest.mark.anyio
async def test_a_key_that_comes_back_is_held_once(clock: Clock) -> None:
    counters = MemoryCounters("fixed-window")
    for _ in range(50):
        assert (await take(counters, "1/second", who="ann")).refused == ()
        clock.advance(1.5)
    assert len(counters) == 1
    await counters.reset()
    assert len(counters) == 0


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_key_whose_attempts_were_given_back_is_held_once_and_swept_like_any(
    strategy: Strategy, clock: Clock
) -> None:
    counters, items = MemoryCounters(strategy), parse_many("2/minute")
    for _ in range(3):
        await counters.take_attempt(items, BUCKET)
        clock.advance(20)
        await counters.give_back(parse_many("2/minute; 9/hour"), BUCKET)
    await counters.give_back(items, BUCKET)
    assert (await counters.take_attempt(items, BUCKET)).windows[0].remaining == 1
    assert len(counters) == 1
    clock.advance(61)
    for number in range(2):
        await take(counters, "1/minute", who=f"other {number}")
    assert len(counters) == 2
