"""A million keys in memory: how long one decision holds everybody else up, and what a key takes.

Each flood is a process of its own, `python -m benchmarks.limit_floods SIDE STRATEGY MAX_KEYS`, since memory does not
shrink again. The garbage collector is on, and nothing is frozen.
"""

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from resource import getpagesize
from typing import Any, cast
from unittest import mock

from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import STRATEGIES

from fastapi_kit.ratelimit import Strategy
from fastapi_kit.ratelimit.memory import MemoryCounters

KEYS = 1_000_000
DEFAULT_KEYS = 100_000
AIM_MS = 10.0
LIMIT = parse("5/minute")
LIFETIME_SECONDS = 120  # the longest for which a count of that limit may matter, in any strategy


@dataclass(frozen=True)
class Flood:
    """A million keys: bytes for each that is held, how many are, and the longest single decision, or turn of the loop.

    `flood_ms` while they came, `expired_ms` while others came after all had expired, runs of the garbage collector
    included; the same in CPU time, which other processes lengthen less. `gc_ms` is how much longer a full collection
    takes with the keys than without.
    """

    name: str
    bytes_per_key: float
    held: int
    flood_ms: float
    flood_cpu_ms: float
    expired_ms: float
    expired_cpu_ms: float
    gc_ms: float


class Longest:
    """The longest of the steps that were timed, in ms: by the clock, and of CPU time, which others lengthen less."""

    def __init__(self) -> None:
        self.ms = 0.0
        self.cpu_ms = 0.0
        self._start = 0.0
        self._cpu_start = 0.0

    def __enter__(self) -> None:
        self._cpu_start = time.thread_time()
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.ms = max(self.ms, (time.perf_counter() - self._start) * 1000)
        self.cpu_ms = max(self.cpu_ms, (time.thread_time() - self._cpu_start) * 1000)


def measure_floods() -> Iterator[Flood]:
    """Yield one result after the other, each from a process of its own."""
    for side, strategy, max_keys in (
        ("kit", "fixed-window", 2 * KEYS),
        ("kit", "moving-window", 2 * KEYS),
        ("kit", "sliding-window-counter", 2 * KEYS),
        ("kit", "fixed-window", DEFAULT_KEYS),
        ("limits", "fixed-window", KEYS),
    ):
        command = [sys.executable, "-m", "benchmarks.limit_floods", side, strategy, str(max_keys)]
        words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        bound = f", {max_keys:,}" if side == "kit" else ""
        bytes_per_key, held, *longest = words
        yield Flood(f"{side} {strategy}{bound}", float(bytes_per_key), int(held), *map(float, longest))


async def flood_kit(strategy: Strategy, max_keys: int) -> None:
    counters, items = MemoryCounters(strategy, max_keys=max_keys), [LIMIT]

    async def hit(client: str) -> None:
        await counters.take(items, (client, "GET /limited app.limited"), 1)

    await _flood(hit, lambda: len(counters))


async def flood_limits(strategy: Strategy, _: int) -> None:
    storage = MemoryStorage()
    engine: Callable[[Any], Any] = STRATEGIES[strategy]
    limiter = engine(storage)

    async def hit(client: str) -> None:
        await limiter.hit(LIMIT, client, "GET /limited app.limited")

    await _flood(hit, lambda: len(storage.storage))


async def _flood(hit: Callable[[str], Awaitable[None]], held: Callable[[], int]) -> None:
    """Print what `Flood` has after its name. Half of a million keys are awaited before the loop turns once."""
    clients = (f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/{number >> 24}" for number in count())

    async def send(requests: int, longest: Longest) -> None:
        for number in range(requests):
            client = next(clients)
            with longest:
                await hit(client)
            if (number + 1) % (KEYS // 2) == 0:  # limits.aio walks over all keys whenever the loop turns
                for _ in range(3):
                    with longest:
                        await asyncio.sleep(0)

    await hit("warm-up")
    gc.collect()
    without = _collect_ms()
    now = time.time()
    flood, expired = Longest(), Longest()

    def clock() -> float:
        return now

    with mock.patch("time.time", clock):  # no Mock, which would remember each call and be what is measured
        before = _resident_bytes()
        await send(KEYS, flood)
        bytes_per_key, held_at_most = (_resident_bytes() - before) / held(), held()
        gc_ms = _collect_ms() - without
        now += LIFETIME_SECONDS  # once: those that were written last are not garbage yet
        await send(KEYS // 10, expired)
        now += 2 * LIFETIME_SECONDS
        await send(KEYS // 2, expired)
    print(bytes_per_key, held_at_most, flood.ms, flood.cpu_ms, expired.ms, expired.cpu_ms, gc_ms)


def _collect_ms() -> float:
    return min(_timed_collection() for _ in range(5))


def _timed_collection() -> float:
    with (longest := Longest()):
        gc.collect()
    return longest.ms


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


if __name__ == "__main__":
    side, strategy, max_keys = sys.argv[1:]
    run = {"kit": flood_kit, "limits": flood_limits}[side]
    asyncio.run(run(cast(Strategy, strategy), int(max_keys)))
