"""After SIGTERM a service is not ready, and still answers until its load balancer has looked elsewhere."""

import asyncio
import logging
import multiprocessing
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import APIRouter, FastAPI
from starlette.testclient import TestClient

from fastapi_kit import errors
from fastapi_kit.health import health_router
from tests.health.support import client_of, serving

pytestmark = pytest.mark.anyio

APP = """
import asyncio
import logging
from contextlib import asynccontextmanager
from fastapi import APIRouter, FastAPI
from fastapi_kit import errors
from fastapi_kit.health import health_router

logging.basicConfig(level=logging.INFO)

@asynccontextmanager
async def lifespan(app):
    yield
    print("closed what the app had opened", flush=True)

app = FastAPI(lifespan=lifespan)
errors.install(app)
inner, outer = APIRouter(), APIRouter(prefix="/ops")
inner.include_router(health_router(drain_seconds={drain_seconds}))
outer.include_router(inner)
app.include_router(outer)

@app.get("/slow")
async def slow(seconds: float) -> str:
    print("slow begins", flush=True)
    await asyncio.sleep(seconds)
    return "done"
"""
HELD = "requests are taken for"


async def status(client: httpx2.AsyncClient, path: str) -> int:
    return (await client.get(path)).status_code


async def test_requests_are_served_while_readiness_says_no(tmp_path: Path) -> None:
    with serving(tmp_path, APP.format(drain_seconds=1.5)) as server:
        async with client_of(server) as client:
            assert await status(client, "/ops/health/ready") == 200
            slow = asyncio.create_task(client.get("/slow?seconds=2"))
            await asyncio.to_thread(server.until, "slow begins")
            server.terminate()
            await asyncio.to_thread(server.until, HELD)
            answer = await client.get("/ops/health/ready")
            assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
            assert answer.headers["content-type"] == "application/problem+json"
            assert (answer.headers["retry-after"], answer.headers["cache-control"]) == ("5", "no-store")
            assert await status(client, "/ops/health/live") == 200
            assert (await client.get("/slow?seconds=0")).text == '"done"'  # a new connection
            assert server.log().count("Shutting down") == 0
            assert (await slow).text == '"done"'  # begun before the signal, ended after the drain
            assert await asyncio.to_thread(server.ended) == -signal.SIGTERM
    assert server.log().index("Shutting down") < server.log().index("closed what the app had opened")


async def test_a_second_signal_ends_the_drain_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, APP.format(drain_seconds=3600)) as server:
        server.terminate()
        server.until(HELD)
        server.terminate()
        server.ended()
    assert "closed what the app had opened" in server.log()


async def test_each_of_several_workers_drains(tmp_path: Path) -> None:
    with serving(tmp_path, APP.format(drain_seconds=1), "--workers", "2", workers=2) as server:
        server.terminate()
        server.until(HELD, 2)
        async with client_of(server) as client:
            assert await status(client, "/ops/health/ready") == 503
            assert await status(client, "/slow?seconds=0") == 200
        assert await asyncio.to_thread(server.ended) == 0
    assert server.log().count("closed what the app had opened") == 2


async def test_a_reloading_server_is_not_held_up(tmp_path: Path) -> None:
    with serving(tmp_path, APP.format(drain_seconds=3600), "--reload") as server:
        server.terminate()
        server.ended()
    assert HELD not in server.log()
    assert "closed what the app had opened" in server.log()


