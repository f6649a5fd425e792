"""Requests that are cancelled at random moments: is a connection lost or left dirty, is a 201 without its row?

In process each request is a task that is cancelled, as a time-out or a server that stops does it. Over a socket clients
hang up. More requests run at once than there are connections, so that some are cancelled while they wait for one.
"""

import asyncio
import gc
import logging
import random
import secrets
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated

import uvicorn
from fastapi import FastAPI
from sqlalchemy import URL, insert, make_url, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import ASGIApp, Message, Scope

from benchmarks.sessions import POSTGRES_URL, Row, opened, postgres_answers
from fastapi_kit import errors
from fastapi_kit.db import Database

REQUESTS, REQUESTS_OVER_A_SOCKET = 10_000, 1_000
AT_ONCE = 25
SETTLE_SECONDS = 10.0
SLOWED_DOWN = 3.0  # a connection is opened anew for each that a cancelled statement took along


@dataclass
class Report:
    """What happened to the requests of one run, and what was wrong afterwards."""

    name: str
    statuses: Counter[int] = field(default_factory=Counter)
    created: set[str] = field(default_factory=set)
    cancelled: int = 0
    idle: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


def make_app(db: Database) -> FastAPI:
    app = FastAPI()
    errors.install(app)

    @app.get("/read")
    async def read(session: Annotated[AsyncSession, db.per_request]) -> str:
        return (await session.get_one(Row, 1)).name

    @app.get("/read-only")
    async def read_only(session: Annotated[AsyncSession, db.per_request_read_only]) -> str:
        return (await session.get_one(Row, 1)).name

    @app.post("/write/{name}", status_code=201)
    async def write(name: str, session: Annotated[AsyncSession, db.per_request]) -> None:
        await session.get_one(Row, 1)
        session.add(Row(name=name))

    return app


async def run() -> AsyncGenerator[Report]:
    """Yield a report for each database that is there, in process and over a socket."""
    with tempfile.TemporaryDirectory() as folder:
        urls = {"sqlite": make_url(f"sqlite+aiosqlite:///{folder}/app.db")}
        if postgres_answers():
            url = make_url(POSTGRES_URL)
            urls |= {driver: url.set(drivername=f"postgresql+{driver}") for driver in ("asyncpg", "psycopg")}
        for name, url in urls.items():
            async with opened(url) as admin:
                yield await _run(f"{name} in process", url, admin, REQUESTS, _in_process)
                yield await _run(f"{name} over a socket", url, admin, REQUESTS_OVER_A_SOCKET, _over_a_socket)


async def _run(
    name: str, url: URL, admin: Database, requests: int, load: Callable[[FastAPI, Report, int], Awaitable[None]]
) -> Report:
    report = Report(name)
    application = f"kit-cancel-{secrets.token_hex(4)}"
    db = Database(url, application_name=application)
    handler = _Collect(report.violations)
    logging.getLogger().addHandler(handler)
    start = time.perf_counter()
    await load(make_app(db), report, requests)
    report.seconds = time.perf_counter() - start
    gc.collect()  # a session that was forgotten shows in SQLAlchemy's log
    await _inspect(db, admin, application, report)
    logging.getLogger().removeHandler(handler)
    await db.dispose()
    return report


