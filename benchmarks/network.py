"""A network with a delay before a Redis: a TCP relay in a process of its own, `python -m benchmarks.network HOST PORT`.

A process, since slowapi blocks its event loop, and a relay on that loop would stand still with it. What is read is
passed on after the delay, each piece by itself.
"""

import asyncio
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

REDIS_URL = os.environ.get("KIT_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
PINGS = 200


class Network:
    """The relay as the benchmark sees it. Change it only while nothing is under way."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self._process = process
        self._port = port
        parts = urlsplit(REDIS_URL)
        login, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{login}{at}127.0.0.1:{port}").geturl()
        self._own_seconds = 0.0  # what the relay takes besides: two steps of its loop, two timers
        self.take(0.001)
        self._own_seconds = self.ping_seconds() - ping_seconds(_address()) - 0.001
        self.take(0)

    def take(self, seconds: float) -> None:
        """Make a round trip take so much longer than it does on loopback; with 0, as little longer as the relay can."""
        self._ask(f"delay {max(0.0, seconds - self._own_seconds) / 2}")

    def hold(self) -> None:
        """Let no answer through."""
        self._ask("hold")

    def release(self) -> None:
        """Let the answers through, and those that were held."""
        self._ask("release")

    def round_trips(self) -> int:
        """Return how often a client spoke first, or after the server had."""
        return self._ask("count")

    def ping_seconds(self) -> float:
        """Return how long a PING takes through the relay."""
        return ping_seconds(("127.0.0.1", self._port))

    def _ask(self, command: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def network() -> Iterator[Network]:
    """Give a relay before the Redis at `REDIS_URL`."""
    host, port = _address()
    command = [sys.executable, "-m", "benchmarks.network", host, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Network(process, int(process.stdout.readline()))
        finally:
            process.kill()


def redis_answers() -> bool:
    """Return whether there is a server at `REDIS_URL`."""
    try:
        ping_seconds(_address())
    except OSError:
        return False
    return True


def ping_seconds(address: tuple[str, int]) -> float:
    """Return how long a PING takes, the median of many; a server that wants a password answers too."""
    seconds = []
    with socket.create_connection(address, timeout=2) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(PINGS):
            start = time.perf_counter()
            connection.sendall(b"PING\r\n")
            if not connection.recv(4096):
                raise ConnectionError("the server has closed the connection")
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _address() -> tuple[str, int]:
    parts = urlsplit(REDIS_URL)
    return parts.hostname or "127.0.0.1", parts.port or 6379


class Relay:
    """The relay in its process, steered by lines on standard input; the answer to each is the count of round trips."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._seconds = 0.0
        self._held: list[Callable[[], Any]] | None = None
        self._round_trips = 0

    async def run(self) -> None:
        """Serve until the standard input ends."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def obey() -> None:
            line = sys.stdin.readline()
            if not line:
                ended.set()
                return
            command, _, seconds = line.strip().partition(" ")
            if command == "delay":
                self._seconds = float(seconds)
            elif command == "hold":
                self._held = []
            elif command == "release":
                held, self._held = self._held or [], None
                for send in held:
                    send()
            print(self._round_trips, flush=True)

        server = await asyncio.start_server(self._relay, "127.0.0.1")
        print(server.sockets[0].getsockname()[1], flush=True)
        loop.add_reader(sys.stdin, obey)
        await ended.wait()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._host, self._port)
        is_clients_turn = True

        async def up() -> None:
            nonlocal is_clients_turn
            while said := await reader.read(65536):
                self._round_trips += is_clients_turn
                is_clients_turn = False
                self._later(partial(to_server.write, said))
            self._later(to_server.close)

        async def down() -> None:
            nonlocal is_clients_turn
            while said := await from_server.read(65536):
                is_clients_turn = True
                send = partial(writer.write, said)
                if self._held is None:
                    self._later(send)
                else:
                    self._held.append(send)
            self._later(writer.close)

        with suppress(ConnectionError):
            await asyncio.gather(up(), down())

    def _later(self, send: Callable[[], Any]) -> None:
        if self._seconds:
            asyncio.get_running_loop().call_later(self._seconds, send)
        else:
            send()


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())  # epoll would round each delay up to a millisecond


if __name__ == "__main__":
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(Relay(sys.argv[1], int(sys.argv[2])).run())
