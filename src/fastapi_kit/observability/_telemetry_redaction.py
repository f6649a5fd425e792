"""What telemetry must not say: the text of exceptions, the values of queries, headers and parameters.

The functions work on what the API of OpenTelemetry calls attributes, whoever set them.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from opentelemetry.util.types import AnyValue

__all__ = ["REDACTED", "redacted_attributes", "redacted_body", "stack_without_text"]

REDACTED = "REDACTED"

_MESSAGE = "exception.message"
_STACK = "exception.stacktrace"
_URLS = frozenset({"url.full", "url.original", "http.url", "http.target"})
_VALUES = frozenset({"db.connection_string", "db.statement.parameters", "url.fragment"})
_VALUE_PREFIXES = ("db.query.parameter.", "db.operation.parameter.")
_HEADER = re.compile(
    r"(?:http\.(?:request|response)\.header|rpc\.(?:grpc\.)?(?:request|response)\.metadata)\.(.*)", re.DOTALL
)
_PLAIN_HEADERS = frozenset(
    {"accept", "accept-encoding", "accept-language", "content-encoding", "content-length", "content-type", "host"}
    | {"retry-after", "user-agent", "x-request-id"}
)
"""All others are redacted: which of them hold secrets is known to nobody but the app."""

# The lines of a Python traceback that hold no text of an exception. Each is matched as a whole.
_FRAME = re.compile(r'[ |]*File "(?:[^"]+\.py\w?|<[^"<>]+>)", line \d+, in [\w.<>]+')
_MARGIN = re.compile(
    r"[ |+]*(?:Exception Group )?Traceback \(most recent call last\):"
    r"|[ |]*\+[-+]+(?: (?:\d+|\.\.\.) -+)?"
    r"|[ |]*\[Previous line repeated \d+ more times?\]"
    r"|[ |]*The above exception was the direct cause of the following exception:"
    r"|[ |]*During handling of the above exception, another exception occurred:"
)
_CLASS = re.compile(r"([ |]*)([^\W\d][\w.]{0,199})(?::.*)?")
_TRACEBACK = "Traceback (most recent call last):"


def redacted_attributes(attributes: Mapping[str, AnyValue] | None, *, exception_text: bool) -> dict[str, AnyValue]:
    """Return the attributes of a span, an event, a link or a log record without what must not leave the process.

    `exception_text` lets the text of exceptions through, and nothing else. Names are compared without case: those of
    the conventions are in small letters, but a name made of a header is as its maker wrote it.
    """
    kept: dict[str, AnyValue] = {}
    for name, value in (attributes or {}).items():
        known = name.lower()
        if known in {_MESSAGE, "error.message"}:
            if exception_text:
                kept[name] = _encodable(value)
        elif known == _STACK and not exception_text:
            kept[name] = stack_without_text(value) if isinstance(value, str) else REDACTED
        else:
            kept[name] = _encodable(_redacted(known, value))
    return kept


def redacted_body(body: AnyValue, attributes: Mapping[str, AnyValue] | None, *, exception_text: bool) -> AnyValue:
    """Return the body of a log record without a traceback's text, and without what its attributes tell of an exception.

    A handler with a formatter puts the whole traceback into the body, and an exception that was never raised has no
    line that begins one.
    """
    if exception_text or not isinstance(body, str):
        return _encodable(body)
    told = attributes or {}
    start = body.find(_TRACEBACK)
    if start >= 0:
        start = body.rfind("\n", 0, start) + 1  # an exception group has a margin before it
        body = body[:start] + stack_without_text(body[start:])
    stack = told.get(_STACK)
    if stack and isinstance(stack, str):
        lines = frozenset(stack.splitlines())
        body = "\n".join((_line_without_text(line) or "") if line in lines else line for line in body.split("\n"))
    message = told.get(_MESSAGE)
    if message and isinstance(message, str):
        body = body.replace(message, REDACTED)
    return _encodable(body)


def stack_without_text(stack: str) -> str:
    """Return the frames and the classes of a formatted traceback, with those of its causes and of its group.

    What stays is what is recognised, line by line: frames (file, line, function), the sentences between exceptions, the
    margins of groups, and the names of exception classes that are loaded. Messages, notes and lines of source go, since
    one looks like the other. A line of a message that looks just like a frame stays.
    """
    return "\n".join(kept for kept in map(_line_without_text, stack.splitlines()) if kept is not None)


def _line_without_text(line: str) -> str | None:
    if _FRAME.fullmatch(line) or _MARGIN.fullmatch(line):
        return line
    named = _CLASS.fullmatch(line)
    if named is not None and _is_exception(named[2]):
        return named[1] + named[2]
    return None


def _is_exception(name: str) -> bool:
    """Tell whether this is the full name of a loaded exception class; nothing is imported for it."""
    parts = name.split(".")
    modules = [("builtins", parts), ("__main__", parts)]
    modules += [(".".join(parts[:length]), parts[length:]) for length in range(1, len(parts))]
    for module, names in modules:
        found: object = sys.modules.get(module)
        for attribute in names:
            found = getattr(found, "__dict__", {}).get(attribute)
        if isinstance(found, type) and issubclass(found, BaseException):
            return True
    return False


def _redacted(name: str, value: AnyValue) -> AnyValue:
    header = _HEADER.fullmatch(name)
    if header is not None:
        return value if header[1].replace("_", "-") in _PLAIN_HEADERS else REDACTED
    if name in _VALUES or name.startswith(_VALUE_PREFIXES):
        return REDACTED
    if name == "url.query":
        return _query(value) if isinstance(value, str) else REDACTED
    if name in _URLS:
        return _url(value) if isinstance(value, str) else REDACTED
    return value


def _query(query: str) -> str:
    """Keep the names, `page=REDACTED`; what has no value may be one itself."""
    pairs = (pair.partition("=") for pair in query.split("&"))
    return "&".join(f"{name}={REDACTED}" if value else REDACTED for name, _, value in pairs)


def _url(url: str) -> str:
    """Leave out the user, the password and the fragment of a URL, and the values of its query."""
    try:
        parts = urlsplit(url)
        address = parts.netloc.rpartition("@")[2]
    except ValueError:
        return REDACTED
    query = _query(parts.query) if parts.query else ""
    return parts._replace(netloc=address, query=query, fragment="").geturl()


def _encodable(value: AnyValue) -> AnyValue:
    """Replace lone surrogates, also inside lists and objects: one of them would cost the whole batch."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {str(_encodable(name)): _encodable(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_encodable(inner) for inner in value]
    return value
