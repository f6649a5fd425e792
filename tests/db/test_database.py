import asyncio
import socket
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

import pytest
from anyio import CancelScope
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from sqlalchemy import func, make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.pool import QueuePool
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from fastapi_kit.db import Database, RollbackRoute
from fastapi_kit.errors import (
    ConfigurationError,
    ConflictError,
    PreconditionFailedError,
    UnavailableError,
    problems_of,
)
from tests.db.support import (
    Base,
    Item,
    Owner,
    app_of,
    client_of,
    let_sqlite_stop,
    on_mariadb,
    on_postgres,
    on_sqlite,
    owners,
    served,
)

pytestmark = pytest.mark.anyio


def connections_out(database: Database) -> int:
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout()


# per_request: the outcome of the commit is the outcome of the request


async def test_a_201_is_stored_before_it_is_sent(database: Database) -> None:
    async with served(app_of(database)) as client:
        for number in range(50):
            created = await client.post(f"/owners/o{number}")
            assert created.status_code == 201
            assert (await client.get(f"/owners/{created.json()}")).json() == f"o{number}"


async def test_a_unique_violation_at_commit_is_a_409_without_the_value(database: Database) -> None:
    async with served(app_of(database)) as client:
        assert (await client.post("/unflushed/dup-value")).status_code == 201
        refused = await client.post("/unflushed/dup-value")
        assert refused.status_code == 409
        assert "dup-value" not in refused.text
        assert "name" not in refused.text
        assert await owners(database) == ["dup-value"]


async def test_a_unique_violation_in_the_endpoint_is_a_409(database: Database) -> None:
    async with client_of(app_of(database)) as client:
        assert (await client.post("/owners/ann")).status_code == 201
        assert (await client.post("/owners/ann")).status_code == 409
        assert await owners(database) == ["ann"]


async def test_a_deferred_constraint_that_fails_at_commit_is_a_409_and_no_row(database: Database) -> None:
    async with served(app_of(database)) as client:
        assert (await client.post("/items/987")).status_code == 409
    async with database.session() as session:
        assert await session.get(Item, 1) is None


@pytest.mark.parametrize(("fail", "status"), [("http", 418), ("crash", 500), ("response", 500)])
async def test_whatever_is_raised_rolls_back(database: Database, fail: str, status: int) -> None:
    async with client_of(app_of(database)) as client:
        assert (await client.post(f"/owners/ann?fail={fail}")).status_code == status
    assert await owners(database) == []
    assert connections_out(database) == 0


async def test_a_rollback_route_rolls_back_though_a_dependency_hides_the_error(database: Database) -> None:
    app = FastAPI()
    app.router.route_class = RollbackRoute

    async def hiding(session: Annotated[AsyncSession, database.per_request]) -> AsyncGenerator[AsyncSession]:
        with suppress(Exception):
            yield session

    @app.post("/{name}", status_code=201)
    async def create(
        name: str, session: Annotated[AsyncSession, Depends(hiding, scope="function")], fail: bool
    ) -> None:
        session.add(Owner(name=name))
        await session.flush()
        if fail:
            raise RuntimeError

    async with client_of(app) as client:
        assert (await client.post("/ann?fail=true")).status_code == 500
        assert (await client.post("/bob?fail=false")).status_code == 201
    assert await owners(database) == ["bob"]


async def test_a_background_task_that_fails_does_not_undo_a_201(database: Database) -> None:
    async with served(app_of(database)) as client:
        assert (await client.post("/owners/ann?fail=background")).status_code == 201
        assert await owners(database) == ["ann"]


