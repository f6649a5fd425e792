"""Who may use the one connection of a test: sessions of one task or request together, all others in turns."""

import asyncio
import threading
from abc import ABC, abstractmethod
from contextvars import ContextVar
from dataclasses import dataclass

from fastapi_kit.db.threads import current_request
from fastapi_kit.errors import ConfigurationError, needs_extra

with needs_extra("db"):
    from sqlalchemy.exc import TimeoutError as PoolTimeoutError
    from sqlalchemy.util import await_only

__all__ = ["TaskTurns", "ThreadTurns", "Turns"]

_BUSY = "a session of another task, request or thread holds this test's connection: let it commit or close first"


class Turns(ABC):
    """A lock that its holder may take again."""

    @abstractmethod
    def take(self) -> None:
        """Wait for the turn; raise the error of an exhausted pool where it is not had in time."""

    @abstractmethod
    def give_back(self) -> None:
        """Give back what was taken once."""


class TaskTurns(Turns):
    """For the tasks of one event loop, each of which waits without holding up the loop."""

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[object] | None = None
        self._depth = 0

    def take(self) -> None:
        """Take the turn for the current task."""
        if asyncio.get_running_loop() is not self._loop:
            raise ConfigurationError(
                "the app runs in another event loop than `rolled_back`: with a TestClient use `rolled_back_client`"
            )
        task = asyncio.current_task()
        if self._task is not task:
            await_only(self._wait())
            self._task = task
        self._depth += 1

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._lock.acquire(), self._wait_seconds)
        except TimeoutError:
            raise PoolTimeoutError(_BUSY) from None

    def give_back(self) -> None:
        """Let the next task have it."""
        self._depth -= 1
        if self._depth == 0:
            self._task = None
            self._lock.release()


class ThreadTurns(Turns):
    """For threads; those that work for one request, one after the other, count as one."""

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._changed = threading.Condition()
        self._holder: object = None
        self._depth = 0

    def take(self) -> None:
        """Take the turn for the current request, or else for the task or the thread."""
        taker = _taker()
        with self._changed:
            if not self._changed.wait_for(lambda: self._holder in {None, taker}, self._wait_seconds):
                raise PoolTimeoutError(_BUSY)
            self._holder = taker
            self._depth += 1

    def give_back(self) -> None:
        """Let the next have it; in whatever thread the commit ran."""
        with self._changed:
            self._depth -= 1
            if self._depth == 0:
                self._holder = None
                self._changed.notify_all()


@dataclass(frozen=True, eq=False)
class _Thread:
    ident: int


_thread: ContextVar[_Thread | None] = ContextVar("fastapi_kit_turn_of_thread", default=None)


def _taker() -> object:
    if request := current_request.get():
        return request
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop in this thread
        pass
    # Of this call of the thread alone: a thread of the pool works for another request next, in another context.
    own = _thread.get()
    if own is None or own.ident != threading.get_ident():
        own = _Thread(threading.get_ident())
        _thread.set(own)
    return own
