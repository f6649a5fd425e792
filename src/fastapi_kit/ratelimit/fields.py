"""The response fields that tell a client where it stands."""

from collections.abc import Sequence
from math import ceil

from fastapi_kit.errors import needs_extra

with needs_extra("ratelimit"):
    from limits import RateLimitItem, WindowStats

__all__ = ["Fields", "describe", "seconds_until"]


class Fields:
    """Write `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4).

    A policy is named for its limit: `"5-per-minute";q=5;w=60`. The structured fields are
    Lists, so several limits are several members, in the order of the rate string.
    """

    def __init__(self, items: Sequence[RateLimitItem]) -> None:
        self._items = items
        self._names = tuple(describe(item).replace(" ", "-") for item in items)
        self._policy = ", ".join(
            f'"{name}";q={item.amount};w={item.get_expiry()}' for name, item in zip(self._names, items, strict=True)
        )

    def standard(self, windows: Sequence[WindowStats], now: float) -> dict[str, str]:
        """Return the two fields; `now` in epoch seconds, as in the windows."""
        members = [
            f'"{name}";r={window.remaining};t={seconds_until(window.reset_time, now)}'
            for name, window in zip(self._names, windows, strict=True)
        ]
        return {"RateLimit-Policy": self._policy, "RateLimit": ", ".join(members)}

    def legacy(self, windows: Sequence[WindowStats]) -> dict[str, str]:
        """Return slowapi's `X-RateLimit-*` for the limit with least left; its reset is in epoch seconds."""
        item, window = min(zip(self._items, windows, strict=True), key=lambda pair: pair[1].remaining)
        return {
            "X-RateLimit-Limit": str(item.amount),
            "X-RateLimit-Remaining": str(window.remaining),
            "X-RateLimit-Reset": str(ceil(window.reset_time)),
        }


def describe(item: RateLimitItem) -> str:
    """Return a limit in words: `5 per minute`, `5 per 2 hours`."""
    unit = item.GRANULARITY.name
    return f"{item.amount} per {unit if item.multiples == 1 else f'{item.multiples} {unit}s'}"


def seconds_until(epoch_seconds: float, now: float) -> int:
    """Return whole seconds, rounded up, never negative."""
    return max(0, ceil(epoch_seconds - now))
