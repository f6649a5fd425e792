"""A Redis that dies between a rotation and its answer, and comes back with what it wrote down."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastapi_kit.auth import Key, Sessions, TokenError, TokenService
from fastapi_kit.auth.sessions.redis import RedisSessionStore
from fastapi_kit.errors import UnavailableError
from tests.redis_server import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")  # on disk before it answers
    server.start()
    yield server
    server.kill()


class Dying(RedisSessionStore):
    """A store whose server dies when a rotation is done, and before its answer is there."""

    dies_with: RedisServer | None = None

    async def rotate(self, *given: Any, **more: Any) -> bool:
        done = await super().rotate(*given, **more)
        if self.dies_with is not None:
            self.dies_with.kill()
            await self.epoch("1")  # the answer of a server that is gone
        return done


@pytest.mark.anyio
async def test_a_log_in_outlives_a_server_that_dies_between_rotation_and_answer(server: RedisServer) -> None:
    store = Dying(f"redis://127.0.0.1:{server.port}/0")
    tokens = TokenService(Key.hmac(secrets.token_urlsafe(64)), issuer="i", audience="a")
    sessions = Sessions(tokens, store)
    first, ended = await sessions.start("1"), await sessions.start("2")
    await sessions.end(ended.refresh_token)
    store.dies_with = server
    with pytest.raises(UnavailableError):
        await sessions.refresh(first.refresh_token)
    for token in (first.access.token, ended.access.token):
        with pytest.raises(UnavailableError):
            await sessions.verify(token)
    server.start()
    store.dies_with = None
    second = await sessions.refresh(first.refresh_token)  # the retry
    assert (await sessions.refresh(second.refresh_token)).session_id == first.session_id
    assert (await sessions.verify(second.access.token)).subject == "1"
    with pytest.raises(TokenError) as refused:
        await sessions.verify(ended.access.token)
    assert refused.value.reason == "revoked"
    await store.aclose()
