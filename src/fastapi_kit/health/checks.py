"""One readiness check: run once at a time, cut off in time, logged when it begins to fail and when it ends to."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from fastapi_kit.errors import ConfigurationError

__all__ = ["Check", "ReadinessCheck"]

Check = Callable[[], Awaitable[object]]
"""Raises, or takes too long, when what it looks at does not work; `db.ping` is one. What it returns is ignored."""

_log = logging.getLogger("fastapi_kit.health")

_GRACE_SECONDS = 0.05
"""For a check to end once it is cancelled: its own traceback tells where it hung."""


class ReadinessCheck:
    """Run a check for all probes that ask at the same time, and log when its result changes.

    A probe comes every few seconds, and anybody may send more. Were each to run the check, a database that hangs would
    get ever more connections that hang too; were each failure logged, the log would hold little else.
    """

    def __init__(self, name: str, check: Check, timeout_seconds: float) -> None:
        if not callable(check):
            raise ConfigurationError(
                f"the check {name} is not callable: write {name}=db.ping, without brackets;"
                " the settings are timeout_seconds, drain_seconds and show_checks"
            )
        self._name = name
        self._check = check
        self._timeout_seconds = timeout_seconds
        self._running: asyncio.Task[BaseException | None] | None = None
        self._ends_at = 0.0
        self._is_failing = False

    async def passes(self) -> bool:
        """Return whether the check passes, from the run that is under way if there is one.

        A run that goes on after it was cancelled has failed, and no other one is started before it has ended.
        """
        loop = asyncio.get_running_loop()
        running = self._running
        if running is None or running.done() or running.get_loop() is not loop:
            self._ends_at = loop.time() + self._timeout_seconds
            # A task of its own: a probe that gives up ends no check of others, and one that hangs holds no probe.
            self._running = running = loop.create_task(self._run())
        left = self._ends_at - loop.time()
        await asyncio.wait({running}, timeout=max(left + _GRACE_SECONDS, 0))
        failure = running.result() if running.done() else TimeoutError("it goes on after it was cancelled")
        self._note(failure)
        return failure is None

    async def _run(self) -> BaseException | None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._check()
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001  # whatever a check raises, the answer is no
            return exc
        return None

    def _note(self, failure: BaseException | None) -> None:
        if failure is not None and not self._is_failing:
            _log.warning("the readiness check %r failed", self._name, exc_info=failure)
        elif failure is None and self._is_failing:
            _log.info("the readiness check %r passes again", self._name)
        self._is_failing = failure is not None
