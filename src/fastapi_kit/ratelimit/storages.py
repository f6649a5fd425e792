"""Counts in any storage of `limits`, and the way from a URL to it."""

import logging
from collections.abc import Callable, Sequence
from typing import cast, get_args

from fastapi_kit.errors import ConfigurationError, UnavailableError, needs_extra
from fastapi_kit.ratelimit.counters import Counters, Strategy, Verdict
from fastapi_kit.ratelimit.memory import MemoryCounters

with needs_extra("ratelimit"):
    from limits import RateLimitItem
    from limits.aio.storage import Storage
    from limits.aio.strategies import STRATEGIES, FixedWindowRateLimiter, RateLimiter
    from limits.errors import ConfigurationError as LimitsConfigurationError
    from limits.errors import StorageError
    from limits.storage import storage_from_string

__all__ = ["StorageCounters", "open_counters"]

_log = logging.getLogger("fastapi_kit.ratelimit")


class StorageCounters:
    """Count in a storage of `limits.aio`, by the strategies of `limits`.

    Every limit is asked before any is charged. Over a network another request may take the last
    place in between: the quota still holds, since each charge is atomic, but the request that
    lost may have been charged. To take that back could take it out of the next window, of which
    the quota would then not hold.

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
        self._fixed = FixedWindowRateLimiter(storage)
        self._storage = storage

    async def take(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...], cost: int) -> Verdict:
        """Count `cost` against every limit if all allow it, against none otherwise."""
        return await _take(self._engine, items, bucket, cost)

    async def take_attempt(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...]) -> Verdict:
        """Count one in fixed windows, whatever the strategy.

        Raises `UnavailableError` (503) when the storage does not answer.
        """
        try:
            return await _take(self._fixed, items, bucket, 1)
        except _failures(self._storage) as exc:
            _log.warning("The storage of the rate limits does not answer: %s", type(exc).__name__)
            raise UnavailableError("Attempts cannot be counted at the moment.", headers={"Retry-After": "1"}) from exc

    async def give_back(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...]) -> None:
        """Take back one attempt in each window that has any.

        A window that has ended is left alone: counting down in it would open the next one below zero. Between the
        question and the answer it can still end; that is one attempt more in the next.
        """
        for item in items:
            key = item.key_for(*bucket)
            if await self._storage.get(key) > 0:
                await self._storage.incr(key, item.get_expiry(), amount=-1)

    async def reset(self) -> None:
        """Forget every count of the storage, also those of others that use it."""
        await self._storage.reset()

    async def aclose(self) -> None:
        """Do nothing: the storage belongs to the caller."""


async def _take(engine: RateLimiter, items: Sequence[RateLimitItem], bucket: tuple[str, ...], cost: int) -> Verdict:
    refused = [at for at, item in enumerate(items) if not await engine.test(item, *bucket, cost=cost)]
    if not refused:
        refused = [at for at, item in enumerate(items) if not await engine.hit(item, *bucket, cost=cost)]
    windows = [await engine.get_window_stats(item, *bucket) for item in items]
    return Verdict(tuple(refused), tuple(windows))


def _failures(storage: Storage) -> tuple[type[Exception], ...]:
    known = storage.base_exceptions
    return (*(known if isinstance(known, tuple) else (known,)), StorageError, OSError)


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
