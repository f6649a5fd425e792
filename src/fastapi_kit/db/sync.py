"""One database of a service, for `def`: as `Database`, on drivers that block."""

import random
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, TypeVar, Unpack

from anyio import move_on_after
from fastapi import Depends, FastAPI, Response
from fastapi.params import Depends as DependsParam
from starlette.requests import HTTPConnection

from fastapi_kit.db.engines import Engines, PoolState
from fastapi_kit.db.errors import is_serialization_failure, problems_raised
from fastapi_kit.db.loading import guarded_session
from fastapi_kit.db.options import DatabaseOptions, Settings
from fastapi_kit.db.outcome import is_safe, is_success
from fastapi_kit.db.scopes import refuse_sessions_on_the_loop, refuse_wrong_scopes
from fastapi_kit.db.start import SERVER_LIMIT, checked_metadata, create_missing, no_answer
from fastapi_kit.db.threads import admitted, closing, in_extra_thread
from fastapi_kit.db.transactions import IsolationLevel, Mode
from fastapi_kit.errors import ConflictError, PreconditionFailedError, Problem, UnavailableError, needs_extra, raises

with needs_extra("db"):
    from sqlalchemy import MetaData, text
    from sqlalchemy.engine import URL, Engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.orm import Session, sessionmaker

__all__ = ["SyncDatabase"]

ResultT = TypeVar("ResultT")


