"""Connections that are lost, at each point of a request, under each driver of a server."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_kit.db.hosts import Hosts
from fastapi_kit.errors import UnavailableError
from tests.db.faults import DRIVERS, POSTGRES, Behind, behind, until
from tests.db.support import Owner, app_of, client_of, served

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def asks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust no connection: how long one is trusted is for `test_hosts`."""
    monkeypatch.setattr(Hosts, "trust_seconds", 0)


@pytest.fixture
def options() -> dict[str, Any]:
    return {}


@pytest.fixture(params=DRIVERS)
async def there(request: pytest.FixtureRequest, options: dict[str, Any], anyio_backend: str) -> AsyncGenerator[Behind]:
    url = request.getfixturevalue("postgres_url" if request.param in POSTGRES else "mariadb_url")
    async with behind(url, request.param, **options) as there:
        yield there


async def test_a_connection_that_is_cut_before_the_commit_is_a_503_and_no_row(there: Behind) -> None:
    async with served(app_of(there.database)) as client:
        there.proxy.lose(b"COMMIT")
        lost = await client.post("/owners/ann")
        assert there.proxy.lost.is_set()
        assert (lost.status_code, lost.headers["retry-after"]) == (503, "1")
        assert await there.names() == []
        await there.is_clean()
        assert (await client.post("/owners/ann")).status_code == 201


async def test_a_commit_whose_answer_is_lost_is_a_503_though_the_row_is_there(there: Behind) -> None:
    async with served(app_of(there.database)) as client:
        there.proxy.lose_answer_to(b"COMMIT")
        lost = await client.post("/owners/ann")
        assert there.proxy.lost.is_set()
        assert (lost.status_code, lost.headers["retry-after"]) == (503, "1")
        assert await there.names() == ["ann"]
        await there.is_clean()
        assert (await client.post("/owners/ann")).status_code == 409


@pytest.mark.parametrize("is_committed", [False, True])
async def test_run_does_not_repeat_a_commit_whose_outcome_is_unknown(there: Behind, is_committed: bool) -> None:
    calls = 0

    async def create(session: AsyncSession) -> None:
        nonlocal calls
        calls += 1
        await session.execute(insert(Owner).values(name=f"ann{calls}", visits=0))

    (there.proxy.lose_answer_to if is_committed else there.proxy.lose)(b"COMMIT")
    with pytest.raises(UnavailableError):
        await there.database.run(create)
    assert calls == 1
    assert await there.names() == ["ann1"] * is_committed
    await there.is_clean()


async def test_a_connection_that_is_cut_in_the_endpoint_is_a_503_and_no_row(there: Behind) -> None:
    app = FastAPI()

    @app.post("/")
    async def create(session: Annotated[AsyncSession, there.database.per_request], caught: bool) -> None:
        await session.execute(insert(Owner).values(name="ann", visits=0))
        await there.proxy.cut()
        try:
            await session.execute(text("SELECT 1"))
        except DBAPIError:
            if not caught:
                raise

    async with client_of(app) as client:
        assert (await client.post("/?caught=false")).status_code == 503
        assert (await client.post("/?caught=true")).status_code == 503  # the endpoint went on with what is lost
    assert await there.names() == []
    await there.is_clean()


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_connection_that_is_cut_before_the_rollback_changes_no_answer(there: Behind, read_only: bool) -> None:
    app, database = FastAPI(), there.database
    session_of = database.per_request_read_only if read_only else database.per_request

    @app.post("/")
    async def refuse(session: Annotated[AsyncSession, session_of]) -> None:
        await session.execute(text("SELECT 1"))
        await there.proxy.cut()
        raise HTTPException(418)

    @app.post("/own")
    async def refuse_own() -> None:
        async with database.session(read_only=read_only) as session:
            await session.execute(text("SELECT 1"))
            await there.proxy.cut()
            raise HTTPException(418)

    async with client_of(app) as client:
        assert (await client.post("/")).status_code == 418
        assert (await client.post("/own")).status_code == 418
    await there.is_clean()


@pytest.mark.parametrize("there", POSTGRES, indirect=True)
@pytest.mark.parametrize("is_commit", [False, True])
async def test_a_server_that_said_farewell_and_has_not_gone_yet_is_a_503(there: Behind, is_commit: bool) -> None:
    app = FastAPI()

    @app.post("/")
    async def create(session: Annotated[AsyncSession, there.database.per_request]) -> None:
        await session.execute(insert(Owner).values(name="ann", visits=0))
        backend = await session.scalar(text("SELECT pg_backend_pid()"))
        there.proxy.hold_ends()
        async with there.admin.session() as other:
            await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})
        await there.proxy.ended.wait()
        await asyncio.sleep(0.02)  # for the driver to read it
        asyncio.get_running_loop().call_later(0.1, there.proxy.release)
        if not is_commit:
            await session.execute(text("SELECT 1"))

    async with client_of(app) as client:
        assert (await client.post("/")).status_code == 503
    assert await there.names() == []
    await there.is_clean()