@pytest.fixture
def received() -> Generator[list[int]]:
    """Handle SIGTERM as a server does, and list what arrives."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


Include = Callable[[FastAPI, APIRouter], None]


def app_with(router: APIRouter, include: Include = FastAPI.include_router, **options: Any) -> FastAPI:
    app = FastAPI(**options)
    errors.install(app)
    include(app, router)
    return app


@asynccontextmanager
async def running(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    """Run the lifespan of the app in this thread."""
    async with app.router.lifespan_context(app):
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            yield client


def include_twice(app: FastAPI, router: APIRouter) -> None:
    app.include_router(router)
    app.include_router(router, prefix="/internal")


@pytest.mark.parametrize("include", [FastAPI.include_router, include_twice])
async def test_the_server_gets_the_signal_after_the_drain(received: list[int], include: Include) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    app = app_with(health_router(drain_seconds=0.3), include)
    for _ in range(2):  # the lifespan of an app may run more than once, in tests
        received.clear()
        async with running(app) as client:
            assert await status(client, "/health/ready") == 200
            signal.raise_signal(signal.SIGTERM)
            assert received == []
            assert await status(client, "/health/ready") == 503
            async with asyncio.timeout(10):
                while not received:
                    await asyncio.sleep(0.01)
            assert await status(client, "/health/ready") == 503
        assert received == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is handler


async def test_nothing_is_left_of_a_drain_when_the_app_ends_before(received: list[int]) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    async with running(app_with(health_router(drain_seconds=0.05))):
        assert signal.getsignal(signal.SIGTERM) is not handler
    assert signal.getsignal(signal.SIGTERM) is handler
    async with running(app_with(health_router(drain_seconds=0.05))):
        signal.raise_signal(signal.SIGTERM)  # the loop has no turn before the end
    async with running(app_with(health_router(drain_seconds=0.05))):
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.sleep(0.2)
    assert received == []
    assert signal.getsignal(signal.SIGTERM) is handler


async def test_a_handler_that_was_set_later_is_left_alone(received: list[int]) -> None:
    def later(number: int, frame: object) -> None: ...

    async with running(app_with(health_router(drain_seconds=5))):
        signal.signal(signal.SIGTERM, later)
    assert signal.getsignal(signal.SIGTERM) is later


async def test_without_drain_seconds_no_signal_is_touched_and_with_it_only_one(received: list[int]) -> None:
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}

    def touched() -> list[int]:
        return [number for number, handler in handlers.items() if signal.getsignal(number) is not handler]

    async with running(app_with(health_router())):
        assert touched() == []
    async with running(app_with(health_router(drain_seconds=5))):
        assert touched() == [signal.SIGTERM]


@pytest.mark.parametrize("is_ignored", [False, True])
async def test_a_server_that_cannot_drain_is_told_of(
    received: list[int], caplog: pytest.LogCaptureFixture, is_ignored: bool
) -> None:
    if is_ignored:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, received.append, 0)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        async with running(app_with(health_router(drain_seconds=5))):
            assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    assert "drain_seconds has no effect: this server does not take SIGTERM by signal.signal" in caplog.text


async def test_a_worker_of_a_reloading_server_is_not_held_up(
    received: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As uvicorn starts it; the test of the real one above is another process, whose lines are not counted as covered.
    config = uvicorn.Config("shop:app", reload=True)
    monkeypatch.setattr(multiprocessing.current_process(), "_kwargs", {"config": config}, raising=False)
    handler = signal.getsignal(signal.SIGTERM)
    async with running(app_with(health_router(drain_seconds=5))):
        assert signal.getsignal(signal.SIGTERM) is handler


def test_in_a_thread_no_signal_is_touched(received: list[int], caplog: pytest.LogCaptureFixture) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    caplog.set_level(logging.DEBUG, "fastapi_kit.health")
    with TestClient(app_with(health_router(drain_seconds=5))) as client:
        assert threading.active_count() > 1
        assert signal.getsignal(signal.SIGTERM) is handler
        assert client.get("/health/ready").status_code == 200
    (record,) = [record for record in caplog.records if record.name == "fastapi_kit.health"]
    assert (record.levelname, "does not run in the main thread" in record.getMessage()) == ("DEBUG", True)


def include_too_late(app: FastAPI, router: APIRouter) -> None:
    outer = APIRouter()
    app.include_router(outer)
    outer.include_router(router)


def mount(app: FastAPI, router: APIRouter) -> None:
    app.mount("/", app_with(router))


@pytest.mark.parametrize("include", [include_too_late, mount])
async def test_a_lifespan_that_does_not_run_is_told_of_once(caplog: pytest.LogCaptureFixture, include: Include) -> None:
    async with running(app_with(health_router(drain_seconds=5), include)) as client:
        for _ in range(3):
            assert await status(client, "/health/ready") == 200
    assert caplog.text.count("the lifespan of the health router does not run") == 1
