"""The port between limits and what holds their counts."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from fastapi_kit.errors import needs_extra

with needs_extra("ratelimit"):
    from limits import RateLimitItem, WindowStats

__all__ = ["Counters", "Strategy", "Verdict"]

Strategy = Literal["fixed-window", "moving-window", "sliding-window-counter"]
"""How to count: cheap, with up to twice the quota around a window's edge; exact; cheap and nearly exact."""


class Verdict(NamedTuple):
    """Which limits refuse, by position (none if the request may pass), and how each of them stands now."""

    refused: tuple[int, ...]
    windows: tuple[WindowStats, ...]


class Counters(Protocol):
    """Hold the counts of one limiter."""

    async def take(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...], cost: int) -> Verdict:
        """Count `cost` against every limit if all allow it, against none otherwise."""
        ...

    async def clear(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...]) -> None:
        """Forget what was counted against these limits in one bucket."""
        ...

    async def reset(self) -> None:
        """Forget every count."""
        ...

    async def aclose(self) -> None:
        """Close the connections that it opened."""
        ...