async def test_connections_that_are_cut_while_they_idle_are_replaced_unseen(there: Behind) -> None:
    async with client_of(app_of(there.database)) as client:
        for read_only in (False, True):
            async with there.database.session(read_only=read_only) as session:
                await session.execute(text("SELECT 1"))
            await there.proxy.cut()
            answers = await asyncio.gather(*(client.get("/owners") for _ in range(3)))
            assert [answer.status_code for answer in answers] == [200] * 3
    await there.is_clean()


@pytest.mark.parametrize("options", [{"engine_options": {"pool_pre_ping": False}}])
async def test_without_a_ping_a_connection_that_was_cut_while_it_idled_is_a_503(there: Behind) -> None:
    async with client_of(app_of(there.database)) as client:
        await there.proxy.cut()
        assert (await client.get("/owners")).status_code == 503
        assert (await client.get("/owners")).status_code == 200
    await there.is_clean()


async def test_every_201_has_its_row_while_connections_are_cut_under_load(there: Behind) -> None:
    created: list[str] = []
    statuses: set[int] = set()

    async def create(worker: int) -> None:
        for number in range(12):
            answer = await client.post(f"/owners/o{worker}-{number}")
            statuses.add(answer.status_code)
            if answer.status_code == 201:
                created.append(f"o{worker}-{number}")

    async def cut() -> None:
        for _ in range(6):
            there.proxy.asked.clear()
            await there.proxy.asked.wait()
            await there.proxy.cut()

    async with served(app_of(there.database)) as client:
        cutting = asyncio.create_task(cut())
        await asyncio.gather(*(create(worker) for worker in range(10)))
        cutting.cancel()
        assert {201} <= statuses <= {201, 503}
        assert set(created) <= set(await there.names())
        assert (await client.post("/owners/last")).status_code == 201
    await there.is_clean()


# a server that hangs


@pytest.mark.parametrize("options", [{"statement_timeout_seconds": 0.3}])
@pytest.mark.parametrize("there", ["asyncpg", "asyncmy"], indirect=True)
@pytest.mark.parametrize("is_commit", [False, True])
async def test_a_server_that_hangs_in_a_transaction_is_a_503_in_time(there: Behind, is_commit: bool) -> None:
    app = FastAPI()

    @app.post("/")
    async def create(session: Annotated[AsyncSession, there.database.per_request]) -> None:
        await session.execute(insert(Owner).values(name="ann", visits=0))
        there.proxy.hold()
        if not is_commit:
            await session.execute(text("SELECT 1"))

    async with client_of(app) as client:
        started = time.perf_counter()
        assert (await client.post("/")).status_code == 503
        assert time.perf_counter() - started < 5  # asyncpg gives a connection two seconds to be closed
    there.proxy.release()
    assert await there.names() == ["ann"] * is_commit
    await there.is_clean()


@pytest.mark.parametrize("options", [{"connect_timeout_seconds": 0.3}])
@pytest.mark.parametrize("there", ["asyncpg", "asyncmy", "aiomysql"], indirect=True)  # psycopg needs ten seconds more
async def test_a_server_that_hangs_is_a_503_in_time_when_its_connections_are_used_again(there: Behind) -> None:
    async with client_of(app_of(there.database)) as client:
        await asyncio.gather(*(client.get("/owners") for _ in range(3)))
        there.proxy.hold()
        for _ in range(2):
            started = time.perf_counter()
            hung = await client.get("/owners")
            assert time.perf_counter() - started < 3
            assert hung.status_code == 503
        there.proxy.release()
        assert (await client.get("/owners")).status_code == 200
    await there.is_clean()


async def test_ping_answers_in_time_for_a_server_that_hangs(there: Behind) -> None:
    await there.database.ping()
    there.proxy.hold()
    started = time.perf_counter()
    with pytest.raises(UnavailableError):
        await there.database.ping(0.2)
    assert time.perf_counter() - started < 3
    there.proxy.release()
    await there.is_clean()
    await there.database.ping()


# a client that leaves, and a task that is cancelled


async def in_statement(there: Behind, session: AsyncSession) -> None:
    await session.execute(insert(Owner).values(name="ann", visits=0))
    await session.execute(text(there.sleep))


async def in_commit(there: Behind, session: AsyncSession) -> None:
    await session.execute(insert(Owner).values(name="ann", visits=0))
    there.proxy.hold()


async def in_ping_or_connect(there: Behind, session: AsyncSession) -> None:
    there.proxy.hold()
    await session.execute(insert(Owner).values(name="ann", visits=0))


@pytest.mark.parametrize("point", [in_statement, in_commit, in_ping_or_connect])
@pytest.mark.parametrize("is_idle", [True, False])
async def test_a_unit_of_work_that_is_cancelled_leaves_the_pool_clean(
    there: Behind, point: Callable[[Behind, AsyncSession], Awaitable[None]], is_idle: bool
) -> None:
    if not is_idle:
        await there.database.dispose()

    async def work() -> None:
        async with there.database.session() as session:
            await point(there, session)

    task = asyncio.create_task(work())
    await (until(there.is_sleeping) if point is in_statement else there.proxy.quiet())
    task.cancel()
    there.proxy.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    await there.is_clean()
    assert set(await there.names()) <= ({"ann"} if point is in_commit else set())
    async with there.database.session() as session:
        await session.execute(insert(Owner).values(name="bob", visits=0))
    assert "bob" in await there.names()


