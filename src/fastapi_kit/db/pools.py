"""A connection pool that can be used from several event loops, after each other or at the same time."""

import asyncio
from threading import Lock
from typing import Any, cast

from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy.pool import AsyncAdaptedQueuePool, PoolProxiedConnection

__all__ = ["PoolPerLoop", "SQLitePoolPerLoop"]


class PoolPerLoop(AsyncAdaptedQueuePool):
    """Keep a pool for each event loop: a connection can be used in the loop that opened it, and nowhere else.

    Each is as large as this one is said to be. Those of loops that were closed are dropped with what is in them.
    """

    closes_elsewhere = False
    """Whether a connection can be closed in another loop than its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._of_loops: dict[asyncio.AbstractEventLoop, PoolPerLoop] = {}
        self._is_of_loop = False
        self._lock = Lock()

    def connect(self) -> PoolProxiedConnection:
        """Return a connection of the running loop."""
        if self._is_of_loop:
            return super().connect()
        loop = asyncio.get_running_loop()
        pool = self._of_loops.get(loop)
        return (pool or self._add(loop)).connect()

    def dispose(self) -> None:
        """Close the idle connections of the running loop, and drop those of loops that were closed."""
        super().dispose()
        if self._of_loops:
            self._drop_closed()
            if pool := self._of_loops.get(asyncio.get_running_loop()):
                pool.dispose()

    def checkedin(self) -> int:
        """Return how many connections are idle, in all loops."""
        return super().checkedin() + sum(pool.checkedin() for pool in self._of_loops.values())

    def checkedout(self) -> int:
        """Return how many connections are in use, in all loops."""
        return super().checkedout() + sum(pool.checkedout() for pool in self._of_loops.values())

    def _add(self, loop: asyncio.AbstractEventLoop) -> "PoolPerLoop":
        pool = cast(PoolPerLoop, self.recreate())
        pool._is_of_loop = True  # noqa: SLF001  # it is of this class
        self._drop_closed()
        with self._lock:
            self._of_loops = {**self._of_loops, loop: pool}
        return pool

    def _drop_closed(self) -> None:
        with self._lock:
            before = self._of_loops
            self._of_loops = {loop: pool for loop, pool in before.items() if not loop.is_closed()}
        if self.closes_elsewhere:
            for loop in before.keys() - self._of_loops.keys():
                before[loop].dispose()


class SQLitePoolPerLoop(PoolPerLoop):
    """The same for aiosqlite, each of whose connections is a thread that has to be stopped."""

    closes_elsewhere = True
