"""Counts in the process's own memory."""

import sys
import time
from collections.abc import Iterator, Sequence
from math import inf
from threading import Lock

from fastapi_kit.errors import needs_extra
from fastapi_kit.ratelimit.counters import Standing, Strategy, Taken, Verdict
from fastapi_kit.ratelimit.keys import stored_key
from fastapi_kit.ratelimit.windows import STRATEGIES

with needs_extra("ratelimit"):
    from limits import RateLimitItem

__all__ = ["MemoryCounters"]

_PARTS = 64
_SHIFT = sys.hash_info.width - 6  # the upper bits of a hash, from -32 to 31: a dict goes by the lower ones
_SHARED_BUCKETS = 65_536
_FREED_AT_ONCE = 8


class MemoryCounters:
    """Count in this process, by the strategies and under the keys of `limits`.

    A decision is one step, under a lock: exact for all requests of the process, also those of other threads with loops
    of their own. No decision walks over the keys, nor does the garbage collector up to Python 3.13.

    At most `max_keys` are held. While there is no room, new keys share 65,536 counts for each limit: a flood of keys
    makes new clients share a quota, but frees nobody's count and lets nobody pass uncounted. Which keys share a count
    cannot be foreseen, since Python draws the hash of a text anew for each process.

    A clock that is set back stands still here, and goes on from there.

    Every worker process counts for itself: with four of them a client may have four times its quota. All counts are
    lost when the process ends. Serve from one worker, or use Redis.
    """

    can_give_back = True

    def __init__(self, strategy: Strategy, *, max_keys: int = 100_000) -> None:
        self._windows = STRATEGIES[strategy]
        self._max_keys = max_keys
        self._own = _Store()
        self._shared = _Store()
        self._lock = Lock()
        self._now = 0.0
        self._set_back = 0.0

    def __len__(self) -> int:
        """Return the number of counts held, with expired ones that are yet to be freed."""
        return self._own.held + self._shared.held

    async def take(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...], cost: int) -> Verdict:
        """Count `cost` against every limit if all allow it, against none otherwise."""
        decide, _, lengths = self._windows
        joined = "/".join(bucket)
        standings: list[Standing] = []
        marks: list[float] = []
        found: list[tuple[_Shelf, str, bytes | None, bytes | None]] = []
        passes = True
        with self._lock:
            now = self._tick()
            for item in items:
                seconds = item.get_expiry()
                shelf, key, state = self._find(item, seconds * lengths, joined, now)
                standing, charged, mark = decide(state, item.amount, seconds, cost, now)
                if len(items) == 1:  # as most are: the lists would cost a fifth of it
                    if charged is None:
                        return Verdict((standing,), None)
                    if cost:
                        shelf.put(key, charged)
                    return Verdict((standing,), Taken(items, bucket, cost, (mark,)))
                passes = passes and charged is not None
                standings.append(standing)
                marks.append(mark)
                found.append((shelf, key, state, charged))
            if passes:
                for shelf, key, _, charged in found:
                    if cost and charged is not None:
                        shelf.put(key, charged)
                return Verdict(tuple(standings), Taken(items, bucket, cost, tuple(marks)))
        for at, (_, _, state, charged) in enumerate(found):
            if charged is not None:  # allowed, and yet not charged, as another refuses
                standings[at] = decide(state, items[at].amount, items[at].get_expiry(), 0, now)[0]
        return Verdict(tuple(standings), None)

    async def give_back(self, taken: Taken) -> None:
        """Take back what was charged, in each window that is still open; no other window changes."""
        _, give_back, lengths = self._windows
        joined = "/".join(taken.bucket)
        with self._lock:
            now = self._tick()
            for item, mark in zip(taken.items, taken.marks, strict=True):
                seconds = item.get_expiry()
                key = stored_key(item, joined)
                shelf = self._own.shelf(seconds * lengths, now)
                state = shelf.get(key)
                if state is None:
                    shelf, key = self._shared.shelf(seconds * lengths, now), _shared_key(key, item)
                    state = shelf.get(key)
                left = give_back(state, seconds, taken.cost, mark) if state is not None else None
                if left is not None:
                    shelf.put(key, left)
                elif state is not None:
                    shelf.discard(key)

    async def reset(self, prefix: str) -> None:
        """Forget every count whose bucket begins with this part, every one if it is empty; shared ones in any case."""
        with self._lock:
            self._own.forget(f"LIMITER/{prefix}/" if prefix else "")
            self._shared.forget("")

    async def ping(self) -> None:
        """Do nothing: memory is there."""

    async def aclose(self) -> None:
        """Do nothing: memory has no connections."""

    def _tick(self) -> float:
        """Return the time, which never goes back; turn what is due and free some of what expired."""
        now = time.time() + self._set_back
        if now < self._now:
            self._set_back += self._now - now
            now = self._now
        self._now = now
        if now >= self._own.due_at:
            self._own.tidy(now)
        if now >= self._shared.due_at:
            self._shared.tidy(now)
        return now

    def _find(self, item: RateLimitItem, lifetime: int, joined: str, now: float) -> "tuple[_Shelf, str, bytes | None]":
        """Return where a limit of a bucket is counted, and what is there."""
        key = stored_key(item, joined)
        shelf = self._own.shelf(lifetime, now)
        state = shelf.get(key)
        return self._place(shelf, key, item, now) if state is None else (shelf, key, state)

    def _place(self, own: "_Shelf", key: str, item: RateLimitItem, now: float) -> "tuple[_Shelf, str, bytes | None]":
        """Return where to count a key that has no count of its own, and what is there.

        While a shared count has hits, all its keys stay with it: with room again, one would get a second quota.
        """
        if not self._shared.held and self._own.held < self._max_keys:
            return own, key, None
        shared = self._shared.shelf(own.lifetime, now)
        shared_key = _shared_key(key, item)
        state = shared.get(shared_key)
        if state is not None:
            standing, _, _ = self._windows.decide(state, item.amount, item.get_expiry(), 0, now)
            if standing.remaining < item.amount:
                return shared, shared_key, state
        if self._own.held < self._max_keys:
            return own, key, None
        return shared, shared_key, state


