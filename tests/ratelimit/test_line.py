"""The connection that all calls of an event loop share, on one that is scripted."""

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from fastapi_kit.ratelimit.line import ConnectionCutError, Line, Lines, packed

LONG_SECONDS = 30.0
SHORT_SECONDS = 0.05


class Scripted:
    """A connection that answers what it is told to."""

    def __init__(self) -> None:
        self.opens = asyncio.Event()
        self.opens.set()
        self.writes: list[list[bytes]] = []
        self.answers: asyncio.Queue[object] = asyncio.Queue()
        self.flows = asyncio.Event()
        self.flows.set()
        self.closed = asyncio.Event()
        self.fails_to_send: Exception | None = None

    async def connect(self) -> None:
        await self.opens.wait()

    async def send_packed_command(self, command: list[bytes], check_health: bool) -> None:
        assert not check_health  # its answer would be taken for that of a call
        if self.fails_to_send:
            raise self.fails_to_send
        self.writes.append(command)
        await self.flows.wait()

    async def read_response(self, disable_decoding: bool, *, disconnect_on_error: bool) -> Any:
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def disconnect(self, nowait: bool) -> None:
        self.closed.set()

    async def until_written(self, number: int) -> None:
        """Return when so many commands were sent."""
        while len([command for write in self.writes for command in write]) < number:
            await asyncio.sleep(0)


async def opened(connection: Scripted, seconds: float = LONG_SECONDS) -> Line:
    """Return a line that has connected."""
    line = Line(connection, seconds)
    call = asyncio.create_task(line.call(b"first"))
    await connection.until_written(1)
    connection.answers.put_nowait(b"+first")
    assert await call == b"+first"
    connection.writes.clear()
    return line


async def closed(line: Line, *waiting: asyncio.Task[Any]) -> None:
    line.close()
    await line.wait_closed()
    await asyncio.gather(*waiting, return_exceptions=True)


def calls(line: Line, number: int) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(line.call(b"%d" % n)) for n in range(number)]


async def failure(call: Awaitable[object]) -> BaseException:
    with pytest.raises(Exception) as raised:  # noqa: PT011 (the tests look at it)
        await call
    return raised.value


def test_a_command_is_an_array_of_its_words() -> None:
    assert packed(b"GET", "ключ".encode()) == b"*2\r\n$3\r\nGET\r\n$8\r\n" + "ключ".encode() + b"\r\n"


@pytest.mark.anyio
async def test_each_call_gets_its_own_answer() -> None:
    connection = Scripted()
    line = await opened(connection)
    waiting = calls(line, 20)
    await connection.until_written(20)
    for n in range(20):
        connection.answers.put_nowait(b"answer %d" % n)
    assert await asyncio.gather(*waiting) == [b"answer %d" % n for n in range(20)]
    await closed(line)


@pytest.mark.anyio
async def test_calls_of_one_moment_leave_together() -> None:
    connection = Scripted()
    line = await opened(connection)
    waiting = calls(line, 20)
    await connection.until_written(20)
    assert connection.writes == [[b"0"], [b"%d" % n for n in range(1, 20)]]
    await closed(line, *waiting)


@pytest.mark.anyio
async def test_calls_before_it_has_connected_are_sent_in_order_then() -> None:
    connection = Scripted()
    connection.opens.clear()
    line = Line(connection, LONG_SECONDS)
    waiting = calls(line, 3)
    await asyncio.sleep(0)
    connection.opens.set()
    await connection.until_written(3)
    assert connection.writes == [[b"0", b"1", b"2"]]
    await closed(line, *waiting)


@pytest.mark.anyio
async def test_commands_wait_while_the_ones_before_have_not_left_and_keep_their_order() -> None:
    connection = Scripted()
    line = await opened(connection)
    connection.flows.clear()
    waiting = calls(line, 3)
    await connection.until_written(3)
    waiting += calls(line, 2)
    await asyncio.sleep(0)
    waiting[1].cancel()  # its command has left, in part perhaps
    await asyncio.sleep(0)
    assert len(connection.writes) == 2
    connection.flows.set()
    await connection.until_written(5)
    for n in range(5):
        connection.answers.put_nowait(n)
    assert [await call for call in (waiting[0], *waiting[2:])] == [0, 2, 3, 4]
    await closed(line)


@pytest.mark.anyio
async def test_nothing_is_sent_any_more_when_the_line_has_ended() -> None:
    connection = Scripted()
    line = await opened(connection)
    connection.flows.clear()
    waiting = calls(line, 3)
    await connection.until_written(3)
    waiting += calls(line, 2)
    await asyncio.sleep(0)
    connection.answers.put_nowait(RedisConnectionError("reset by peer"))
    await connection.closed.wait()
    connection.flows.set()
    assert {type(await failure(call)) for call in waiting} == {ConnectionCutError}
    for _ in range(5):
        await asyncio.sleep(0)
    assert connection.writes == [[b"0"], [b"1", b"2"]]


