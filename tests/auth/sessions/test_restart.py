"""A Redis that dies between a rotation and its answer, and comes back with what it wrote down."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastapi_kit.auth import Key, Sessions, TokenError, TokenService
from fastapi_kit.auth.sessions.redis import RedisSessionStore
from fastapi_kit.errors import UnavailableError


class Server:
    """A Redis of our own, which writes each change to disk before it answers."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._command = [
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "always"),
        ]

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(5) == b"+PONG":
                        return
            except OSError:
                pass
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if shutil.which("redis-server") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no redis-server to start")
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


class Dying(RedisSessionStore):
    """A store whose server dies when a rotation is done, and before its answer is there."""

    dies_with: Server | None = None

    async def rotate(self, *given: Any, **more: Any) -> bool:
        done = await super().rotate(*given, **more)
        if self.dies_with is not None:
            self.dies_with.kill()
            await self.epoch("1")  # the answer of a server that is gone
        return done


@pytest.mark.anyio
async def test_a_log_in_outlives_a_server_that_dies_between_rotation_and_answer(server: Server) -> None:
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
