"""The threads of a `SyncDatabase`: none of its requests waits for one that waits for it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from threading import Lock

from anyio import CancelScope, CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import current_default_thread_limiter, run_sync
from starlette.requests import HTTPConnection

from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy import event
    from sqlalchemy.engine import Connection
    from sqlalchemy.exc import InvalidRequestError, PendingRollbackError, ResourceClosedError
    from sqlalchemy.orm import Session

__all__ = ["admitted", "closing", "current_request", "in_extra_thread"]

current_request: ContextVar[object] = ContextVar("fastapi_kit_request", default=None)
"""What stands for the request with a session that this task or thread works for, if any."""

_admission: RunVar[CapacityLimiter] = RunVar("fastapi_kit_sync_sessions")
_ADMITTED = "fastapi_kit_admitted"


@asynccontextmanager
async def admitted(connection: HTTPConnection) -> AsyncGenerator[None]:
    """Let in no more requests with a session than there are threads for `def`; more wait here, holding nothing.

    FastAPI takes a thread several times for one request: for each `def` dependency, for the endpoint, and to validate
    what that returned. With more requests than threads, all threads may wait for a connection, and the requests that
    have the connections for a thread. With as many, each that has a connection finds a thread.

    A WebSocket is let in at once, since it may stay for hours. The sessions of one request come in together.
    """
    scope = connection.scope
    if _ADMITTED in scope:
        yield
        return
    borrower = scope[_ADMITTED] = object()  # no task: one may call the app again within a request
    limiter = _limiter() if scope["type"] == "http" else None
    if limiter is not None:
        await limiter.acquire_on_behalf_of(borrower)
    outer = current_request.get()
    current_request.set(borrower)
    try:
        yield
    finally:
        current_request.set(outer)  # a test may call the app in its own task, and open sessions of its own next
        if limiter is not None:
            limiter.release_on_behalf_of(borrower)


def _limiter() -> CapacityLimiter:
    threads = current_default_thread_limiter().total_tokens
    try:
        limiter = _admission.get()
        limiter.total_tokens = threads
    except LookupError:
        limiter = CapacityLimiter(threads)
        _admission.set(limiter)
    return limiter


async def in_extra_thread(work: Callable[[], object], *, abandon_on_cancel: bool = False) -> None:
    """Run what blocks in a thread beyond the 40, which may all wait for the connection that this gives back.

    It runs to its end whatever is cancelled, and then the cancellation goes on; with `abandon_on_cancel` unseen.
    """
    if abandon_on_cancel:
        await run_sync(work, limiter=CapacityLimiter(1), abandon_on_cancel=True)
        return
    with CancelScope(shield=True):
        running = asyncio.ensure_future(run_sync(work, limiter=CapacityLimiter(1)))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise


@asynccontextmanager
async def closing(session: Session, *, keeps_connection: bool) -> AsyncGenerator[Session]:
    """Close a session at the end, whatever is cancelled meanwhile.

    After a cancellation its connection is closed as well: `asyncio`, unlike anyio, does not wait for the thread that
    may still use it, and in the pool it could get a statement of that thread in the midst of another request.
    `keeps_connection`: not so for the one connection that is an in-memory database.
    """
    connections = _Connections(session)
    try:
        yield session
    except asyncio.CancelledError:
        await in_extra_thread(partial(connections.take_away, closes=not keeps_connection))
        raise
    except BaseException:
        await _close(session)
        raise
    await _close(session)


async def _close(session: Session) -> None:
    if session.in_transaction():
        await in_extra_thread(session.close)
    else:
        session.close()  # no connection is held: nothing to wait for


class _Connections:
    """What a session has taken from the pool, to be taken away from it while another thread uses it.

    The methods of the session itself are not made for two threads.
    """

    def __init__(self, session: Session) -> None:
        self._lock = Lock()
        self._taken: list[Connection] = []
        self._is_over = False
        event.listen(session, "after_begin", self._take)

    def _take(self, session: Session, transaction: object, connection: Connection) -> None:
        with self._lock:
            if not self._is_over:
                self._taken.append(connection)
                return
        connection.close()
        raise InvalidRequestError("this session is closed: its request was cancelled")

    def take_away(self, *, closes: bool) -> None:
        """Give back all connections of the session, closed if told so, and let it have no other."""
        with self._lock:
            self._is_over = True
        for connection in self._taken:
            try:
                driver = connection.connection.driver_connection
            except (PendingRollbackError, ResourceClosedError):  # it has been given back, or lost
                continue
            # What a driver holds while it runs a statement: to close it meanwhile crashes Python. psycopg and the kit's
            # SQLite have it; PyMySQL, which has no C in it, raises an error in the other thread.
            with getattr(driver, "lock", nullcontext()):
                if closes:
                    connection.invalidate()
                connection.close()