@pytest.mark.anyio
async def test_the_answer_of_a_cancelled_call_is_dropped() -> None:
    connection = Scripted()
    line = await opened(connection)
    waiting = calls(line, 4)
    await connection.until_written(4)
    waiting[0].cancel()
    waiting[2].cancel()
    for answer in (b"first", b"second", OutOfMemoryError("third"), b"fourth"):
        connection.answers.put_nowait(answer)
    assert [await waiting[1], await waiting[3]] == [b"second", b"fourth"]
    assert not line.ended
    await closed(line)


@pytest.mark.anyio
async def test_an_error_of_the_server_fails_its_own_call_alone() -> None:
    connection = Scripted()
    line = await opened(connection)
    waiting = calls(line, 2)
    await connection.until_written(2)
    connection.answers.put_nowait(OutOfMemoryError("used memory > 'maxmemory'"))
    connection.answers.put_nowait(b"fine")
    assert isinstance(await failure(waiting[0]), OutOfMemoryError)
    assert await waiting[1] == b"fine"
    assert not line.ended
    await closed(line)


@pytest.mark.anyio
async def test_a_server_that_has_become_a_replica_is_given_up() -> None:
    connection = Scripted()
    line = await opened(connection)
    waiting = calls(line, 2)
    await connection.until_written(2)
    connection.answers.put_nowait(ReadOnlyError("You can't write against a read only replica."))
    assert isinstance(await failure(waiting[0]), ReadOnlyError)
    assert isinstance(await failure(waiting[1]), RedisConnectionError)
    assert line.ended
    await connection.closed.wait()


@pytest.mark.anyio
@pytest.mark.parametrize("error", [RedisConnectionError("reset by peer"), RuntimeError("what nobody foresaw")])
async def test_a_connection_that_fails_fails_all_calls_each_with_an_error_of_its_own(error: Exception) -> None:
    connection = Scripted()
    line = await opened(connection)
    waiting = calls(line, 3)
    await connection.until_written(3)
    waiting[1].cancel()
    connection.answers.put_nowait(error)
    failures = [await failure(waiting[0]), await failure(waiting[2])]
    assert [type(one) for one in failures] == [ConnectionCutError] * 2
    assert failures[0] is not failures[1]
    assert failures[0].__cause__ is error
    assert str(error) in str(failures[0])
    assert line.ended
    await connection.closed.wait()


@pytest.mark.anyio
async def test_an_answer_that_nobody_waits_for_ends_the_line() -> None:
    connection = Scripted()
    line = await opened(connection)
    connection.answers.put_nowait(b"unasked")
    await connection.closed.wait()
    assert line.ended


@pytest.mark.anyio
async def test_a_command_that_cannot_be_sent_fails_its_call() -> None:
    connection = Scripted()
    line = await opened(connection)
    connection.fails_to_send = RedisConnectionError("Error 32 while writing to socket. Broken pipe.")
    waiting = calls(line, 2)
    assert [type(await failure(call)) for call in waiting] == [ConnectionCutError] * 2
    assert line.ended
    assert connection.writes == []
    await connection.closed.wait()


@pytest.mark.anyio
async def test_a_call_without_an_answer_times_out_and_so_do_those_behind_it() -> None:
    connection = Scripted()
    line = await opened(connection, SHORT_SECONDS)
    waiting = calls(line, 3)
    failures = [await failure(call) for call in waiting]
    assert [type(one) for one in failures] == [TimeoutError] * 3
    assert "0.05 s" in str(failures[0])
    assert line.ended
    await connection.closed.wait()


@pytest.mark.anyio
async def test_connecting_counts_too() -> None:
    connection = Scripted()
    connection.opens.clear()
    line = Line(connection, SHORT_SECONDS)
    assert isinstance(await failure(line.call(b"first")), TimeoutError)
    assert connection.writes == []
    await connection.closed.wait()


@pytest.mark.anyio
async def test_a_close_that_has_arrived_is_noticed_before_the_first_call_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Scripted] = []

    def connection() -> Scripted:
        made.append(Scripted())
        made[-1].answers.put_nowait(b"the answer")
        return made[-1]

    lines = Lines(connection, LONG_SECONDS)
    assert await lines.call(b"GET") == b"the answer"
    loop = asyncio.get_running_loop()
    later = loop.time() + 2
    monkeypatch.setattr(loop, "time", lambda: later)
    made[0].answers.put_nowait(RedisConnectionError("closed by the server"))
    assert await lines.call(b"GET") == b"the answer"
    assert made[0].writes == made[1].writes == [[b"GET"]]
    await lines.aclose()