class SyncDatabase:
    """Give sessions to `def` endpoints, commit them before the response is sent, and own the engine below them.

    `Annotated[Session, db.per_request]` in a route, `with db.session() as session` everywhere else; what
    `Database` promises holds here too. It needs no greenlet.

    `url` names a driver that blocks: `sqlite+pysqlite:///./app.db`, `postgresql+psycopg://user:password@host/name`,
    `mysql+pymysql://` (or `mariadb+`). `create_all`, `replicas`, `fall_back_to_primary` and `options` are those of
    `Database`.

    - `lazy_loads`: whether a relationship may be loaded when it is read, a query each time. Without, it raises as
      under a `Database`, and says what would load it.

    FastAPI runs a `def` endpoint in a thread, of which there are 40; each of them waits while its statement runs.

    Raises `ConfigurationError` as `Database` does.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        create_all: MetaData | None = None,
        replicas: Sequence[str | URL] = (),
        fall_back_to_primary: bool = True,
        lazy_loads: bool = False,
        **options: Unpack[DatabaseOptions],
    ) -> None:
        self._settings = Settings(**options)
        self._engines = Engines(
            url, replicas, self._settings, fall_back_to_primary=fall_back_to_primary, is_async=False
        )
        self._create_all = checked_metadata(create_all)
        ours = {"expire_on_commit": False, "close_resets_only": False, "class_": Session}
        merged: dict[str, Any] = {**ours, **self._settings.session_options}
        merged["class_"] = guarded_session(merged["class_"], is_async=False, lazy_loads=lazy_loads)
        self._sessions: sessionmaker[Session] = sessionmaker(**merged)
        self._bound: Callable[[Mode], Engine] | None = None
        self.per_request: DependsParam = Depends(self._per_request, scope="function")
        """The session of a request, for `Annotated[Session, db.per_request]` in a `def` endpoint or dependency.

        As `Database.per_request`. `lifespan` refuses an `async def` that takes it: each statement would stop the
        event loop.
        """
        self.per_request_read_only: DependsParam = Depends(self._per_request_read_only, scope="function")
        """A session of a request that can only read, as `Database.per_request_read_only`."""

    @property
    def engine(self) -> Engine:
        """Return the engine of the database itself, not of its replicas."""
        return self._engines.primary

    @property
    def replica_engine(self) -> Engine | None:
        """Return the engine of the replicas, None without."""
        return self._engines.replicas

    @raises(ConflictError, PreconditionFailedError, UnavailableError)
    async def _per_request(self, connection: HTTPConnection, response: Response) -> AsyncGenerator[Session]:
        async with admitted(connection), self._closing(Mode.READ if is_safe(connection) else Mode.WRITE) as session:
            with problems_raised(connection):
                yield session
                if session.in_transaction() and is_success(connection, response):
                    await in_extra_thread(session.commit)

    @raises(UnavailableError)
    async def _per_request_read_only(self, connection: HTTPConnection) -> AsyncGenerator[Session]:
        async with admitted(connection), self._closing(Mode.READ_ONLY) as session:
            with problems_raised():
                yield session
                if session.in_transaction():
                    await in_extra_thread(session.flush)

    @contextmanager
    def session(
        self, *, read_only: bool = False, snapshot: bool = False, isolation_level: IsolationLevel | None = None
    ) -> Generator[Session]:
        """Open a unit of work outside of a request, as `Database.session` does.

        >>> from sqlalchemy import select
        >>> db = SyncDatabase("sqlite+pysqlite://")
        >>> with db.session() as session:
        ...     session.scalar(select(42))
        42
        >>> db.dispose()
        """
        mode = Mode.SNAPSHOT if snapshot else Mode.READ_ONLY if read_only else Mode.WRITE
        with problems_raised(), self._unit_of_work(mode, isolation_level) as session:
            yield session

    def run(
        self,
        unit_of_work: Callable[[Session], ResultT],
        *,
        retries: int = 3,
        isolation_level: IsolationLevel | None = None,
    ) -> ResultT:
        """Run a unit of work in a session of its own, and again after a serialization failure, as `Database.run`."""
        with problems_raised():
            for attempt in range(retries):
                try:
                    with self._unit_of_work(Mode.WRITE, isolation_level) as session:
                        return unit_of_work(session)
                except (Problem, SQLAlchemyError, ExceptionGroup) as exc:
                    if not is_serialization_failure(exc):
                        raise
                time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311
            with self._unit_of_work(Mode.WRITE, isolation_level) as session:
                return unit_of_work(session)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncGenerator[None]:
        """Check routes and connection when the app starts, dispose of the engine when it ends, as `Database.lifespan`.

        Raises `ConfigurationError` also for an `async def` that takes a session.
        """
        sessions = self._per_request, self._per_request_read_only
        try:
            refuse_wrong_scopes(app, sessions, self.session, "Session")
            refuse_sessions_on_the_loop(app, sessions)
            await in_extra_thread(self._start)
            yield
        finally:
            with move_on_after(self._settings.connect_timeout_seconds, shield=True):
                await in_extra_thread(self.dispose, abandon_on_cancel=True)

    def create_all(self, metadata: MetaData) -> None:
        """Create the tables that are missing; workers that start together wait for each other."""
        with self._open(Mode.WRITE) as session:
            create_missing(session, metadata)

    async def ping(self, timeout_seconds: float = 1.0) -> None:
        """Return if the database answers a query within `timeout_seconds`, as `Database.ping`; from `async def`."""
        try:
            with move_on_after(timeout_seconds) as scope:
                await in_extra_thread(lambda: self._scalar("SELECT 1"), abandon_on_cancel=True)
            if scope.cancelled_caught:
                raise TimeoutError
        except (SQLAlchemyError, OSError) as exc:  # TimeoutError is an OSError
            raise self._engines.no_answer() from exc

    def pool_states(self) -> dict[str, PoolState]:
        """Return the connections in use, idle and possible: of the `primary`, and of the `replicas` if any."""
        return self._engines.pool_states()

    def dispose(self) -> None:
        """Close every connection that is not in use; the database can be used again afterwards."""
        for engine in self._engines.all().values():
            engine.dispose()

    @contextmanager
    def bound_to(self, engine_for: Callable[[Mode], Engine]) -> Generator[None]:
        """Make each session use the engine that is returned for it until the block ends, as `Database.bound_to`.

        Sessions that are open already keep what they have.
        """
        before, self._bound = self._bound, engine_for
        try:
            yield
        finally:
            self._bound = before

    @contextmanager
    def _unit_of_work(self, mode: Mode, isolation_level: IsolationLevel | None) -> Generator[Session]:
        with self._open(mode, isolation_level) as session:
            yield session
            if mode is Mode.WRITE:
                session.commit()
            elif session.in_transaction():
                session.flush()

    def _closing(self, mode: Mode) -> AbstractAsyncContextManager[Session]:
        return closing(self._open(mode), keeps_connection=self._engines.is_in_memory)

    def _open(self, mode: Mode, isolation_level: IsolationLevel | None = None) -> Session:
        engine = self._bound(mode) if self._bound else self._engines.get(mode, isolation_level)
        return self._sessions(bind=engine)

    def _start(self) -> None:
        dialect = self.engine.dialect.name
        try:
            limit = self._scalar("SELECT NULL" if self._settings.pgbouncer else SERVER_LIMIT[dialect])
        except (SQLAlchemyError, OSError) as exc:
            raise no_answer(dialect, exc) from exc
        self._engines.log_limits(limit)
        if self._create_all is not None:
            self.create_all(self._create_all)

    def _scalar(self, query: str) -> Any:
        with self._open(Mode.READ) as session:
            return session.scalar(text(query))
