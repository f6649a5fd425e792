"""Servers that are down, that hang, and that are cut off between a change and its answer."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from sqlalchemy import URL, make_url
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from fastapi_kit.auth import InvalidGrantError, Sessions
from fastapi_kit.auth.sessions.redis import RedisSessionStore
from fastapi_kit.auth.sessions.sqlalchemy import SQLAlchemySessionStore
from fastapi_kit.auth.sessions.store import SessionStore
from fastapi_kit.errors import UnavailableError
from tests.auth.sessions.support import Clock, LoginSession, Revocation, delete_keys, postgres, refused, sessions_of
from tests.proxy import Proxy

pytestmark = pytest.mark.anyio

ResultT = TypeVar("ResultT")


@dataclass
class Behind:
    """Log-ins whose server is behind a proxy."""

    proxy: Proxy
    sessions: Sessions
    changes: bytes
    """What a request that rotates contains, such that the change is done before its answer."""


def postgres_store(url: str, schema: str, port: int, patience: float) -> tuple[SessionStore, Any]:
    database = postgres(
        make_url(url).set(host="127.0.0.1", port=port).render_as_string(hide_password=False),
        schema,
        connect_args={"command_timeout": patience, "timeout": patience},
    )
    read = async_sessionmaker(database.engine.execution_options(isolation_level="AUTOCOMMIT"))
    return SQLAlchemySessionStore(database.session, LoginSession, Revocation, read=read), database.dispose


def mariadb_store(url: URL, port: int, patience: float) -> tuple[SessionStore, Any]:
    engine = create_async_engine(url.set(host="127.0.0.1", port=port), connect_args={"read_timeout": patience})
    maker = async_sessionmaker(engine)  # as `read` it commits nothing
    return SQLAlchemySessionStore(maker.begin, LoginSession, Revocation, read=maker), engine.dispose


def redis_store(url: str, port: int, patience: float) -> tuple[SessionStore, Any]:
    query = f"socket_timeout={patience}&socket_connect_timeout={patience}"
    address = urlsplit(url)._replace(netloc=f"127.0.0.1:{port}", query=query).geturl()
    prefix = f"test-{uuid4().hex}:"
    store = RedisSessionStore(address, prefix=prefix)

    async def close() -> None:
        await store.aclose()
        await delete_keys(url, prefix)

    return store, close


@pytest.fixture
def patience() -> float:
    """How many seconds the drivers wait for an answer; a busy machine must not look like a hung server."""
    return 10.0


@pytest.fixture(params=["postgres", "mariadb", "redis"])
async def behind(
    request: pytest.FixtureRequest, clock: Clock, patience: float, anyio_backend: str
) -> AsyncGenerator[Behind]:
    url = request.getfixturevalue(f"{request.param}_url")
    address = urlsplit(url)
    async with Proxy(address.hostname or "", address.port or 0).serving() as proxy:
        match request.param:
            case "postgres":
                store, close = postgres_store(url, request.getfixturevalue("schema"), proxy.port, patience)
            case "mariadb":
                store, close = mariadb_store(request.getfixturevalue("mariadb"), proxy.port, patience)
            case _:
                store, close = redis_store(url, proxy.port, patience)
        # Not "BEGIN ISOLATION LEVEL READ COMMITTED".
        changes = {"postgres": b"COMMIT;", "mariadb": b"COMMIT", "redis": b"EVALSHA"}[request.param]
        yield Behind(proxy, sessions_of(store, clock), changes)
        proxy.release()
        await close()


@pytest.mark.parametrize("kind", ["postgres", "redis"])
async def test_a_server_that_is_down_lets_nobody_pass(kind: str, clock: Clock) -> None:
    with socket.socket() as closed:  # bound, so that no other has the port, and not listening
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        store, close = down(kind, port)
        sessions = sessions_of(store, clock)
        token = sessions.tokens.issue("7").token
        claims = sessions.tokens.verify(token)
        calls = [
            sessions.start("7"),
            sessions.verify(token),
            sessions.refresh("A" * 64),
            sessions.end("A" * 64),
            sessions.end_all("7"),
            sessions.revoke(claims),
        ]
        for call in calls:
            with pytest.raises(UnavailableError) as error:
                await call
            assert error.value.headers == {"Retry-After": "1"}
            assert error.value.__cause__ is None
        await close()


def down(kind: str, port: int) -> tuple[SessionStore, Any]:
    if kind == "postgres":
        return postgres_store(f"postgresql+asyncpg://u@127.0.0.1:{port}/x", "x", port, patience=10)
    store = RedisSessionStore(f"redis://127.0.0.1:{port}")
    return store, store.aclose


@pytest.mark.parametrize("patience", [0.3])
async def test_a_server_that_hangs_lets_nobody_pass_and_is_used_again_when_it_answers(
    behind: Behind, patience: float
) -> None:
    sessions = behind.sessions
    pair = await persistently(lambda: sessions.start("7"))
    await persistently(lambda: sessions.verify(pair.access.token))
    behind.proxy.hold()
    with pytest.raises(UnavailableError):
        await sessions.verify(pair.access.token)
    with pytest.raises(UnavailableError):
        await sessions.end(pair.refresh_token)
    behind.proxy.release()
    await persistently(lambda: sessions.verify(pair.access.token))
    await persistently(lambda: sessions.end(pair.refresh_token))


async def persistently(call: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Try again while the server is unavailable, as a client would."""
    for _ in range(20):
        try:
            return await call()
        except UnavailableError:
            continue
    return await call()


