"""Staying up for a while after SIGTERM, so that a load balancer has the time to look elsewhere."""

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

from fastapi_kit._workers import uvicorn_settings

__all__ = ["Drain"]

_log = logging.getLogger("fastapi_kit.health")

_LOOPS = ("asyncio.", "uvloop.")
"""Whose handlers, of `loop.add_signal_handler`, are called in any case, by the signal's number in a socket."""


class Drain:
    """Hold SIGTERM back from the server for some seconds, in which readiness says no.

    A server stops to listen as soon as it gets SIGTERM, and the load balancer goes on to send requests until it has
    learned of it: those are refused. Only the first SIGTERM is held back. The handler that was there before is put back
    at once, so that a second one, as SIGINT, ends the process as it always did.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._of_the_server: Callable[[int, FrameType | None], Any] | int = signal.SIG_DFL
        self._timer: asyncio.TimerHandle | None = None
        self._is_up = False
        self._is_known_to_be_off = False
        self.is_begun: bool = False

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncGenerator[None]:
        """Watch for SIGTERM between start-up and shutdown of the app."""
        if self._is_up:  # the router was included twice
            yield
            return
        self._is_up, self._timer = True, None
        self.is_begun = False
        is_watching = self._watch()
        try:
            yield
        finally:
            self._is_up = False
            if self._timer is not None:
                self._timer.cancel()
            if is_watching and signal.getsignal(signal.SIGTERM) == self._begin:
                self._pass_on()

    def say_if_off(self) -> None:
        """Log a warning, once, if the lifespan does not run: then SIGTERM is not held back."""
        if not self._is_up and not self._is_known_to_be_off:
            self._is_known_to_be_off = True
            _log.warning(
                "drain_seconds has no effect, since the lifespan of the health router does not run: include it in the "
                "outermost app, and in a router before that one is included; serve with lifespans"
            )

    def _watch(self) -> bool:
        if threading.current_thread() is not threading.main_thread():
            _log.debug("SIGTERM is not held back: the app does not run in the main thread")
            return False
        if getattr(uvicorn_settings(), "reload", False):
            _log.debug("SIGTERM is not held back: each reload would take the time of a drain")
            return False
        handler = signal.getsignal(signal.SIGTERM)
        is_of_a_loop = str(getattr(handler, "__module__", "")).startswith(_LOOPS)
        if handler is None or handler is signal.SIG_IGN or is_of_a_loop:
            _log.warning(
                "drain_seconds has no effect: this server does not take SIGTERM by signal.signal; "
                "use uvicorn, or gunicorn with uvicorn_worker.UvicornWorker"
            )
            return False
        self._of_the_server = handler
        self._loop = asyncio.get_running_loop()
        signal.signal(signal.SIGTERM, self._begin)
        return True

    def _begin(self, _number: int, _frame: FrameType | None) -> None:
        """Take SIGTERM; the loop does the rest, since a handler may run in the midst of anything, logging too."""
        self._pass_on()
        self.is_begun = True
        self._loop.call_soon_threadsafe(self._wait)

    def _wait(self) -> None:
        if self._is_up:
            _log.info("SIGTERM: readiness is 503, requests are taken for %s s more", self._seconds)
            self._timer = self._loop.call_later(self._seconds, signal.raise_signal, signal.SIGTERM)

    def _pass_on(self) -> None:
        signal.signal(signal.SIGTERM, self._of_the_server)
