"""What all layers of the kit together cost a request, and what an error costs, against a bare FastAPI app.

In one process, with no socket, the app itself takes 70 µs and each layer shows. Over a socket, as one is served, both
write a line a request: uvicorn its own, the kit its JSON.
"""

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, TextIO

from fastapi import Body, FastAPI
from pydantic import BaseModel

from benchmarks.data import Scenario
from benchmarks.measure import compare
from fastapi_kit import errors, observability

AIM_US = 50.0
BLOCKS = 60
REQUESTS_IN_A_BLOCK = 50
_JSON = ((b"content-type", b"application/json"),)
_TWENTY_ERRORS = b"[" + b",".join([b'{"a": "x", "b": 1, "c": "y", "d": "z"}'] * 5) + b"]"
_PLAIN = Scenario("", "/plain", aim=1.25)
_REQUEST = b"GET /plain HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"


class Row(BaseModel):
    a: int
    b: str
    c: float
    d: bool


@dataclass(frozen=True)
class Compared:
    name: str
    bare_us: float
    kit_us: float
    ratio: float
    aim: float | None
    is_added_bounded: bool = False

    @property
    def is_above(self) -> bool:
        is_slow = self.aim is not None and self.ratio > self.aim
        return is_slow or (self.is_added_bounded and self.kit_us - self.bare_us > AIM_US)


def bare() -> FastAPI:
    return _with_routes(FastAPI())


def with_errors() -> FastAPI:
    app = bare()
    errors.install(app)
    return app


def with_layers(*, log_requests: bool) -> FastAPI:
    """Return the app with request ids, problems, security headers, hooks, and by choice a line for each request."""
    app = with_errors()
    observability.install(app, log_requests=log_requests)
    return app


def served_bare() -> FastAPI:
    return bare()


def served_kit() -> FastAPI:
    observability.configure_logging()
    return with_layers(log_requests=True)


def _with_routes(app: FastAPI) -> FastAPI:
    @app.get("/plain")
    async def plain() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/rows")
    async def rows(rows: Annotated[list[Row], Body()]) -> int:
        return len(rows)

    return app


async def measure(nowhere: TextIO) -> AsyncGenerator[Compared]:
    """Yield each row; the log lines go to `nowhere`."""
    layers, line = with_layers(log_requests=False), with_layers(log_requests=True)
    quiet = await compare(bare(), layers, _PLAIN)
    yield Compared("all layers", quiet.first_us, quiet.second_us, quiet.ratio, 1.25, is_added_bounded=True)
    observability.configure_logging(stream=nowhere)
    logged = await compare(bare(), line, _PLAIN)
    yield Compared("and a log line", logged.first_us, logged.second_us, logged.ratio, None, is_added_bounded=True)
    missing = Scenario("", "/nowhere", aim=1.2, status=404)
    result = await compare(bare(), with_errors(), missing)
    yield Compared("404", result.first_us, result.second_us, result.ratio, missing.aim)
    invalid = Scenario("", "/rows", aim=1.2, method="POST", status=422, body=_TWENTY_ERRORS, headers=_JSON)
    result = await compare(bare(), with_errors(), invalid)
    yield Compared("422, 20 errors", result.first_us, result.second_us, result.ratio, invalid.aim)


def measure_served() -> Compared:
    """Compare the two as uvicorn serves them, each with a line for each request, on one connection each."""
    with _served("served_bare") as first, _served("served_kit") as second:
        pairs = []
        for number in range(BLOCKS + 5):
            one_after_another = [first, second] if number % 2 else [second, first]
            took = {connection: _block(connection) for connection in one_after_another}
            pairs.append((took[first], took[second]))
    pairs = pairs[5:]
    return Compared(
        "over a socket, logged",
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(kit / bare for bare, kit in pairs),
        1.25,
        is_added_bounded=True,
    )


@contextmanager
def _served(factory: str) -> Generator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", f"benchmarks.middleware:{factory}", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with _connected(port) as connection:
            yield connection
    finally:
        process.terminate()
        process.wait(10)


def _connected(port: int) -> socket.socket:
    for _ in range(300):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=10)
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the server did not come up within 30 s")


def _block(connection: socket.socket) -> float:
    """Return the µs that one request took, on average over a block."""
    start = time.perf_counter()
    for _ in range(REQUESTS_IN_A_BLOCK):
        connection.sendall(_REQUEST)
        answer = b""
        while not answer.endswith(b'{"status":"ok"}'):
            received = connection.recv(65536)
            if not received:
                raise RuntimeError("the server closed the connection")
            answer += received
    return (time.perf_counter() - start) / REQUESTS_IN_A_BLOCK * 1e6
