"""A value that comes from elsewhere, is kept, and is fetched anew in time: one fetch at once, few when it fails."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Generic, TypeVar

from fastapi_kit.auth.issuers.errors import IssuerUnavailableError
from fastapi_kit.auth.issuers.fetching import FetchError

__all__ = ["RETRY_SECONDS", "Refreshed"]

RETRY_SECONDS = 5.0
"""How long a fetch that failed is not tried again, so that requests do not queue behind a server that hangs."""

_log = logging.getLogger("fastapi_kit.auth.issuers")
_ValueT = TypeVar("_ValueT")


class Refreshed(Generic[_ValueT]):
    """What `fetch` gave last, at most `max_stale` seconds ago.

    Past `ttl` seconds the old value goes on serving while one task fetches a new one. `fetch` raises `FetchError` when
    it cannot; `issuer` is for the log. All times are seconds of `clock`.

    The task belongs to the event loop that runs: another one, later, starts its own.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[_ValueT]],
        *,
        issuer: str,
        ttl: float,
        max_stale: float,
        cooldown: float,
        clock: Callable[[], float],
    ) -> None:
        self._fetch = fetch
        self._issuer = issuer
        self._ttl = ttl
        self._max_stale = max_stale
        self._cooldown = cooldown
        self._clock = clock
        self._value: _ValueT | None = None
        self._fetched_at = self._tried_at = -math.inf
        self._failure: FetchError | None = None
        self._task: asyncio.Task[None] | None = None

    async def get(self) -> _ValueT:
        """Return the value; wait only where there is none, or none that is young enough.

        Raises `IssuerUnavailableError` (503) when it cannot be fetched, at once where that was tried just now.
        """
        value = self._current()
        if value is None:
            await self._wait_for(self._under_way() or self._start_unless_cooling())
            value = self._current()
            if value is None:
                raise self._unavailable()
        elif not 0 <= self._clock() - self._fetched_at < self._ttl and self._under_way() is None:
            self._start_unless_cooling()
        return value

    async def newer_than(self, seen: _ValueT) -> _ValueT | None:
        """Return what replaced a value that did not suffice; `None` where it still stands.

        One fetch is made for all who ask, and none before `cooldown` seconds have passed since the last.

        Raises `IssuerUnavailableError` (503) when the last fetch failed, so that nobody knows.
        """
        await self._wait_for(self._under_way() or self._start_unless_cooling())
        if self._value is not seen:
            return self._value
        if self._failure is not None:
            raise self._unavailable()
        return None

    async def refresh(self) -> None:
        """Fetch now, whatever was tried before; raise `IssuerUnavailableError` when that fails."""
        await self._wait_for(self._under_way() or self._start())
        if self._failure is not None or self._current() is None:
            raise self._unavailable()

    async def aclose(self) -> None:
        """End the fetch that is under way, if any."""
        task = self._under_way()
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def _current(self) -> _ValueT | None:
        return self._value if self._clock() - self._fetched_at < self._max_stale else None

    def _under_way(self) -> "asyncio.Task[None] | None":
        task = self._task
        is_ours = task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop()
        return task if is_ours else None

    def _start(self) -> "asyncio.Task[None]":
        # Kept, so that it is not collected while it runs; in a context of its own, since it belongs to no request.
        self._task = asyncio.create_task(self._run(), context=Context())
        return self._task

    def _start_unless_cooling(self) -> "asyncio.Task[None] | None":
        return None if self._cooling_seconds() else self._start()

    def _cooling_seconds(self) -> float:
        rest = self._cooldown if self._failure is None else RETRY_SECONDS
        since = self._clock() - self._tried_at
        return rest - since if 0 <= since < rest else 0

    async def _wait_for(self, task: "asyncio.Task[None] | None") -> None:
        if task is None:
            return
        await asyncio.wait([task])  # who stops waiting does not end it for the others
        if not task.cancelled():
            task.result()  # raises what is a fault of ours

    async def _run(self) -> None:
        try:
            self._value = await self._fetch()
        except FetchError as error:
            self._failure = error
            _log.warning("The keys of %s could not be fetched: %s", self._issuer, error)
        else:
            self._failure = None
            self._fetched_at = self._clock()
        self._tried_at = self._clock()

    def _unavailable(self) -> IssuerUnavailableError:
        error = IssuerUnavailableError(math.ceil(self._cooling_seconds() or RETRY_SECONDS))
        error.__cause__ = self._failure
        return error
