"""What counting in memory promises beyond the port: exact to the moment, bounded, safe from floods and threads."""

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import RateLimitItem, parse, parse_many

from fastapi_kit.ratelimit import Strategy
from fastapi_kit.ratelimit.counters import Standing, Taken, Verdict
from fastapi_kit.ratelimit.keys import stored_key
from fastapi_kit.ratelimit.memory import MemoryCounters

from .conftest import Clock
from .support import STRATEGIES

T = TypeVar("T")
LENGTH = {"fixed-window": 1, "moving-window": 1, "sliding-window-counter": 2}
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a call that never suspends."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    result: T = stopped.value.value
    return result


def take(counters: MemoryCounters, rates: str = "4/8 second", who: str = "ann", cost: int = 1) -> Verdict:
    return now(counters.take(parse_many(rates), (who, "GET /items"), cost))


def passes(counters: MemoryCounters, rates: str = "4/8 second", who: str = "ann", cost: int = 1) -> bool:
    return take(counters, rates, who, cost).taken is not None


def taken(verdict: Verdict) -> Taken:
    assert verdict.taken is not None
    return verdict.taken


class Model(Protocol):
    """A strategy as one would explain it: the hits, each a time and a cost."""

    hits: list[tuple[float, int]]

    def used(self, at: float) -> int: ...

    def hit(self, at: float, cost: int) -> None: ...


SECONDS = 8


class FixedModel:
    def __init__(self) -> None:
        self.hits: list[tuple[float, int]] = []
        self.began = -1000.0

    def used(self, at: float) -> int:
        return sum(cost for when, cost in self.hits if self.began <= when and at < self.began + SECONDS)

    def hit(self, at: float, cost: int) -> None:
        if not self.used(at):
            self.began = at
            self.hits.clear()
        self.hits.append((at, cost))


class MovingModel:
    def __init__(self) -> None:
        self.hits: list[tuple[float, int]] = []

    def used(self, at: float) -> int:
        return sum(cost for when, cost in self.hits if when > at - SECONDS)

    def hit(self, at: float, cost: int) -> None:
        self.hits.append((at, cost))


