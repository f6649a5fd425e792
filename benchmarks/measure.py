"""Timing two apps in turns, inside one process, without a socket.

A figure on its own says as much about the machine as about the code. So both apps serve the same request in short
blocks, turn about, and each pair of neighbouring blocks gives one ratio; the median of those is the result.
"""

import gc
import statistics
import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Scope

from benchmarks.data import Scenario

BLOCKS = 150
WARM_UP_BLOCKS = 10
REQUESTS_IN_A_BLOCK = 10


@dataclass(frozen=True)
class Result:
    """Medians over all blocks: µs a request of either app, and the ratio of the second to the first."""

    first_us: float
    second_us: float
    ratio: float


async def compare(first: ASGIApp, second: ASGIApp, scenario: Scenario) -> Result:
    """Return how the second app compares to the first; raise if one answers with another status than wanted."""
    for _ in range(WARM_UP_BLOCKS):
        await _block(first, scenario)
        await _block(second, scenario)
    pairs: list[tuple[float, float]] = []
    gc.collect()
    gc.freeze()
    for number in range(BLOCKS):
        if number % 2:
            took_first, took_second = await _block(first, scenario), await _block(second, scenario)
        else:
            took_second, took_first = await _block(second, scenario), await _block(first, scenario)
        pairs.append((took_first, took_second))
    return Result(
        first_us=statistics.median(first for first, _ in pairs) * 1e6,
        second_us=statistics.median(second for _, second in pairs) * 1e6,
        ratio=statistics.median(second / first for first, second in pairs),
    )


async def _block(app: ASGIApp, scenario: Scenario) -> float:
    """Return the seconds that one request took, on average over a block."""
    start = time.perf_counter()
    for _ in range(REQUESTS_IN_A_BLOCK):
        await request(app, scenario)
    return (time.perf_counter() - start) / REQUESTS_IN_A_BLOCK


async def request(app: ASGIApp, scenario: Scenario) -> None:
    """Send one request, and raise if it is answered with another status than wanted."""
    path, _, query = scenario.path.partition("?")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": scenario.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [*scenario.headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": scenario.body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    await app(scope, receive, send)
    if status != scenario.status:
        raise RuntimeError(f"{scenario.name}: {status} in place of {scenario.status}")
