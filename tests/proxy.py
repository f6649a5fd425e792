"""A TCP proxy before a real server, which can lose answers, delay and hold them back, and cut connections."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self


class Proxy:
    """Forward to a server; requests always arrive there, answers only while nothing is wrong.

    `port` is 0 for a free one, or that of a server that is down at the moment.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._flows = asyncio.Event()
        self._flows.set()
        self._ends = asyncio.Event()
        self._ends.set()
        self._loses_after: bytes | None = None
        self._cuts_before: bytes | None = None
        self._delayed: tuple[bytes, float] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.lost = asyncio.Event()
        self.asked = asyncio.Event()
        """Set by each request."""
        self.requests: list[bytes] = []
        """Each write of a client; one that waits for its answer before the next makes a round trip of each."""
        self.ended = asyncio.Event()
        """Set when a server closed a connection."""
        self.connections = 0
        self.port = 0

    def hold(self) -> None:
        """Let no answer through until `release`, nor that the server closed a connection."""
        self._flows.clear()
        self._ends.clear()

    def hold_ends(self) -> None:
        """Let each answer through, but not that the server closed the connection after it, until `release`."""
        self._ends.clear()
        self.ended.clear()

    def release(self) -> None:
        self._flows.set()
        self._ends.set()

    def lose_answer_to(self, request: bytes) -> None:
        """Forward the next request that contains this, and cut the connection in place of an answer."""
        self._loses_after = request
        self.lost.clear()

    def lose(self, request: bytes) -> None:
        """Cut the connection in place of forwarding the next request that contains this."""
        self._cuts_before = request
        self.lost.clear()

    def delay(self, request: bytes, seconds: float) -> None:
        """Forward each request that contains this later."""
        self._delayed = request, seconds

    async def quiet(self) -> None:
        """Return when a request has come and no other has for a while: whoever sent it waits for the answer."""
        while True:
            self.asked.clear()
            try:
                await asyncio.wait_for(self.asked.wait(), 0.05 if self.requests else 10)
            except TimeoutError:
                return

    async def cut(self) -> None:
        """Close all connections, as a restart of the server does."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[Self]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await self.cut()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            answers, server = await asyncio.open_connection(*self._target)
            ends.append(server)
            async with asyncio.TaskGroup() as pumps:
                cut = asyncio.Event()
                pumps.create_task(self._requests(reader, server, cut))
                pumps.create_task(self._answers(answers, writer, cut))
        except* (OSError, _CutError):
            pass
        finally:
            for end in ends:
                end.close()

    async def _requests(self, client: asyncio.StreamReader, server: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while data := await client.read(65536):
            self.requests.append(data)
            self.asked.set()
            if self._cuts_before is not None and self._cuts_before in data:
                self._cuts_before = None
                self.lost.set()
                raise _CutError
            if self._loses_after is not None and self._loses_after in data:
                self._loses_after = None
                cut.set()
            if self._delayed is not None and self._delayed[0] in data:
                await asyncio.sleep(self._delayed[1])
            server.write(data)
            await server.drain()
        raise _CutError

    async def _answers(self, server: asyncio.StreamReader, client: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while data := await server.read(65536):
            if cut.is_set():  # it has done what it was asked to
                self.lost.set()
                raise _CutError
            await self._flows.wait()
            client.write(data)
            await client.drain()
        self.ended.set()
        await self._ends.wait()
        raise _CutError


class _CutError(Exception):
    pass
