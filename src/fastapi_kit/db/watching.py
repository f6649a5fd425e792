"""What a database is slow at, and what it is asked too often, in the log."""

import logging
import sys
from collections import Counter
from collections.abc import Generator
from importlib import import_module
from time import monotonic
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from fastapi_kit.db.options import Settings
from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy import event
    from sqlalchemy.engine import Connection, Engine, ExceptionContext

__all__ = ["watch"]

_log = logging.getLogger("fastapi_kit.db")

_MOST_CHARACTERS = 2000  # an INSERT of a thousand rows has a hundred thousand
_PASSED_THROUGH = sys.stdlib_module_names | {"fastapi_kit", "greenlet", "sqlalchemy"}
_CALLS_THE_APPLICATION = frozenset({"anyio", "fastapi", "starlette"})


def watch(engine: Engine, settings: Settings) -> None:
    """Log the slow statements and the repeated SELECTs of an engine, as far as its settings ask for it."""
    if settings.slow_query_seconds is not None:
        _Slow(settings.slow_query_seconds).watch(engine)
    if settings.repeated_queries is not None:
        _Repeated(settings.repeated_queries).watch(engine)


class _Slow:
    """Logs a statement that takes longer than some time, also if it fails or is cancelled then."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._started: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()

    def watch(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", self._start)
        event.listen(engine, "after_cursor_execute", self._end)
        event.listen(engine, "handle_error", self._fail)

    def _start(self, connection: Connection, *_: Any) -> None:
        self._started[connection] = monotonic()

    def _end(self, connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        took = monotonic() - self._started.pop(connection)
        if took > self._seconds:
            _log.warning("slow statement, %.0f ms%s: %s", took * 1000, _caller(connection), _in_one_line(statement))

    def _fail(self, context: ExceptionContext) -> None:
        connection, statement = context.connection, context.statement
        if connection and statement and connection in self._started:  # else it was a commit that failed, or a result
            self._end(connection, None, statement)


class _Repeated:
    """Logs a SELECT whose text one transaction sends some number of times, when it does."""

    def __init__(self, times: int) -> None:
        self._times = times
        # A session takes a new `Connection` for each transaction, and for each AUTOCOMMIT use of the pool.
        self._sent: WeakKeyDictionary[Connection, Counter[str]] = WeakKeyDictionary()

    def watch(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", self._count)

    def _count(self, connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith("SELECT"):
            return
        sent = self._sent.setdefault(connection, Counter())
        sent[statement] += 1
        if sent[statement] == self._times:
            caller = _caller(connection)
            _log.warning("%d times in one transaction%s: %s", self._times, caller, _in_one_line(statement))


def _in_one_line(statement: str) -> str:
    line = " ".join(statement.split())
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]} ..."


def _caller(connection: Connection) -> str:
    """Return where the application asked for it; nothing for a flush that came with the commit of a request."""
    for frame in _frames(is_async=connection.dialect.is_async):
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package in _CALLS_THE_APPLICATION:
            break
        if package not in _PASSED_THROUGH:
            return f" at {frame.f_code.co_filename}:{frame.f_lineno}"
    return ""


def _frames(*, is_async: bool) -> Generator[FrameType]:
    frame: FrameType | None = sys._getframe()  # noqa: SLF001  # `inspect.currentframe` is it, and may be None
    yield from _outwards(frame)
    if is_async:
        # SQLAlchemy runs in a greenlet; the coroutine that awaits it is on the stack of the greenlet's parent.
        parent: Any = import_module("greenlet").getcurrent().parent
        yield from _outwards(parent.gr_frame)


def _outwards(frame: FrameType | None) -> Generator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
