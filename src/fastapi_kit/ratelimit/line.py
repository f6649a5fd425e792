"""A connection to Redis on which the calls of an event loop follow each other without waiting for answers."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from threading import Lock
from typing import Any, Protocol

from fastapi_kit.errors import needs_extra

with needs_extra("redis"):
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import ReadOnlyError, ResponseError

__all__ = ["Connection", "ConnectionCutError", "Line", "Lines", "packed"]

_BLOCKED_SECONDS = 0.01
_IDLE_SECONDS = 1.0
_STEPS_TO_END = 3  # the loop sees that the server has closed, the stream says so, the line reads that


class ConnectionCutError(RedisConnectionError):
    """A connection that had worked has ended: of the calls on it nobody knows whether they were carried out."""


def packed(*words: bytes) -> bytes:
    """Return a command as Redis reads it: an array of bulk strings (RESP)."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


class Connection(Protocol):
    """What a line uses of a connection of redis-py, which knows TCP, TLS, Unix sockets, passwords and databases."""

    async def connect(self) -> None:
        """Connect, log in and choose the database."""
        ...

    async def send_packed_command(self, command: list[bytes], check_health: bool) -> None:
        """Write at once; suspend only while much that was written before has not left."""
        ...

    async def read_response(self, disable_decoding: bool, *, disconnect_on_error: bool) -> Any:
        """Return the next answer; raise it if it is an error."""
        ...

    async def disconnect(self, nowait: bool) -> None:
        """Close."""
        ...


class Line:
    """One connection in one event loop, from its opening to its end; what comes after needs another line.

    A client of redis-py keeps a connection to itself from a command to its answer, so 200 requests at once need 200
    connections, or wait. Here they share one: commands go out at once, those of one step of the loop together, and the
    answers come in the same order. What was sent is never sent again, since it may have been counted.

    One timer watches the call that waits longest. When it runs out, the line ends, as the answers to those behind it
    could come no earlier. A call that is cancelled keeps its place: its answer is read and dropped.
    """

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: bool = False
        self.used_at: float = self._loop.time()
        self._connection = connection
        self._seconds = seconds
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._unsent: list[bytes] = []
        self._sender: asyncio.Task[None] | None = None
        self._connected = False
        self._timer: asyncio.TimerHandle | None = None
        self._late: asyncio.Future[Any] | None = None
        self._reader = self._loop.create_task(self._run(), context=Context())  # it outlives the request

    async def call(self, command: bytes) -> Any:
        """Return the answer to a packed command.

        Raises `TimeoutError` when there is none in time, connecting included, `redis.exceptions.ResponseError` for an
        error that the server answers, and `redis.exceptions.ConnectionError` when the line ends before.
        """
        answer: asyncio.Future[Any] = self._loop.create_future()
        self.used_at = self._loop.time()
        deadline = self.used_at + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._check_time)
        is_alone = not self._waiting
        self._waiting.append((deadline, answer))
        if is_alone and self._connected:  # nothing is buffered, so this does not suspend: no cancelling cuts a command
            await self._send([command])
        else:
            self._unsent.append(command)
            if self._connected and self._sender is None:
                self._sender = self._loop.create_task(self._send_unsent())
        return await answer

    def close(self) -> None:
        """Begin to close the connection; calls that wait fail."""
        self._break(RedisConnectionError, "the connection to Redis was closed")

    async def wait_closed(self) -> None:
        """Return when the connection is closed."""
        await asyncio.wait([self._reader])

    async def _run(self) -> None:
        """Connect, then give each answer to the call that waits for it, until something fails."""
        reason: BaseException
        try:
            await self._connection.connect()
            self._connected = True
            self._sender = self._loop.create_task(self._send_unsent())
            while True:
                try:
                    read = await self._connection.read_response(disable_decoding=True, disconnect_on_error=False)
                except ResponseError as exc:
                    self._settle(exc)
                    if isinstance(exc, ReadOnlyError):
                        raise  # a replica by now: let the next call look for the primary
                else:
                    self._settle(read)
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 (whatever it is, those who wait are told)
            reason = exc
        kind = ConnectionCutError if self._connected else RedisConnectionError
        self._end(kind, f"the connection to Redis has ended: {reason}", reason)
        await self._connection.disconnect(nowait=True)

    def _settle(self, read: Any) -> None:
        _, answer = self._waiting.popleft()
        if answer.cancelled():
            return
        if isinstance(read, Exception):
            answer.set_exception(read)
        else:
            answer.set_result(read)

    async def _send_unsent(self) -> None:
        while self._unsent:
            commands, self._unsent = self._unsent, []
            await self._send(commands)
        self._sender = None

    async def _send(self, commands: list[bytes]) -> None:
        try:
            await self._connection.send_packed_command(commands, check_health=False)
        except Exception as exc:  # noqa: BLE001 (as in _run)
            self._break(ConnectionCutError, f"the connection to Redis has ended: {exc}", exc)

    def _check_time(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        deadline, answer = self._waiting[0]
        if deadline > self._loop.time():
            self._timer = self._loop.call_at(deadline, self._check_time)
        elif self._late is not answer:  # if the loop was blocked, the answer may be there: let it be read first
            self._late = answer
            self._timer = self._loop.call_later(_BLOCKED_SECONDS, self._check_time)
        else:
            self._break(TimeoutError, f"Redis has not answered within {self._seconds} s")

    def _break(self, kind: type[Exception], message: str, reason: BaseException | None = None) -> None:
        self._end(kind, message, reason)
        self._reader.cancel()

    def _end(self, kind: type[Exception], message: str, reason: BaseException | None) -> None:
        """Let no more calls in, and fail those that wait, each with an exception of its own."""
        self.ended = True
        self._unsent.clear()
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            _, answer = self._waiting.popleft()
            if not answer.cancelled():
                error = kind(message)
                error.__cause__ = reason
                answer.set_exception(error)


class Lines:
    """A line for each event loop: a connection can be used in the loop that opened it, and nowhere else."""

    def __init__(self, connection: Callable[[], Connection], seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._of_loops: dict[asyncio.AbstractEventLoop, Line] = {}
        self._lock = Lock()

    async def call(self, command: bytes) -> Any:
        """Return the answer to a packed command; raises what `Line.call` raises."""
        line = self.current()
        if asyncio.get_running_loop().time() > line.used_at + _IDLE_SECONDS:
            for _ in range(_STEPS_TO_END):  # a process that was suspended may not have noticed yet
                await asyncio.sleep(0)
            line = self.current()
        return await line.call(command)

    def current(self) -> Line:
        """Return the line of the running loop, a new one if there is none or it has ended."""
        loop = asyncio.get_running_loop()
        line = self._of_loops.get(loop)
        if line is None or line.ended:
            line = Line(self._connection(), self._seconds)
            with self._lock:  # those of closed loops go: asyncio.run has cancelled what ran in them
                of_open_loops = {other: its for other, its in self._of_loops.items() if not other.is_closed()}
                self._of_loops = {**of_open_loops, loop: line}
        return line

    async def aclose(self) -> None:
        """Close the lines of all loops, and wait for that of the running one."""
        with self._lock:
            of_loops, self._of_loops = self._of_loops, {}
        own = of_loops.pop(asyncio.get_running_loop(), None)
        for loop, line in of_loops.items():
            with suppress(RuntimeError):  # it was closed, and the line with it
                loop.call_soon_threadsafe(line.close)
        if own is not None:
            own.close()
            await own.wait_closed()
