"""A redis-server of our own, which a test may stop, kill and ask."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError


class RedisServer:
    """A Redis with nothing in it, on a free port and on a Unix socket; `options` are those of its command line.

    Skips the test where there is no `redis-server`; under CI that is a failure.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        if shutil.which("redis-server") is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no redis-server to start")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.path = folder / "redis.sock"
        self._command = [
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""),
            *("--unixsocket", str(self.path)),
            *options,
        ]

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                assert self.ask("PING")
            except RedisError:
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.02)
            else:
                return

    def ask(self, *command: object) -> Any:
        with Redis(port=self.port) as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
