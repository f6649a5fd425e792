"""Counts in Redis, shared by all workers and by any slowapi service that uses the same scopes."""

from typing import Any

from fastapi_kit.errors import needs_extra
from fastapi_kit.ratelimit.counters import Strategy
from fastapi_kit.ratelimit.storages import StorageCounters

with needs_extra("ratelimit"):
    from limits.aio.storage import RedisStorage
with needs_extra("redis"):
    from redis.asyncio import BlockingConnectionPool

__all__ = ["RedisCounters"]

_CONNECTIONS = 20
_CONNECTION_WAIT_SECONDS = 2.0
_SOCKET_SECONDS = 1.0


class RedisCounters(StorageCounters):
    """Count in Redis, by the scripts and under the keys of `limits`: exact over any number of workers.

    Requests wait for one of 20 connections rather than fail when all are in use, and give up on a
    server that does not answer within a second; options in the URL's query have precedence.
    A failure of Redis is not handled here: the request answers 500, an attempt to log in 503.

    `url` is one that redis-py reads, or `redis+unix://`. Raises `ValueError` if it is malformed.
    """

    def __init__(self, url: str, strategy: Strategy) -> None:
        connect: Any = BlockingConnectionPool.from_url  # pyright: ignore[reportUnknownMemberType]
        self._pool: BlockingConnectionPool = connect(
            url.removeprefix("redis+"),
            max_connections=_CONNECTIONS,
            timeout=_CONNECTION_WAIT_SECONDS,
            socket_timeout=_SOCKET_SECONDS,
            socket_connect_timeout=_SOCKET_SECONDS,
        )
        pooled: dict[str, Any] = {"connection_pool": self._pool}  # typed too narrowly by `limits`
        super().__init__(RedisStorage("redis://", implementation="redispy", **pooled), strategy)

    async def aclose(self) -> None:
        """Close every connection; new ones are opened if it is used again."""
        await self._pool.disconnect()
