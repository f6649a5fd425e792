"""Counts in the process's own memory."""

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Protocol

from fastapi_kit.errors import needs_extra
from fastapi_kit.ratelimit.counters import Strategy, Verdict

with needs_extra("ratelimit"):
    from limits import RateLimitItem, WindowStats

__all__ = ["MemoryCounters"]

_SWEPT_PER_NEW_KEY = 2


class MemoryCounters:
    """Count in this process, by the strategies and under the keys of `limits`.

    Nothing here suspends, so a decision is one step of the event loop: exact without a lock. Expired
    keys go a few at a time as new ones come, so no request pays for a million of them. (The
    memory storage of `limits` itself walks over all its keys in a task of its own.)

    Every worker process counts for itself: with four of them a client may have four times its
    quota. All counts are lost when the process ends. Serve from one worker, or use Redis.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._open = _STRATEGIES[strategy]
        self._windows: dict[str, _Window] = {}
        self._due: list[tuple[float, str]] = []  # a heap with one entry for each key

    def __len__(self) -> int:
        """Return the number of keys held, expired ones that were not swept yet included."""
        return len(self._windows)

    async def take(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...], cost: int) -> Verdict:
        """Count `cost` against every limit if all allow it, against none otherwise."""
        return self._take(self._open, items, bucket, cost)

    async def take_attempt(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...]) -> Verdict:
        """Count one in fixed windows, whatever the strategy."""
        return self._take(_Fixed, items, bucket, 1)

    async def give_back(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...]) -> None:
        """Take back one attempt in each window that has any."""
        now = time.time()
        for item in items:
            window = self._windows.get(item.key_for(*bucket))
            if window is None:
                continue
            window.add(-1, now)
            if window.used(now) == 0:  # the next attempt opens a new one, as in Redis, and no open one is ever empty
                window.expires_at = 0.0  # not deleted: the sweep still has its key

    async def reset(self) -> None:
        """Forget every count."""
        self._windows.clear()
        self._due.clear()

    async def aclose(self) -> None:
        """Do nothing: memory has no connections."""

    def _take(
        self,
        open_window: "Callable[[RateLimitItem, float], _Window]",
        items: Sequence[RateLimitItem],
        bucket: tuple[str, ...],
        cost: int,
    ) -> Verdict:
        now = time.time()
        found: list[tuple[str, _Window, int]] = []
        refused: list[int] = []
        for at, item in enumerate(items):
            key = item.key_for(*bucket)
            window = self._windows.get(key)
            if window is None or window.expires_at <= now:
                window = open_window(item, now)
            left = item.amount - window.used(now)
            if left < cost:
                refused.append(at)
            found.append((key, window, left))
        if not refused:
            for key, window, _ in found:
                window.add(cost, now)
                if self._windows.get(key) is not window:
                    self._keep(key, window, now)
        charged = 0 if refused else cost
        stats = [WindowStats(window.reset_at(now), left - charged) for _, window, left in found]
        return Verdict(tuple(refused), tuple(stats))

    def _keep(self, key: str, window: "_Window", now: float) -> None:
        for _ in range(_SWEPT_PER_NEW_KEY):
            self._sweep_one(now)
        if key not in self._windows:
            heappush(self._due, (window.expires_at, key))
        self._windows[key] = window

    def _sweep_one(self, now: float) -> None:
        if not self._due or self._due[0][0] > now:
            return
        _, key = heappop(self._due)
        expires_at = self._windows[key].expires_at
        if expires_at > now:  # used again since it was pushed
            heappush(self._due, (expires_at, key))
        else:
            del self._windows[key]


class _Window(Protocol):
    """One limit of one bucket; all times are epoch seconds."""

    expires_at: float
    """From when on it is as if it were not there."""

    def used(self, now: float) -> int:
        """Return what counts against the limit."""
        ...

    def add(self, cost: int, now: float) -> None:
        """Count."""
        ...

    def reset_at(self, now: float) -> float:
        """Return when some of what is used comes back; now if nothing is."""
        ...


class _Fixed:
    """Count from the first hit to the end of the window."""

    __slots__ = ("_count", "expires_at")

    def __init__(self, item: RateLimitItem, now: float) -> None:
        self.expires_at = now + item.get_expiry()
        self._count = 0

    def used(self, now: float) -> int:
        return self._count

    def add(self, cost: int, now: float) -> None:
        self._count += cost

    def reset_at(self, now: float) -> float:
        return self.expires_at if self._count else now


class _Moving:
    """Remember the time of every hit."""

    __slots__ = ("_hits", "_seconds", "expires_at")

    def __init__(self, item: RateLimitItem, now: float) -> None:
        self._seconds = item.get_expiry()
        self.expires_at = now + self._seconds
        self._hits: list[float] = []  # oldest first

    def used(self, now: float) -> int:
        del self._hits[: bisect_right(self._hits, now - self._seconds)]
        return len(self._hits)

    def add(self, cost: int, now: float) -> None:
        self._hits.extend([now] * cost)
        self.expires_at = now + self._seconds

    def reset_at(self, now: float) -> float:
        return self._hits[0] + self._seconds if self._hits else now


class _Sliding:
    """Count this window and the share of the last one that a sliding window would still see."""

    __slots__ = ("_count", "_previous", "_seconds", "expires_at")

    def __init__(self, item: RateLimitItem, now: float) -> None:
        self._seconds = item.get_expiry()
        self.expires_at = now + 2 * self._seconds
        self._previous = self._count = 0

    def used(self, now: float) -> int:
        if self.expires_at - now <= self._seconds:  # this window is over: it is the last one now
            self._previous, self._count = self._count, 0
            self.expires_at += self._seconds
        return int(self._previous * self._left(now) / self._seconds) + self._count

    def add(self, cost: int, now: float) -> None:
        self._count += cost

    def reset_at(self, now: float) -> float:
        left = self._left(now)
        if self._previous:
            return now + left % (self._seconds / self._previous)
        return now + left if self._count else now

    def _left(self, now: float) -> float:
        return self.expires_at - self._seconds - now


_STRATEGIES: dict[Strategy, type[_Fixed | _Moving | _Sliding]] = {
    "fixed-window": _Fixed,
    "moving-window": _Moving,
    "sliding-window-counter": _Sliding,
}