@pytest.mark.parametrize("options", [{"pool_size": 1, "max_overflow": 0}])
async def test_a_wait_for_a_connection_that_is_cancelled_takes_none(there: Behind) -> None:
    async def work() -> None:
        async with there.database.session() as session:
            await session.execute(text("SELECT 1"))

    async with there.database.session() as holder:
        await holder.execute(text("SELECT 1"))
        waiting = [asyncio.create_task(work()) for _ in range(3)]
        await asyncio.sleep(0.02)
        for task in waiting[:2]:
            task.cancel()
    await waiting[2]
    assert [task.cancelled() for task in waiting[:2]] == [True, True]
    await there.is_clean()


@pytest.mark.parametrize("there", ["asyncpg"], indirect=True)
@pytest.mark.parametrize("options", [{"is_direct": True}])
async def test_of_500_requests_those_that_are_cancelled_leak_no_connection(there: Behind) -> None:
    answers: dict[str, int] = {}
    chance = random.Random(7)

    async def request(name: str) -> None:
        task = asyncio.create_task(client.post(f"/owners/{name}"))
        if chance.random() < 0.2:
            await asyncio.sleep(chance.random() * 0.03)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            answers[name] = (await task).status_code

    async with client_of(app_of(there.database)) as client:
        for batch in range(25):
            await asyncio.gather(*(request(f"o{batch}-{number}") for number in range(20)))
        assert set(answers.values()) == {201}
        assert 250 < len(answers) < 500
        assert set(answers) <= set(await there.names())
        await there.is_clean()
        assert (await client.post("/owners/last")).status_code == 201


@pytest.mark.parametrize("at_commit", [False, True])
async def test_a_client_that_leaves_changes_nothing_about_its_request(there: Behind, at_commit: bool) -> None:
    app = FastAPI()

    @app.post("/")
    async def create(session: Annotated[AsyncSession, there.database.per_request]) -> None:
        await session.execute(insert(Owner).values(name="ann", visits=0))
        there.proxy.asked.clear()
        await session.execute(text("SELECT pg_sleep(0.1)" if there.is_postgres else "SELECT SLEEP(0.1)"))
        if at_commit:
            there.proxy.asked.clear()

    there.proxy.delay(b"COMMIT", 0.05)
    async with served(app) as client:
        leaving = asyncio.create_task(client.post("/"))
        await there.proxy.quiet()
        leaving.cancel()
        await until(lambda: is_stored(there, "ann"))
    await there.is_clean()


async def is_stored(there: Behind, name: str) -> bool:
    return name in await there.names()


# pools


@pytest.mark.parametrize("options", [{"pool_size": 1, "max_overflow": 0, "pool_timeout_seconds": 0.3}])
async def test_an_exhausted_pool_is_a_503_in_time(there: Behind) -> None:
    async with served(app_of(there.database)) as client, there.database.session() as holder:
        await holder.execute(text("SELECT 1"))
        started = time.perf_counter()
        full = await client.get("/owners")
        assert 0.25 < time.perf_counter() - started < 3  # the default is 5 s
        assert (full.status_code, full.headers["retry-after"]) == (503, "1")
    await there.is_clean()


@pytest.mark.parametrize("options", [{"pool_size": 1, "max_overflow": 0, "pool_timeout_seconds": 0.3}])
async def test_streams_and_background_tasks_hold_no_connection(there: Behind) -> None:
    app = app_of(there.database)
    may_end = asyncio.Event()

    @app.get("/stream")
    async def stream(session: Annotated[AsyncSession, there.database.per_request]) -> StreamingResponse:
        await session.execute(text("SELECT 1"))

        async def body() -> AsyncGenerator[str]:
            yield "begun"
            await may_end.wait()

        return StreamingResponse(body())

    @app.post("/task")
    async def task(session: Annotated[AsyncSession, there.database.per_request], tasks: BackgroundTasks) -> None:
        await session.execute(text("SELECT 1"))
        tasks.add_task(may_end.wait)

    async with served(app) as client:
        async with client.stream("GET", "/stream") as streaming:
            await anext(streaming.aiter_raw())
            assert (await client.post("/task")).status_code == 200
            assert (await client.get("/owners")).status_code == 200
            may_end.set()
    await there.is_clean()


@pytest.mark.parametrize("there", ["asyncpg"], indirect=True)
async def test_what_a_201_created_is_read_at_once_when_commits_take_long(there: Behind) -> None:
    there.proxy.delay(b"COMMIT", 0.005)
    async with served(app_of(there.database)) as client:

        async def create(number: int) -> int:
            created = await client.post(f"/owners/o{number}")
            return (await client.get(f"/owners/{created.json()}")).status_code

        for batch in range(0, 500, 20):
            answers = await asyncio.gather(*(create(number) for number in range(batch, batch + 20)))
            assert answers == [200] * 20