async def test_the_handlers_of_the_app_see_the_problem(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        app = app_of(database)
        seen: list[BaseException | None] = []

        @app.exception_handler(ConflictError)
        async def handle(request: object, exc: ConflictError) -> StreamingResponse:
            seen.append(exc.__cause__)
            return StreamingResponse(iter(["mine"]), status_code=499)

        async with client_of(app) as client:
            assert (await client.post("/items/987")).status_code == 499
        assert [type(cause) for cause in seen] == [IntegrityError]


async def test_other_errors_of_the_database_stay_what_they_are(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        app = FastAPI()

        @app.get("/")
        async def broken(session: Annotated[AsyncSession, database.per_request]) -> None:
            await session.execute(text("SELECT nonsense"))

        with pytest.raises(OperationalError, match="nonsense"):
            TestClient(app).get("/")


async def test_a_killed_backend_is_a_503_with_retry_after_and_no_row(postgres_url: str) -> None:
    async with on_postgres(postgres_url) as database:
        app = FastAPI()

        @app.post("/{when}")
        async def create(when: str, session: Annotated[AsyncSession, database.per_request]) -> None:
            session.add(Owner(name="ann"))
            await session.flush()
            backend = await session.scalar(text("SELECT pg_backend_pid()"))
            async with database.session() as other:
                await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})
            if when == "in_endpoint":
                await session.execute(text("SELECT 1"))

        async with served(app) as client:
            for when in ("in_endpoint", "at_commit"):
                lost = await client.post(f"/{when}")
                assert lost.status_code == 503
                assert lost.headers["retry-after"] == "1"
        assert await owners(database) == []
        assert connections_out(database) == 0


async def test_an_exhausted_pool_is_a_503_within_its_time_out(tmp_path: Path) -> None:
    async with (
        on_sqlite(tmp_path, pool_size=1, max_overflow=0, pool_timeout_seconds=0.2) as database,
        database.session() as holder,
        client_of(app_of(database)) as client,
    ):
        await holder.execute(text("SELECT 1"))
        started = time.perf_counter()
        refused = await client.get("/owners")
        assert refused.status_code == 503
        assert 0.15 < time.perf_counter() - started < 3  # the default is 5 s
        assert refused.headers["retry-after"] == "1"


async def test_a_request_that_executes_nothing_takes_no_connection(tmp_path: Path) -> None:
    async with (
        on_sqlite(tmp_path, pool_size=1, max_overflow=0, pool_timeout_seconds=0.2) as database,
        database.session() as holder,
        client_of(app_of(database)) as client,
    ):
        await holder.execute(text("SELECT 1"))
        assert (await client.get("/same")).json() is True


async def test_a_cancelled_request_leaves_the_pool_clean_and_no_row(database: Database) -> None:
    app = FastAPI()
    reached = asyncio.Event()

    @app.post("/")
    async def slow(session: Annotated[AsyncSession, database.per_request]) -> None:
        session.add(Owner(name="ann"))
        await session.flush()
        reached.set()
        await asyncio.sleep(60)

    async with client_of(app) as client:
        request = asyncio.create_task(client.post("/"))
        await reached.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
    assert connections_out(database) == 0
    assert await owners(database) == []


