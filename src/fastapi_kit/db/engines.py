"""The engines of one database, below `Database` and `SyncDatabase`: the primary's and that of its replicas."""

import logging
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi_kit.db.engine import create_engine, parse_url
from fastapi_kit.db.hosts import Hosts
from fastapi_kit.db.options import Settings
from fastapi_kit.db.transactions import IsolationLevel, Mode, engine_for
from fastapi_kit.db.watching import watch
from fastapi_kit.errors import ConfigurationError, UnavailableError, needs_extra

with needs_extra("db"):
    from sqlalchemy import event
    from sqlalchemy.engine import URL, Engine
    from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

__all__ = ["Engines", "PoolState"]

_log = logging.getLogger("fastapi_kit.db")
_pools = logging.getLogger("fastapi_kit.db.pools")

# What a forked child holds of its parent's. A driver that finds its connection no longer used closes it, and with that
# ends the watch on its socket in the epoll object that parent and child share: the parent would wait for ever.
_of_the_parent: list[ConnectionPoolEntry] = []


@dataclass(frozen=True, slots=True)
class PoolState:
    """The connections of one pool: in use, idle, and how many there can be at most.

    One that was given up, because its server closed it or its request was cancelled, counts as idle until its place is
    used again. All are 0 of a pool that does not count.
    """

    in_use: int
    idle: int
    limit: int


class Engines:
    """Own the pools, and hand out the engine that a session of some mode needs."""

    def __init__(
        self,
        url: str | URL,
        replicas: Sequence[str | URL],
        settings: Settings,
        *,
        fall_back_to_primary: bool,
        is_async: bool,
    ) -> None:
        here = parse_url(url, is_async=is_async)
        if isinstance(replicas, str | URL):
            raise ConfigurationError("`replicas` is one URL: give a list of them")
        there = [parse_url(replica, is_async=is_async, setting="replicas") for replica in replicas]
        if there and here.get_backend_name() == "sqlite":
            raise ConfigurationError("`replicas` are given, and SQLite has none: leave them out")
        self.primary: Engine = create_engine(Hosts([here]), settings, is_async=is_async)
        self.replicas: Engine | None = None
        if there:
            hosts = Hosts(there, fallback=here if fall_back_to_primary else None)
            self.replicas = create_engine(hosts, settings, is_async=is_async)
        connected: weakref.WeakSet[ConnectionPoolEntry] = weakref.WeakSet()
        self._connected = connected
        if _pools.level == logging.NOTSET:  # as SQLAlchemy does with its own
            _pools.setLevel(logging.WARNING)
        for engine in self.all().values():
            watch(engine, settings)
            event.listen(engine, "connect", lambda _, entry: connected.add(entry))
        self.is_in_memory: bool = here.database in (None, "", ":memory:") and here.get_backend_name() == "sqlite"
        self._settings = settings
        self._by_mode: dict[tuple[Mode, IsolationLevel | None], Engine] = {}
        forget = weakref.WeakMethod(self.forget)
        # A child that went on with its parent's connections would read the parent's answers.
        getattr(os, "register_at_fork", lambda **_: None)(after_in_child=lambda: (method := forget()) and method())

    def get(self, mode: Mode, isolation_level: IsolationLevel | None = None) -> Engine:
        """Return the engine for sessions of a mode; reads alone go to the replicas."""
        key = mode, isolation_level
        if key not in self._by_mode:
            reads_alone = mode in {Mode.READ_ONLY, Mode.SNAPSHOT}
            engine = self.replicas if self.replicas and reads_alone else self.primary
            keeps_state = not self._settings.pgbouncer
            self._by_mode[key] = engine_for(engine, mode, isolation_level, keeps_state=keeps_state)
        return self._by_mode[key]

    def all(self) -> dict[str, Engine]:
        """Return the engine of each pool by the pool's name."""
        return {"primary": self.primary} | ({"replicas": self.replicas} if self.replicas else {})

    def forget(self) -> None:
        """Start with empty pools, and leave the connections of the old ones to whom they belong."""
        _of_the_parent.extend(self._connected)
        for engine in self.all().values():
            engine.dispose(close=False)

    def pool_states(self) -> dict[str, PoolState]:
        """Return the state of each pool by its name."""
        return {name: _state(engine) for name, engine in self.all().items()}

    def no_answer(self) -> UnavailableError:
        """Return the problem of a ping that failed, with the state of the pools as a note, which no client sees."""
        states = self.pool_states().items()
        problem = UnavailableError("The database does not answer.")
        problem.add_note(
            ", ".join(f"{name}: {state.in_use} of {state.limit} connections in use" for name, state in states)
        )
        return problem

    def log_limits(self, server_limit: int | None) -> None:
        """Say how many connections each worker may open, since their sum must be below what the server takes."""
        name = self.primary.dialect.name
        ours = sum(state.limit for state in self.pool_states().values())
        if not ours:  # a pool that does not count
            return
        if server_limit is None:
            _log.info("%s: %d connections at most for each worker process", name, ours)
            return
        workers = _workers()
        _log.log(
            logging.INFO if workers * ours <= server_limit else logging.WARNING,
            "%s: %d connections at most for each worker process, %d for %d workers; the server takes %d: %d workers",
            *(name, ours, workers * ours, workers, server_limit, server_limit // ours),
        )


def _workers() -> int:
    """Return how many workers uvicorn and gunicorn start, as far as the environment says it."""
    try:
        return max(1, int(os.environ["WEB_CONCURRENCY"]))
    except (KeyError, ValueError):
        return 1


def _state(engine: Engine) -> PoolState:
    pool = engine.pool
    if not isinstance(pool, QueuePool):  # the user's own, which need not count
        return PoolState(0, 0, 0)
    # SQLAlchemy tells the current overflow only.
    return PoolState(pool.checkedout(), pool.checkedin(), pool.size() + max(0, pool._max_overflow))  # noqa: SLF001
