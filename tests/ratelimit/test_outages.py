"""Limits while Redis is refused, hangs, or comes back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi import Depends, FastAPI, Request
from starlette.testclient import TestClient

from fastapi_kit import errors
from fastapi_kit.errors import ConfigurationError, UnavailableError, problems_of
from fastapi_kit.health import health_router
from fastapi_kit.ratelimit import Limiter, OnFailure, outages
from tests.proxy import Proxy

pytestmark = pytest.mark.anyio

NOWHERE = "redis://:s3cret@127.0.0.1:1/0"


def app_of(limiter: Limiter, rates: str = "2/hour", **options: Any) -> FastAPI:
    app = FastAPI()
    errors.install(app)
    app.add_api_route("/", lambda: 1, dependencies=[Depends(limiter(rates, **options))])
    return app


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test")


async def statuses(client: httpx2.AsyncClient, number: int) -> list[int]:
    return [(await client.get("/")).status_code for _ in range(number)]


@asynccontextmanager
async def through_a_proxy(redis_url: str, **options: Any) -> AsyncIterator[tuple[Proxy, Limiter]]:
    there = urlsplit(redis_url)
    async with Proxy(there.hostname or "", there.port or 6379).serving() as proxy:
        limiter = Limiter(f"redis://127.0.0.1:{proxy.port}/0", **options)
        yield proxy, limiter
        await limiter.aclose()


@pytest.mark.parametrize(
    ("policy", "expected"), [("memory", [200, 200, 429, 429]), ("allow", [200] * 4), ("deny", [503] * 4)]
)
async def test_a_refused_redis_is_what_the_policy_says(
    policy: OnFailure, expected: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(app_of(Limiter(NOWHERE, on_failure=policy))) as client:
        assert await statuses(client, 4) == expected
        answer = await client.get("/")
    assert ("RateLimit" in answer.headers) is (policy == "memory")
    if policy == "deny":
        assert (answer.json()["code"], answer.headers["Retry-After"]) == ("service_unavailable", "1")
    [warning] = caplog.messages
    assert warning.startswith("The storage of the rate limits does not answer: ConnectionError, from ")
    assert warning.endswith("ConnectionRefusedError")
    assert "s3cret" not in answer.text + caplog.text


@pytest.mark.parametrize(("policy", "status"), [("memory", 200), ("allow", 200), ("deny", 503)])
async def test_a_hung_redis_delays_the_requests_that_find_it_hung_and_no_other(
    policy: OnFailure, status: int, redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "_RETRY_SECONDS", 60.0)
    options: dict[str, Any] = {"on_failure": policy, "timeout_seconds": 1, "prefix": prefix}
    async with through_a_proxy(redis_url, **options) as (proxy, limiter):
        async with client_of(app_of(limiter, "100/hour")) as client:
            assert await statuses(client, 1) == [200]
            proxy.hold()
            started = time.perf_counter()
            answers = await asyncio.gather(*[client.get("/") for _ in range(20)])
            assert [answer.status_code for answer in answers] == [status] * 20
            assert 0.9 < time.perf_counter() - started < 8  # together, not one after the other
            asked = len(proxy.requests)
            started = time.perf_counter()
            assert await statuses(client, 20) == [status] * 20
            assert time.perf_counter() - started < 8  # 20 time-outs are 20 s
            assert len(proxy.requests) == asked
            proxy.release()


async def test_it_counts_in_redis_again_when_redis_is_back(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outages, "_RETRY_SECONDS", 0.2)
    async with through_a_proxy(redis_url, timeout_seconds=1, prefix=prefix) as (proxy, limiter):
        other = Limiter(redis_url, prefix=prefix, timeout_seconds=30)
        async with client_of(app_of(limiter, scope="s")) as client, client_of(app_of(other, scope="s")) as beside:
            assert await statuses(client, 1) == [200]
            proxy.hold()
            assert await statuses(client, 3) == [200, 200, 429]
            proxy.release()
            deadline = time.monotonic() + 30
            while "answers again" not in caplog.text:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
                await client.get("/")
            assert "429" not in str(await statuses(client, 0))
            assert (await statuses(beside, 2))[-1] == 429
        await other.aclose()
    levels = [record.getMessage() for record in caplog.records if record.name == "fastapi_kit.ratelimit"]
    assert levels == [
        "The storage of the rate limits does not answer: TimeoutError",
        "The storage of the rate limits answers again",
    ]


async def test_of_many_requests_after_the_pause_one_tries(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "_RETRY_SECONDS", 1.5)
    async with through_a_proxy(redis_url, timeout_seconds=0.5, prefix=prefix) as (proxy, limiter):
        async with client_of(app_of(limiter, "100/hour")) as client:
            assert await statuses(client, 1) == [200]
            proxy.hold()
            await client.get("/")
            await asyncio.sleep(1.55)
            before = proxy.connections
            await asyncio.gather(*[client.get("/") for _ in range(20)])
            assert proxy.connections == before + 1
            proxy.release()


async def test_what_was_counted_in_memory_is_given_back_there(redis_url: str, prefix: str) -> None:
    async with through_a_proxy(redis_url, timeout_seconds=0.1, prefix=prefix) as (proxy, limiter):
        proxy.hold()
        async with client_of(app_of(limiter, "1/hour", only={401})) as client:
            assert await statuses(client, 5) == [200] * 5
        proxy.release()


@pytest.mark.parametrize("is_known", [False, True])
async def test_what_cannot_be_given_back_stays_counted_with_a_warning(
    is_known: bool, redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with through_a_proxy(redis_url, timeout_seconds=1, prefix=prefix) as (proxy, limiter):
        app = FastAPI()
        errors.install(app)
        other = Depends(limiter("100/hour"))

        @app.get("/", dependencies=[Depends(limiter("1/hour", only={401}))])
        async def home() -> None:
            proxy.hold()
            if is_known:
                with pytest.raises(UnavailableError):
                    await limiter.attempts("9/hour", by="address").begin(request(), "ada")

        app.add_api_route("/other", lambda: 1, dependencies=[other])
        async with client_of(app) as client:
            assert await statuses(client, 1) == [200]
        proxy.release()
    assert "A request that should not count stays counted: UnavailableError" in caplog.text


def request() -> Any:
    from starlette.requests import Request

    return Request({"type": "http", "client": ("192.0.2.1", 1), "headers": []})


async def test_a_connection_that_is_cut_is_made_again_and_each_request_is_answered(redis_url: str, prefix: str) -> None:
    async with through_a_proxy(redis_url, prefix=prefix) as (proxy, limiter):
        async with client_of(app_of(limiter, "1000/hour")) as client:
            for _ in range(3):
                assert await statuses(client, 5) == [200] * 5
                await proxy.cut()


async def test_a_strategy_that_changes_goes_on_in_redis_beside_the_old_counts(redis_url: str, prefix: str) -> None:
    before = Limiter(redis_url, prefix=prefix, strategy="moving-window", on_failure="deny", timeout_seconds=30)
    after, other = (Limiter(redis_url, prefix=prefix, on_failure="deny", timeout_seconds=30) for _ in range(2))
    old, new, beside = (client_of(app_of(limiter, scope="s")) for limiter in (before, after, other))
    assert await statuses(old, 1) == [200]
    assert await statuses(new, 1) == [200]
    assert await statuses(old, 2) == [200, 429]
    assert await statuses(beside, 2) == [200, 429]
    service = app_of(after, "1/hour", scope="login", only={401})
    assert await statuses(client_of(app_of(before, scope="login")), 1) == [200]
    assert await statuses(client_of(service), 3) == [200] * 3
    for limiter in (before, after, other):
        await limiter.aclose()


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[str, list[int]]]:
    """Answer scripts in turn; yield the URL, and how many each connection has asked for."""
    asked: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(0)
        at = len(asked) - 1
        while data := await reader.read(65536):
            writer.write(b"+OK\r\n" * data.count(b"SETINFO"))
            if b"EVALSHA" in data:
                writer.write(answers[sum(asked) % len(answers)])
                asked[at] += 1
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", asked


async def test_what_redis_refuses_is_refused_request_by_request_and_not_quoted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "_RETRY_SECONDS", 0.0)
    full, unknown = b"-OOM command not allowed for s3cret\r\n", b"-ERR unknown command with args 's3cret'\r\n"
    async with answering(full, unknown) as (url, asked):
        limiter = Limiter(url, on_failure="deny", timeout_seconds=30)
        async with client_of(app_of(limiter)) as client:
            assert await statuses(client, 4) == [503] * 4
        assert asked == [4]  # no breaker has opened
        await limiter.aclose()
    start = "The storage of the rate limits has not counted a request: "
    assert caplog.messages[:2] == [f"{start}OutOfMemoryError", f"{start}ResponseError"]
    assert "s3cret" not in caplog.text


async def test_a_connection_that_is_cut_is_no_outage(redis_url: str, prefix: str) -> None:
    async with through_a_proxy(redis_url, on_failure="deny", prefix=prefix, timeout_seconds=30) as (proxy, limiter):
        async with client_of(app_of(limiter, "1000/hour")) as client:
            for _ in range(3):
                assert (await statuses(client, 20)).count(200) >= 19
                await proxy.cut()


async def test_a_replica_is_asked_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "_RETRY_SECONDS", 60.0)
    async with answering(b"-READONLY You can't write against a read only replica.\r\n") as (url, asked):
        limiter = Limiter(url, timeout_seconds=30)
        async with client_of(app_of(limiter)) as client:
            assert await statuses(client, 5) == [200, 200, 429, 429, 429]
        assert asked == [1]
        await limiter.aclose()


async def test_a_request_that_is_denied_consumes_nothing_of_other_limits() -> None:
    app = FastAPI()
    errors.install(app)
    memory, down = Limiter(), Limiter(NOWHERE, on_failure="deny")
    shared = Depends(memory("2/hour", scope="all"))
    attempts = down.attempts("9/hour", by="address")

    async def log_in(request: Request) -> None:
        await attempts.begin(request, "ada")

    app.add_api_route("/", lambda: 1, dependencies=[shared, Depends(down("1/hour"))])
    app.add_api_route("/login", log_in, dependencies=[shared])
    app.add_api_route("/free", lambda: 1, dependencies=[shared])
    async with client_of(app) as client:
        assert await statuses(client, 3) == [503] * 3
        assert (await client.get("/login")).status_code == 503
        assert [(await client.get("/free")).status_code for _ in range(3)] == [200, 200, 429]


def test_a_denied_request_is_documented() -> None:
    paths = app_of(Limiter(NOWHERE, on_failure="deny")).openapi()["paths"]["/"]["get"]["responses"]
    assert {"429", "503"} < set(paths)
    assert problems_of(Limiter(NOWHERE)("1/hour")) == problems_of(Limiter()("1/hour"))
    assert "503" not in app_of(Limiter(NOWHERE)).openapi()["paths"]["/"]["get"]["responses"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_failure": "panic"}, "unknown on_failure 'panic': use one of memory, allow, deny"),
        ({"timeout_seconds": 0}, "timeout_seconds=0 cannot work"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds=nan cannot work"),
        ({"max_keys": -1}, "max_keys=-1 cannot work"),
        ({"timeout_seconds": "1"}, "timeout_seconds='1' cannot work"),
        ({"prefix": 5}, "prefix=5 is no text"),
    ],
)
def test_options_that_cannot_work_are_told_at_start_up(options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        Limiter("redis://127.0.0.1/0", **options)
    assert message in str(told.value)


@pytest.mark.parametrize("policy", ["memory", "allow", "deny"])
async def test_ping_tells_readiness_whatever_the_policy(policy: OnFailure, redis_url: str) -> None:
    up, down = (Limiter(url, on_failure=policy, timeout_seconds=30) for url in (redis_url, NOWHERE))
    app = FastAPI()
    app.include_router(health_router(redis=down.ping), prefix="/down")
    app.include_router(health_router(redis=up.ping, memory=Limiter().ping), prefix="/up")
    async with client_of(app) as client:
        assert (await client.get("/down/health/ready")).status_code == 503
        assert (await client.get("/up/health/ready")).status_code == 200
    with pytest.raises(UnavailableError):
        await down.ping()
    await up.aclose()


async def test_a_wrong_password_is_named_in_the_log(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    there = urlsplit(redis_url)
    limiter = Limiter(f"redis://nobody:s3cret@{there.hostname}:{there.port or 6379}/0")
    async with client_of(app_of(limiter)) as client:
        assert await statuses(client, 1) == [200]
    assert "AuthenticationError" in caplog.messages[0]
    assert "s3cret" not in caplog.text
    await limiter.aclose()


def test_each_loop_has_its_own_connection(redis_url: str, prefix: str) -> None:
    client = TestClient(app_of(Limiter(redis_url, prefix=prefix, timeout_seconds=30)))  # a loop for each request
    assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]
