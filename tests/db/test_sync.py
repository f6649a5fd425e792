import asyncio
import random
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from anyio import CancelScope, fail_after
from anyio.to_thread import current_default_thread_limiter
from fastapi import Depends, FastAPI, Response, WebSocket
from fastapi.responses import StreamingResponse
from sqlalchemy import event, func, make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from fastapi_kit.db import RollbackRoute, SyncDatabase
from fastapi_kit.errors import (
    ConfigurationError,
    ConflictError,
    PreconditionFailedError,
    UnavailableError,
    problems_of,
)
from tests.db.support import Base, Item, Owner, client_of, on_sqlite, owners, served
from tests.db.sync_support import (
    connections_out,
    sync_app_of,
    sync_on_mariadb,
    sync_on_postgres,
    sync_on_sqlite,
    sync_owners,
)
from tests.proxy import Proxy

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[SyncDatabase]:
    match request.param:
        case "sqlite":
            context = sync_on_sqlite(tmp_path)
        case "postgres":
            context = sync_on_postgres(request.getfixturevalue("postgres_url"))
        case _:
            context = sync_on_mariadb(request.getfixturevalue("mariadb_url"))
    with context as database:
        yield database


def defers(database: SyncDatabase) -> bool:
    return database.engine.dialect.name != "mysql"  # which checks each statement, and has no table of items here


async def in_thread(work: Callable[[], object]) -> None:
    await asyncio.to_thread(work)


# per_request: the outcome of the commit is the outcome of the request


async def test_a_201_is_stored_before_it_is_sent(database: SyncDatabase) -> None:
    async with served(sync_app_of(database)) as client:
        for number in range(170):  # on three databases: 510
            created = await client.post(f"/owners/o{number}")
            assert created.status_code == 201
            assert (await client.get(f"/owners/{created.json()}")).json() == f"o{number}"


async def test_a_violation_is_a_409_without_the_value_and_no_row(database: SyncDatabase) -> None:
    async with served(sync_app_of(database)) as client:
        assert (await client.post("/unflushed/dup-value")).status_code == 201
        for path in ("unflushed", "owners"):  # found by the commit, and by the endpoint
            refused = await client.post(f"/{path}/dup-value")
            assert refused.status_code == 409
            assert "dup-value" not in refused.text
        if defers(database):
            assert (await client.post("/items/987")).status_code == 409
            with database.session() as session:
                assert session.scalar(select(func.count()).select_from(Item)) == 0
    assert sync_owners(database) == ["dup-value"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("owners/ann?fail=http", 418), ("owners/ann?fail=crash", 500), ("owners/ann?fail=set", 409), ("invalid/ann", 500)],
)
async def test_whatever_is_no_success_rolls_back(database: SyncDatabase, path: str, status: int) -> None:
    async with served(sync_app_of(database)) as client:
        assert (await client.post(f"/{path}")).status_code == status
        assert sync_owners(database) == []
        assert connections_out(database) == 0


async def test_a_returned_error_rolls_back_on_a_rollback_route(tmp_path: Path) -> None:
    with sync_on_sqlite(tmp_path) as database:
        plain, guarded = sync_app_of(database), FastAPI()
        guarded.router.route_class = RollbackRoute

        @guarded.post("/{name}/{status}")
        def create(name: str, status: int, session: Annotated[Session, database.per_request]) -> StreamingResponse:
            session.add(Owner(name=name))
            return StreamingResponse(iter(()), status)

        async with client_of(guarded) as client:
            assert (await client.post("/ann/409")).status_code == 409
            assert (await client.post("/bob/202")).status_code == 202
        assert sync_owners(database) == ["bob"]
        async with client_of(plain) as client:
            assert (await client.post("/owners/eve?fail=returned")).status_code == 409
        assert sync_owners(database) == ["bob", "eve"]


