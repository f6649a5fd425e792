"""What a limit in Redis does to everybody else while Redis is far away, or hangs.

Far away: a server in a process of its own, `python -m benchmarks.limit_outages SIDE URL PORT`, clients here, and the
relay between server and Redis in a third. Hung: in process, since what counts is the loop that serves.
"""

import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI
from redis.exceptions import RedisError

from benchmarks.limit_floods import Longest
from benchmarks.limits import LIMITED, PREFIX, by_kit, by_slowapi
from benchmarks.measure import request
from benchmarks.network import Network, network
from fastapi_kit.ratelimit import Limiter, OnFailure

AWAY_SECONDS = 0.05
FAR_AIM = 2.0
CLIENTS = 20
FREE_PERIOD_SECONDS = 0.005


@dataclass(frozen=True)
class Load:
    """One row: seconds from one request of a client to its next; pairs of blocks, near and far; how long each is."""

    side: str
    name: str
    period: float
    pairs: int
    seconds: float


LOADS = (
    Load("kit", "200 a second", 0.1, pairs=8, seconds=2),
    Load("kit", "flat out", 0.0, pairs=8, seconds=2),
    Load("slowapi", "4 a second", 5.0, pairs=4, seconds=5),
    Load("slowapi", "200 a second", 0.1, pairs=2, seconds=10),
)

TIMEOUT_SECONDS = 0.5
HUNG_AIM_MS, GAP_AIM_MS = TIMEOUT_SECONDS * 1000 + 50, 50.0
HUNG_REQUESTS = {"kit": 100, "slowapi": 1}  # each of slowapi's waits by itself
HEARTBEAT_SECONDS = 0.005


@dataclass(frozen=True)
class Far:
    """p99 of an unrelated endpoint, ms, with Redis near and far, and the median ratio of neighbouring blocks."""

    name: str
    near_ms: float
    far_ms: float
    ratio: float


@dataclass(frozen=True)
class Hung:
    """With a Redis that does not answer: requests at once, the slowest one, and the loop's longest pause."""

    name: str
    requests: int
    slowest_ms: float
    gap_ms: float


async def measure_far() -> AsyncGenerator[Far]:
    """Yield what a Redis far away does to an endpoint without a limit, in a server of the kit and of slowapi."""
    with network() as relay:
        for load in LOADS:
            relay.take(0)
            with _server(load.side, relay.url) as port:
                pairs = [
                    [await _block(relay, port, away, load) for away in (0, AWAY_SECONDS)] for _ in range(load.pairs)
                ]
            relay.take(0)
            near, far = ([ms for pair in pairs for ms in pair[at]] for at in (0, 1))
            ratio = statistics.median(_p99(far) / _p99(near) for near, far in pairs)
            yield Far(f"{load.side}, {load.name}", _p99(near), _p99(far), ratio)


@contextmanager
def _server(side: str, url: str) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.limit_outages", side, url, str(port)]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield port
        finally:
            process.kill()


def serve(side: str, url: str, port: int) -> None:
    # With "deny", a Redis that is too slow is a 503, which stops the benchmark: it would measure memory otherwise.
    uvicorn.run(_app(side, url, "deny"), port=port, log_level="warning", access_log=False, timeout_keep_alive=60)


def _app(side: str, url: str, on_failure: OnFailure) -> FastAPI:
    limiter = Limiter(url, prefix=PREFIX, timeout_seconds=TIMEOUT_SECONDS, on_failure=on_failure)
    app = by_slowapi(url) if side == "slowapi" else by_kit(limiter)

    @app.get("/free")
    async def free() -> dict[str, str]:
        return {"status": "ok"}

    return app


async def _block(relay: Network, port: int, away: float, load: Load) -> list[float]:
    """Return the ms of each request to the free endpoint while clients ask for the limited one."""
    relay.take(away)
    ended = asyncio.Event()
    free_ms: list[float] = []

    async def pause(seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await ended.wait()

    async def client(path: str, start_after: float, period: float, seen: list[float]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await pause(start_after)
        while not ended.is_set():
            start = time.perf_counter()
            writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{path}: {head!r}")
            _, _, rest = head.lower().partition(b"content-length:")
            await reader.readexactly(int(rest.split(b"\r\n")[0]))
            seen.append((time.perf_counter() - start) * 1000)
            await pause(max(0.0, start + period - time.perf_counter()))
        writer.close()

    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):  # spread over the period, not all at the same moment
            clients.create_task(client("/limited", number * load.period / CLIENTS, load.period, []))
        clients.create_task(client("/free", 0.3, FREE_PERIOD_SECONDS, free_ms))  # once all are connected and served
        await asyncio.sleep(0.3 + load.seconds)
        ended.set()
    return free_ms


def _p99(ms: list[float]) -> float:
    return sorted(ms)[int(len(ms) * 0.99)]


async def measure_hung() -> AsyncGenerator[Hung]:
    """Yield what a Redis that takes requests and does not answer does to an app of the kit, and to one of slowapi."""
    for side, requests in HUNG_REQUESTS.items():
        with network() as relay:
            app = _app(side, relay.url, "memory")
            for _ in range(20):
                await request(app, LIMITED)
            relay.hold()
            yield await _hung(side, app, requests)


async def _hung(side: str, app: FastAPI, requests: int) -> Hung:
    gaps = Longest()
    waits_ms: list[float] = []

    async def heartbeat() -> None:
        while True:
            with gaps:
                await asyncio.sleep(HEARTBEAT_SECONDS)

    async def ask() -> None:
        start = time.perf_counter()
        with suppress(RedisError) if side == "slowapi" else nullcontext():  # there it would be a 500
            await request(app, LIMITED)
        waits_ms.append((time.perf_counter() - start) * 1000)

    beating = asyncio.create_task(heartbeat())
    await asyncio.sleep(0.1)
    await asyncio.gather(*(ask() for _ in range(requests)))
    await asyncio.sleep(0.1)
    beating.cancel()
    return Hung(side, requests, max(waits_ms), gaps.ms - HEARTBEAT_SECONDS * 1000)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
