"""A TCP proxy before a real server, which can lose answers, hold them back, and cut connections."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self


class Proxy:
    """Forward to a server; requests always arrive there, answers only while nothing is wrong."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._flows = asyncio.Event()
        self._flows.set()
        self._loses_after: bytes | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.lost = asyncio.Event()
        self.port = 0

    def hold(self) -> None:
        """Let no answer through until `release`."""
        self._flows.clear()

    def release(self) -> None:
        self._flows.set()

    def lose_answer_to(self, request: bytes) -> None:
        """Forward the next request that contains this, and cut the connection in place of an answer."""
        self._loses_after = request
        self.lost.clear()

    async def cut(self) -> None:
        """Close all connections, as a restart of the server does."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[Self]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await self.cut()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = await asyncio.open_connection(*self._target)
        try:
            async with asyncio.TaskGroup() as pumps:
                cut = asyncio.Event()
                pumps.create_task(self._requests(reader, server[1], cut))
                pumps.create_task(self._answers(server[0], writer, cut))
        except* (OSError, _CutError):
            pass
        finally:
            for end in (writer, server[1]):
                end.close()

    async def _requests(self, client: asyncio.StreamReader, server: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while data := await client.read(65536):
            if self._loses_after is not None and self._loses_after in data:
                self._loses_after = None
                cut.set()
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
        raise _CutError


class _CutError(Exception):
    pass