async def test_an_async_session_rolls_back_for_an_error_that_is_set_or_returned_too(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        app = FastAPI()
        app.router.route_class = RollbackRoute

        @app.post("/set/{name}/{status}")
        async def set_status(
            name: str, status: int, response: Response, session: Annotated[AsyncSession, database.per_request]
        ) -> None:
            session.add(Owner(name=name))
            response.status_code = status

        @app.post("/returned/{name}/{status}")
        async def return_response(
            name: str, status: int, session: Annotated[AsyncSession, database.per_request]
        ) -> Response:
            session.add(Owner(name=name))
            return Response(status_code=status)

        async with client_of(app) as client:
            for name, status in (("ann", 409), ("bob", 202)):
                for way in ("set", "returned"):
                    assert (await client.post(f"/{way}/{way}-{name}/{status}")).status_code == status
        assert await owners(database) == ["set-bob", "returned-bob"]


async def test_a_commit_that_fails_on_sqlite_leaves_nothing_to_the_next_session(tmp_path: Path) -> None:
    only = {"pool_size": 1, "max_overflow": 0}  # so all have the same connection
    async with on_sqlite(tmp_path, **only) as database:
        with pytest.raises(ConflictError):
            async with database.session() as session:
                session.add(Item(owner_id=987))  # its constraint is deferred
        async with database.session(read_only=True) as session:
            assert await session.scalar(select(func.count()).select_from(Item)) == 0
        async with database.session() as session:
            session.add(Owner(name="ann"))
        assert await owners(database) == ["ann"]


async def test_a_background_task_that_fails_does_not_undo_a_201(database: SyncDatabase) -> None:
    async with served(sync_app_of(database)) as client:
        assert (await client.post("/owners/ann?fail=background")).status_code == 201
        assert sync_owners(database) == ["ann"]


async def test_one_session_is_shared_and_takes_no_connection_unused(tmp_path: Path) -> None:
    with sync_on_sqlite(tmp_path, pool_size=1, max_overflow=0) as database, database.session() as holder:
        holder.execute(text("SELECT 1"))
        async with client_of(sync_app_of(database)) as client:
            assert (await client.get("/same")).json() is True


async def test_a_reader_and_a_writer_in_one_request_are_two_sessions(database: SyncDatabase) -> None:
    async with served(sync_app_of(database)) as client:
        assert [(await client.post(f"/both/o{number}")).json() for number in range(3)] == [0, 1, 2]


async def test_a_session_used_after_its_request_says_so(database: SyncDatabase) -> None:
    app, seen = FastAPI(), list[str]()

    @app.get("/")
    def stream(session: Annotated[Session, database.per_request]) -> StreamingResponse:
        session.execute(text("SELECT 1"))

        def body() -> Generator[str]:
            try:
                session.execute(text("SELECT 1"))
            except InvalidRequestError as exc:
                seen.append(str(exc))
            with database.session() as own:
                yield str(own.scalar(text("SELECT 42")))

        return StreamingResponse(body())

    async with served(app) as client:
        assert (await client.get("/")).text == "42"
    assert len(seen) == 1
    assert "closed" in seen[0]
    assert connections_out(database) == 0


async def test_a_write_in_a_read_only_session_of_a_request_is_a_500_and_no_row(database: SyncDatabase) -> None:
    app = FastAPI()

    @app.get("/")
    def idle(session: Annotated[Session, database.per_request_read_only]) -> bool:
        return session.in_transaction()

    @app.post("/{name}")
    def create(name: str, session: Annotated[Session, database.per_request_read_only]) -> None:
        session.execute(text("SELECT 1"))
        session.add(Owner(name=name))  # flushed at the end

    async with served(app) as client:
        assert (await client.get("/")).json() is False
        assert (await client.post("/ann")).status_code == 500
    assert sync_owners(database) == []
    assert connections_out(database) == 0


async def test_an_exhausted_pool_is_a_503_within_its_time_out(tmp_path: Path) -> None:
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout_seconds": 0.2}
    with sync_on_sqlite(tmp_path, **options) as database, database.session() as holder:
        holder.execute(text("SELECT 1"))
        async with client_of(sync_app_of(database)) as client:
            started = time.perf_counter()
            refused = await client.get("/owners")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert 0.15 < time.perf_counter() - started < 3  # the default is 5 s


async def test_a_killed_backend_is_a_503_with_retry_after_and_no_row(postgres_url: str) -> None:
    with sync_on_postgres(postgres_url) as database:
        app = FastAPI()

        @app.post("/{when}")
        def create(when: str, session: Annotated[Session, database.per_request]) -> None:
            session.add(Owner(name="ann"))
            session.flush()
            kill(database, session)
            if when == "in_endpoint":
                session.execute(text("SELECT 1"))

        async with served(app) as client:
            for when in ("in_endpoint", "at_commit"):
                lost = await client.post(f"/{when}")
                assert (lost.status_code, lost.headers["retry-after"]) == (503, "1")
        assert sync_owners(database) == []
        assert connections_out(database) == 0


def kill(database: SyncDatabase, session: Session) -> None:
    on_postgres = database.engine.dialect.name == "postgresql"
    own = session.scalar(text("SELECT pg_backend_pid()" if on_postgres else "SELECT connection_id()"))
    with database.session() as other:
        other.execute(text(f"SELECT pg_terminate_backend({own})" if on_postgres else f"KILL {own}"))


async def test_a_server_that_is_down_is_a_503() -> None:
    for driver in ("postgresql+psycopg", "mysql+pymysql", "mariadb+pymysql"):
        async with client_of(sync_app_of(SyncDatabase(f"{driver}://kit@127.0.0.1:1/x"))) as client:
            down = await client.get("/owners")
            assert (down.status_code, down.headers["retry-after"]) == (503, "1"), driver


async def test_reading_and_then_writing_at_once_loses_no_update_on_sqlite(tmp_path: Path) -> None:
    with sync_on_sqlite(tmp_path) as database:
        async with served(sync_app_of(database)) as client:
            owner = (await client.post("/owners/ann")).json()
            answers = await asyncio.gather(*(client.post(f"/visits/{owner}") for _ in range(12)))
            assert sorted(answer.json() for answer in answers) == list(range(1, 13))


async def test_an_in_memory_database_is_shared_and_takes_turns() -> None:
    database = SyncDatabase("sqlite+pysqlite://", create_all=Base.metadata)
    async with served(sync_app_of(database)) as client:
        answers = await asyncio.gather(*(client.post(f"/owners/o{number}") for number in range(20)))
        assert {answer.status_code for answer in answers} == {201}
        assert (await client.get("/owners")).json() == 20


async def test_routes_with_a_session_declare_their_problems() -> None:
    dependency = SyncDatabase("sqlite+pysqlite://").per_request.dependency
    assert dependency is not None
    assert problems_of(dependency) == (ConflictError, PreconditionFailedError, UnavailableError)


# threads


async def test_more_requests_than_threads_do_not_wait_for_each_other(tmp_path: Path) -> None:
    options = {"pool_size": 2, "max_overflow": 0, "pool_timeout_seconds": 20}
    with sync_on_sqlite(tmp_path, **options) as database:
        app = FastAPI()
        Current = Annotated[Session, database.per_request]

        def user(session: Current) -> int:
            return int(session.scalar(text("SELECT 1")))

        @app.get("/")
        def read(user: Annotated[int, Depends(user, scope="function")], session: Current) -> int:
            return int(session.scalar(text("SELECT 41"))) + user

        async with served(app) as client:
            with fail_after(15):
                answers = await asyncio.gather(*(client.get("/", timeout=15) for _ in range(60)))
        assert {(answer.status_code, answer.text) for answer in answers} == {(200, "42")}
        assert connections_out(database) == 0


async def test_as_many_requests_are_let_in_as_there_are_threads_at_the_time(tmp_path: Path) -> None:
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout_seconds": 20}
    threads = current_default_thread_limiter()
    before = threads.total_tokens
    with sync_on_sqlite(tmp_path, **options) as database:
        async with served(sync_app_of(database)) as client:
            try:
                for threads.total_tokens in (3, 1):
                    with fail_after(15):
                        answers = await asyncio.gather(*(client.get("/owners", timeout=15) for _ in range(12)))
                    assert {answer.status_code for answer in answers} == {200}
            finally:
                threads.total_tokens = before


async def test_a_cancelled_request_leaves_the_pool_clean_and_no_row(database: SyncDatabase) -> None:
    app, reached, go_on, errors = FastAPI(), threading.Event(), threading.Event(), list[str]()

    @app.post("/")
    def slow(session: Annotated[Session, database.per_request]) -> None:
        session.add(Owner(name="ann"))
        session.flush()
        reached.set()
        go_on.wait()
        try:
            session.execute(text("SELECT 1"))
        except (DBAPIError, InvalidRequestError) as exc:
            errors.append(str(exc))
        finally:
            ended.set()

    ended = threading.Event()
    async with client_of(app) as client:
        request = asyncio.create_task(client.post("/"))
        await in_thread(reached.wait)
        request.cancel()  # as `asyncio.timeout` does: the endpoint's thread goes on
        with pytest.raises(asyncio.CancelledError):
            await request
        assert connections_out(database) == 0
        assert sync_owners(database) == []
        go_on.set()
        await in_thread(ended.wait)
    assert len(errors) == 1
    assert sync_owners(database) == []
    assert connections_out(database) == 0


async def test_an_in_memory_database_outlives_a_cancelled_request() -> None:
    database, app = SyncDatabase("sqlite+pysqlite://"), FastAPI()
    database.create_all(Base.metadata)
    reached, go_on = threading.Event(), threading.Event()

    @app.post("/")
    def slow(session: Annotated[Session, database.per_request]) -> None:
        session.execute(text("SELECT 1"))
        reached.set()
        go_on.wait()

    async with client_of(app) as client:
        request = asyncio.create_task(client.post("/"))
        await in_thread(reached.wait)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
    go_on.set()
    assert sync_owners(database) == []
    database.dispose()


async def test_a_request_that_is_cancelled_in_its_commit_ends_it_first(database: SyncDatabase) -> None:
    app, reached, go_on = FastAPI(), threading.Event(), threading.Event()

    def wait(session: Session) -> None:
        reached.set()
        go_on.wait()

    @app.post("/")
    def create(session: Annotated[Session, database.per_request]) -> None:
        session.add(Owner(name="ann"))
        session.flush()
        event.listen(session, "before_commit", wait)

    async with client_of(app) as client:
        request = asyncio.create_task(client.post("/"))
        await in_thread(reached.wait)
        request.cancel()
        await asyncio.sleep(0.02)  # while the commit is under way
        assert not request.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await request
    assert sync_owners(database) == ["ann"]
    assert connections_out(database) == 0


async def test_a_request_that_is_cancelled_while_it_waits_for_a_connection_keeps_none(tmp_path: Path) -> None:
    with sync_on_sqlite(tmp_path, pool_size=1, max_overflow=0, pool_timeout_seconds=20) as database:
        app, reached, ended = FastAPI(), threading.Event(), threading.Event()
        errors: list[str] = []

        @app.get("/")
        def read(session: Annotated[Session, database.per_request]) -> None:
            reached.set()
            try:
                session.execute(text("SELECT 1"))
            except InvalidRequestError as exc:
                errors.append(str(exc))
            finally:
                ended.set()

        async with client_of(app) as client:
            with database.session() as holder:
                holder.execute(text("SELECT 1"))
                request = asyncio.create_task(client.get("/"))
                await in_thread(reached.wait)
                request.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await request
            await in_thread(ended.wait)
        assert errors == ["this session is closed: its request was cancelled"]
        assert sync_owners(database) == []
        assert connections_out(database) == 0


async def test_what_an_endpoint_committed_itself_stays_when_it_is_cancelled_later(tmp_path: Path) -> None:
    with sync_on_sqlite(tmp_path) as database:
        app, reached, go_on = FastAPI(), threading.Event(), threading.Event()

        @app.post("/")
        def commit(session: Annotated[Session, database.per_request]) -> None:
            session.add(Owner(name="ann"))
            session.commit()
            reached.set()
            go_on.wait()

        async with client_of(app) as client:
            request = asyncio.create_task(client.post("/"))
            await in_thread(reached.wait)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
        go_on.set()
        assert sync_owners(database) == ["ann"]
        assert connections_out(database) == 0


async def test_requests_that_are_cancelled_at_any_moment_are_whole_or_nothing(database: SyncDatabase) -> None:
    app = FastAPI()

    @app.post("/{number}")
    def store_two(number: int, session: Annotated[Session, database.per_request]) -> None:
        for letter in "ab":
            session.execute(text(f"INSERT INTO owners (name, visits) VALUES ('{letter}{number}', 0)"))
            session.execute(select(Owner.name)).all()

    async with client_of(app) as client:

        async def cancelled_soon(number: int) -> bool:
            try:
                async with asyncio.timeout(random.uniform(0, 0.05)):
                    return (await client.post(f"/{number}")).is_success
            except TimeoutError:
                return False

        stored = [
            await asyncio.gather(*(cancelled_soon(number) for number in range(start, start + 6)))
            for start in range(0, 60, 6)
        ]
    names = set(sync_owners(database))
    for number, was_stored in enumerate(each for group in stored for each in group):
        assert (f"a{number}" in names) == (f"b{number}" in names)
        assert not was_stored or f"a{number}" in names


async def test_a_scope_that_is_cancelled_waits_for_the_endpoint_and_its_commit(database: SyncDatabase) -> None:
    app, reached, go_on = FastAPI(), threading.Event(), threading.Event()

    @app.post("/")
    def slow(session: Annotated[Session, database.per_request]) -> None:
        session.add(Owner(name="ann"))
        session.flush()
        reached.set()
        go_on.wait()

    async def cancel(scope: CancelScope) -> None:
        await in_thread(reached.wait)
        scope.cancel()
        go_on.set()

    async with client_of(app) as client:
        with CancelScope() as scope:
            cancelling = asyncio.create_task(cancel(scope))
            await client.post("/")
        await cancelling
    assert scope.cancelled_caught
    assert connections_out(database) == 0
    assert sync_owners(database) == ["ann"]


# WebSockets


async def test_a_websocket_takes_its_session_through_a_def_dependency(tmp_path: Path) -> None:
    with sync_on_sqlite(tmp_path) as database:
        app = FastAPI(lifespan=database.lifespan)

        def store(name: str, session: Annotated[Session, database.per_request]) -> None:
            session.add(Owner(name=name))
            session.flush()

        @app.websocket("/{name}")
        async def talk(socket: WebSocket, stored: Annotated[None, Depends(store, scope="function")]) -> None:
            await socket.accept()
            await socket.send_text("flushed")
            await socket.receive_text()
            await socket.close()

        def both_ends() -> None:
            with TestClient(app) as client:
                with client.websocket_connect("/stays") as talking:
                    talking.receive_text()
                    talking.send_text("end")
                with pytest.raises(WebSocketDisconnect), client.websocket_connect("/leaves") as talking:
                    talking.receive_text()

        await in_thread(both_ends)
        assert sync_owners(database) == ["stays"]


async def test_an_async_def_that_takes_a_session_is_refused_at_the_start(tmp_path: Path) -> None:
    with sync_on_sqlite(tmp_path) as database:
        talking, nested = FastAPI(), FastAPI()

        @talking.websocket("/talk")
        async def talk(socket: WebSocket, session: Annotated[Session, database.per_request]) -> None: ...

        async def user(session: Annotated[Session, database.per_request_read_only]) -> int:
            return 1

        @nested.get("/me")
        def me(user: Annotated[int, Depends(user, scope="function")]) -> int:
            return user

        for app, route in ((talking, "WEBSOCKET /talk"), (nested, "GET /me")):
            with pytest.raises(ConfigurationError, match=f"^{route} takes a session of a SyncDatabase .* write `def`"):
                async with database.lifespan(app):
                    pass


async def test_a_scope_that_commits_after_the_response_is_refused_at_the_start(tmp_path: Path) -> None:
    with sync_on_sqlite(tmp_path) as database:
        late, bare = FastAPI(), FastAPI()
        assert database.per_request.dependency is not None

        @late.get("/")
        def read(session: Annotated[Session, Depends(database.per_request.dependency)]) -> None: ...

        @bare.get("/")
        def read_bare(session: Annotated[Any, Depends(database.session)]) -> None: ...

        for app in (late, bare):
            with pytest.raises(ConfigurationError, match=r"annotate it Annotated\[Session, db.per_request\]"):
                async with database.lifespan(app):
                    pass


# session and run


def test_session_commits_at_the_end_and_rolls_back_on_error(database: SyncDatabase) -> None:
    def store(name: str, error: Exception | None = None) -> Owner:
        with database.session() as session:
            session.add(owner := Owner(name=name, visits=0))
            session.flush()
            if error:
                raise error
        return owner

    assert store("ann").name == "ann"  # what was loaded can be read after the commit
    with pytest.raises(RuntimeError):
        store("bob", RuntimeError())
    with pytest.raises(ConflictError) as refused:
        store("ann")
    assert isinstance(refused.value.__cause__, IntegrityError)
    assert sync_owners(database) == ["ann"]
    assert connections_out(database) == 0


def test_reads_alone_refuse_writes_sent_or_still_to_be_flushed(database: SyncDatabase) -> None:
    with database.session() as session:
        session.add(Owner(name="ann", visits=0))
    alone: list[dict[str, Any]] = [{"read_only": True}, {"snapshot": True}]
    for options in alone:
        with database.session(**options):
            pass  # nothing is sent
        with database.session(**options) as session:
            assert session.scalar(select(Owner.name)) == "ann"
            with pytest.raises(DBAPIError, match=r"(?i)read-? ?only"):
                session.execute(text("DELETE FROM owners"))
        with pytest.raises(DBAPIError, match=r"(?i)read-? ?only"):
            with database.session(**options) as session:
                session.execute(text("SELECT 1"))
                session.add(Owner(name="bob", visits=0))
    assert sync_owners(database) == ["ann"]
    assert connections_out(database) == 0


def test_a_snapshot_sees_one_moment(database: SyncDatabase) -> None:
    with database.session(snapshot=True) as session:
        assert session.scalar(select(func.count()).select_from(Owner)) == 0
        with database.session() as other:
            other.add(Owner(name="ann", visits=0))
        assert session.scalar(select(func.count()).select_from(Owner)) == 0


@pytest.mark.parametrize("server", ["postgres", "mariadb"])
def test_run_does_a_unit_of_work_again_after_a_deadlock(server: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(f"{server}_url")
    with (sync_on_postgres if server == "postgres" else sync_on_mariadb)(url) as database:
        with database.session() as session:
            session.add_all([Owner(id=1, name="ann", visits=0), Owner(id=2, name="bob", visits=0)])
        both, attempts = threading.Barrier(2), list[int]()

        def visit(first: int, second: int) -> Callable[[Session], int]:
            def work(session: Session) -> int:
                attempts.append(first)
                for number in (first, second):
                    session.execute(text(f"UPDATE owners SET visits = visits + 1 WHERE id = {number}"))
                    if number == first and len(attempts) <= 2:
                        both.wait(10)
                return first

            return work

        in_order = two_threads(lambda: database.run(visit(1, 2)), lambda: database.run(visit(2, 1)))
        assert in_order == [1, 2]
        assert len(attempts) == 3
        with database.session() as session:
            assert list(session.scalars(select(Owner.visits))) == [2, 2]


def two_threads(*works: Callable[[], Any]) -> list[Any]:
    results: list[Any] = [None] * len(works)

    def run(place: int, work: Callable[[], Any]) -> None:
        results[place] = work()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_run_does_a_unit_of_work_again_after_a_serialization_failure(postgres_url: str) -> None:
    with sync_on_postgres(postgres_url) as database:
        with database.session() as session:
            session.add(Owner(id=1, name="ann", visits=0))
        both = threading.Barrier(2)
        attempts: list[int] = []

        def visit(session: Session) -> None:
            attempts.append(1)
            owner = session.get_one(Owner, 1)
            if len(attempts) <= 2:
                both.wait(10)
            owner.visits += 1

        run = lambda: database.run(visit, isolation_level="SERIALIZABLE")  # noqa: E731
        two_threads(run, run)
        assert len(attempts) == 3
        with database.session() as session:
            assert session.get_one(Owner, 1).visits == 2


def test_run_gives_up_in_the_end(tmp_path: Path, postgres_url: str) -> None:
    with sync_on_postgres(postgres_url) as database:
        attempts: list[int] = []

        def fail(session: Session) -> None:
            attempts.append(1)
            session.execute(text("DO $$ BEGIN RAISE serialization_failure; END $$"))

        with pytest.raises(UnavailableError):
            database.run(fail, retries=2)
        assert len(attempts) == 3


@pytest.mark.parametrize("server", ["postgres", "mariadb"])
def test_run_does_nothing_again_when_the_commit_may_have_taken_place(
    server: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(f"{server}_url")
    with (sync_on_postgres if server == "postgres" else sync_on_mariadb)(url) as database:
        attempts: list[int] = []

        def lose(session: Session) -> None:
            attempts.append(1)
            session.add(Owner(name="ann", visits=0))
            session.flush()
            kill(database, session)

        with pytest.raises(UnavailableError):
            database.run(lose)
        assert len(attempts) == 1
        assert sync_owners(database) == []


# lifespan, ping, dispose


def test_lifespan_creates_the_tables_and_disposes_of_the_engine(tmp_path: Path) -> None:
    database = SyncDatabase(f"sqlite+pysqlite:///{tmp_path}/app.db", create_all=Base.metadata)
    for expected in (1, 2):
        with TestClient(sync_app_of(database)) as client:
            assert client.post(f"/owners/o{expected}").status_code == 201
            assert client.get("/owners").json() == expected
            pool = database.engine.pool
        assert database.engine.pool is not pool


async def test_lifespan_can_stand_in_one_of_your_own(tmp_path: Path) -> None:
    with sync_on_sqlite(tmp_path) as database:

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
            async with database.lifespan(app):
                yield

        async with served(FastAPI(lifespan=lifespan)):
            assert sync_owners(database) == []


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://kit:pass-word@127.0.0.1:1/x",
        "mysql+pymysql://kit:pass-word@127.0.0.1:1/x",
        "sqlite+pysqlite:////no/such/folder/app.db",
    ],
)
async def test_a_database_that_does_not_answer_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"`url` names a .* does not answer") as refused:
        async with SyncDatabase(url).lifespan(FastAPI()):
            pass
    assert "pass-word" not in str(refused.value)
    assert ("make its folder" if url.startswith("sqlite") else "start it") in str(refused.value)