async def _in_process(app: FastAPI, report: Report, requests: int) -> None:
    async def finish(kind: str) -> float:
        start = time.perf_counter()
        await _call(app, kind, report)
        return time.perf_counter() - start

    usual = {kind: await _median(finish, kind) for kind in ("read", "read-only", "write")}

    async def one() -> None:
        kind = random.choice([*usual])
        task = asyncio.create_task(_call(app, kind, report))
        asyncio.get_running_loop().call_later(random.uniform(0, SLOWED_DOWN * usual[kind]), task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            report.cancelled += 1

    await _many(one, requests)


async def _over_a_socket(app: FastAPI, report: Report, requests: int) -> None:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()

    async def finish(kind: str, limit_seconds: float | None = None) -> float:
        start = time.perf_counter()
        method, path, name = _target(kind)
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: kit\r\nContent-Length: 0\r\n\r\n".encode())
        try:
            async with asyncio.timeout(limit_seconds):
                status = int((await reader.readline()).split()[1])
                report.statuses[status] += 1
                if status == 201:
                    report.created.add(name)
        except TimeoutError:
            report.cancelled += 1
        finally:
            writer.transport.abort()
        return time.perf_counter() - start

    usual = {kind: await _median(finish, kind) for kind in ("read", "read-only", "write")}

    async def one() -> None:
        kind = random.choice([*usual])
        await finish(kind, random.uniform(0, SLOWED_DOWN * usual[kind]))

    await _many(one, requests)
    server.should_exit = True
    await serving


async def _median(finish: Callable[[str], Awaitable[float]], kind: str) -> float:
    """Return how long such a request takes while as many others run."""
    took = await asyncio.gather(*(finish(kind) for _ in range(4 * AT_ONCE)))
    return sorted(took)[len(took) // 2]


async def _many(one: Callable[[], Awaitable[None]], requests: int) -> None:
    left = iter(range(requests))

    async def some() -> None:
        for _ in left:
            await one()

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


def _target(kind: str) -> tuple[str, str, str]:
    name = secrets.token_hex(8)
    return ("POST", f"/write/{name}", name) if kind == "write" else ("GET", f"/{kind}", "")


async def _call(app: ASGIApp, kind: str, report: Report) -> None:
    method, path, name = _target(kind)
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            report.statuses[message["status"]] += 1
            if message["status"] == 201:
                report.created.add(name)

    await app(scope, receive, send)


async def _inspect(db: Database, admin: Database, application: str, report: Report) -> None:
    wrong = report.violations
    if odd := {status: count for status, count in report.statuses.items() if status not in {200, 201, 503}}:
        wrong.append(f"statuses {odd}")

    async def nothing_is_in_use() -> bool:
        return db.pool_states()["primary"].in_use == 0

    if not await _comes_true(nothing_is_in_use):
        wrong.append(f"the pool has {db.pool_states()['primary'].in_use} connections in use")
    report.idle = db.pool_states()["primary"].idle
    async with admin.session(read_only=True) as session:
        lost = report.created - set(await session.scalars(select(Row.name)))
    if lost:
        wrong.append(f"{len(lost)} of {len(report.created)} answers 201 have no row")
    inspect = _inspect_server if admin.engine.dialect.name == "postgresql" else _inspect_file
    # A place in the pool may have no connection: one that was given up is opened again when the place is next used.
    await inspect(admin, application, report, range(report.idle + 1))
    await _use_each(db, report)
    await inspect(admin, application, report, range(report.idle, report.idle + 1))


async def _inspect_server(admin: Database, application: str, report: Report, wanted: range) -> None:
    """See whether the server has as many connections of ours as the pool, none of them in a transaction."""
    query = text("SELECT state FROM pg_stat_activity WHERE application_name = :application")
    states: list[str] = []

    async def is_as_the_pool_says() -> bool:
        async with admin.session(read_only=True) as session:
            states[:] = await session.scalars(query, {"application": application})
        return set(states) <= {"idle"} and len(states) in wanted

    if not await _comes_true(is_as_the_pool_says):
        report.violations.append(f"the pool has {report.idle} idle connections, the server {dict(Counter(states))}")


async def _inspect_file(admin: Database, _: str, report: Report, wanted: range) -> None:
    """See whether nobody holds SQLite's lock, and whether no thread is left but those of the pools."""
    with sqlite3.connect(admin.engine.url.database or "", timeout=1, isolation_level=None) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as exc:
            report.violations.append(f"a transaction was left open: {exc}")
    connection.close()

    async def no_thread_is_left() -> bool:
        return _driver_threads() - admin.pool_states()["primary"].idle in wanted

    if not await _comes_true(no_thread_is_left):
        report.violations.append(f"{_driver_threads()} threads of SQLite's driver for {report.idle} connections")


def _driver_threads() -> int:
    return sum("_connection_worker_thread" in thread.name for thread in threading.enumerate())


async def _use_each(db: Database, report: Report) -> None:
    """See whether each connection can write, refuse a write, and write again; the pool hands them out in turn."""
    is_postgres = db.engine.dialect.name == "postgresql"
    for read_only in (False, True, False):
        backends = set()
        for number in range(report.idle):
            try:
                async with db.session(read_only=read_only) as session:
                    backends.add(await session.scalar(text("SELECT pg_backend_pid()")) if is_postgres else number)
                    await session.execute(insert(Row).values(name="afterwards"))
                if read_only:
                    report.violations.append("a read-only session wrote")
            except DBAPIError as exc:
                if not read_only:
                    report.violations.append(f"a session cannot write: {exc.orig}")
        if len(backends) != report.idle:
            report.violations.append(f"only {len(backends)} of {report.idle} connections could be used")


async def _comes_true(condition: Callable[[], Awaitable[bool]]) -> bool:
    """Return whether a condition holds within the time that closing connections may take."""
    end = time.monotonic() + SETTLE_SECONDS
    while not await condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True


class _Collect(logging.Handler):
    """Keeps what SQLAlchemy logs of a connection that nobody gave back, until it was collected as garbage."""

    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        if "garbage collector" in record.getMessage():
            self._into.append(record.getMessage()[:200])
