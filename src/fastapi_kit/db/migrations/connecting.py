"""A connection for migrations: not of the pool that serves requests, and of the loop that asks for it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import TYPE_CHECKING, Protocol

from anyio import move_on_after

from fastapi_kit.db.hosts import without_time_outs
from fastapi_kit.db.migrations.errors import MigrationError
from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy.engine import Connection, Engine
if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["HasEngine", "Work", "run_in_loop", "run_now"]

Work = Callable[[Connection], None]

_GOODBYE_SECONDS = 10.0


class HasEngine(Protocol):
    """A `Database` or a `SyncDatabase`."""

    @property
    def engine(self) -> "AsyncEngine | Engine":
        """Return its engine."""
        ...


def run_now(db: HasEngine, work: Work) -> None:
    """Do `work` with a connection, from code that cannot wait, also while an event loop runs in this thread.

    An async driver gets a loop of its own, in another thread where this one has a loop already.

    Raises `MigrationError` for an in-memory database, whose tables would end with the connection.
    """
    if _is_in_memory(db.engine):
        raise MigrationError(
            "the database is in memory and ends with this command: give the Database a file, or call"
            " fastapi_kit.db.migrations.upgrade(db) in the process that uses it"
        )
    if isinstance(db.engine, Engine):
        _run_sync(db.engine, work)
    elif _loop_runs_here():
        with ThreadPoolExecutor(1) as executor:
            executor.submit(_run_in_own_loop, db.engine, work).result()
    else:
        _run_in_own_loop(db.engine, work)


async def run_in_loop(db: HasEngine, work: Work) -> None:
    """Do `work` with a connection of the running loop; with one that blocks, in a thread."""
    if isinstance(db.engine, Engine):
        await asyncio.to_thread(_run_sync, db.engine, work)
    else:
        await _run_async(db.engine, work)


def _run_in_own_loop(engine: "AsyncEngine", work: Work) -> None:
    # psycopg takes no other kind of loop on Windows; elsewhere it is the default one.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(_run_async(engine, work))


def _run_sync(engine: Engine, work: Work) -> None:
    own = _of_its_own(engine)
    try:
        with without_time_outs(), own.connect() as connection:
            work(connection)
    finally:
        if own is not engine:
            own.dispose()


async def _run_async(engine: "AsyncEngine", work: Work) -> None:
    from sqlalchemy.ext.asyncio import AsyncEngine  # noqa: PLC0415  # it needs greenlet

    own = _of_its_own(engine.sync_engine)
    try:
        with without_time_outs():
            async with AsyncEngine(own).connect() as connection:
                await connection.run_sync(work)
    finally:
        if own is not engine.sync_engine:
            with move_on_after(_GOODBYE_SECONDS, shield=True):
                await AsyncEngine(own).dispose()


def _of_its_own(engine: Engine) -> Engine:
    """Return an engine that connects as this one does, with a pool of its own: it may belong to another loop.

    An in-memory database is its one connection, so that its own engine is the only one there is.
    """
    if _is_in_memory(engine):
        return engine
    own = copy(engine)  # with the listeners of this one
    own.pool = engine.pool.recreate()
    return own


def _is_in_memory(engine: "AsyncEngine | Engine") -> bool:
    return engine.dialect.name == "sqlite" and engine.url.database in {None, "", ":memory:"}


def _loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