async def test_ping_answers_in_time(database: SyncDatabase, tmp_path: Path) -> None:
    await database.ping()
    assert connections_out(database) == 0
    with sync_on_sqlite(tmp_path, pool_size=1, max_overflow=0) as exhausted:
        with exhausted.session() as holder:
            holder.execute(text("SELECT 1"))
            started = time.perf_counter()
            with pytest.raises(UnavailableError) as told:
                await exhausted.ping(0.1)
            assert time.perf_counter() - started < 3
        assert told.value.__notes__ == ["primary: 1 of 1 connections in use"]
        assert exhausted.pool_states()["primary"].limit == 1


@pytest.mark.parametrize("server", ["postgres", "mariadb"])
async def test_a_lifespan_does_not_wait_for_a_server_that_fell_silent(
    server: str, request: pytest.FixtureRequest
) -> None:
    there = make_url(request.getfixturevalue(f"{server}_url"))
    driver = "postgresql+psycopg" if server == "postgres" else "mysql+pymysql"
    async with Proxy(there.host or "", there.port or 0).serving() as proxy:
        here = there.set(drivername=driver, host="127.0.0.1", port=proxy.port)
        database = SyncDatabase(here, connect_timeout_seconds=2)
        async with database.lifespan(FastAPI()):
            proxy.hold()
            started = time.perf_counter()
        assert time.perf_counter() - started < 6
        proxy.release()


def test_the_dispose_of_a_lifespan_is_bounded(tmp_path: Path) -> None:
    go_on = threading.Event()
    with sync_on_sqlite(tmp_path, connect_timeout_seconds=0.1) as database:
        event.listen(database.engine, "engine_disposed", lambda _: go_on.wait())

        async def start_and_end() -> float:
            async with database.lifespan(FastAPI()):
                started = time.perf_counter()
            took = time.perf_counter() - started
            go_on.set()
            return took

        assert 0.1 <= asyncio.run(start_and_end()) < 5


def test_it_needs_no_greenlet() -> None:
    program = """
import sys
sys.modules["greenlet"] = None  # an import of it fails
import fastapi_kit.db.sync
from fastapi_kit.db import SyncDatabase
from sqlalchemy import text
db = SyncDatabase("sqlite+pysqlite://")
with db.session() as session:
    print(session.scalar(text("SELECT 42")))
"""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("42\n", "")
