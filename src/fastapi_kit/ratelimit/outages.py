"""What a limit does while its storage does not answer."""

import logging
import re
from collections.abc import Sequence
from time import monotonic
from typing import Literal

from fastapi_kit.errors import UnavailableError, needs_extra
from fastapi_kit.ratelimit.counters import Storage, Taken, Verdict
from fastapi_kit.ratelimit.memory import MemoryCounters

with needs_extra("ratelimit"):
    from limits import RateLimitItem

__all__ = ["Breaker", "OnFailure", "OutageCounters", "unavailable"]

OnFailure = Literal["memory", "allow", "deny"]
"""What to do without the storage: count in this process, let pass uncounted, or answer 503."""

_RETRY_SECONDS = 1.0
_CODE = re.compile(r"[A-Z]{3,}(?= )")  # as Redis begins an error, "OOM command not allowed"
_log = logging.getLogger("fastapi_kit.ratelimit")


class Breaker:
    """Remember that a storage is down: one request a second finds out whether it is back, and no other waits."""

    def __init__(self) -> None:
        self._retry_at: float | None = None
        self._silent_until = 0.0

    def lets_try(self) -> bool:
        """Return whether to ask the storage."""
        if self._retry_at is None:
            return True
        now = monotonic()
        if now < self._retry_at:
            return False
        self._retry_at = now + _RETRY_SECONDS  # this one tries, the others go on without
        return True

    def failed(self, exc: Exception) -> None:
        """Note that the storage is down."""
        if self._retry_at is None:
            _log.warning("The storage of the rate limits does not answer: %s", _kinds(exc))
        self._retry_at = monotonic() + _RETRY_SECONDS

    def refused(self, exc: Exception) -> None:
        """Note that the storage is up and yet has not counted: its memory is full, a connection was cut."""
        self.answered()
        now = monotonic()
        if now >= self._silent_until:
            self._silent_until = now + _RETRY_SECONDS
            _log.warning("The storage of the rate limits has not counted a request: %s", _kinds(exc))

    def answered(self) -> None:
        """Note that the storage answered."""
        if self._retry_at is not None:
            self._retry_at = None
            _log.warning("The storage of the rate limits answers again")


class _TakenInMemory(Taken):
    """What was charged in memory meanwhile, and goes back there."""

    __slots__ = ()


class OutageCounters:
    """Count in a storage that may fail, and meanwhile do what was chosen.

    `memory`: where to count meanwhile; without it, `on_failure` says whether to let pass or to raise
    `UnavailableError` (503).
    """

    def __init__(
        self,
        storage: Storage,
        breaker: Breaker,
        *,
        on_failure: OnFailure,
        memory: MemoryCounters,
    ) -> None:
        self.can_give_back: bool = storage.can_give_back
        self._storage = storage
        self._breaker = breaker
        self._on_failure = on_failure
        self._memory = memory

    async def take(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...], cost: int) -> Verdict:
        """Count `cost` against every limit if all allow it, against none otherwise."""
        if not self._breaker.lets_try():
            return await self._take_without(items, bucket, cost, None)
        try:
            verdict = await self._storage.take(items, bucket, cost)
        except self._storage.failures as exc:
            self._note(exc)
            return await self._take_without(items, bucket, cost, exc)
        self._breaker.answered()
        return verdict

    async def _take_without(
        self, items: Sequence[RateLimitItem], bucket: tuple[str, ...], cost: int, cause: Exception | None
    ) -> Verdict:
        if self._on_failure == "allow":
            return Verdict((), None)
        if self._on_failure == "deny":
            raise unavailable() from cause
        standings, taken = await self._memory.take(items, bucket, cost)
        if taken is not None:
            taken = _TakenInMemory(*taken)
        return Verdict(standings, taken)

    async def give_back(self, taken: Taken) -> None:
        """Take back what was charged, where it was charged."""
        if isinstance(taken, _TakenInMemory):
            await self._memory.give_back(taken)
        elif not self._breaker.lets_try():
            raise unavailable()
        else:
            try:
                await self._storage.give_back(taken)
            except self._storage.failures as exc:
                self._note(exc)
                raise unavailable() from exc
            self._breaker.answered()

    def _note(self, exc: Exception) -> None:
        if self._storage.is_up(exc):
            self._breaker.refused(exc)
        else:
            self._breaker.failed(exc)

    async def reset(self, prefix: str) -> None:
        """Forget every count whose bucket begins with this part; raises what the storage raises."""
        await self._memory.reset(prefix)
        await self._storage.reset(prefix)

    async def ping(self) -> None:
        """Ask the storage whether it is there, whatever the breaker says; raises `UnavailableError` (503) if not."""
        try:
            await self._storage.ping()
        except self._storage.failures as exc:
            self._note(exc)
            raise unavailable() from exc
        self._breaker.answered()

    async def aclose(self) -> None:
        """Close the connections that it opened."""
        await self._storage.aclose()


def unavailable() -> UnavailableError:
    """Return the 503 for a request that cannot be counted."""
    return UnavailableError("Requests cannot be counted at the moment.", headers={"Retry-After": "1"})


def _kinds(exc: BaseException) -> str:
    """Return what it was and why, without a text of the server's: that may hold a password or a key."""
    kinds: list[str] = []
    cause: BaseException | None = exc
    while cause is not None:
        code = _CODE.match(str(cause)) if isinstance(cause, Exception) else None
        kind = f"{type(cause).__name__} {code[0]}" if code else type(cause).__name__
        if kind not in kinds:
            kinds.append(kind)
        cause = cause.__cause__ or cause.__context__
    return ", from ".join(kinds)
