"""One database of a service, for `async def`: the sessions that requests and everything else get from it."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib import import_module
from typing import Any, TypeVar, Unpack

from anyio import move_on_after
from fastapi import Depends, FastAPI, Response
from fastapi.params import Depends as DependsParam
from starlette.requests import HTTPConnection

from fastapi_kit.db.engines import Engines, PoolState
from fastapi_kit.db.errors import is_serialization_failure, problems_raised
from fastapi_kit.db.loading import end_stray_task, guarded_session
from fastapi_kit.db.options import DatabaseOptions, Settings
from fastapi_kit.db.outcome import is_safe, is_success
from fastapi_kit.db.scopes import refuse_wrong_scopes
from fastapi_kit.db.start import SERVER_LIMIT, checked_metadata, create_missing, no_answer
from fastapi_kit.db.transactions import IsolationLevel, Mode
from fastapi_kit.errors import ConflictError, PreconditionFailedError, Problem, UnavailableError, needs_extra, raises

with needs_extra("db"):
    import_module("greenlet")  # SQLAlchemy's error would name an extra of its own
    from sqlalchemy import MetaData, text
    from sqlalchemy.engine import URL, Engine
    from sqlalchemy.exc import DBAPIError, InvalidRequestError, SQLAlchemyError
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
    from sqlalchemy.orm import Session

__all__ = ["Database"]

ResultT = TypeVar("ResultT")


class Database:
    """Give sessions to requests, commit them before the response is sent, and own the engine below them.

    Make one for each database, at import time if you like: it connects at the first statement. Put `lifespan`
    on the app. In a route a session is `Annotated[AsyncSession, db.per_request]`; everywhere else it is
    `async with db.session() as session`. `SyncDatabase` is the same for `def`.

    `url` names an async driver: `sqlite+aiosqlite:///./app.db`, `postgresql+asyncpg://user:password@host/name`
    (or `+psycopg`), `mysql+asyncmy://` (or `+aiomysql`, or `mariadb+`).

    - `create_all`: tables that the lifespan creates where they are missing. For prototypes and tests: it
      never alters one, migrations do.
    - `replicas`: URLs of servers that follow this one, with the same driver. Read-only sessions go there, in turn, and
      may see less than was committed; every other session stays here.
    - `fall_back_to_primary`: whether read-only sessions come here while no replica answers, or get a 503.
    - `options`: `DatabaseOptions`.

    SQLite runs in WAL mode with foreign keys on. The transactions of unsafe methods (POST, PUT, PATCH, DELETE),
    of WebSockets and of `session()` begin at the first statement and take the write lock there, so that they wait
    for each other and do not fail. Those of safe methods begin at the first statement that is no SELECT; until
    then each SELECT sees what is committed by then. An in-memory database has one connection, which sessions take
    in turns.

    Connections belong to an event loop: each loop has a pool of its own, at the same time or, as in tests, after
    another. An in-memory database alone is shared; its sessions cannot wait for each other in more than one loop.

    Raises `ConfigurationError` for a URL that cannot be used, a driver that is not installed and a number out
    of range. No message holds the password, and no log of statements holds their parameters.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        create_all: MetaData | None = None,
        replicas: Sequence[str | URL] = (),
        fall_back_to_primary: bool = True,
        **options: Unpack[DatabaseOptions],
    ) -> None:
        self._settings = Settings(**options)
        self._engines = Engines(url, replicas, self._settings, fall_back_to_primary=fall_back_to_primary, is_async=True)
        self._engine = AsyncEngine(self._engines.primary)
        self._create_all = checked_metadata(create_all)
        # A session that is used after its end must say so: with the default it would open again, unseen.
        ours = {"expire_on_commit": False, "close_resets_only": False, "sync_session_class": Session}
        merged: dict[str, Any] = {**ours, **self._settings.session_options}
        merged["sync_session_class"] = guarded_session(merged["sync_session_class"], is_async=True)
        self._sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(**merged)
        self._bound: Callable[[Mode], Engine] | None = None
        self._asking: set[asyncio.Task[Any]] = set()
        self.per_request: DependsParam = Depends(self._per_request, scope="function")
        """The session of a request, for `Annotated[AsyncSession, db.per_request]`, HTTP and WebSocket.

        Every dependency of the request shares it. It commits when the endpoint has returned and its result
        was validated, before the response is sent. It rolls back if anything was raised, an `HTTPException`
        too, and if the endpoint set a status of 400 or more; a `Response` that it returns with such a status needs
        `RollbackRoute`. A request that executes nothing takes no connection. Afterwards the session is closed: a
        stream or a background task that uses it gets an error, and should open its own with `session()`.

        Raises `ConflictError` (409), `PreconditionFailedError` (412) and `UnavailableError` (503), as
        `db.problem_for` has it, for database errors that leave the endpoint or come with the commit. If the
        connection is lost during the commit, the 503 does not say whether it took place.
        """
        self.per_request_read_only: DependsParam = Depends(self._per_request_read_only, scope="function")
        """A session of a request that can only read, as `session(read_only=True)` is; on a replica, if there are any.

        It is another session than that of `per_request`, and does not see what that has not committed. A write in
        it is an error of the database, a 500 of the service.
        """

    @property
    def engine(self) -> AsyncEngine:
        """Return the engine of the database itself, not of its replicas."""
        return self._engine

    @property
    def replica_engine(self) -> AsyncEngine | None:
        """Return the engine of the replicas, None without."""
        return AsyncEngine(self._engines.replicas) if self._engines.replicas else None

    @raises(ConflictError, PreconditionFailedError, UnavailableError)
    async def _per_request(self, connection: HTTPConnection, response: Response) -> AsyncGenerator[AsyncSession]:
        session = self._open(Mode.READ if is_safe(connection) else Mode.WRITE)
        try:
            with problems_raised(connection):
                yield session
                await _refuse_stray_task(session)
                if session.in_transaction() and is_success(connection, response):
                    await session.commit()
        finally:
            await _close(session)

    @raises(UnavailableError)
    async def _per_request_read_only(self) -> AsyncGenerator[AsyncSession]:
        session = self._open(Mode.READ_ONLY)
        try:
            with problems_raised():
                yield session
                await _refuse_stray_task(session)
                await _flush(session)
        finally:
            await _close(session)

    @asynccontextmanager
    async def session(
        self, *, read_only: bool = False, snapshot: bool = False, isolation_level: IsolationLevel | None = None
    ) -> AsyncGenerator[AsyncSession]:
        """Open a unit of work outside of a request: in a stream, a background task, a script.

        It commits at the end of the block, rolls back if the block raises, and then is closed. For a session
        in a route see `per_request`; the lifespan refuses a route that depends on this method.

        - `read_only`: for reads alone. It waits for no writer, on SQLite neither, and never commits. The
          database refuses each write with an error of its own, in a flush at the end of the block at the latest.
          Each statement sees what is committed by then; where that is enough, PostgreSQL needs no transaction.
        - `snapshot`: for reads alone that all see one moment. `stream()` on PostgreSQL needs it.
        - `isolation_level`: of a session that writes, on PostgreSQL and MariaDB.

        Raises `ConflictError` (409) and `UnavailableError` (503), as `db.problem_for` has it, for database
        errors that leave the block or come with the commit, as `per_request` does. SQLAlchemy's error, which
        tells more to a script, is the `__cause__`; inside the block it is itself.

        >>> import asyncio
        >>> from sqlalchemy import select
        >>> db = Database("sqlite+aiosqlite://")
        >>> async def answer() -> int:
        ...     async with db.session() as session:
        ...         return await session.scalar(select(42))
        >>> asyncio.run(answer())
        42
        >>> asyncio.run(db.dispose())
        """
        mode = Mode.SNAPSHOT if snapshot else Mode.READ_ONLY if read_only else Mode.WRITE
        with problems_raised():
            async with self._unit_of_work(mode, isolation_level) as session:
                yield session

    async def run(
        self,
        unit_of_work: Callable[[AsyncSession], Awaitable[ResultT]],
        *,
        retries: int = 3,
        isolation_level: IsolationLevel | None = None,
    ) -> ResultT:
        """Run a unit of work in a session of its own, and again after a serialization failure or a deadlock.

        Return what it returned, after the commit. It must do nothing that cannot be undone, as sending an e-mail,
        since it may run up to `retries` times more, after a random pause each time. It is not run again when the
        connection was lost: the commit may have taken place. In a route use it in place of the request's session:
        the two would wait for each other's locks.

        Raises what `session` does; `UnavailableError` (503) when the last attempt failed too.
        """
        with problems_raised():
            for attempt in range(retries):
                try:
                    async with self._unit_of_work(Mode.WRITE, isolation_level) as session:
                        return await unit_of_work(session)
                except (Problem, SQLAlchemyError, ExceptionGroup) as exc:
                    if not is_serialization_failure(exc):
                        raise
                await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311
            async with self._unit_of_work(Mode.WRITE, isolation_level) as session:
                return await unit_of_work(session)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncGenerator[None]:
        """Check routes and connection when the app starts, dispose of the engine when it ends.

        `FastAPI(lifespan=db.lifespan)`, or `async with db.lifespan(app)` in a lifespan of your own. The
        engine is disposed of even if the start fails; the next start opens it anew. How many connections a worker
        may open is logged, as a warning where the server takes fewer than `WEB_CONCURRENCY` workers need.

        Raises `ConfigurationError` for a route that takes a session in a way that would commit after the
        response, naming it, and for a database that does not answer.
        """
        try:
            refuse_wrong_scopes(app, (self._per_request, self._per_request_read_only), self.session, "AsyncSession")
            await self._start()
            yield
        finally:
            await self.dispose()

    async def create_all(self, metadata: MetaData) -> None:
        """Create the tables that are missing; workers that start together wait for each other."""
        async with self._open(Mode.WRITE) as session:
            await session.run_sync(create_missing, metadata)

    async def ping(self, timeout_seconds: float = 1.0) -> None:
        """Return if the database answers a query within `timeout_seconds`, connection included.

        Raises `UnavailableError` (503) if it does not, also because every connection is taken.
        """
        asking = asyncio.create_task(self._scalar("SELECT 1", timeout_seconds))
        self._asking.add(asking)  # asyncio alone would not keep it
        asking.add_done_callback(self._asking.discard)
        asking.add_done_callback(lambda _: asking.cancelled() or asking.exception())  # else it is logged as unseen
        try:
            # Not to be waited for when it is cancelled: a driver may take ten seconds to give a hung server up.
            await asyncio.wait_for(asyncio.shield(asking), timeout_seconds)
        except (SQLAlchemyError, OSError) as exc:  # TimeoutError is an OSError
            raise self._engines.no_answer() from exc

    def pool_states(self) -> dict[str, PoolState]:
        """Return the connections in use, idle and possible: of the `primary`, and of the `replicas` if any."""
        return self._engines.pool_states()

    async def dispose(self) -> None:
        """Close every connection that is not in use; the database can be used again afterwards.

        A server that does not answer the goodbye is left after `connect_timeout_seconds`.
        """
        for engine in self._engines.all().values():
            with move_on_after(self._settings.connect_timeout_seconds, shield=True):
                await AsyncEngine(engine).dispose()

    @contextmanager
    def bound_to(self, engine_for: Callable[[Mode], Engine]) -> Generator[None]:
        """Make each session use the engine that is returned for it until the block ends, as `testing.database` does.

        The engine is SQLAlchemy's sync one, below an `AsyncEngine`. Sessions that are open already keep what they have.
        """
        before, self._bound = self._bound, engine_for
        try:
            yield
        finally:
            self._bound = before

    @asynccontextmanager
    async def _unit_of_work(self, mode: Mode, isolation_level: IsolationLevel | None) -> AsyncGenerator[AsyncSession]:
        session = self._open(mode, isolation_level)
        try:
            yield session
            await _refuse_stray_task(session)
            await (session.commit() if mode is Mode.WRITE else _flush(session))
        finally:
            await _close(session)

    def _open(self, mode: Mode, isolation_level: IsolationLevel | None = None) -> AsyncSession:
        engine = self._bound(mode) if self._bound else self._engines.get(mode, isolation_level)
        return self._sessions(bind=AsyncEngine(engine))

    async def _start(self) -> None:
        query = "SELECT NULL" if self._settings.pgbouncer else SERVER_LIMIT[self._engine.dialect.name]
        try:
            limit = await self._scalar(query, self._settings.connect_timeout_seconds)
        except (SQLAlchemyError, OSError) as exc:
            raise no_answer(self._engine.dialect.name, exc) from exc
        self._engines.log_limits(limit)
        if self._create_all is not None:
            await self.create_all(self._create_all)

    async def _scalar(self, query: str, timeout_seconds: float) -> Any:
        async with asyncio.timeout(timeout_seconds), self._open(Mode.READ) as session:
            return await session.scalar(text(query))


async def _flush(session: AsyncSession) -> None:
    if session.in_transaction():
        await session.flush()


async def _refuse_stray_task(session: AsyncSession) -> None:
    if await end_stray_task(session.sync_session):
        raise InvalidRequestError(
            "a task still waited for a statement of this session at its end, and was cancelled: await it before,"
            " or open db.session() in it"
        )


async def _close(session: AsyncSession) -> None:
    await end_stray_task(session.sync_session)
    if session.in_transaction():
        # A rollback that fails has lost its connection, and the transaction with it: the answer stays what it is.
        with suppress(DBAPIError):
            async with session:  # which rolls back, and finishes even if the request is cancelled
                pass
    else:
        session.sync_session.close()  # no connection is held: nothing to wait for