async def test_a_restart_of_the_server_costs_no_log_in(behind: Behind) -> None:
    pair = await behind.sessions.start("7")
    await behind.proxy.cut()
    await persistently(lambda: behind.sessions.verify(pair.access.token))
    await behind.sessions.refresh(pair.refresh_token)


async def lose_the_answer(behind: Behind, token: str) -> None:
    behind.proxy.lose_answer_to(behind.changes)
    with pytest.raises(UnavailableError):
        await behind.sessions.refresh(token)
    assert behind.proxy.lost.is_set()


async def test_a_refresh_whose_answer_was_lost_can_be_tried_again_within_the_grace(
    behind: Behind, clock: Clock
) -> None:
    pair = await behind.sessions.start("7")
    await lose_the_answer(behind, pair.refresh_token)
    found = await behind.sessions.store.find(pair.session_id)
    assert found is not None
    assert found[0].rotated_at
    clock.advance(seconds=9)
    again = await behind.sessions.refresh(pair.refresh_token)
    await behind.sessions.verify(again.access.token)
    await behind.sessions.refresh(again.refresh_token)


async def test_after_the_grace_a_lost_answer_costs_the_log_in(behind: Behind, clock: Clock) -> None:
    pair = await behind.sessions.start("7")
    await lose_the_answer(behind, pair.refresh_token)
    clock.advance(seconds=10)
    assert await refused(behind.sessions, pair.refresh_token) == "replayed"


async def test_refreshes_that_are_cancelled_at_any_point_leave_the_log_in_whole(behind: Behind) -> None:
    sessions = behind.sessions
    token = (await sessions.start("7")).refresh_token
    for steps in range(0, 60, 3):
        task = asyncio.create_task(sessions.refresh(token))
        for _ in range(steps):
            await asyncio.sleep(0)
        if steps % 2:
            await asyncio.sleep(0.001 * (steps % 5))
        task.cancel()
        answers = await asyncio.gather(task, return_exceptions=True)
        assert not isinstance(answers[0], InvalidGrantError)
        token = (await sessions.refresh(token)).refresh_token
    others = [await sessions.start(str(number)) for number in range(20)]
    claims = await asyncio.gather(*(sessions.verify(other.access.token) for other in others))
    assert [each.subject for each in claims] == [str(number) for number in range(20)]
