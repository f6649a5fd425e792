"""Count round trips between a driver and its server, in a relay: each time the client speaks after the server did."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import URL


class Wire:
    """How often a client spoke after the server had, or first, on all connections together."""

    def __init__(self, host: str, port: int) -> None:
        self.round_trips = 0
        self._host, self._port = host, port

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what one client and the server say, until either leaves."""
        from_server, to_server = await asyncio.open_connection(self._host, self._port)
        is_clients_turn = True

        async def up() -> None:
            nonlocal is_clients_turn
            while said := await reader.read(65536):
                self.round_trips += is_clients_turn
                is_clients_turn = False
                to_server.write(said)
            to_server.close()

        async def down() -> None:
            nonlocal is_clients_turn
            while said := await from_server.read(65536):
                is_clients_turn = True
                writer.write(said)
            writer.close()

        with suppress(ConnectionError):
            await asyncio.gather(up(), down())


@asynccontextmanager
async def counted(url: URL) -> AsyncGenerator[tuple[URL, Wire]]:
    """Give a URL that leads to the same server through a relay, and what the relay counts."""
    wire = Wire(url.host or "127.0.0.1", url.port or 5432)
    async with await asyncio.start_server(wire.relay, "127.0.0.1") as server:
        host, port = server.sockets[0].getsockname()
        yield url.set(host=host, port=port), wire
