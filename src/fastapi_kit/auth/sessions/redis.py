"""Log-ins in Redis, shared by all workers."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from fastapi_kit.auth.sessions.store import (
    SessionRecord,
    SessionState,
    fields_of,
    record_of,
    revocation_key,
    unavailable,
)
from fastapi_kit.errors import ConfigurationError, needs_extra

with needs_extra("redis"):
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.cluster import RedisCluster
    from redis.exceptions import RedisError

__all__ = ["RedisSessionStore"]

_CONNECTIONS = 20
_CONNECTION_WAIT_SECONDS = 2.0
_SOCKET_SECONDS = 1.0

_ADD = """
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIREAT', KEYS[1], ARGV[1])
"""
# The first line: a client that lost the answer may send its call again by itself.
_ROTATE = """
local session = redis.call('HMGET', KEYS[1], 'secret_hash', 'ended_at')
if session[1] == ARGV[2] then return 1 end
if session[1] ~= ARGV[1] or session[2] ~= '0' then return 0 end
redis.call('HSET', KEYS[1], 'previous_hash', ARGV[1], 'secret_hash', ARGV[2], 'nonce', ARGV[3],
    'rotated_at', ARGV[4], 'expires_at', ARGV[5])
redis.call('PEXPIREAT', KEYS[1], ARGV[5])
return 1
"""
_END = """
if redis.call('HGET', KEYS[1], 'ended_at') == '0' then redis.call('HSET', KEYS[1], 'ended_at', ARGV[1]) end
"""
_RAISE_EPOCH = """
local epoch = math.max(tonumber(ARGV[1]), tonumber(redis.call('GET', KEYS[1]) or '0') + 1)
local kept_for = redis.call('PTTL', KEYS[1])
local text = string.format('%.0f', epoch)
redis.call('SET', KEYS[1], text)
redis.call('PEXPIREAT', KEYS[1], ARGV[2])
if redis.call('PTTL', KEYS[1]) < kept_for then redis.call('SET', KEYS[1], text, 'PX', kept_for) end
return text
"""

_log = logging.getLogger("fastapi_kit.auth")


class RedisSessionStore:
    """Keep log-ins in Redis, each until it expires; there is nothing to purge.

    `client` is a URL that redis-py reads, or a client of redis-py's asyncio, a `RedisCluster` too. With a URL, calls
    wait for one of 20 connections, and give up on a server that does not answer within a second; options in the
    URL's query have precedence. `prefix` begins every key.

    Whatever redis-py raises is an `UnavailableError` (503), and a warning in the log of "fastapi_kit.auth" names its
    class.

    Security: set `maxmemory-policy noeviction`: a log-in whose subject was logged out everywhere comes back if Redis
    evicts that record alone. Keep the data on disk (`appendonly yes`). When Redis loses all of it, all log-ins end; but
    an access token that was issued without a log-in passes again until it expires, revoked or not. A failover to a
    replica that lags loses the last writes.

    Raises `ConfigurationError` for a malformed URL.
    """

    def __init__(self, client: "str | Redis | RedisCluster", *, prefix: str = "kit:auth:") -> None:
        self._pool = _pool(client) if isinstance(client, str) else None
        self._client = _client(client, self._pool)
        self._prefix = prefix
        self._add, self._rotate, self._end, self._raise_epoch = map(
            self._client.register_script, (_ADD, _ROTATE, _END, _RAISE_EPOCH)
        )

    async def aclose(self) -> None:
        """Close the connections that were made for a URL; they are opened again if it is used again."""
        if self._pool is not None:
            await self._pool.disconnect()

    async def epoch(self, subject: str) -> int:
        """Return the subject's epoch."""
        with _failing_closed():
            return int(await self._client.get(self._epoch_key(subject)) or 0)

    async def add(self, record: SessionRecord) -> None:
        """Keep a new log-in."""
        fields = [part for field in fields_of(record).items() for part in field]
        with _failing_closed():
            await self._add([self._session_key(record.id)], [record.expires_at, *fields])

    async def find(self, session_id: str) -> tuple[SessionRecord, int] | None:
        """Return a log-in and its subject's epoch."""
        with _failing_closed():
            record = _record(await self._client.hgetall(self._session_key(session_id)))
        return None if record is None else (record, await self.epoch(record.subject))

    async def rotate(
        self, session_id: str, *, presented: str, successor: str, nonce: str, now: int, expires_at: int
    ) -> bool:
        """Replace the good hash, if it is the one presented."""
        with _failing_closed():
            done = await self._rotate([self._session_key(session_id)], [presented, successor, nonce, now, expires_at])
        return bool(done)

    async def end(self, session_id: str, now: int) -> None:
        """End one log-in."""
        with _failing_closed():
            await self._end([self._session_key(session_id)], [now])

    async def raise_epoch(self, subject: str, *, now: int, keep_until: int) -> int:
        """Raise the subject's epoch, and return it."""
        with _failing_closed():
            return int(await self._raise_epoch([self._epoch_key(subject)], [now, keep_until]))

    async def deny(self, token_id: str, *, keep_until: int) -> None:
        """Revoke one access token."""
        with _failing_closed():
            await self._client.set(self._token_key(token_id), 1, pxat=keep_until)

    async def check(self, subject: str, session_id: str | None, token_id: str | None) -> SessionState:
        """Return what there is to know of an access token."""
        with _failing_closed():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.exists(self._token_key(token_id or ""))
                pipeline.get(self._epoch_key(subject))
                pipeline.hgetall(self._session_key(session_id or ""))
                denied, epoch, session = await pipeline.execute()
        return SessionState(bool(denied), int(epoch or 0), _record(session))

    async def purge(self, now: int) -> int:
        """Return 0: Redis forgets by itself."""
        return 0

    def _session_key(self, session_id: str) -> str:
        return f"{self._prefix}session:{session_id}"

    def _epoch_key(self, subject: str) -> str:
        return f"{self._prefix}epoch:{revocation_key('epoch', subject)}"

    def _token_key(self, token_id: str) -> str:
        return f"{self._prefix}token:{revocation_key('token', token_id)}"


def _pool(url: str) -> BlockingConnectionPool:
    connect: Any = BlockingConnectionPool.from_url  # pyright: ignore[reportUnknownMemberType]
    try:
        pool: BlockingConnectionPool = connect(
            url,
            max_connections=_CONNECTIONS,
            timeout=_CONNECTION_WAIT_SECONDS,
            socket_timeout=_SOCKET_SECONDS,
            socket_connect_timeout=_SOCKET_SECONDS,
        )
    except ValueError:  # its message may quote the password
        raise ConfigurationError(
            "the URL is none that redis-py reads: write redis://user:password@host:6379/0, or rediss:// for TLS"
        ) from None
    return pool


def _client(given: Any, pool: BlockingConnectionPool | None) -> Any:
    return given if pool is None else Redis(connection_pool=pool)


@contextmanager
def _failing_closed() -> Generator[None]:
    try:
        yield
    except (RedisError, OSError) as exc:
        _log.warning("The Redis of the log-ins does not answer: %s", type(exc).__name__)
    else:
        return
    raise unavailable()  # here, so that it drags no error of Redis along


def _record(fields: dict[Any, Any]) -> SessionRecord | None:
    """Return the log-in of a hash, of a client that decodes and of one that does not."""
    if not fields:
        return None
    return record_of({_text(name): _text(value) for name, value in fields.items()})


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
