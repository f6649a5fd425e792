"""Counts in any storage of `limits`, and the way from a URL to it."""

from collections.abc import Callable, Sequence
from typing import cast, get_args

from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.ratelimit.counters import Counters, Strategy, Verdict
from fastapi_kit.ratelimit.memory import MemoryCounters

with needs_extra("ratelimit"):
    from limits import RateLimitItem
    from limits.aio.storage import Storage
    from limits.aio.strategies import STRATEGIES, RateLimiter
    from limits.errors import ConfigurationError as LimitsConfigurationError
    from limits.storage import storage_from_string

__all__ = ["StorageCounters", "open_counters"]


class StorageCounters:
    """Count in a storage of `limits.aio`, by the strategies of `limits`.

    Every limit is asked before any is charged. Over a network another request may take the last
    place in between: the quota still holds, since each charge is atomic, but the request that
    lost may have been charged on another of its limits.

    Raises `ConfigurationError` for a strategy that the storage cannot do.
    """

    def __init__(self, storage: Storage, strategy: Strategy) -> None:
        engine: Callable[[Storage], RateLimiter] = STRATEGIES[strategy]
        try:
            self._engine = engine(storage)
        except NotImplementedError as exc:
            raise ConfigurationError(
                f'{type(storage).__name__} cannot do the strategy {strategy!r}: use "fixed-window"'
            ) from exc
        self._storage = storage

    async def take(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...], cost: int) -> Verdict:
        """Count `cost` against every limit if all allow it, against none otherwise."""
        engine = self._engine
        refused = [at for at, item in enumerate(items) if not await engine.test(item, *bucket, cost=cost)]
        if not refused:
            refused = [at for at, item in enumerate(items) if not await engine.hit(item, *bucket, cost=cost)]
        windows = [await engine.get_window_stats(item, *bucket) for item in items]
        return Verdict(tuple(refused), tuple(windows))

    async def clear(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...]) -> None:
        """Forget what was counted against these limits in one bucket."""
        for item in items:
            await self._engine.clear(item, *bucket)

    async def reset(self) -> None:
        """Forget every count of the storage, also those of others that use it."""
        await self._storage.reset()

    async def aclose(self) -> None:
        """Do nothing: the storage belongs to the caller."""


def open_counters(storage: str | Storage, strategy: Strategy) -> Counters:
    """Return counters for a URL of `limits` or for a storage of `limits.aio`; nothing is connected yet.

    Raises `ConfigurationError` for an unknown strategy, a scheme that `limits` does not know, a malformed
    URL and a missing client package. The message holds the scheme alone: a URL may hold a password.
    """
    if strategy not in get_args(Strategy):
        known = ", ".join(get_args(Strategy))
        raise ConfigurationError(f"unknown strategy {strategy!r}: use one of {known}")
    if not isinstance(storage, str):
        return StorageCounters(storage, strategy)
    scheme, separator, _ = storage.partition("://")
    try:
        if separator and scheme == "memory":
            return MemoryCounters(strategy)
        if separator and scheme in {"redis", "rediss", "redis+unix"}:
            with needs_extra("redis"):
                from fastapi_kit.ratelimit.redis import RedisCounters  # noqa: PLC0415 (an extra of its own)
            return RedisCounters(storage, strategy)
        return StorageCounters(cast(Storage, storage_from_string(f"async+{storage}")), strategy)
    except (LimitsConfigurationError, ValueError) as exc:
        shown = f"{scheme}://" if separator else "without a scheme"
        raise ConfigurationError(
            f"cannot open the rate limit storage {shown} ({type(exc).__name__}): "
            'use "memory://" or, for example, "redis://localhost:6379/0"'
        ) from exc
