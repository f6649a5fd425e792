"""A real service whose database and Redis are stopped, hang and come back."""

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx2
import pytest

from tests.db.servers import Cluster
from tests.health.support import client_of, serving
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio

APP = """
import os
from fastapi import FastAPI
from fastapi_kit import errors
from fastapi_kit.db import Database
from fastapi_kit.health import health_router
from fastapi_kit.ratelimit import Limiter

db = Database(os.environ["DATABASE"])
limiter = Limiter(os.environ["REDIS"])
app = FastAPI(lifespan=db.lifespan)
errors.install(app)
app.include_router(health_router(timeout_seconds=1.0, show_checks=True, database=db.ping, limits=limiter.ping))
"""


async def until_ready(client: httpx2.AsyncClient, **expected: str) -> httpx2.Response:
    """Ask until the checks are as they are to be; liveness is 200 each time."""
    async with asyncio.timeout(30):
        while True:
            assert (await client.get("/health/live")).status_code == 200
            answer = await client.get("/health/ready")
            if answer.json().get("checks") == expected:
                return answer
            await asyncio.sleep(0.05)


async def test_readiness_follows_servers_that_are_stopped_and_started(cluster: Cluster, tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        with serving(tmp_path, APP, DATABASE=cluster.url(), REDIS=redis.url) as server:
            async with client_of(server) as client:
                assert (await until_ready(client, database="ok", limits="ok")).status_code == 200

                cluster.stop()
                try:
                    answer = await until_ready(client, database="failed", limits="ok")
                finally:
                    cluster.start()
                assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
                assert "retry-after" in answer.headers
                assert (await until_ready(client, database="ok", limits="ok")).status_code == 200

                redis.kill()
                assert (await until_ready(client, database="ok", limits="failed")).status_code == 503
                redis.start()
                assert (await until_ready(client, database="ok", limits="ok")).status_code == 200

                os.kill(redis.process.pid, signal.SIGSTOP)
                asked = [asyncio.create_task(client.get("/health/ready")) for _ in range(20)]
                start = time.monotonic()
                for _ in range(20):
                    assert (await client.get("/health/live")).status_code == 200
                assert time.monotonic() - start < 0.9  # a tenth of it where nothing hangs
                assert {answer.status_code for answer in await asyncio.gather(*asked)} == {503}
                os.kill(redis.process.pid, signal.SIGCONT)
                assert (await until_ready(client, database="ok", limits="ok")).status_code == 200
            said = server.log()
    finally:
        redis.process.kill()
        redis.process.wait()
    assert said.count("the readiness check 'database' failed") == 1
    assert said.count("the readiness check 'limits' failed") == 2
    assert "pass-word" not in said
