"""What is particular to Redis: whose connections they are, how long keys live, calls that are sent twice."""

import time
from collections.abc import AsyncGenerator
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from fastapi_kit.auth.sessions.redis import RedisSessionStore
from fastapi_kit.errors import ConfigurationError, UnavailableError
from tests.auth.sessions.support import Clock, on_redis, record, refused, sessions_of

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[True, False], ids=["decoding", "bytes"])
async def client(request: pytest.FixtureRequest, redis_url: str, anyio_backend: str) -> AsyncGenerator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=request.param) as client:
        yield client


@pytest.fixture
async def store(redis_url: str, anyio_backend: str) -> AsyncGenerator[RedisSessionStore]:
    async with on_redis(redis_url) as store:
        yield store


async def test_a_client_of_the_applications_serves_and_stays_open(client: Redis, clock: Clock) -> None:
    prefix = f"test-{uuid4().hex}:"
    store = RedisSessionStore(client, prefix=prefix)
    sessions = sessions_of(store, clock)
    pair = await sessions.start("ü", scopes=["a"], claims={"x": [1, "é"]})
    pair = await sessions.refresh(pair.refresh_token)
    claims = await sessions.verify(pair.access.token)
    assert (claims.subject, claims.members["x"]) == ("ü", (1, "é"))
    await sessions.end_all("ü")
    assert await refused(sessions, pair.refresh_token) == "ended"
    await store.aclose()
    assert await client.ping()
    async for key in client.scan_iter(f"{prefix}*"):
        assert await client.pttl(key) > 0  # nothing is kept for ever
        await client.delete(key)


async def test_it_serves_again_after_it_was_closed_and_after_redis_forgot_its_scripts(
    store: RedisSessionStore, client: Redis, clock: Clock
) -> None:
    sessions = sessions_of(store, clock)
    pair = await sessions.start("7")
    await store.aclose()
    await client.script_flush()
    await sessions.refresh(pair.refresh_token)


async def test_records_are_forgotten_by_redis_itself(store: RedisSessionStore) -> None:
    now = int(time.time() * 1000)
    gone = record(expires_at=now - 1)
    await store.add(gone)
    await store.deny("t", keep_until=now - 1)
    await store.raise_epoch("a", now=now, keep_until=now - 1)
    assert await store.find(gone.id) is None
    state = await store.check("a", gone.id, "t")
    assert (state.is_denied, state.epoch, state.session) == (False, 0, None)
    await store.raise_epoch("b", now=now, keep_until=now + 3_600_000)
    await store.raise_epoch("b", now=now, keep_until=now)  # the clock went back: kept as long as before
    assert await store.epoch("b") == now + 1
    assert await store.purge(now) == 0


async def test_a_rotation_that_is_sent_twice_by_the_client_is_done_once(store: RedisSessionStore) -> None:
    kept = record()
    await store.add(kept)

    async def rotate(now: int) -> bool:
        return await store.rotate(
            kept.id, presented=kept.secret_hash, successor="s", nonce="n", now=now, expires_at=kept.expires_at
        )

    assert await rotate(1)
    assert await rotate(2)
    found = await store.find(kept.id)
    assert found is not None
    assert found[0].rotated_at == 1


async def test_a_server_that_refuses_is_unavailable(client: Redis, clock: Clock) -> None:
    prefix = f"test-{uuid4().hex}:"
    sessions = sessions_of(RedisSessionStore(client, prefix=prefix), clock)
    pair = await sessions.start("7")
    await client.set(f"{prefix}session:{pair.session_id}", "no hash")
    with pytest.raises(UnavailableError):
        await sessions.verify(pair.access.token)
    await client.delete(f"{prefix}session:{pair.session_id}")


async def test_a_malformed_url_is_told_without_its_password() -> None:
    for url in ("http://user:hidden@host", "redis://:hidden@host:port/0"):
        with pytest.raises(ConfigurationError, match="redis://user:password@host") as error:
            RedisSessionStore(url)
        assert "hidden" not in str(error.value)
