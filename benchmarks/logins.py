"""Forty log-ins at once: how much memory they take, and how long the event loop does nothing else.

Each side runs in a process of its own, `python -m benchmarks.logins kit`, since the peak of a process never goes down.
By hand is what tutorials show: argon2-cffi's `PasswordHasher` with its defaults, in Starlette's thread pool.
"""

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import argon2
from fastapi import FastAPI, Form, HTTPException
from fastapi.concurrency import run_in_threadpool
from starlette.types import Message, Scope

from benchmarks.data import make_tokens
from fastapi_kit import errors
from fastapi_kit.auth import Login, PasswordHasher, login_router

LOGINS = 40
PASSWORD = "correct horse battery staple"
BODY = f"username=ann&password={PASSWORD.replace(' ', '+')}".encode()
HEARTBEAT_SECONDS = 0.001


@dataclass(frozen=True)
class Result:
    """What one side took: MiB above idle at the peak, the longest the loop did not answer, and until all were done."""

    memory_mib: float
    stall_ms: float
    seconds: float


def measure(side: str) -> Result:
    """Return the figures of `"kit"` or `"hand"`, measured in a new process."""
    command = [sys.executable, "-m", "benchmarks.logins", side]
    figures = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return Result(*map(float, figures))


async def make_kit() -> FastAPI:
    passwords = PasswordHasher()
    password_hash = await passwords.hash(PASSWORD)

    async def find_login(username: str) -> Login | None:
        return Login("1", password_hash)

    app = FastAPI()
    errors.install(app)
    app.include_router(login_router(make_tokens(), passwords, find_login))
    return app


async def make_hand() -> FastAPI:
    hasher = argon2.PasswordHasher()
    password_hash = hasher.hash(PASSWORD)
    tokens = make_tokens()
    app = FastAPI()

    def is_right(password: str) -> bool:
        try:
            return hasher.verify(password_hash, password)
        except argon2.exceptions.VerifyMismatchError:
            return False

    @app.post("/auth/token")
    async def log_in(username: Annotated[str, Form()], password: Annotated[str, Form()]) -> dict[str, str]:
        if not await run_in_threadpool(is_right, password):
            raise HTTPException(401)
        return {"access_token": tokens.issue("1").token}

    return app


async def run(make: Callable[[], Awaitable[FastAPI]]) -> Result:
    app = await make()
    stall = 0.0

    async def heartbeat() -> None:
        nonlocal stall
        while True:
            start = time.perf_counter()
            await asyncio.sleep(HEARTBEAT_SECONDS)
            stall = max(stall, time.perf_counter() - start - HEARTBEAT_SECONDS)

    await _log_in(app)  # so that what is made at first use is there
    idle = _resident_mib()
    beating = asyncio.create_task(heartbeat())
    start = time.perf_counter()
    await asyncio.gather(*(_log_in(app) for _ in range(LOGINS)))
    seconds = time.perf_counter() - start
    beating.cancel()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Result(peak - idle, stall * 1000, seconds)


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


async def _log_in(app: FastAPI) -> None:
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/auth/token",
        "raw_path": b"/auth/token",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/x-www-form-urlencoded")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    await app(scope, receive, send)
    if status != 200:
        raise RuntimeError(f"{status} in place of 200")


if __name__ == "__main__":
    figures = asyncio.run(run({"kit": make_kit, "hand": make_hand}[sys.argv[1]]))
    print(figures.memory_mib, figures.stall_ms, figures.seconds)