class SlidingModel:
    """Windows in a row from the first hit on; nothing is left when the one after the last charged is over."""

    def __init__(self) -> None:
        self.hits: list[tuple[float, int]] = []
        self.began = self.last_charged = -1000.0

    def _window(self, at: float) -> float:
        return (at - self.began) // SECONDS

    def _over(self, at: float) -> bool:
        return self._window(at) >= self._window(self.last_charged) + 2

    def used(self, at: float) -> int:
        if self._over(at):
            return 0
        this = self._window(at)
        elapsed = (at - self.began) % SECONDS
        before = sum(cost for when, cost in self.hits if self._window(when) == this - 1)
        within = sum(cost for when, cost in self.hits if self._window(when) == this)
        return int(before * (SECONDS - elapsed) // SECONDS) + within

    def vanish_if_empty(self) -> None:
        kept = self._window(self.last_charged) - 1
        if all(self._window(when) < kept for when, _ in self.hits):
            self.began = self.last_charged = -1000.0

    def hit(self, at: float, cost: int) -> None:
        if self._over(at):
            self.began = at
            self.hits.clear()
        self.last_charged = at
        self.hits.append((at, cost))


MODELS: dict[Strategy, Callable[[], Model]] = {
    "fixed-window": FixedModel,
    "moving-window": MovingModel,
    "sliding-window-counter": SlidingModel,
}
# Steps in eighths of a second, so that all sums are exact.
STEPS = st.tuples(st.integers(0, 80), st.integers(0, 6), st.sampled_from(["take", "take", "take", "give back"]))


@every_strategy
@settings(max_examples=300, deadline=None)
@given(steps=st.lists(STEPS, max_size=40), amount=st.integers(1, 9))
def test_any_sequence_has_the_verdicts_of_the_plain_model(
    strategy: Strategy, steps: Sequence[tuple[int, int, str]], amount: int
) -> None:
    clock, counters, model = Clock(), MemoryCounters(strategy), MODELS[strategy]()
    charges: list[tuple[Taken, tuple[float, int]]] = []
    with mock.patch("time.time", clock):
        for eighths, cost, action in steps:
            clock.advance(eighths / 8)
            if action == "give back" and charges:
                charge, hit = charges.pop(cost % len(charges))
                now(counters.give_back(charge))
                if hit in model.hits:
                    model.hits.remove(hit)
                if isinstance(model, SlidingModel):
                    model.vanish_if_empty()
            used = model.used(clock.now)
            standing = take(counters, f"{amount}/{SECONDS} second", cost=0).standings[0]
            assert (standing.remaining, standing.retry_seconds) == (amount - used, 0)
            assert (standing.reset_seconds == 0) <= (used == 0 or strategy == "sliding-window-counter")
            verdict = take(counters, f"{amount}/{SECONDS} second", cost=cost)
            assert (verdict.taken is None) == (cost > 0 and used + cost > amount)
            if verdict.taken is None:
                assert verdict.standings[0][:2] == standing[:2]
                assert verdict.standings[0].retry_seconds > 0
            elif cost:
                model.hit(clock.now, cost)
                charges.append((verdict.taken, model.hits[-1]))
                assert verdict.standings[0].remaining == amount - model.used(clock.now)


@every_strategy
@settings(max_examples=300, deadline=None)
@given(steps=st.lists(STEPS, max_size=20), amount=st.integers(1, 9), cost=st.integers(1, 9))
def test_a_refused_request_passes_when_its_time_has_come_and_not_before(
    strategy: Strategy, steps: Sequence[tuple[int, int, str]], amount: int, cost: int
) -> None:
    clock, counters, rate = Clock(), MemoryCounters(strategy), f"{amount}/{SECONDS} second"
    cost = min(cost, amount)
    with mock.patch("time.time", clock):
        for eighths, each, _ in steps:
            clock.advance(eighths / 8)
            take(counters, rate, cost=each)
        while passes(counters, rate, cost=cost):
            pass
        retry = take(counters, rate, cost=cost).standings[0].retry_seconds
        if retry > 0.01:
            clock.advance(retry - 0.01)
            assert not passes(counters, rate, cost=cost)
            clock.advance(0.01)
        else:
            clock.advance(retry)
        clock.advance(1e-6)
        assert passes(counters, rate, cost=cost)


@every_strategy
@settings(max_examples=200, deadline=None)
@given(steps=st.lists(STEPS, min_size=1, max_size=20), amount=st.integers(1, 9))
def test_some_of_what_is_used_comes_back_at_the_reset_and_not_before(
    strategy: Strategy, steps: Sequence[tuple[int, int, str]], amount: int
) -> None:
    clock, counters, rate = Clock(), MemoryCounters(strategy), f"{amount}/{SECONDS} second"
    with mock.patch("time.time", clock):
        for eighths, each, _ in steps:
            clock.advance(eighths / 8)
            take(counters, rate, cost=each)
        remaining, reset, _ = take(counters, rate, cost=0).standings[0]
        if remaining == amount:
            assert reset == 0
            return
        clock.advance(max(0, reset - 0.01))
        if reset > 0.01:
            assert take(counters, rate, cost=0).standings[0].remaining == remaining
        clock.advance(0.01 + 1e-6)
        after = take(counters, rate, cost=0).standings[0].remaining
        # All of a window that has just ended is still in the share of it, which falls by one in time.
        assert after > remaining or (strategy == "sliding-window-counter" and after == remaining)


@every_strategy
def test_a_cost_above_the_limit_is_refused_for_a_window(strategy: Strategy, clock: Clock) -> None:
    counters = MemoryCounters(strategy)
    assert take(counters, cost=5).standings == (Standing(4, 0.0, 8.0),)
    take(counters)
    clock.advance(1)
    standing = take(counters, cost=5).standings[0]
    assert (standing.remaining, standing.retry_seconds) == (3, 8.0)


@every_strategy
def test_if_one_limit_refuses_none_is_charged_and_the_others_say_how_they_stand(
    strategy: Strategy, clock: Clock
) -> None:
    counters = MemoryCounters(strategy)
    assert [each.remaining for each in take(counters, "1/minute; 9/hour").standings] == [0, 8]
    for _ in range(3):
        verdict = take(counters, "1/minute; 9/hour; 5/day")
        assert verdict.taken is None
        assert [each.remaining for each in verdict.standings] == [0, 8, 5]
        assert [each.retry_seconds > 0 for each in verdict.standings] == [True, False, False]
        assert verdict.standings[2].reset_seconds == 0
    assert len(counters) == 2


@every_strategy
def test_a_cost_of_nothing_passes_where_nothing_is_left_and_is_not_kept(strategy: Strategy, clock: Clock) -> None:
    counters = MemoryCounters(strategy)
    now(counters.give_back(taken(take(counters, cost=0))))
    assert len(counters) == 0
    take(counters, cost=4)
    assert take(counters, cost=0).standings[0].remaining == 0
    assert passes(counters, cost=0)


@every_strategy
def test_what_is_given_back_can_be_used_again_and_only_once_its_window_is_not_over(
    strategy: Strategy, clock: Clock
) -> None:
    counters = MemoryCounters(strategy)
    first = taken(take(counters, cost=4))
    clock.advance(1)
    assert not passes(counters)
    now(counters.give_back(first))
    assert take(counters, cost=0).standings[0].remaining == 4
    late = taken(take(counters, cost=4))
    clock.advance(8.0 * LENGTH[strategy])
    now(counters.give_back(late))  # over, with nobody after it
    other = taken(take(counters, cost=3))
    now(counters.give_back(late))  # over, with another one open
    assert take(counters, cost=0).standings[0].remaining == 1
    now(counters.give_back(other))
    assert take(counters, cost=0).standings[0].remaining == 4


def test_a_hit_of_the_previous_sliding_window_is_given_back_there(clock: Clock) -> None:
    counters = MemoryCounters("sliding-window-counter")
    early = taken(take(counters, cost=4))
    clock.advance(10)
    assert take(counters, cost=1).standings[0].remaining == 0  # 3 of 4, and 1
    now(counters.give_back(early))
    assert take(counters, cost=0).standings[0].remaining == 3


def test_an_emptied_fixed_window_is_gone_and_the_next_hit_opens_another(clock: Clock) -> None:
    counters = MemoryCounters("fixed-window")
    first = taken(take(counters))
    clock.advance(7)
    now(counters.give_back(first))
    assert len(counters) == 0
    assert take(counters).standings[0].reset_seconds == 8


@every_strategy
def test_a_clock_that_is_set_back_neither_resets_nor_prolongs_anything(strategy: Strategy, clock: Clock) -> None:
    counters = MemoryCounters(strategy)
    take(counters, cost=3)
    clock.advance(4)
    take(counters, cost=1)
    retry = take(counters, cost=4).standings[0].retry_seconds
    clock.advance(-3600)
    assert take(counters, cost=4).standings[0].retry_seconds == pytest.approx(retry)
    clock.advance(retry + 0.001)
    assert passes(counters, cost=4)


@every_strategy
def test_a_flood_of_keys_frees_no_count_passes_no_quota_and_is_bounded(strategy: Strategy, clock: Clock) -> None:
    counters = MemoryCounters(strategy, max_keys=100)
    take(counters, "5/hour", who="victim", cost=5)
    passed = sum(passes(counters, "5/hour", who=f"flood {number}", cost=5) for number in range(1000))
    assert 900 < passed <= 1000  # some share a count
    assert len(counters) == 1 + passed
    assert not any(passes(counters, "5/hour", who=f"flood {number}") for number in range(1000))
    assert not passes(counters, "5/hour", who="victim")
    assert passes(counters, "6/hour", who="victim")  # another limit shares with others of its own
    assert passes(counters, "5/minute", who="victim")


@every_strategy
def test_at_most_so_many_counts_are_shared_however_many_keys_come(
    strategy: Strategy, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_kit.ratelimit.memory._SHARED_BUCKETS", 16)
    counters = MemoryCounters(strategy, max_keys=100)
    for number in range(2000):
        take(counters, "5/hour", who=f"flood {number}")
    assert len(counters) == 116
    assert not any(passes(counters, "5/hour", who=f"later {number}") for number in range(100))
    assert passes(counters, "6/hour", cost=6)  # each limit shares with others of its own


@every_strategy
def test_keys_that_shared_a_count_have_their_own_once_it_is_over_and_there_is_room(
    strategy: Strategy, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_kit.ratelimit.memory._SHARED_BUCKETS", 1)
    counters = MemoryCounters(strategy, max_keys=2)
    take(counters, "1/second", who="first")
    take(counters, "1/second", who="second")
    assert passes(counters, "5/hour", who="ann", cost=5)
    assert not passes(counters, "5/hour", who="bob")
    clock.advance(3600.0 * LENGTH[strategy])
    assert passes(counters, "5/hour", who="ann", cost=5)
    assert passes(counters, "5/hour", who="bob", cost=5)


@every_strategy
def test_a_key_stays_with_its_shared_count_when_there_is_room_again(strategy: Strategy, clock: Clock) -> None:
    counters = MemoryCounters(strategy, max_keys=1)
    take(counters, "1/second", who="first")
    late = taken(take(counters, "5/hour", cost=2))
    clock.advance(5)
    take(counters, "1/second", who="second", cost=0)
    assert len(counters) == 1  # the first has been freed
    assert take(counters, "5/hour", cost=3).standings[0].remaining == 0
    assert not passes(counters, "5/hour")
    now(counters.give_back(late))
    assert passes(counters, "5/hour", cost=2)
    clock.advance(3600 * LENGTH[strategy])
    assert passes(counters, "5/hour", cost=5)  # a count of its own now
    clock.advance(3600 * LENGTH[strategy])
    take(counters, "5/hour", cost=0)
    assert len(counters) == 1


@every_strategy
def test_expired_keys_go_a_few_at_a_time_while_others_come(strategy: Strategy, clock: Clock) -> None:
    counters = MemoryCounters(strategy)
    for number in range(1000):
        take(counters, "5/second", who=f"flood {number}")
    take(counters, "5/hour", who="victim", cost=5)
    assert len(counters) == 1001
    clock.advance(1.0 * LENGTH[strategy])
    take(counters, "5/second", who="flood 0")  # a generation of its own for those in use
    assert len(counters) == 1001
    clock.advance(1.0 * LENGTH[strategy])
    sizes = [len(counters)]
    while sizes[-1] > 2:
        take(counters, "5/hour", who="victim")
        sizes.append(len(counters))
        assert 0 < sizes[-2] - sizes[-1] <= 8
    assert not passes(counters, "5/hour", who="victim")
    clock.advance(100)
    take(counters, "5/hour", who="victim")
    assert len(counters) == 1


@every_strategy
def test_keys_that_expired_in_a_long_pause_are_freed_once(strategy: Strategy, clock: Clock) -> None:
    counters = MemoryCounters(strategy)
    for number in range(100):
        take(counters, "5/second", who=f"early {number}")
    clock.advance(60)
    for _ in range(20):
        take(counters, "5/second", who="ann", cost=0)
        clock.advance(1)
    assert len(counters) == 0
    for number in range(100):
        take(counters, "5/second", who=f"early {number}")
    clock.advance(60)
    take(counters, "5/second", who="ann")
    assert len(counters) == 93
    now(counters.reset(""))
    for _ in range(20):
        take(counters, "5/hour", who="ann", cost=0)
    assert len(counters) == 0


@every_strategy
def test_a_count_lasts_to_its_end_wherever_in_its_generation_it_began(strategy: Strategy, clock: Clock) -> None:
    for eighths in range(8 * 8 * LENGTH[strategy]):
        counters = MemoryCounters(strategy)
        clock.advance(1 / 8)
        charge = taken(take(counters, cost=4))
        clock.advance(8 - 1 / 8)
        assert not passes(counters), eighths
        now(counters.give_back(charge))
        assert passes(counters, cost=4), eighths


def test_threads_with_loops_of_their_own_share_a_quota_exactly() -> None:
    counters, items = MemoryCounters("fixed-window"), [parse("500/hour")]
    start = threading.Barrier(8)
    passed: list[int] = []

    async def takes() -> int:
        return sum([(await counters.take(items, ("all",), 1)).taken is not None for _ in range(200)])

    def work() -> None:
        start.wait()
        passed.append(asyncio.run(takes()))

    threads = [threading.Thread(target=work) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert sum(passed) == 500


@every_strategy
def test_keys_are_no_objects_of_the_garbage_collector(strategy: Strategy, clock: Clock) -> None:
    counters = MemoryCounters(strategy)
    take(counters, who="first")
    gc.collect()
    before = len(gc.get_objects())
    for number in range(5000):
        take(counters, who=f"user {number}")
    gc.collect()
    assert len(gc.get_objects()) - before < 500


@every_strategy
def test_a_reset_forgets_what_begins_with_the_prefix_or_all(strategy: Strategy, clock: Clock) -> None:
    counters, items = MemoryCounters(strategy, max_keys=3), parse_many("1/minute")
    buckets = [("shop", "ann"), ("shop", "bob"), ("shopping", "ann"), ("a", "shop")]

    def passing() -> list[bool]:
        return [now(counters.take(items, bucket, 1)).taken is not None for bucket in buckets]

    assert passing() == [True, True, True, True]
    clock.advance(60.0 * LENGTH[strategy])
    assert passing() == [True, True, True, True]
    now(counters.reset("shop"))
    assert len(counters) == 1
    assert passing() == [True, True, False, True]  # the last one's was shared
    now(counters.reset(""))
    assert len(counters) == 0
    assert passing() == [True, True, True, True]
    now(counters.aclose())


@pytest.mark.parametrize("rate", ["5/minute", "7/3 hour", "1 per 2 days"])
def test_keys_are_those_of_limits(rate: str) -> None:
    item: RateLimitItem = parse(rate)
    assert stored_key(item, "ann/GET /items") == item.key_for("ann", "GET /items")


def test_time_is_read_from_the_clock_of_the_system() -> None:
    counters = MemoryCounters("fixed-window")
    mark = taken(take(counters, "5/hour")).marks[0]
    assert mark == pytest.approx(time.time() + 3600, abs=60)
