"""One database in more than one event loop, and in a process that was forked with connections open."""

import asyncio
import gc
import multiprocessing
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, text

from fastapi_kit.db import Database, SyncDatabase
from tests.db.faults import POSTGRES

pytestmark = pytest.mark.filterwarnings(
    # What a loop that ended left open.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:.*fork.*:DeprecationWarning",
)
SMALL: dict[str, Any] = {"pool_size": 1, "max_overflow": 1, "pool_timeout_seconds": 20}


async def answers(database: Database, who: str, count: int, *, disposes: bool = False) -> list[bool]:
    """Ask from more tasks than there are connections, and return for each answer whether it is its own."""

    async def ask(number: int) -> bool:
        async with database.session() as session:
            asked = f"{who}-{number}"
            await asyncio.sleep(0)
            answer = await session.scalar(text("SELECT :asked").bindparams(asked=asked))
            return bool(answer == asked)

    found: list[bool] = []
    for start in range(0, count, 10):
        found += await asyncio.gather(*(ask(number) for number in range(start, start + 10)))
    if disposes:
        await database.dispose()
    return found


def sync_answers(database: SyncDatabase, who: str, count: int) -> list[bool]:
    found = []
    for number in range(count):
        with database.session() as session:
            asked = f"{who}-{number}"
            found.append(session.scalar(text("SELECT :asked").bindparams(asked=asked)) == asked)
    return found


def url_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    if kind == "aiosqlite":
        return f"sqlite+aiosqlite:///{folder}/app.db"
    url = make_url(request.getfixturevalue("postgres_url" if kind in POSTGRES else "mariadb_url"))
    return url.set(drivername=f"{url.get_backend_name()}+{kind}").render_as_string(hide_password=False)


@pytest.mark.parametrize("kind", ["aiosqlite", "asyncpg", "psycopg", "asyncmy", "aiomysql"])
def test_event_loops_can_share_a_database_one_after_another_and_at_once(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    database = Database(url_of(kind, request, tmp_path), **SMALL)
    for turn in range(3):
        assert asyncio.run(answers(database, f"turn {turn}", 20)) == [True] * 20
    asyncio.run(database.dispose())
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda who=who: found.extend(asyncio.run(answers(database, who, 50, disposes=True))))
        for who in ("one", "other")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 100
    assert database.pool_states()["primary"].in_use == 0
    asyncio.run(database.dispose())
    assert database.pool_states()["primary"].idle == 0
    gc.collect()  # while the warnings of what the loops left open are ignored


@pytest.mark.parametrize("kind", [*POSTGRES, "asyncmy", "aiomysql"])
def test_a_fork_with_connections_open_mixes_no_answers(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """In the child the garbage collector must not close them either: that ends the parent's watch on their sockets."""
    database = Database(url_of(kind, request, tmp_path), **SMALL)

    who_serves = "SELECT pg_backend_pid()" if kind in POSTGRES else "SELECT CONNECTION_ID()"

    def collecting() -> bool:
        gc.collect()
        return True

    async def server() -> int:
        async with database.session() as session:
            return await session.scalar(text(who_serves)) or 0

    async def parent() -> tuple[list[bool], list[bool]]:
        await answers(database, "warm", 10)
        same = await server()
        assert received(*forked(collecting))
        assert await server() == same
        receiving, child = forked(lambda: asyncio.run(answers(database, "child", 100, disposes=True)))
        own = await answers(database, "parent", 100, disposes=True)
        return own, await asyncio.to_thread(received, receiving, child)

    assert asyncio.run(parent()) == ([True] * 100, [True] * 100)


def test_a_fork_with_connections_open_mixes_no_answers_for_def(postgres_url: str) -> None:
    url = make_url(postgres_url).set(drivername="postgresql+psycopg")
    database = SyncDatabase(url, **SMALL)
    sync_answers(database, "warm", 10)
    receiving, child = forked(lambda: sync_answers(database, "child", 100))
    assert sync_answers(database, "parent", 100) == [True] * 100
    assert received(receiving, child) == [True] * 100
    database.dispose()


def forked(work: Any) -> tuple[Any, Any]:
    fork = multiprocessing.get_context("fork")
    receiving, sending = fork.Pipe(duplex=False)
    child = fork.Process(target=lambda: sending.send(work()), daemon=True)
    child.start()
    sending.close()
    return receiving, child


def received(receiving: Any, child: Any) -> Any:
    assert receiving.poll(30)
    answer = receiving.recv()
    child.join(10)
    receiving.close()
    return answer