async def test_reading_and_then_writing_at_once_loses_no_update(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database, client_of(app_of(database)) as client:
        owner = (await client.post("/owners/ann")).json()
        answers = await asyncio.gather(*(client.post(f"/visits/{owner}") for _ in range(12)))
        assert sorted(answer.json() for answer in answers) == list(range(1, 13))


async def test_a_session_used_after_its_request_says_so(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        app = FastAPI()
        seen: list[str] = []

        @app.get("/")
        async def stream(session: Annotated[AsyncSession, database.per_request]) -> StreamingResponse:
            await session.execute(text("SELECT 1"))

            async def body() -> AsyncIterator[str]:
                try:
                    await session.execute(text("SELECT 1"))
                except InvalidRequestError as exc:
                    seen.append(str(exc))
                async with database.session() as own:
                    yield str(await own.scalar(text("SELECT 42")))

            return StreamingResponse(body())

        async with client_of(app) as client:
            assert (await client.get("/")).text == "42"
        assert len(seen) == 1
        assert "closed" in seen[0]
        assert connections_out(database) == 0


async def test_a_websocket_commits_at_a_normal_end_and_rolls_back_at_a_disconnect(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        app = FastAPI()

        @app.websocket("/{name}")
        async def talk(name: str, socket: WebSocket, session: Annotated[AsyncSession, database.per_request]) -> None:
            await socket.accept()
            session.add(Owner(name=name))
            await session.flush()
            await socket.send_text("flushed")
            await socket.receive_text()
            await socket.close()

        def both_ends() -> None:
            client = TestClient(app)
            with client.websocket_connect("/stays") as talking:
                talking.receive_text()
                talking.send_text("end")
            with pytest.raises(WebSocketDisconnect), client.websocket_connect("/leaves") as talking:
                talking.receive_text()

        await asyncio.to_thread(both_ends)
        assert await owners(database) == ["stays"]


async def test_what_a_websocket_read_stays_true_until_it_writes(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path, busy_timeout_seconds=0.05) as database, client_of(app_of(database)) as client:
        owner = (await client.post("/owners/ann")).json()
        app, has_read, may_write = FastAPI(), threading.Event(), threading.Event()

        @app.websocket("/")
        async def visit(socket: WebSocket, session: Annotated[AsyncSession, database.per_request]) -> None:
            await socket.accept()
            found = await session.get_one(Owner, owner)
            await socket.send_text("read")
            await socket.receive_text()
            found.visits += 1

        def talk() -> None:
            with TestClient(app).websocket_connect("/") as talking:
                talking.receive_text()
                has_read.set()
                may_write.wait()
                talking.send_text("write")

        talking = asyncio.create_task(asyncio.to_thread(talk))
        await asyncio.to_thread(has_read.wait)
        waits = await client.post(f"/visits/{owner}")
        may_write.set()
        await talking
        assert waits.status_code == 503
        assert (await client.post(f"/visits/{owner}")).json() == 2


async def test_routes_with_a_session_declare_their_problems() -> None:
    database = Database("sqlite+aiosqlite://")
    dependency = database.per_request.dependency
    assert dependency is not None
    assert problems_of(dependency) == (ConflictError, PreconditionFailedError, UnavailableError)


async def test_mariadb(mariadb_url: str) -> None:
    async with on_mariadb(mariadb_url) as database, client_of(app_of(database)) as client:
        assert (await client.post("/owners/ann")).status_code == 201
        refused = await client.post("/owners/ann")
        assert refused.status_code == 409
        assert "ann" not in refused.text
        assert await owners(database) == ["ann"]
        await database.ping()


async def test_an_in_memory_database_is_shared_and_takes_turns() -> None:
    database = Database("sqlite+aiosqlite://", create_all=Base.metadata)
    app = app_of(database)
    async with database.lifespan(app), client_of(app) as client:
        answers = await asyncio.gather(*(client.post(f"/owners/o{number}") for number in range(20)))
        assert {answer.status_code for answer in answers} == {201}
        assert (await client.get("/owners")).json() == 20


# session: a unit of work outside of a request


async def test_session_commits_at_the_end_and_rolls_back_on_error(database: Database) -> None:
    async def store(name: str, error: Exception | None = None) -> None:
        async with database.session() as session:
            session.add(Owner(name=name))
            await session.flush()
            if error:
                raise error

    await store("ann")
    with pytest.raises(RuntimeError):
        await store("bob", RuntimeError())
    with pytest.raises(ConflictError) as refused:
        await store("ann")
    assert isinstance(refused.value.__cause__, IntegrityError)
    assert await owners(database) == ["ann"]


async def test_session_raises_the_problem_of_its_commit_too(database: Database) -> None:
    with pytest.raises(ConflictError):
        async with database.session() as session:
            session.add(Item(owner_id=987))
            await session.flush()  # the constraint is deferred


async def test_session_raises_other_errors_of_the_database_as_they_are(database: Database) -> None:
    with pytest.raises(DBAPIError, match="nonsense"):
        async with database.session() as session:
            await session.execute(text("SELECT nonsense"))


async def test_a_pool_or_a_server_that_has_nothing_to_give_is_a_503_in_a_session_too(tmp_path: Path) -> None:
    async with (
        on_sqlite(tmp_path, pool_size=1, max_overflow=0, pool_timeout_seconds=0.05) as database,
        database.session() as holder,
    ):
        await holder.execute(text("SELECT 1"))
        for read_only in (False, True):
            with pytest.raises(UnavailableError) as refused:
                async with database.session(read_only=read_only) as session:
                    await session.execute(text("SELECT 1"))
            assert refused.value.headers == {"Retry-After": "1"}


async def test_a_log_in_answers_while_another_process_writes(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path, busy_timeout_seconds=0.05) as database:
        app = FastAPI()

        @app.post("/log-in/{read_only}")
        async def log_in(read_only: bool) -> int | None:
            async with database.session(read_only=read_only) as session:
                return await session.scalar(select(func.count()).select_from(Owner))

        with sqlite3.connect(str(database.engine.url.database), isolation_level=None) as writer:
            writer.execute("BEGIN IMMEDIATE")
            async with client_of(app) as client:
                assert (await client.post("/log-in/true")).json() == 0
                busy = await client.post("/log-in/false")
        writer.close()
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")


async def refuses_writes(database: Database) -> None:
    """Raise unless a read-only session reads, and refuses a write, sent or still to be flushed."""
    async with database.session() as session:
        await session.execute(text("INSERT INTO owners (name, visits) VALUES ('ann', 0)"))
    async with database.session(read_only=True) as session:
        assert await session.scalar(select(Owner.name)) == "ann"
        with pytest.raises(DBAPIError, match=r"(?i)read-? ?only"):
            await session.execute(text("DELETE FROM owners"))
    with pytest.raises(DBAPIError, match=r"(?i)read-? ?only"):
        async with database.session(read_only=True) as session:
            session.add(Owner(name="bob"))
    assert connections_out(database) == 0
    assert await owners(database) == ["ann"]


async def test_a_read_only_session_refuses_writes(database: Database) -> None:
    await refuses_writes(database)


async def test_a_read_only_session_refuses_writes_with_psycopg(postgres_url: str) -> None:
    async with on_postgres(postgres_url) as database:
        url = database.engine.url.set(drivername="postgresql+psycopg")
        async with database.session() as session:
            schema = await session.scalar(text("SELECT current_schema()"))
        options = {"connect_args": {"options": f"-c search_path={schema}"}}
        other = Database(url, engine_options=options)
        await refuses_writes(other)
        await other.dispose()


@pytest.mark.parametrize("driver", ["asyncmy", "aiomysql"])
async def test_a_read_only_session_refuses_writes_on_mariadb(driver: str, mariadb_url: str) -> None:
    async with on_mariadb(make_url(mariadb_url).set(drivername=f"mariadb+{driver}")) as database:
        await refuses_writes(database)


async def test_a_read_only_session_that_reads_nothing_takes_no_connection(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db")
    async with database.session(read_only=True):
        pass
    state = database.pool_states()["primary"]
    assert (state.in_use, state.idle) == (0, 0)


async def test_what_was_loaded_can_be_read_after_the_commit(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        async with database.session() as session:
            session.add(owner := Owner(name="ann"))
        assert owner.name == "ann"


async def test_session_options_have_the_last_word(tmp_path: Path) -> None:
    options = {"autoflush": False}
    async with on_sqlite(tmp_path, session_options=options) as database, database.session() as session:
        session.add(Owner(name="ann"))
        assert await session.scalar(text("SELECT count(*) FROM owners")) == 0


# lifespan


def test_lifespan_creates_the_tables_and_disposes_of_the_engine(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db", create_all=Base.metadata)
    for expected in (1, 2):
        with TestClient(app_of(database)) as client:
            assert client.post(f"/owners/o{expected}").status_code == 201
            assert client.get("/owners").json() == expected
            pool = database.engine.pool
        assert isinstance(pool, QueuePool)
        assert database.engine.pool is not pool
        assert pool.checkedin() == 0


async def test_lifespan_can_stand_in_one_of_your_own(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with database.lifespan(app):
            await database.create_all(Base.metadata)
            yield

    async with served(FastAPI(lifespan=lifespan)):
        assert await owners(database) == []


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("postgresql+asyncpg://kit:pass-word@127.0.0.1:1/x", "ConnectionRefusedError"),
        ("postgresql+psycopg://kit:pass-word@127.0.0.1:1/x", "OperationalError"),
        ("mysql+asyncmy://kit:pass-word@127.0.0.1:1/x", "OperationalError"),
        ("mariadb+aiomysql://kit:pass-word@127.0.0.1:1/x", "OperationalError"),
        ("sqlite+aiosqlite:////no/such/folder/app.db", "unable to open database file): make its folder"),
    ],
)
async def test_a_database_that_does_not_answer_stops_the_start(url: str, part: str) -> None:
    database = Database(url)
    app = FastAPI()
    with pytest.raises(ConfigurationError, match=r"`url` names a .* does not answer") as refused:
        async with database.lifespan(app):
            pass
    assert part in str(refused.value)
    assert "pass-word" not in str(refused.value)
    await let_sqlite_stop()


async def test_workers_that_create_the_tables_at_once_wait_for_each_other(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
    await asyncio.gather(*(database.create_all(Base.metadata) for _ in range(5)))
    assert await owners(database) == []


async def test_a_cancelled_lifespan_disposes_to_the_end(database: Database) -> None:
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    with CancelScope() as scope:
        async with database.lifespan(FastAPI()):
            assert pool.checkedin() > 0
            scope.cancel()
            await asyncio.sleep(60)
    assert pool.checkedin() == 0
    assert database.engine.pool is not pool


async def test_dispose_does_not_wait_for_a_server_that_fell_silent(postgres_url: str) -> None:
    there = make_url(postgres_url)
    streams: list[asyncio.StreamWriter] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what is said, but not that the other side has closed."""
        answers, server = await asyncio.open_connection(there.host, there.port)
        streams.extend((server, writer))

        async def one_way(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(4096):
                target.write(data)

        await asyncio.gather(one_way(reader, server), one_way(answers, writer))

    relaying = await asyncio.start_server(relay, "127.0.0.1")
    here = there.set(host="127.0.0.1", port=relaying.sockets[0].getsockname()[1])
    database = Database(here, connect_timeout_seconds=0.3)
    await database.ping()
    started = time.perf_counter()
    await database.dispose()
    assert 0.2 < time.perf_counter() - started < 3
    for stream in streams:
        stream.close()
    relaying.close()


# ping


async def test_ping_returns_if_the_database_answers(database: Database) -> None:
    await database.ping()
    assert connections_out(database) == 0


async def test_ping_answers_in_time_with_an_exhausted_pool(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path, pool_size=1, max_overflow=0) as database, database.session() as holder:
        await holder.execute(text("SELECT 1"))
        started = time.perf_counter()
        with pytest.raises(UnavailableError):
            await database.ping(0.1)
        assert time.perf_counter() - started < 3


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg"])
async def test_ping_answers_in_time_if_the_server_is_silent(driver: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = Database(f"{driver}://kit@127.0.0.1:{silent.getsockname()[1]}/x")
        started = time.perf_counter()
        with pytest.raises(UnavailableError):
            await database.ping(0.2)
        assert time.perf_counter() - started < 3
        await database.dispose()


async def test_a_server_that_is_down_is_a_503(tmp_path: Path) -> None:
    for driver in ("postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy", "mariadb+aiomysql"):
        async with client_of(app_of(Database(f"{driver}://kit@127.0.0.1:1/x"))) as client:
            down = await client.get("/owners")
            assert (down.status_code, down.headers["retry-after"]) == (503, "1"), driver


def test_no_other_name_is_made_up() -> None:
    with pytest.raises(ImportError):
        from fastapi_kit.db import nonsense  # noqa: F401
