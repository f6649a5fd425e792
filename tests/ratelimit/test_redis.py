"""Counts in a real Redis: exact under load, shared with slowapi, and when the server does not play along."""

import asyncio
import gc
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi import FastAPI, Request
from limits import RateLimitItem, parse_many
from limits.storage import RedisStorage
from limits.strategies import STRATEGIES as ENGINES
from redis import Redis
from redis.exceptions import AuthenticationError, OutOfMemoryError, ReadOnlyError
from slowapi import Limiter as SlowapiLimiter

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.ratelimit.counters import Strategy, Taken, Verdict
from fastapi_kit.ratelimit.redis import RedisCounters
from tests.proxy import Proxy
from tests.redis_server import RedisServer

STRATEGIES: list[Strategy] = ["fixed-window", "moving-window", "sliding-window-counter"]
PATIENT_SECONDS = 30.0  # a busy machine must not look like a hung Redis
SHORT_SECONDS = 0.2


def items_of(rates: str) -> tuple[RateLimitItem, ...]:
    return tuple(parse_many(rates))


def charged(verdicts: Sequence[Verdict]) -> list[Taken]:
    return [verdict.taken for verdict in verdicts if verdict.taken is not None]


def patient(url: str, strategy: Strategy = "fixed-window", **settings: Any) -> RedisCounters:
    return RedisCounters(url, strategy, **{"timeout_seconds": PATIENT_SECONDS, **settings})


async def passes(counters: RedisCounters, prefix: str, rates: str = "5/hour") -> bool:
    return (await counters.take(items_of(rates), (prefix, "who"), 1)).taken is not None


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> Strategy:
    strategy: Strategy = request.param
    return strategy


@pytest.fixture
async def counters(redis_url: str, strategy: Strategy, prefix: str) -> AsyncIterator[RedisCounters]:
    counters = patient(redis_url, strategy)
    yield counters
    await counters.reset(prefix)
    await counters.aclose()


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    address = urlsplit(redis_url)
    async with Proxy(address.hostname or "", address.port or 0).serving() as proxy:
        yield proxy


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


# Exact under load


@pytest.mark.anyio
async def test_of_200_at_once_against_50_exactly_50_pass(counters: RedisCounters, prefix: str) -> None:
    items = items_of("50/hour; 60/day")
    verdicts = await asyncio.gather(*[counters.take(items, (prefix, "who"), 1) for _ in range(200)])
    assert len(charged(verdicts)) == 50
    assert [one.remaining for one in verdicts[-1].standings] == [0, 10]
    await asyncio.gather(*[counters.give_back(taken) for taken in charged(verdicts)[:20]])
    verdicts = await asyncio.gather(*[counters.take(items, (prefix, "who"), 1) for _ in range(200)])
    assert len(charged(verdicts)) == 20