class _Store:
    """Keys by lifetime; those that have expired are freed a few at a time."""

    def __init__(self) -> None:
        self.held = 0
        self.due_at = inf  # when there is something to tidy: 0 while there is something to free
        self._shelves: dict[int, _Shelf] = {}
        self._expired: list[dict[str, bytes]] = []

    def shelf(self, lifetime: int, now: float) -> "_Shelf":
        """Return the keys that expire so many seconds after they are written, at the latest."""
        shelf = self._shelves.get(lifetime)
        if shelf is None:
            shelf = self._shelves[lifetime] = _Shelf(self, lifetime, now)
            self.due_at = min(self.due_at, shelf.turns_at)
        return shelf

    def tidy(self, now: float) -> None:
        """Put aside what has expired, and free a few of it: a million at once would be a stall."""
        for shelf in self._shelves.values():
            if now >= shelf.turns_at:
                self._expired.extend(shelf.turn(now))
        for _ in range(_FREED_AT_ONCE):
            if not self._expired:
                break
            self._expired[-1].popitem()
            self.held -= 1
            if not self._expired[-1]:
                self._expired.pop()
        self.due_at = 0.0 if self._expired else min(shelf.turns_at for shelf in self._shelves.values())

    def forget(self, start: str) -> None:
        """Forget the keys that begin so."""
        self._expired.clear()
        self.held = sum(shelf.forget(start) for shelf in self._shelves.values())


class _Shelf:
    """Keys of one lifetime, in two generations.

    Generation g is written from g to g + 1 lifetimes since the epoch, so all of it has expired at g + 2. Each is in
    many parts, since a dict that grows is copied as a whole.
    """

    __slots__ = ("_current", "_generation", "_previous", "_store", "lifetime", "turns_at")

    def __init__(self, store: _Store, lifetime: int, now: float) -> None:
        self._store = store
        self.lifetime = lifetime
        self._generation = int(now // lifetime)
        self.turns_at = (self._generation + 1) * lifetime
        self._current = _parts()
        self._previous = _parts()

    def get(self, key: str) -> bytes | None:
        """Return what a key holds, expired or not."""
        part = hash(key) >> _SHIFT
        state = self._current[part].get(key)
        return self._previous[part].get(key) if state is None else state

    def put(self, key: str, state: bytes) -> None:
        """Write a key, so that it is held for a lifetime from now."""
        part = hash(key) >> _SHIFT
        current = self._current[part]
        if key not in current and self._previous[part].pop(key, None) is None:
            self._store.held += 1
        current[key] = state

    def discard(self, key: str) -> None:
        """Remove a key that is held."""
        part = hash(key) >> _SHIFT
        if self._current[part].pop(key, None) is None:
            del self._previous[part][key]
        self._store.held -= 1

    def turn(self, now: float) -> Iterator[dict[str, bytes]]:
        """Begin a generation, and return what has expired."""
        passed = int(now // self.lifetime) - self._generation
        expired = self._previous if passed == 1 else self._previous + self._current
        self._previous = self._current if passed == 1 else _parts()
        self._current = _parts()
        self._generation += passed
        self.turns_at = (self._generation + 1) * self.lifetime
        return filter(None, expired)

    def forget(self, start: str) -> int:
        """Forget the keys that begin so, and return how many are left."""
        for generation in (self._current, self._previous):
            generation[:] = [{key: part[key] for key in part if not key.startswith(start)} for part in generation]
        return sum(map(len, self._current + self._previous))


def _parts() -> list[dict[str, bytes]]:
    return [{} for _ in range(_PARTS)]


def _shared_key(key: str, item: RateLimitItem) -> str:
    return f"{hash(key) % _SHARED_BUCKETS}/{item.amount}"
