"""Counts in any storage of `limits`, and the way from a URL to it."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from typing import cast

from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.ratelimit import counters
from fastapi_kit.ratelimit.counters import Standing, Strategy, Taken, Verdict

with needs_extra("ratelimit"):
    from limits import RateLimitItem
    from limits.aio.storage import Storage
    from limits.aio.strategies import STRATEGIES, RateLimiter
    from limits.errors import ConfigurationError as LimitsConfigurationError
    from limits.errors import StorageError
    from limits.storage import storage_from_string

__all__ = ["StorageCounters", "open_storage"]

_SCHEME = re.compile(r"[a-z0-9+]+")
_PACKAGE = re.compile(r"('[\w.]+') prerequisite not available")
_SAME_WINDOW_SECONDS = 0.5  # two windows of one limit end a second apart, at least


class StorageCounters:
    """Count in a storage of `limits.aio`, by the strategies of `limits`.

    Every limit is asked before any is charged. Over a network another request may take the last
    place in between: the quota still holds, since each charge is atomic, but the request that
    lost may have been charged.

    Fixed windows alone can be given back to. A window that has ended is left alone; it can still end between the
    question and the answer, which is one hit more in the next.

    Raises `ConfigurationError` for a strategy that the storage cannot do.
    """

    def __init__(self, storage: Storage, strategy: Strategy, *, timeout_seconds: float) -> None:
        engine: Callable[[Storage], RateLimiter] = STRATEGIES[strategy]
        try:
            self._engine = engine(storage)
        except NotImplementedError as exc:
            raise ConfigurationError(
                f'{type(storage).__name__} cannot do the strategy {strategy!r}: use "fixed-window"'
            ) from exc
        self.can_give_back: bool = strategy == "fixed-window"
        self._storage = storage
        self._seconds = timeout_seconds
        known = storage.base_exceptions
        self.failures: tuple[type[Exception], ...] = (
            *(known if isinstance(known, tuple) else (known,)),
            StorageError,
            OSError,
            TimeoutError,
        )

    async def take(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...], cost: int) -> Verdict:
        """Count `cost` against every limit if all allow it, against none otherwise."""
        async with asyncio.timeout(self._seconds):
            refused = {item for item in items if cost and not await self._engine.test(item, *bucket, cost=cost)}
            if cost and not refused:
                refused = {item for item in items if not await self._engine.hit(item, *bucket, cost=cost)}
            windows = [await self._engine.get_window_stats(item, *bucket) for item in items]
        now = time.time()
        standings: list[Standing] = []
        for item, (reset_at, remaining) in zip(items, windows, strict=True):
            seconds = max(0.0, reset_at - now)
            wait = max(seconds, 1.0) if cost <= item.amount else float(item.get_expiry())
            standings.append(Standing(max(0, remaining), seconds, wait if item in refused else 0.0))
        marks = tuple(float(window.reset_time) for window in windows)
        return Verdict(tuple(standings), None if refused else Taken(items, bucket, cost, marks))

    async def give_back(self, taken: Taken) -> None:
        """Take back what was charged, in each window that is still open.

        Raises `NotImplementedError` for a strategy without fixed windows, and for a storage that counts up alone.
        """
        if not self.can_give_back:
            raise NotImplementedError("this strategy of limits can give nothing back")
        async with asyncio.timeout(self._seconds):
            for item, mark in zip(taken.items, taken.marks, strict=True):
                key = item.key_for(*taken.bucket)
                is_same = abs(await self._storage.get_expiry(key) - mark) < _SAME_WINDOW_SECONDS + 1  # whole seconds
                if is_same and await self._storage.get(key) >= taken.cost:
                    await self._storage.incr(key, item.get_expiry(), amount=-taken.cost)

    async def reset(self, prefix: str) -> None:
        """Forget every count of the storage, also those of others that use it: `limits` knows no prefix."""
        await self._storage.reset()

    def is_up(self, failure: Exception) -> bool:
        """Return False: `limits` does not tell."""
        return False

    async def ping(self) -> None:
        """Ask the storage whether it is there; raises one of `failures`."""
        async with asyncio.timeout(self._seconds):
            is_well = await self._storage.check()
        if not is_well:
            raise ConnectionError("the storage of the rate limits says that it is not well")

    async def aclose(self) -> None:
        """Do nothing: the storage belongs to the caller."""


def open_storage(storage: str | Storage, strategy: Strategy, *, timeout_seconds: float) -> counters.Storage:
    """Return the counts behind a URL of `limits` or in a storage of `limits.aio`.

    Nothing is connected yet. Raises `ConfigurationError` for a scheme that `limits` does not know, a malformed
    URL and a missing client package. The message holds the scheme alone: a URL may hold a password.
    """
    if not isinstance(storage, str | Storage):
        raise ConfigurationError(
            f"a {type(storage).__name__} is no URL and no storage of limits.aio; who is counted is Limiter(key=...)"
        )
    if not isinstance(storage, str):
        return StorageCounters(storage, strategy, timeout_seconds=timeout_seconds)
    scheme, separator, _ = storage.partition("://")
    try:
        if separator and scheme in {"redis", "rediss", "redis+unix"}:
            with needs_extra("redis"):
                from fastapi_kit.ratelimit.redis import RedisCounters  # noqa: PLC0415 (an extra of its own)
            return RedisCounters(storage, strategy, timeout_seconds=timeout_seconds)
        # Of the clients of a Redis that is not a single server, limits would take one that the kit does not bring.
        options = {"implementation": "redispy"} if scheme in {"redis+cluster", "redis+sentinel"} else {}
        theirs = cast(Storage, storage_from_string(f"async+{storage}", **options))
        return StorageCounters(theirs, strategy, timeout_seconds=timeout_seconds)
    except (LimitsConfigurationError, ValueError) as exc:
        shown = f"{scheme}://" if separator and _SCHEME.fullmatch(scheme) else "without a scheme"
        package = _PACKAGE.match(str(exc))
        raise ConfigurationError(
            f"cannot open the rate limit storage {shown}: it needs the package {package[1]}, which is not installed"
            if package
            else f"cannot open the rate limit storage {shown} ({type(exc).__name__}): "
            'use "memory://" or, for example, "redis://localhost:6379/0"'
        ) from None  # the cause quotes the URL
