"""A check runs once for all who ask at the same time, is cut off in time, and is logged when its result changes."""

import asyncio
import logging

import pytest

from fastapi_kit.health.checks import ReadinessCheck

pytestmark = pytest.mark.anyio


class Door:
    """A check that passes when it is opened; `is_stubborn`, it goes on when it is cancelled."""

    def __init__(self, *, is_stubborn: bool = False) -> None:
        self.opened = asyncio.Event()
        self.started = 0
        self.cancelled = 0
        self.ended = asyncio.Event()
        self._is_stubborn = is_stubborn

    async def __call__(self) -> None:
        self.started += 1
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            if not self._is_stubborn:
                raise
            await self.opened.wait()
        finally:
            self.ended.set()


async def test_probes_at_the_same_time_share_one_run() -> None:
    door = Door()
    check = ReadinessCheck("door", door, 30)
    probes = [asyncio.create_task(check.passes()) for _ in range(50)]
    while not door.started:
        await asyncio.sleep(0)
    door.opened.set()
    assert await asyncio.gather(*probes) == [True] * 50
    assert door.started == 1
    assert await check.passes()
    assert door.started == 2


async def test_a_late_probe_gets_the_answer_of_the_run_that_it_joins() -> None:
    door = Door()
    check = ReadinessCheck("door", door, 0.2)
    first = asyncio.create_task(check.passes())
    await asyncio.sleep(0.1)
    assert not await check.passes()
    assert not await first
    assert (door.started, door.cancelled) == (1, 1)


async def test_a_check_that_ignores_its_cancellation_is_not_started_again_before_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    door = Door(is_stubborn=True)
    check = ReadinessCheck("door", door, 0.05)
    assert not await check.passes()
    assert not any(await asyncio.gather(*[check.passes() for _ in range(50)]))
    assert (door.started, door.cancelled) == (1, 1)
    assert caplog.text.count("the readiness check 'door' failed") == 1
    assert "it goes on after it was cancelled" in caplog.text
    door.opened.set()
    await door.ended.wait()
    assert await check.passes()
    assert door.started == 2


async def test_a_probe_that_gives_up_ends_no_check_of_others() -> None:
    door = Door()
    check = ReadinessCheck("door", door, 30)
    impatient, patient = (asyncio.create_task(check.passes()) for _ in range(2))
    while not door.started:
        await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    door.opened.set()
    assert await patient
    assert door.cancelled == 0


async def test_a_check_is_logged_when_it_begins_to_fail_and_when_it_passes_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "fastapi_kit.health")
    failures: list[BaseException] = []

    async def look() -> None:
        if failures:
            raise failures[0]

    check = ReadinessCheck("queue", look, 30)
    for failure in ([], [OSError("no route")], [], [asyncio.CancelledError()]):
        failures[:] = failure
        for _ in range(3):
            assert await check.passes() == (not failure)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the readiness check 'queue' failed"),
        ("INFO", "the readiness check 'queue' passes again"),
        ("WARNING", "the readiness check 'queue' failed"),
    ]
    assert "in look\n    raise failures[0]\nOSError: no route" in caplog.text


async def test_the_traceback_of_a_check_that_hangs_tells_where(caplog: pytest.LogCaptureFixture) -> None:
    assert not await ReadinessCheck("door", Door(), 0.05).passes()
    assert "await self.opened.wait()" in caplog.text
    assert "TimeoutError" in caplog.text


def test_a_run_of_another_event_loop_is_not_waited_for() -> None:
    started: list[None] = []

    async def hang() -> None:
        started.append(None)
        await asyncio.sleep(30)

    check = ReadinessCheck("door", hang, 0.05)
    first = asyncio.new_event_loop()
    probe = first.create_task(check.passes())
    while not started:
        first.run_until_complete(asyncio.sleep(0))
    assert not asyncio.run(check.passes())
    assert len(started) == 2
    assert not first.run_until_complete(probe)
    first.close()
