"""The arithmetic of the three strategies, on states that are plain bytes.

Bytes, since the garbage collector walks over objects that may refer to others, and a million windows are a long walk.
Up to CPython 3.13 it does not walk over a dict of text and bytes either; 3.14 does (gh-127010).

Each strategy is a pair of pure functions. All times are epoch seconds, and `now` must never go back.

- `decide(state, amount, seconds, cost, now)`: whether `cost` fits into the `amount` allowed in `seconds`. Returns how
  the limit stands after that, the state to keep (None if it does not fit), and the mark by which to give it back. A
  cost of 0 always fits, and the answer is how the limit stands.
- `give_back(state, seconds, cost, mark)`: the state without a former `cost`, the same state if it is of a later window,
  None if nothing is left of it. Marks are compared exactly: they are the very numbers that `decide` returned.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from fastapi_kit.ratelimit.counters import Standing, Strategy

__all__ = ["STRATEGIES", "Decide", "GiveBack", "Windows"]

Decide = Callable[[bytes | None, int, int, int, float], tuple[Standing, bytes | None, float]]
GiveBack = Callable[[bytes, int, int, float], bytes | None]

_FIXED = Struct("=dq")  # when it expires, count
_HIT = Struct("=d")
_SLIDING = Struct("=dqq")  # when the current window ends, its count, the previous one's count
_JUST_AFTER = 1e-6  # a share that slides out is gone after its moment, not at it


class Windows(NamedTuple):
    """A strategy."""

    decide: Decide
    give_back: GiveBack
    lengths: int
    """For how many window lengths after a hit it may matter."""


def _decide_fixed(
    state: bytes | None, amount: int, seconds: int, cost: int, now: float
) -> tuple[Standing, bytes | None, float]:
    """Count from the first hit to the end of the window. The mark is when that is."""
    expires_at, count = _FIXED.unpack(state) if state else (now, 0)
    if expires_at <= now:
        expires_at, count = now + seconds, 0
    reset = expires_at - now if count or cost else 0.0
    if cost and count + cost > amount:
        return Standing(amount - count, reset if count else 0.0, reset if cost <= amount else seconds), None, 0.0
    count += cost
    return Standing(amount - count, reset), _FIXED.pack(expires_at, count), expires_at


def _give_back_fixed(state: bytes, seconds: int, cost: int, mark: float) -> bytes | None:
    """Take out of the window that is marked; an empty one vanishes, so that the next hit opens another."""
    expires_at, count = _FIXED.unpack(state)
    if expires_at != mark:
        return state
    return _FIXED.pack(expires_at, count - cost) if count > cost else None


def _decide_moving(
    state: bytes | None, amount: int, seconds: int, cost: int, now: float
) -> tuple[Standing, bytes | None, float]:
    """Remember the time of every hit, oldest first. The mark is that time."""
    live = state or b""
    oldest: float = _HIT.unpack_from(live)[0] if live else now
    if oldest <= now - seconds:
        live = live[_HIT.size * bisect_right(memoryview(live).cast("d"), now - seconds) :]
        oldest = _HIT.unpack_from(live)[0] if live else now
    used = len(live) // _HIT.size
    reset = oldest + seconds - now if used or cost else 0.0
    excess = used + cost - amount
    if cost and excess > 0:
        last: float = _HIT.unpack_from(live, _HIT.size * (excess - 1))[0] if cost <= amount else now
        return Standing(amount - used, reset if used else 0.0, last + seconds - now), None, 0.0
    return Standing(-excess, reset), live + _HIT.pack(now) * cost, now


def _give_back_moving(state: bytes, seconds: int, cost: int, mark: float) -> bytes | None:
    """Take out hits of the marked time: whose they are makes no difference."""
    hits = memoryview(state).cast("d")
    first = bisect_left(hits, mark)
    last = min(first + cost, bisect_right(hits, mark))
    return state[: _HIT.size * first] + state[_HIT.size * last :] or None


def _decide_sliding(
    state: bytes | None, amount: int, seconds: int, cost: int, now: float
) -> tuple[Standing, bytes | None, float]:
    """Count this window and the share of the previous one that a moving window would see, as `limits` does in Redis.

    A window begins with the first hit, the next one where it ended. The mark is when a window has ceased to matter.
    """
    ends_at, count, previous = _at(state, seconds, now) if state else (now + seconds, 0, 0)
    left = ends_at - now
    share = int(previous * left / seconds)
    used = share + count
    reset = left - share * seconds / previous if previous else left
    room = amount - used - cost
    if room < 0 and cost:
        retry: float = seconds
        if count + cost <= amount:  # until the previous window's share is small enough
            retry = left - (amount - count - cost + 1) * seconds / previous + _JUST_AFTER
        elif cost <= amount:  # until the share of this one is, in the next
            retry = left + seconds - (amount - cost + 1) * seconds / count + _JUST_AFTER
        return Standing(amount - used, reset if used else 0.0, retry), None, 0.0
    count += cost
    return Standing(room, reset if share or count else 0.0), _SLIDING.pack(ends_at, count, previous), ends_at + seconds


def _give_back_sliding(state: bytes, seconds: int, cost: int, mark: float) -> bytes | None:
    """Take out of the window that is marked; a state without hits vanishes, or refused requests would add up."""
    ends_at, count, previous = _SLIDING.unpack(state)
    if mark == ends_at + seconds:
        count = max(0, count - cost)
    elif mark == ends_at:
        previous = max(0, previous - cost)
    return _SLIDING.pack(ends_at, count, previous) if count or previous else None


def _at(state: bytes, seconds: int, now: float) -> tuple[float, int, int]:
    ends_at, count, previous = _SLIDING.unpack(state)
    if ends_at > now:
        return ends_at, count, previous
    if ends_at + seconds > now:
        return ends_at + seconds, 0, count
    return now + seconds, 0, 0


STRATEGIES: dict[Strategy, Windows] = {
    "fixed-window": Windows(_decide_fixed, _give_back_fixed, 1),
    "moving-window": Windows(_decide_moving, _give_back_moving, 1),
    "sliding-window-counter": Windows(_decide_sliding, _give_back_sliding, 2),
}
