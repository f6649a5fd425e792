"""Counts in Redis, shared by all workers and by any slowapi service that uses the same scopes."""

import asyncio
import re
from collections.abc import Sequence
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.ratelimit.counters import Standing, Strategy, Taken, Verdict
from fastapi_kit.ratelimit.keys import stored_key
from fastapi_kit.ratelimit.line import ConnectionCutError, Lines, packed
from fastapi_kit.ratelimit.scripts import GIVE_BACK, TAKE, Script

with needs_extra("ratelimit"):
    from limits import RateLimitItem
with needs_extra("redis"):
    from redis.asyncio.connection import BlockingConnectionPool
    from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

__all__ = ["RedisCounters"]

_SCANNED_AT_ONCE = b"1000"
_GLOB = re.compile(r"([*?\[\]\\])")


class RedisCounters:
    """Count in Redis, with the keys and data of `limits`: exact over any number of workers.

    A decision is one script and one round trip, whatever the number of limits. All requests of an event loop share a
    connection, see `Line`. The time is that of the server. A failure of Redis is not handled here: see `failures`.

    - `url`: one that redis-py reads, or `redis+unix://`, with its options in the query. Not a cluster: the keys of a
      decision have to be on one server.
    - `timeout_seconds`: how long a call may last, connecting included; `socket_timeout` in the URL has precedence.

    Raises `ValueError` for a malformed URL, `ConfigurationError` for options that redis-py does not know; nothing is
    connected yet.
    """

    can_give_back = True
    failures: tuple[type[Exception], ...] = (RedisError, OSError)
    """What a call raises when Redis does not answer in time (`TimeoutError`, an `OSError`), fails or refuses."""

    def __init__(self, url: str, strategy: Strategy, *, timeout_seconds: float = 0.5) -> None:
        scheme, _, path, *_ = urlsplit(url)
        if not scheme.endswith("unix") and not path.strip("/").isdigit() and path.strip("/"):
            raise ConfigurationError(f"the path of the storage {scheme}:// is the number of a database, /0 for example")
        # A blocking pool, for it alone knows `timeout`; no call of ours ever waits for it, as it holds no connection.
        connect: Any = BlockingConnectionPool.from_url  # pyright: ignore[reportUnknownMemberType]
        pool: Any = connect(
            url.removeprefix("redis+"), protocol=2, socket_timeout=timeout_seconds, socket_keepalive=True
        )
        options: dict[str, Any] = pool.connection_kwargs
        self._seconds: float = options["socket_timeout"]
        options["socket_timeout"] = None  # the line has a timer for all calls, which costs less than one for each
        if "path" in options:
            del options["socket_keepalive"]  # TCP alone has it
        try:
            pool.make_connection()
        except (TypeError, RedisError) as exc:
            option = str(exc).rpartition(" argument ")[2]  # redis-py names it
            raise ConfigurationError(f"redis-py does not take an option of the URL {scheme}://: {option}") from exc
        self._lines = Lines(pool.make_connection, self._seconds)
        self._strategy = strategy
        self._take, self._give_back = TAKE[strategy], GIVE_BACK[strategy]
        self._has_two_keys = strategy == "sliding-window-counter"

    async def take(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...], cost: int) -> Verdict:
        """Count `cost` against every limit if all allow it, against none otherwise; raises one of `failures`."""
        arguments = [b"%d" % cost]
        for item in items:
            arguments += [b"%d" % item.amount, b"%d" % item.get_expiry()]
        try:
            answer: bytes = await self._run(self._take, self._keys(items, bucket), arguments)
        except ResponseError as exc:
            if not str(exc).startswith("WRONGTYPE"):
                raise
            # Another strategy has left a count, or still counts while workers are replaced. It goes on under its key.
            bucket = (*bucket, self._strategy)
            answer = await self._run(self._take, self._keys(items, bucket), arguments)
        words = answer.split()
        standings = tuple(
            [
                Standing(int(remaining), float(reset), float(retry))
                for remaining, reset, retry in zip(words[1::4], words[2::4], words[3::4], strict=True)
            ]
        )
        if words[0] == b"0":
            return Verdict(standings, None)
        return Verdict(standings, Taken(items, bucket, cost, tuple(map(float, words[4::4]))))

    async def give_back(self, taken: Taken) -> None:
        """Take back what was charged, in each window that is still open; raises one of `failures`."""
        if taken.cost:
            arguments = [b"%d" % taken.cost, *[b"%.6f" % mark for mark in taken.marks]]
            await self._run(self._give_back, self._keys(taken.items, taken.bucket), arguments)

    def is_up(self, failure: Exception) -> bool:
        """Return whether it is an error that Redis has answered, or the cut of a connection that had worked.

        Not on a replica: each of its answers ends a connection.
        """
        return isinstance(failure, ResponseError | ConnectionCutError) and not isinstance(failure, ReadOnlyError)

    async def ping(self) -> None:
        """Ask Redis whether it is there; raises one of `failures`."""
        await self._lines.call(packed(b"PING"))

    async def reset(self, prefix: str) -> None:
        """Forget every count whose bucket begins with this part; every one if it is empty, slowapi's included.

        Redis goes on answering others meanwhile; what they count meanwhile may stay. Raises one of `failures`.
        """
        escaped = _GLOB.sub(r"\\\1", prefix)
        start = f"LIMITER/{escaped}/*" if prefix else "*"
        for pattern in (f"LIMITS:{start}", f"LIMITS:{{{start}"):
            cursor = b"0"
            while True:
                scan = packed(b"SCAN", cursor, b"MATCH", _encoded(pattern), b"COUNT", _SCANNED_AT_ONCE)
                cursor, keys = await self._lines.call(scan)
                if keys:
                    await self._lines.call(packed(b"UNLINK", *keys))
                if cursor == b"0":
                    break

    async def aclose(self) -> None:
        """Close the connections; calls that wait for an answer fail. New ones are opened if it is used again."""
        await self._lines.aclose()

    def _keys(self, items: Sequence[RateLimitItem], bucket: tuple[str, ...]) -> list[bytes]:
        joined = "/".join(bucket)
        if not self._has_two_keys:
            return [_encoded(f"LIMITS:{stored_key(item, joined)}") for item in items]
        windows = [_encoded(f"LIMITS:{{{stored_key(item, joined)}}}") for item in items]
        return [key for window in windows for key in (window, window + b"/-1")]

    async def _run(self, script: Script, keys: list[bytes], arguments: list[bytes]) -> Any:
        began = monotonic()
        rest = [b"%d" % len(keys), *keys, *arguments]
        try:
            return await self._lines.call(packed(b"EVALSHA", script.sha, *rest))
        except NoScriptError:  # a server that was started or flushed anew: nothing was done
            async with asyncio.timeout(self._seconds - (monotonic() - began)):
                return await self._lines.call(packed(b"EVAL", script.source, *rest))


def _encoded(key: str) -> bytes:
    return key.encode(errors="surrogatepass")
