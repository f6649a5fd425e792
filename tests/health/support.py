"""Checks of each kind, and apps that are served by a process of their own."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2

ROOT = Path(__file__).parents[2]


async def good() -> None: ...


async def bad() -> None:
    raise ConnectionError("postgres://user:s3cret@host is down")


async def slow() -> None:
    await asyncio.sleep(30)


class Server:
    """uvicorn with an app, in a process that a test may send signals to."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def log(self) -> str:
        return self._log.read_text()

    def until(self, said: str, times: int = 1) -> None:
        deadline = time.monotonic() + 30
        while self.log().count(said) < times:
            assert time.monotonic() < deadline, f"no {said!r} in {self.log()}"
            assert self.process.poll() is None or self.log().count(said) >= times, self.log()
            time.sleep(0.02)

    def url(self) -> str:
        found = re.search(r"http://127.0.0.1:\d+", self.log())
        assert found is not None
        return found[0]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        return self.process.wait(30)


@contextmanager
def serving(folder: Path, source: str, *options: str, workers: int = 1, **environment: str) -> Generator[Server]:
    """Serve `app` of a module's source on a free port."""
    (folder / "shop.py").write_text(source)
    log = folder / "log"
    command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", "0", "--app-dir", str(folder), *options]
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=said, stderr=subprocess.STDOUT
        )
    server = Server(process, log)
    try:
        server.until("Application startup complete", workers)
        server.until("Uvicorn running on")
        yield server
    finally:
        process.kill()
        process.wait()


def client_of(server: Server) -> httpx2.AsyncClient:
    """Return a client with a connection for each request, as probes have."""
    limits = httpx2.Limits(max_keepalive_connections=0)
    return httpx2.AsyncClient(base_url=server.url(), limits=limits, timeout=30)
