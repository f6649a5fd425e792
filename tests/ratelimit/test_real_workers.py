"""Exactness over four uvicorn workers on a socket, with Redis between them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from .support import PATIENT, STRATEGIES

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
APP = """\
import os, time
from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import JSONResponse
from fastapi_kit import errors
from fastapi_kit.ratelimit import Limiter

app = FastAPI()
errors.install(app)

@app.get("/pid")
async def pid() -> int:
    time.sleep(0.05)  # so that other workers take the other connections
    return os.getpid()

async def item(n: int) -> int:
    return os.getpid()

async def log_in(right: bool) -> JSONResponse:
    return JSONResponse(os.getpid(), 200 if right else 401)

for strategy in ("fixed-window", "moving-window", "sliding-window-counter"):
    limiter = Limiter(
        os.environ["REDIS"], prefix=os.environ["PREFIX"] + strategy, strategy=strategy, timeout_seconds=30
    )
    limits = [Depends(limiter("50/hour; 60/day")), Depends(limiter("900/hour", scope="all"))]
    app.get(f"/{strategy}/items/{{n}}", dependencies=limits)(item)
    app.post(f"/{strategy}/login", dependencies=[Depends(limiter("5/hour", only={401}))])(log_in)
"""


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[str]:
    (folder / "shop.py").write_text(APP)
    with (folder / "log").open("w") as log:
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "shop:app",
            "--workers",
            "4",
            "--port",
            "0",
            "--app-dir",
            str(folder),
        ]
        server = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield str(folder / "log")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


async def url_in(log: str) -> str:
    async with asyncio.timeout(60):
        while True:
            text = await asyncio.to_thread(Path(log).read_text)
            if text.count("Application startup complete") == 4:
                return next(word for word in text.split() if word.startswith("http://127.0.0.1:"))
            await asyncio.sleep(0.05)


async def test_four_workers_let_exactly_the_quota_pass(redis_url: str, prefix: str, tmp_path: Path) -> None:
    with serving(tmp_path, REDIS=redis_url + PATIENT, PREFIX=prefix) as log:
        options: dict[str, Any] = {
            "base_url": await url_in(log),
            "limits": httpx2.Limits(max_connections=1),
            "timeout": 60,
        }
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(httpx2.AsyncClient(**options)) for _ in range(40)]
            asked: list[asyncio.Task[httpx2.Response]] = []
            for client in clients:
                asked.append(asyncio.create_task(client.get("/pid")))
                await asyncio.sleep(0.02)  # while one worker is busy another one takes the connection
            workers = {answer.text for answer in await asyncio.gather(*asked)}
            assert len(workers) > 1
            for strategy in STRATEGIES:
                await hold_the_quota(clients, strategy)


async def hold_the_quota(clients: Sequence[httpx2.AsyncClient], strategy: str) -> None:
    answers = await asyncio.gather(*[clients[n % 40].get(f"/{strategy}/items/{n}") for n in range(200)])
    passed = [answer for answer in answers if answer.status_code == 200]
    assert (len(passed), [answer.status_code for answer in answers].count(429)) == (50, 150)
    assert sorted(int(answer.headers["RateLimit"].split(";")[1][2:]) for answer in passed) == list(range(50))
    assert len({answer.text for answer in passed}) > 1
    login = f"/{strategy}/login"
    right = await asyncio.gather(*[client.post(login, params={"right": True}) for client in clients[::8]])
    assert [answer.status_code for answer in right] == [200] * 5
    wrong = await asyncio.gather(*[clients[n % 40].post(login, params={"right": False}) for n in range(100)])
    statuses = [answer.status_code for answer in wrong]
    assert (statuses.count(401), statuses.count(429)) == (5, 95)
