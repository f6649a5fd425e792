"""One database of a service: its engine, and the sessions that requests and everything else get from it."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from anyio import move_on_after
from fastapi import Depends, FastAPI
from fastapi.params import Depends as DependsParam
from starlette.requests import HTTPConnection

from fastapi_kit.db.engine import EngineSettings, create_engine, parse_url
from fastapi_kit.db.errors import problems_raised
from fastapi_kit.db.readonly import read_only_engine
from fastapi_kit.db.scopes import refuse_wrong_scopes
from fastapi_kit.db.sqlite import reading, writing
from fastapi_kit.errors import ConfigurationError, ConflictError, UnavailableError, needs_extra, raises

with needs_extra("db"):
    from sqlalchemy import MetaData, text
    from sqlalchemy.engine import URL
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

__all__ = ["Database"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
_CREATE_ALL_LOCK = 0x66617374_6B6974  # any constant of one's own


class Database:
    """Give sessions to requests, commit them before the response is sent, and own the engine below them.

    Make one for each database, at import time if you like: it connects at the first statement. Put `lifespan`
    on the app. In a route a session is `Annotated[AsyncSession, db.per_request]`; everywhere else it is
    `async with db.session() as session`.

    `url` names an async driver: `sqlite+aiosqlite:///./app.db`, `postgresql+asyncpg://user:password@host/name`
    (or `+psycopg`), `mysql+asyncmy://` (or `+aiomysql`, or `mariadb+`).

    - `create_all`: tables that the lifespan creates where they are missing. For prototypes and tests: it
      never alters one, migrations do.
    - `pool_size`, `max_overflow`: connections kept, and more under load, for each worker process.
    - `pool_timeout_seconds`: how long a request waits for a connection before it is answered 503.
    - `pool_recycle_seconds`: the age at which a connection is replaced.
    - `connect_timeout_seconds`: of PostgreSQL and MariaDB.
    - `idle_in_transaction_timeout_seconds`: after which PostgreSQL ends a transaction that does nothing.
    - `busy_timeout_seconds`: how long SQLite waits for another writer.
    - `application_name`: as `pg_stat_activity` shows it.
    - `echo`: log each statement; parameters stay hidden.
    - `engine_options`, `session_options`: for SQLAlchemy, over what is set here.

    SQLite runs in WAL mode with foreign keys on. The transactions of unsafe methods (POST, PUT, PATCH, DELETE),
    of WebSockets and of `session()` begin at the first statement and take the write lock there, so that they wait
    for each other and do not fail. Those of safe methods begin at the first statement that is no SELECT; until
    then each SELECT sees what is committed by then. An in-memory database has one connection, which sessions take
    in turns.

    Raises `ConfigurationError` for a URL that cannot be used, a driver that is not installed and a number out
    of range. No message holds the password, and no log of statements holds their parameters.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        create_all: MetaData | None = None,
        pool_size: int = 5,
        max_overflow: int = 10,
        pool_timeout_seconds: float = 5.0,
        pool_recycle_seconds: int = 1800,
        connect_timeout_seconds: float = 10.0,
        idle_in_transaction_timeout_seconds: float = 60.0,
        busy_timeout_seconds: float = 5.0,
        application_name: str = "fastapi-service-kit",
        echo: bool = False,
        engine_options: Mapping[str, Any] | None = None,
        session_options: Mapping[str, Any] | None = None,
    ) -> None:
        settings = EngineSettings(
            pool_size=pool_size,
            max_overflow=max_overflow,
            pool_timeout_seconds=pool_timeout_seconds,
            pool_recycle_seconds=pool_recycle_seconds,
            connect_timeout_seconds=connect_timeout_seconds,
            idle_in_transaction_timeout_seconds=idle_in_transaction_timeout_seconds,
            busy_timeout_seconds=busy_timeout_seconds,
            application_name=application_name,
            echo=echo,
        )
        self.engine: AsyncEngine = create_engine(parse_url(url), settings, engine_options or {})
        # A session that is used after its end must say so: with the default it would open again, unseen.
        self._session_options: dict[str, Any] = {
            "expire_on_commit": False,
            "close_resets_only": False,
            **(session_options or {}),
        }
        self._reader = self._sessions(reading(self.engine))
        self._writer = self._sessions(writing(self.engine))
        self._read_only = self._sessions(read_only_engine(self.engine))
        self._create_all = create_all
        self._connect_timeout_seconds = connect_timeout_seconds
        self.per_request: DependsParam = Depends(self._per_request, scope="function")
        """The session of a request, for `Annotated[AsyncSession, db.per_request]`, HTTP and WebSocket.

        Every dependency of the request shares it. It commits when the endpoint has returned and its result
        was validated, before the response is sent; it rolls back if anything was raised, an `HTTPException`
        too. A request that executes nothing takes no connection. Afterwards the session is closed: a stream
        or a background task that uses it gets an error, and should open its own with `session()`.

        Raises `ConflictError` (409) and `UnavailableError` (503), as `db.problem_for` has it, for
        database errors that leave the endpoint or come with the commit. If the connection is lost during the
        commit, the 503 does not say whether it took place.
        """

    @raises(ConflictError, UnavailableError)
    async def _per_request(self, connection: HTTPConnection) -> AsyncGenerator[AsyncSession]:
        safe = connection.scope.get("method") in _SAFE_METHODS  # a WebSocket has none, and may write
        session = self._reader() if safe else self._writer()
        try:
            with problems_raised():
                yield session
                if session.in_transaction():
                    await session.commit()
        finally:
            await _close(session)

    @asynccontextmanager
    async def session(self, *, read_only: bool = False) -> AsyncGenerator[AsyncSession]:
        """Open a unit of work outside of a request: in a stream, a background task, a script.

        It commits at the end of the block, rolls back if the block raises, and then is closed. For a session
        in a route see `per_request`; the lifespan refuses a route that depends on this method.

        - `read_only`: for reads alone. It waits for no writer, on SQLite neither, and never commits. The
          database refuses each write with an error of its own, in a flush at the end of the block at the latest.

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
        sessions = self._read_only if read_only else self._writer
        with problems_raised():
            async with sessions(info={"read_only": read_only}) as session:
                yield session
                await (session.flush() if read_only else session.commit())

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncGenerator[None]:
        """Check routes and connection when the app starts, dispose of the engine when it ends.

        `FastAPI(lifespan=db.lifespan)`, or `async with db.lifespan(app)` in a lifespan of your own. The
        engine is disposed of even if the start fails; the next start opens it anew.

        Raises `ConfigurationError` for a route that takes a session in a way that would commit after the
        response, naming it, and for a database that does not answer.
        """
        try:
            refuse_wrong_scopes(app, self._per_request, self.session)
            await self._start()
            yield
        finally:
            await self.dispose()

    async def create_all(self, metadata: MetaData) -> None:
        """Create the tables that are missing; workers that start together wait for each other."""
        async with writing(self.engine).begin() as connection:
            if self.engine.dialect.name == "postgresql":
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({_CREATE_ALL_LOCK})"))
            await connection.run_sync(metadata.create_all)

    async def ping(self, timeout_seconds: float = 1.0) -> None:
        """Return if the database answers a query within `timeout_seconds`, connection included.

        Raises `UnavailableError` (503) if it does not, also because every connection is taken.
        """
        try:
            await self._select_one(timeout_seconds)
        except (SQLAlchemyError, OSError) as exc:  # TimeoutError is an OSError
            raise UnavailableError("The database does not answer.") from exc

    async def dispose(self) -> None:
        """Close every connection that is not in use; the database can be used again afterwards.

        A server that does not answer the goodbye is left after `connect_timeout_seconds`.
        """
        with move_on_after(self._connect_timeout_seconds, shield=True):
            await self.engine.dispose()

    @contextmanager
    def bound_to(self, connection: AsyncConnection, **session_options: Any) -> Generator[None]:
        """Make each session use this one connection until the block ends; `testing.database` stands on it.

        `session_options` are for SQLAlchemy, over those of the database. Sessions that are open already
        keep what they have.
        """
        before = self._reader, self._writer, self._read_only
        self._reader = self._writer = self._read_only = self._sessions(connection, **session_options)
        try:
            yield
        finally:
            self._reader, self._writer, self._read_only = before

    def _sessions(self, bind: AsyncEngine | AsyncConnection, **options: Any) -> async_sessionmaker[AsyncSession]:
        return async_sessionmaker(bind, **{**self._session_options, **options})

    async def _start(self) -> None:
        try:
            await self._select_one(self._connect_timeout_seconds)
        except (SQLAlchemyError, OSError) as exc:
            reason = getattr(exc, "orig", None) or exc
            raise ConfigurationError(
                f"`url` names a {self.engine.dialect.name} database that does not answer"
                f" ({type(reason).__name__}: {reason}): start it, or correct the URL"
            ) from exc
        if self._create_all is not None:
            await self.create_all(self._create_all)

    async def _select_one(self, timeout_seconds: float) -> None:
        async with asyncio.timeout(timeout_seconds), self._reader() as session:
            await session.execute(text("SELECT 1"))


async def _close(session: AsyncSession) -> None:
    if session.in_transaction():
        async with session:  # which rolls back, and finishes even if the request is cancelled
            pass
    else:
        session.sync_session.close()  # no connection is held: nothing to wait for
