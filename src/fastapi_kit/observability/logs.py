"""Sending every log line of a process through one handler."""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.errors.exchange import ResponseCutError
from fastapi_kit.observability.log_lines import JsonFormatter, RequestContextFilter, TextFormatter
from fastapi_kit.observability.redaction import Redactor

__all__ = ["JsonFormatter", "RequestContextFilter", "TextFormatter", "configure_logging", "structlog_to_logging"]

_log = logging.getLogger("fastapi_kit.observability")

_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
"""Names that `logging` raises for in `extra`, and one that our lines leave out."""
_ARGUMENTS = ("exc_info", "stack_info", "stacklevel")
_SERVERS = ("uvicorn", "uvicorn.error", "uvicorn.asgi", "gunicorn.error")
_ACCESS = ("uvicorn.access", "gunicorn.access")


def configure_logging(
    *,
    level: int | str = "INFO",
    format: Literal["json", "text"] = "json",  # noqa: A002  # as logging.basicConfig calls it
    redactor: Redactor | None = None,
    stream: TextIO | None = None,
    levels: Mapping[str, int | str] | None = None,
) -> logging.Handler:
    """Write each log line of the process to standard output, with the ids of its request and without secrets.

    Call it in the module of the app. It puts one handler on the root logger, in place of those that write to standard
    output or error; others stay, such as those of files, Sentry and pytest. Uvicorn's and Gunicorn's lines take the
    same way, whichever of them configures its logging later; their access lines are off for good, since
    `observability.install` writes one. Warnings of Python become lines too. Called again, it takes its own place.

    `level` is the root logger's, `levels` are those of others: `{"sqlalchemy.engine": "INFO"}`. `format="text"` is for
    development. `redactor`: one with more names and patterns. `stream`: another than `sys.stdout`. Returns the handler,
    for who puts a queue before it.

    Call it after a `dictConfig` of your own: each logger that has a console handler of its own by then is named in a
    warning, since what that handler writes is neither redacted nor JSON.

    A line goes out in one write. What several processes write to one pipe does not mix as long as a line has at most
    4,096 bytes (PIPE_BUF of Linux); a longer one may, where the reader is slow. In one process none mix.

    Raises `ConfigurationError` for a level or a format that does not exist. Logging itself never raises.

    Security: see `Redactor` for what it cannot find.
    """
    formatters = {"json": JsonFormatter, "text": TextFormatter}
    if format not in formatters:
        raise ConfigurationError(f"format is {format!r}: use 'json' or 'text'")
    chosen = {name: _level(name, given) for name, given in {**(levels or {}), "": level}.items()}
    handler = _Lines(stream)
    handler.setFormatter(formatters[format](redactor or Redactor()))
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, _Lines) or _writes_to_the_console(old):
            root.removeHandler(old)
    root.addHandler(handler)
    for name, number in chosen.items():
        logging.getLogger(name).setLevel(number)
    for name in (*_SERVERS, *_ACCESS):
        logger = logging.getLogger(name)
        for known in [known for known in logger.filters if isinstance(known, _Claim)]:
            logger.removeFilter(known)
        logger.addFilter(_Claim(passes=name in _SERVERS))
    _claim_servers()
    logging.captureWarnings(True)
    _warn_of_consoles()
    return handler


def structlog_to_logging(_: object, __: str, event: MutableMapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Hand an event of structlog to `logging`: as the last of its processors, with `structlog.stdlib.LoggerFactory()`.

    `structlog.stdlib.render_to_log_kwargs` drops positional arguments, and `info("Paid", name="ann")` raises there,
    since a record of `logging` has a `name` by itself. Here `info("Paid by %s", who)` is filled in as `logging` does
    it, and a field with a reserved name gets an underscore at its end: `name_`.
    """
    message = event.pop("event", "")
    positional = event.pop("positional_args", ())
    given: dict[str, Any] = {name: event.pop(name) for name in _ARGUMENTS if name in event}
    extra = {name: value for name, value in event.items() if name not in _RESERVED}
    for name in event.keys() - extra.keys():
        free = name + "_"
        while free in event:
            free += "_"
        extra[free] = event[name]
    return (message, *positional), {**given, "extra": extra}


def _warn_of_consoles() -> None:
    for name in sorted(logging.root.manager.loggerDict):
        # A name that is only a part of others has no logger, and no handlers: `getLogger` would make one.
        handlers: list[logging.Handler] = getattr(logging.root.manager.loggerDict[name], "handlers", [])
        # slowapi has one on standard error whose `emit` does nothing.
        if any(_writes_to_the_console(each) and type(each).emit is logging.StreamHandler.emit for each in handlers):
            _log.warning(
                "The logger %r writes to the console by itself, past redaction: take its handler away and leave its "
                "propagate True, then call configure_logging",
                name,
            )


def _level(name: str, level: int | str) -> int:
    number = logging.getLevelNamesMapping().get(level.upper()) if isinstance(level, str) else level
    if not isinstance(number, int) or isinstance(number, bool):
        setting = f"levels[{name!r}]" if name else "level"
        raise ConfigurationError(f"{setting} is {level!r}: use 'DEBUG', 'INFO', 'WARNING', 'ERROR' or a number")
    return number


def _writes_to_the_console(handler: logging.Handler) -> bool:
    consoles = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return isinstance(handler, logging.StreamHandler) and any(handler.stream is console for console in consoles)


def _claim_servers() -> None:
    """Send what the servers log to the root logger, and to no console of their own."""
    for name in (*_SERVERS, *_ACCESS):
        logger = logging.getLogger(name)
        for handler in logger.handlers[:]:
            if _writes_to_the_console(handler):
                logger.removeHandler(handler)
        logger.propagate = name in _SERVERS  # Uvicorn makes no access line where no handler would get it


class _Claim(logging.Filter):
    """Undo, at the first line after it, that a server configured its logging again.

    `uvicorn.run(app)` does so after the module of the app was imported; filters are what it leaves as they are. A cut
    response gets no second traceback from the server, which knows no request id.
    """

    def __init__(self, *, passes: bool) -> None:
        super().__init__()
        self._passes = passes

    def filter(self, record: logging.LogRecord) -> bool:
        """Claim the loggers of the servers; let no access line pass."""
        if not self._passes:
            return False
        _claim_servers()
        return not (record.exc_info and record.exc_info[0] is ResponseCutError)


class _Lines(logging.Handler):
    """Write a line, in one piece, to the standard output of the moment or to the stream that was given."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; where that fails there is no place left to say so."""
        stream = self._stream or sys.stdout
        line = self.format(record) + "\n"
        try:
            try:
                stream.write(line)
            except UnicodeEncodeError:  # a terminal of another age
                stream.write(line.encode("ascii", "backslashreplace").decode())
            stream.flush()
        except Exception:  # noqa: BLE001  # a reader that went away, a full disk
            return