@pytest.mark.anyio
async def test_time_does_not_run_out_while_nobody_waits() -> None:
    connection = Scripted()
    line = await opened(connection, SHORT_SECONDS)
    await asyncio.sleep(3 * SHORT_SECONDS)
    assert not line.ended
    await closed(line)


@pytest.mark.anyio
async def test_each_call_has_the_whole_time_for_itself() -> None:
    connection = Scripted()
    line = await opened(connection, 0.5)
    began = time.monotonic()
    for _ in range(7):
        call = asyncio.create_task(line.call(b"GET"))
        await asyncio.sleep(0.1)
        connection.answers.put_nowait(b"late, but in time")
        assert await call == b"late, but in time"
    assert time.monotonic() - began > 0.5
    assert isinstance(await failure(line.call(b"GET")), TimeoutError)


@pytest.mark.anyio
async def test_an_answer_that_came_while_the_loop_was_blocked_is_in_time() -> None:
    connection = Scripted()
    line = await opened(connection, SHORT_SECONDS)
    call = asyncio.create_task(line.call(b"GET"))
    await connection.until_written(1)
    asyncio.get_running_loop().call_soon(connection.answers.put_nowait, b"fine")
    time.sleep(2 * SHORT_SECONDS)  # noqa: ASYNC251 (it is to block)
    assert await call == b"fine"
    await closed(line)


@pytest.mark.anyio
@pytest.mark.parametrize("connects", [True, False])
async def test_closing_fails_the_calls_that_wait(connects: bool) -> None:
    connection = Scripted()
    line = await opened(connection) if connects else Line(connection, LONG_SECONDS)
    waiting = calls(line, 2)
    await asyncio.sleep(0)
    await closed(line)
    assert [str(await failure(call)) for call in waiting] == ["the connection to Redis was closed"] * 2
    assert line.ended


@pytest.mark.anyio
async def test_a_line_that_is_closed_before_it_began_fails_its_calls() -> None:
    line = Line(Scripted(), LONG_SECONDS)
    call = line.call(b"GET")
    asyncio.get_running_loop().call_soon(line.close)
    assert isinstance(await failure(call), RedisConnectionError)


@pytest.mark.anyio
async def test_a_line_that_has_ended_is_replaced() -> None:
    made: list[Scripted] = []

    def connection() -> Scripted:
        made.append(Scripted())
        return made[-1]

    lines = Lines(connection, LONG_SECONDS)
    line = lines.current()
    assert lines.current() is line
    await asyncio.sleep(0)
    made[0].answers.put_nowait(RedisConnectionError("closed by the server, which was idle"))
    await made[0].closed.wait()
    assert lines.current() is not line
    assert len(made) == 2
    await asyncio.sleep(0)
    await lines.aclose()
    assert made[1].closed.is_set()
    await lines.aclose()


def test_each_loop_has_its_own_line_and_those_of_closed_loops_go() -> None:
    made: list[Scripted] = []

    def connection() -> Scripted:
        made.append(Scripted())
        return made[-1]

    lines = Lines(connection, LONG_SECONDS)

    async def use() -> None:
        lines.current()
        await asyncio.sleep(0)

    for _ in range(3):
        asyncio.run(use())
    assert len(made) == 3
    assert all(one.closed.is_set() for one in made)
    assert len(lines._of_loops) == 1
    gc.collect()  # any warning of something unclosed would be an error


@pytest.mark.anyio
async def test_closing_closes_the_lines_of_other_loops_too() -> None:
    lines = Lines(Scripted, LONG_SECONDS)
    lines.current()
    others = asyncio.Event()
    ended: list[bool] = []
    here = asyncio.get_running_loop()

    async def in_thread() -> None:
        line = lines.current()
        await asyncio.sleep(0)
        here.call_soon_threadsafe(others.set)
        await line.wait_closed()
        ended.append(line.ended)

    run: Callable[[], None] = lambda: asyncio.run(in_thread())  # noqa: E731
    thread = threading.Thread(target=run)
    thread.start()
    await others.wait()
    await lines.aclose()
    await asyncio.to_thread(thread.join)
    assert ended == [True]


@pytest.mark.anyio
async def test_closing_does_not_mind_loops_that_were_closed() -> None:
    lines = Lines(Scripted, LONG_SECONDS)

    async def use() -> None:
        lines.current()
        await asyncio.sleep(0)

    await asyncio.to_thread(asyncio.run, use())
    await lines.aclose()