_PROCESS = """
import asyncio, sys
from limits import parse
from fastapi_kit.ratelimit.redis import RedisCounters

async def main(url, prefix, *strategies):
    for strategy in strategies:
        counters = RedisCounters(url, strategy, timeout_seconds=30)
        await counters.take([parse("1/hour")], (prefix, strategy), 0)
        print("ready", flush=True)
        sys.stdin.readline()
        verdicts = await asyncio.gather(*[counters.take([parse("50/hour")], (prefix, strategy), 1) for _ in range(50)])
        print(sum(verdict.taken is not None for verdict in verdicts), flush=True)
        await counters.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.anyio
async def test_of_four_processes_with_50_at_once_against_50_exactly_50_pass(redis_url: str, prefix: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROCESS, redis_url, prefix, *STRATEGIES),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    inputs = [process.stdin for process in processes if process.stdin]
    outputs = [process.stdout for process in processes if process.stdout]
    for _ in STRATEGIES:
        assert [await output.readline() for output in outputs] == [b"ready\n"] * 4
        for given in inputs:
            given.write(b"\n")
        assert sum([int(await output.readline()) for output in outputs]) == 50
    for process in processes:
        assert await process.wait() == 0


@pytest.mark.anyio
async def test_a_decision_is_one_round_trip(proxy: Proxy, strategy: Strategy, prefix: str) -> None:
    counters = patient(f"redis://127.0.0.1:{proxy.port}/0", strategy)
    items = items_of("2/minute; 100/hour; 1000/day")
    await counters.take(items, (prefix, "who"), 1)
    proxy.requests.clear()
    taken = (await counters.take(items, (prefix, "who"), 1)).taken
    assert taken is not None
    assert len(proxy.requests) == 1
    assert (await counters.take(items, (prefix, "who"), 1)).taken is None
    assert len(proxy.requests) == 2
    await counters.give_back(taken)
    assert len(proxy.requests) == 3
    await counters.reset(prefix)
    await counters.aclose()


@pytest.mark.anyio
async def test_one_connection_serves_all_requests_of_a_loop(proxy: Proxy, prefix: str) -> None:
    counters = patient(f"redis://127.0.0.1:{proxy.port}/0")
    await asyncio.gather(*[passes(counters, prefix) for _ in range(100)])
    assert proxy.connections == 1
    await counters.aclose()


@pytest.mark.anyio
async def test_a_cost_of_many_is_counted_hit_by_hit(counters: RedisCounters, prefix: str) -> None:
    items = items_of("20000/hour")
    for expected in (8000, 0):
        verdict = await counters.take(items, (prefix, "who"), 12_000 if expected else 8_000)
        assert verdict.standings[0].remaining == expected
    assert verdict.taken is not None
    await counters.give_back(verdict.taken)
    assert (await counters.take(items, (prefix, "who"), 0)).standings[0].remaining == 8000


# Shared with slowapi and `limits`


@pytest.mark.anyio
async def test_counts_are_shared_with_the_synchronous_engines_of_limits(
    counters: RedisCounters, redis_url: str, strategy: Strategy, prefix: str
) -> None:
    storage = RedisStorage(redis_url)
    engine = ENGINES[strategy](storage)
    item = items_of("5/hour")[0]
    for expected in (4, 2, 0):
        verdict = await counters.take([item], (prefix, "who", "where"), 1)
        assert verdict.taken is not None
        assert verdict.standings[0].remaining == expected
        theirs = engine.get_window_stats(item, prefix, "who", "where")
        assert theirs.remaining == expected
        seconds_later = theirs.reset_time - time.time() - verdict.standings[0].reset_seconds
        assert (seconds_later + 5) % 3600 < 10  # in the first moment of a window they say 0 for the whole of it
        assert engine.hit(item, prefix, "who", "where") == (expected > 0)
    verdict = await counters.take([item], (prefix, "who", "where"), 1)
    assert verdict.taken is None
    assert verdict.standings[0].remaining == 0
    storage.storage.close()


@pytest.mark.anyio
async def test_what_was_given_back_here_is_free_for_the_engines_of_limits(
    counters: RedisCounters, redis_url: str, strategy: Strategy, prefix: str
) -> None:
    storage = RedisStorage(redis_url)
    engine = ENGINES[strategy](storage)
    item = items_of("2/hour")[0]
    assert engine.hit(item, prefix, "who")
    taken = (await counters.take([item], (prefix, "who"), 1)).taken
    assert taken is not None
    assert not engine.test(item, prefix, "who")
    await counters.give_back(taken)
    assert engine.hit(item, prefix, "who")
    storage.storage.close()


@pytest.mark.anyio
async def test_an_equal_scope_is_shared_with_a_limiter_of_slowapi(
    counters: RedisCounters, redis_url: str, strategy: Strategy, prefix: str
) -> None:
    theirs = SlowapiLimiter(lambda: "who", storage_uri=redis_url, strategy=strategy, key_prefix=prefix)
    app = FastAPI()
    app.state.limiter = theirs

    @app.get("/login")
    @theirs.shared_limit("3/hour", scope="login")
    def log_in(request: Request) -> None:
        pass

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/login")).status_code == 200
        verdict = await counters.take(items_of("3/hour"), (prefix, "who", "login"), 1)
        assert verdict.standings[0].remaining == 1
        assert (await client.get("/login")).status_code == 200
        assert (await counters.take(items_of("3/hour"), (prefix, "who", "login"), 1)).taken is None
        assert (await client.get("/login")).status_code == 429
    storage: Any = theirs._storage
    storage.storage.close()


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", ["fixed-window", "sliding-window-counter"], indirect=True)
async def test_a_count_without_an_end_gets_one(
    counters: RedisCounters, redis_url: str, strategy: Strategy, prefix: str
) -> None:
    key = f"LIMITER/{prefix}/who/5/1/hour"
    key = f"LIMITS:{key}" if strategy == "fixed-window" else f"LIMITS:{{{key}}}"
    with Redis.from_url(redis_url) as client:
        client.set(key, 5)
        verdict = await counters.take(items_of("5/hour"), (prefix, "who"), 1)
        assert verdict.taken is None
        assert 3590 < verdict.standings[0].reset_seconds <= 3600
        assert client.ttl(key) > 0


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", ["fixed-window"], indirect=True)
async def test_hits_that_slowapi_refused_and_counted_leave_nothing_below_zero(
    counters: RedisCounters, redis_url: str, prefix: str
) -> None:
    with Redis.from_url(redis_url) as client:
        client.set(f"LIMITS:LIMITER/{prefix}/who/5/1/hour", 9, ex=3600)
    for cost in (0, 1):
        verdict = await counters.take(items_of("5/hour"), (prefix, "who"), cost)
        assert (verdict.standings[0].remaining, verdict.taken is None) == (0, cost == 1)


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", ["moving-window"], indirect=True)
async def test_hits_that_have_left_the_window_are_deleted(counters: RedisCounters, redis_url: str, prefix: str) -> None:
    key = f"LIMITS:LIMITER/{prefix}/who/500/1/hour"
    with Redis.from_url(redis_url) as client:
        now = time.time()
        client.rpush(key, *[now - 60 * minutes for minutes in range(1, 100)])
        verdict = await counters.take(items_of("500/hour"), (prefix, "who"), 1)
        assert verdict.standings[0].remaining == 500 - 59 - 1
        assert 0 < verdict.standings[0].reset_seconds <= 60
        assert client.llen(key) == 60


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", ["fixed-window"], indirect=True)
async def test_a_window_that_was_emptied_is_deleted(counters: RedisCounters, redis_url: str, prefix: str) -> None:
    taken = (await counters.take(items_of("5/hour"), (prefix, "who"), 2)).taken
    assert taken is not None
    await counters.give_back(taken)
    with Redis.from_url(redis_url) as client:
        assert client.keys(f"*{prefix}*") == []


# A server that does not play along


@pytest.mark.anyio
async def test_no_request_fails_when_the_scripts_are_flushed(server: RedisServer, strategy: Strategy) -> None:
    counters = patient(server.url, strategy)
    verdicts = [await counters.take(items_of("50/hour"), ("who",), 1)]
    server.ask("SCRIPT", "FLUSH")
    verdicts += await asyncio.gather(*[counters.take(items_of("50/hour"), ("who",), 1) for _ in range(100)])
    assert len(charged(verdicts)) == 50
    server.ask("SCRIPT", "FLUSH")
    await counters.give_back(charged(verdicts)[0])
    assert await passes(counters, "who", "50/hour")
    await counters.aclose()


@pytest.mark.anyio
async def test_a_server_that_was_restarted_meanwhile_is_found_again(server: RedisServer) -> None:
    counters = patient(server.url)
    assert await passes(counters, "")
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    assert await passes(counters, "")
    await counters.aclose()


@pytest.mark.anyio
async def test_a_process_that_was_suspended_meanwhile_finds_it_too(server: RedisServer) -> None:
    counters = patient(server.url)
    assert await passes(counters, "")
    server.kill()
    server.start()
    time.sleep(1.1)  # noqa: ASYNC251 (the loop is not to notice)
    assert await passes(counters, "")
    await counters.aclose()


@pytest.mark.anyio
async def test_requests_under_way_fail_when_the_server_dies_and_later_ones_do_not(server: RedisServer) -> None:
    counters = patient(server.url)
    assert await passes(counters, "")
    server.process.send_signal(signal.SIGSTOP)
    waiting = [asyncio.create_task(passes(counters, "")) for _ in range(10)]
    await asyncio.sleep(0)
    server.kill()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, counters.failures) for one in failures)
    with pytest.raises(counters.failures):
        await passes(counters, "")
    server.start()
    assert await passes(counters, "")
    await counters.aclose()


@pytest.mark.anyio
async def test_a_server_that_hangs_is_given_up_in_time_and_found_again(proxy: Proxy, prefix: str) -> None:
    counters = RedisCounters(f"redis://127.0.0.1:{proxy.port}/0", "fixed-window", timeout_seconds=SHORT_SECONDS)
    assert await passes(counters, prefix)
    proxy.hold()
    for _ in range(2):  # once on the old connection, once on a new one
        began = time.monotonic()
        failures = await asyncio.gather(*[passes(counters, prefix) for _ in range(10)], return_exceptions=True)
        assert {type(one) for one in failures} == {TimeoutError}
        assert time.monotonic() - began < 5 * SHORT_SECONDS
    proxy.release()
    deadline = time.monotonic() + PATIENT_SECONDS
    while True:
        try:
            verdict = await counters.take(items_of("5/hour"), (prefix, "who"), 0)
            break
        except TimeoutError:
            assert time.monotonic() < deadline
    assert verdict.standings[0].remaining == 0  # they had arrived, and none was sent again
    await counters.aclose()


@pytest.mark.anyio
async def test_an_address_where_nobody_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
        counters = RedisCounters(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", "fixed-window", timeout_seconds=0.1)
        with pytest.raises(TimeoutError):
            await passes(counters, "")
    with pytest.raises(counters.failures):
        await passes(counters, "")
    await counters.aclose()


@pytest.mark.anyio
async def test_a_server_that_hangs_before_it_has_the_script_is_given_up_in_time(server: RedisServer) -> None:
    async with Proxy("127.0.0.1", server.port).serving() as proxy:
        counters = RedisCounters(f"redis://127.0.0.1:{proxy.port}/0", "fixed-window", timeout_seconds=SHORT_SECONDS)
        assert await passes(counters, "")
        server.ask("SCRIPT", "FLUSH")
        proxy.delay(b"EVAL\r\n", PATIENT_SECONDS)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await passes(counters, "")
        assert time.monotonic() - began < 5 * SHORT_SECONDS
        await counters.aclose()


@pytest.mark.anyio
async def test_a_connection_that_is_cut_fails_what_waits_and_is_replaced(proxy: Proxy, prefix: str) -> None:
    counters = patient(f"redis://127.0.0.1:{proxy.port}/0")
    assert await passes(counters, prefix)
    proxy.hold()
    waiting = [asyncio.create_task(passes(counters, prefix, "100/hour")) for _ in range(10)]
    await proxy.quiet()
    await proxy.cut()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, counters.failures) for one in failures)
    proxy.release()
    assert await passes(counters, prefix)
    assert proxy.connections == 2
    await counters.aclose()


@pytest.mark.anyio
async def test_a_request_that_is_cancelled_disturbs_no_other(proxy: Proxy, prefix: str) -> None:
    counters = patient(f"redis://127.0.0.1:{proxy.port}/0")
    assert await passes(counters, prefix)
    proxy.hold()
    waiting = [
        asyncio.create_task(counters.take(items_of(f"{amount}/hour"), (prefix, "who"), 1)) for amount in range(10, 20)
    ]
    await proxy.quiet()
    for one in waiting[::2]:
        one.cancel()
    proxy.release()
    assert [(await one).standings[0].remaining for one in waiting[1::2]] == [10, 12, 14, 16, 18]
    assert proxy.connections == 1
    await counters.aclose()


@pytest.mark.anyio
async def test_a_connection_that_was_closed_for_being_idle_is_replaced(redis_url: str, prefix: str) -> None:
    counters = patient(f"{redis_url}?client_name={prefix}")
    assert await passes(counters, prefix)
    line = counters._lines.current()
    with Redis.from_url(redis_url) as client:
        [idle] = [one for one in client.client_list() if one["name"] == prefix]
        client.client_kill_filter(_id=idle["id"])
    while not line.ended:
        await asyncio.sleep(0)
    assert await passes(counters, prefix)
    await counters.aclose()


@pytest.mark.anyio
async def test_beside_a_key_of_another_type_each_request_is_counted(
    counters: RedisCounters, redis_url: str, strategy: Strategy, prefix: str
) -> None:
    bucket = (prefix, "who")
    broken = f"LIMITER/{prefix}/who/9/1/day"
    with Redis.from_url(redis_url) as client:
        client.hset(f"LIMITS:{{{broken}}}" if strategy == "sliding-window-counter" else f"LIMITS:{broken}", "a", "b")
    verdicts = [await counters.take(items_of("2/hour; 9/day"), bucket, 1) for _ in range(3)]
    assert [verdict.taken is not None for verdict in verdicts] == [True, True, False]
    assert verdicts[1].taken is not None
    await counters.give_back(verdicts[1].taken)
    assert [
        standing.remaining for standing in (await counters.take(items_of("2/hour; 9/day"), bucket, 0)).standings
    ] == [1, 8]
    assert (await counters.take(items_of("2/hour"), bucket, 0)).standings[0].remaining == 2  # nothing was charged there


@pytest.mark.anyio
async def test_a_full_server_fails_what_it_cannot_store_and_nothing_else(server: RedisServer) -> None:
    counters = patient(server.url)
    assert await passes(counters, "")
    server.ask("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        await passes(counters, "new")
    server.ask("CONFIG", "SET", "maxmemory", 0)
    assert await passes(counters, "new")
    await counters.aclose()


@pytest.mark.anyio
async def test_a_server_that_became_a_replica_is_left(server: RedisServer) -> None:
    counters = patient(server.url)
    assert await passes(counters, "")
    line = counters._lines.current()
    server.ask("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(ReadOnlyError):
        await passes(counters, "new")
    assert counters._lines.current() is not line
    server.ask("REPLICAOF", "NO", "ONE")
    assert await passes(counters, "new")
    await counters.aclose()


@pytest.mark.anyio
async def test_a_wrong_password_is_told(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "requirepass", "right")
    address = f"127.0.0.1:{server.port}/0"
    for url in (f"redis://:wrong@{address}", f"redis://{address}"):
        counters = patient(url)
        with pytest.raises(counters.failures, match=r"(?i)password|authentication") as raised:
            await passes(counters, "")
        assert isinstance(raised.value.__cause__ or raised.value, AuthenticationError)
        await counters.aclose()
    counters = patient(f"redis://:right@{address}")
    assert await passes(counters, "")
    await counters.aclose()


# Connections


@pytest.mark.anyio
async def test_a_unix_socket_and_a_database_can_be_named(server: RedisServer) -> None:
    for url in (f"redis+unix://{server.path}?db=3", f"unix://{server.path}?db=3", f"{server.url[:-1]}3"):
        counters = patient(url)
        assert await passes(counters, "", "3/hour")
        await counters.aclose()
    assert server.ask("INFO", "keyspace")["db3"]["keys"] == 1


@pytest.mark.anyio
async def test_the_time_in_the_url_has_precedence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        counters = patient(f"redis://{address}/0?timeout=60&socket_timeout=0.1&socket_connect_timeout=9")
        with pytest.raises(TimeoutError, match=r"0\.1 s"):
            await passes(counters, "")
    await counters.aclose()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:port/0", "http://127.0.0.1", "redis://h?socket_timeout=soon"])
def test_a_malformed_url_is_refused_before_anything_is_connected(url: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)port|scheme|socket_timeout"):
        RedisCounters(url, "fixed-window")


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("redis://:s3cret@h?colour=red", "redis-py does not take an option of the URL redis://: 'colour'"),
        ("redis://:s3cret@h/abc", "the path of the storage redis:// is the number of a database, /0 for example"),
    ],
)
def test_what_the_url_says_and_redis_py_would_not_heed_is_named(url: str, fault: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        RedisCounters(url, "fixed-window")
    assert str(told.value) == fault


@pytest.mark.anyio
async def test_it_serves_again_after_it_was_closed(counters: RedisCounters, prefix: str) -> None:
    assert await passes(counters, prefix, "1/hour")
    await counters.aclose()
    assert not await passes(counters, prefix, "1/hour")


def test_it_serves_loops_after_each_other_and_at_the_same_time(redis_url: str, prefix: str) -> None:
    counters = patient(redis_url)
    passed: list[bool] = []

    async def use() -> None:
        passed.extend(await asyncio.gather(*[passes(counters, prefix, "50/hour") for _ in range(10)]))

    for _ in range(3):
        asyncio.run(use())
    threads = [threading.Thread(target=asyncio.run, args=[use()]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed.count(True) == 50
    gc.collect()  # any warning of something unclosed would be an error


@pytest.mark.anyio
async def test_thousands_of_keys_are_forgotten(counters: RedisCounters, prefix: str) -> None:
    item = items_of("5/hour")
    await asyncio.gather(*[counters.take(item, (prefix, f"{n}"), 1) for n in range(2500)])
    await counters.reset(prefix)
    verdicts = await asyncio.gather(*[counters.take(item, (prefix, f"{n}"), 0) for n in range(2500)])
    assert {verdict.standings[0].remaining for verdict in verdicts} == {5}


@pytest.mark.anyio
async def test_all_counts_are_forgotten_and_nothing_else(server: RedisServer, strategy: Strategy) -> None:
    counters = patient(server.url, strategy)
    await counters.take(items_of("5/hour"), ("any", "who"), 1)
    server.ask("SET", "other", 1)
    await counters.reset("")
    assert server.ask("KEYS", "*") == [b"other"]
    await counters.aclose()


@pytest.mark.anyio
async def test_a_key_may_hold_any_text(counters: RedisCounters, prefix: str) -> None:
    for who in ("", "*", "\ud800", "ключ\r\n", "{}"):
        verdict = await counters.take(items_of("5/hour"), (prefix, who, "where"), 1)
        assert verdict.standings[0].remaining == 4
