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

    async def take_attempt(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...]) -> Verdict:
        """Count one as `take` does, but in fixed windows, from which it can be given back.

        Raises `UnavailableError` (503) when the storage does not answer.
        """
        ...

    async def give_back(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...]) -> None:
        """Take back one attempt in each window that has any; nothing ever goes below zero."""
        ...

    async def reset(self) -> None:
        """Forget every count."""
        ...

    async def aclose(self) -> None:
        """Close the connections that it opened."""
        ...
