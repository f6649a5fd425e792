"""The two forms of a log line: JSON for machines, text for who develops."""

import logging
import re
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from fastapi_kit.observability._log_context import CONTEXT, Context, RequestContextFilter, current
from fastapi_kit.observability.redaction import LONGEST_TEXT, Redactor, as_text, cut

__all__ = ["JsonFormatter", "RequestContextFilter", "TextFormatter"]

_ACCESS = "fastapi_kit.access"
_LONGEST_TRACEBACK = 50_000
_MARGIN = 4_096
"""Characters looked at on the far side of a cut, so that a secret that reaches over it is whole."""
_MOST_FIELDS = 100
_TRACEBACK = "Traceback (most recent call last)"

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message", CONTEXT}
"""What a record has by itself, and Uvicorn's second copy of the message, with the colours of a terminal."""
_OURS = frozenset(
    {
        *("timestamp", "level", "logger", "message", "request_id", "trace_id", "span_id"),
        *("exception", "exception_type", "stack"),
    }
)
_TRUSTED = frozenset({"route", "status", "is_complete", "duration_ms", "close_code", "error"})
"""Fields of the request's own line that no client writes."""
_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY", "WEBSOCKET"}
)


class _Formatter(logging.Formatter, ABC):
    """What both forms share: what is in a line, each text without secrets and no longer than it may be."""

    def __init__(self, redactor: Redactor | None = None) -> None:
        super().__init__()
        self._redactor = redactor or Redactor()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, whatever is in the record: an object that fails to show itself is no reason for a crash."""
        try:
            return self._line(record)
        except Exception as exc:  # noqa: BLE001  # of objects in the record, which may do anything
            return self._failed(record, type(exc).__name__)

    @abstractmethod
    def _line(self, record: logging.LogRecord) -> str: ...

    @abstractmethod
    def _failed(self, record: logging.LogRecord, error: str) -> str: ...

    def _message(self, record: logging.LogRecord) -> str:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001  # arguments that do not fit, or fail to show themselves: what was to be said
            message = as_text(record.msg)
        if record.name == _ACCESS and type(record.args) is tuple and record.args and record.args[0] in _METHODS:
            return message  # no client wrote any of it
        if _TRACEBACK in message:  # Uvicorn, of a start-up that failed; the cause stands at its end
            return self._long(message)
        return self._redactor.text(message, longest=LONGEST_TEXT)

    def _add_fields(self, line: dict[str, Any], record: logging.LogRecord, bound: Mapping[str, Any]) -> None:
        value_of = self._redactor.value
        trusted = frozenset[str]()
        if record.name == _ACCESS and type(request := getattr(record, "request", None)) is dict:
            fields: dict[str, Any] = request  # with what was bound
            trusted = _TRUSTED
        else:
            fields = {**bound, **{name: value for name, value in vars(record).items() if name not in _STANDARD}}
        room = _MOST_FIELDS
        for name, value in fields.items():
            if name in trusted:
                line[name] = value
            elif name not in _OURS:
                room -= 1
                if room >= 0:
                    line[cut(name, 200)] = value_of(name, value)
        if room < 0:
            line["fields_left_out"] = -room

    def _exception(self, record: logging.LogRecord) -> tuple[str | None, str | None]:
        """Return type and traceback."""
        if not record.exc_info:
            return None, self._long(record.exc_text) if record.exc_text else None
        kind = record.exc_info[0]
        if kind is None:  # there was none, and it was asked for
            return None, None
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        try:
            return name, self._long("".join(traceback.format_exception(*record.exc_info)).rstrip())
        except Exception:  # noqa: BLE001  # of the exception's own methods
            return name, f"{name}, unreadable"

    def _long(self, text: str) -> str:
        """Return a traceback without its middle: its head tells where it began, its tail what it was."""
        if len(text) <= _LONGEST_TRACEBACK:
            return self._redactor.text(text)
        half = _LONGEST_TRACEBACK // 2
        head = self._redactor.text(text[: half + _MARGIN])[:half]
        tail = self._redactor.text(text[-half - _MARGIN :])[-half:]
        return f"{head}\n... [cut, {len(text)} characters] ...\n{tail}"


class JsonFormatter(_Formatter):
    """Make one line of JSON of a record, in ASCII.

    `timestamp` (RFC 3339, UTC), `level`, `logger`, `message`; `request_id`, `trace_id`, `span_id` where there are such;
    what was bound, and what `extra=` gave; `exception_type`, `exception` and `stack`. What `extra=` or `bind` call like
    one of these is left out. `configure_logging` uses it; by itself it is for `logging.config.dictConfig`.
    """

    def __init__(self, redactor: Redactor | None = None) -> None:
        super().__init__(redactor)
        self._second = (0, "")

    def _line(self, record: logging.LogRecord) -> str:
        context: Context = getattr(record, CONTEXT, None) or current()
        line: dict[str, Any] = {
            "timestamp": self._timestamp(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": self._message(record),
        }
        if context.request_id is not None:
            line["request_id"] = context.request_id
        if context.trace_id is not None:
            line["trace_id"] = context.trace_id
            line["span_id"] = context.span_id
        self._add_fields(line, record, context.bound)
        if record.exc_info or record.exc_text:
            kind, text = self._exception(record)
            if kind is not None:
                line["exception_type"] = kind
            if text is not None:
                line["exception"] = text
        if record.stack_info:
            line["stack"] = self._long(record.stack_info)
        return _json(line)

    def _failed(self, record: logging.LogRecord, error: str) -> str:
        return _json(
            {
                "timestamp": self._timestamp(time.time()),
                "level": as_text(record.levelname),
                "logger": as_text(record.name),
                "message": f"[a record that could not be shown: {error}]",
            }
        )

    def _timestamp(self, created: float) -> str:
        second = int(created)
        known, prefix = self._second
        if known != second:
            prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, prefix)
        return f"{prefix}.{int((created - second) * 1_000_000):06d}Z"


def _json(line: dict[str, Any]) -> str:
    try:
        raw = to_json(line, inf_nan_mode="strings")
        if not raw.isascii():
            raw = to_json(line, inf_nan_mode="strings", ensure_ascii=True)
    except Exception:  # noqa: BLE001  # of a lone surrogate, which is no UTF-8
        raw = to_json(_encodable(line), inf_nan_mode="strings", ensure_ascii=True)
    text = raw.decode("ascii")
    return text.replace("\x7f", "\\u007f") if "\x7f" in text else text


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(name): _encodable(item) for name, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_encodable(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


_UNSHOWN = re.compile(r"[^\x20-\x7e\xa1-\ud7ff\ue000-\U0010ffff]|[\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_BARE = re.compile(r"[^\s\"'=]+")


class TextFormatter(_Formatter):
    """Make a line for a person of a record: the time of day here, the message, the fields; below it the traceback.

    Characters that a terminal obeys, new lines among them, are escaped, so that nobody makes up lines. Of a message
    that is a warning of Python or holds a traceback, each further line stands below it, indented.
    """

    def _line(self, record: logging.LogRecord) -> str:
        context: Context = getattr(record, CONTEXT, None) or current()
        fields: dict[str, Any] = {}
        self._add_fields(fields, record, context.bound)
        message, *below = self._lines_of(record)
        if record.name == _ACCESS and "duration_ms" in fields:
            message += f" {fields['duration_ms']:.1f} ms"
            for told in ("method", "route", "status", "duration_ms"):
                fields.pop(told, None)
        ids = {"request_id": context.request_id, "trace_id": context.trace_id}
        shown = [f"{name}={_shown(value)}" for name, value in (ids | fields).items() if value is not None]
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        head = f"{clock}.{int(record.created % 1 * 1000):03d} {record.levelname:<5} {record.name} {message}"
        for text in (self._exception(record)[1], self._long(record.stack_info) if record.stack_info else None):
            if text is not None:
                below.extend(text.split("\n"))
        return "\n".join([_escaped(" ".join([head, *shown])), *("    " + _escaped(line) for line in below)])

    def _lines_of(self, record: logging.LogRecord) -> list[str]:
        message = self._message(record)
        if record.name == "py.warnings" or _TRACEBACK in message:
            return message.rstrip().split("\n")
        return [message]

    def _failed(self, record: logging.LogRecord, error: str) -> str:
        return _escaped(
            f"{as_text(record.levelname)} {as_text(record.name)} [a record that could not be shown: {error}]"
        )


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else _json({"": value})[4:-1]
    return text if not isinstance(value, str) or _BARE.fullmatch(text) else '"' + text.replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    return _UNSHOWN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
