"""The port between limits and what holds their counts."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from fastapi_kit.errors import needs_extra

with needs_extra("ratelimit"):
    from limits import RateLimitItem

__all__ = ["Counters", "Standing", "Storage", "Strategy", "Taken", "Verdict"]

Strategy = Literal["fixed-window", "moving-window", "sliding-window-counter"]
"""How to count: cheap, with up to twice the quota around a window's edge; exact; cheap and nearly exact."""


class Standing(NamedTuple):
    """How one limit stands after a decision."""

    remaining: int
    """What is left of the quota, never below 0."""
    reset_seconds: float
    """Until some of what is used comes back; 0 if nothing is used."""
    retry_seconds: float = 0.0
    """Until the same request would pass, if this limit refuses it; 0 if it does not."""


class Taken(NamedTuple):
    """What a request was charged, so that it can be given back."""

    items: Sequence[RateLimitItem]
    bucket: tuple[str, ...]
    cost: int
    marks: tuple[float, ...]
    """For each limit what tells its window from a later one: when it expires, or when the hit was; epoch seconds."""


class Verdict(NamedTuple):
    """How each limit stands now, and what was charged: nothing if one of them refuses."""

    standings: tuple[Standing, ...]
    taken: Taken | None


class Counters(Protocol):
    """Hold the counts of one limiter.

    A cost above the amount of a limit is refused, and `retry_seconds` is then the length of the window. A cost of 0 is
    never refused and charges nothing.
    """

    can_give_back: bool

    async def take(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...], cost: int) -> Verdict:
        """Count `cost` against every limit if all allow it, against none otherwise."""
        ...

    async def give_back(self, taken: Taken) -> None:
        """Take back what was charged, in each window that is still open; no other window changes."""
        ...

    async def ping(self) -> None:
        """Return if the counts can be reached; raise otherwise."""
        ...

    async def reset(self, prefix: str) -> None:
        """Forget every count whose bucket begins with this part; every one if it is empty."""
        ...

    async def aclose(self) -> None:
        """Close the connections that it opened."""
        ...


class Storage(Counters, Protocol):
    """Counts outside of the process."""

    failures: tuple[type[Exception], ...]
    """What a call raises when the storage does not count, for whatever reason."""

    def is_up(self, failure: Exception) -> bool:
        """Return whether the next request may fare better, so that there is no reason to leave the storage alone."""
        ...
