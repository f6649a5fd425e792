"""What a 422 says: where in the request and what was expected, never what was sent."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, get_args

from pydantic_core.core_schema import ErrorType

__all__ = ["describe"]

_KNOWN_TYPES = frozenset(get_args(ErrorType)) - {"value_error", "assertion_error"}

_MESSAGES = {
    "get_attribute_error": "An attribute could not be read",
    "iteration_error": "The items could not be read",
    "json_invalid": "The JSON is not valid",
    "mapping_type": "Input should be an object",
    "timezone_offset": "The time zone is not the expected one",
    "union_tag_invalid": "The tag does not match any of the expected tags",
    "url_parsing": "Input should be a valid URL",
    "url_syntax_violation": "Input should be a valid URL",
    "uuid_parsing": "Input should be a valid UUID",
}
"""For the types whose own message quotes the input, in whole or in part."""

_MAX_ERRORS = 100
_MAX_READINGS = 64
_MAX_QUOTES = 200


def describe(errors: Sequence[Mapping[str, Any]], body: Any) -> list[dict[str, Any]]:
    """Return one entry for each of pydantic's errors, the first 100.

    Each has `detail` and pydantic's error type as `code`. An error in a JSON body has `pointer`: a JSON Pointer
    (RFC 6901) that resolves in `body`, to the value, or to the object that lacks it. Others have `in`
    (`path`, `query`, `header`, `cookie`, `form`) and `name`. No entry holds a value that was sent.
    """
    return [_entry(error, body) for error in errors[:_MAX_ERRORS]]


def _entry(error: Mapping[str, Any], body: Any) -> dict[str, Any]:
    where, *path = error["loc"] or ("body",)
    entry = {"detail": _message(error), "code": error["type"]}
    if where != "body":
        return entry | {"in": str(where), "name": ".".join(map(str, path))}
    if isinstance(body, Mapping) and not isinstance(body, dict):  # a form, whose fields are flat
        return entry | {"in": "form", "name": ".".join(map(str, path))}
    if error["type"] == "json_invalid":
        position = f" at character {path[0]}" if path and isinstance(path[0], int) else ""
        return entry | {"detail": f"The body is not valid JSON{position}", "pointer": ""}
    return entry | {"pointer": _pointer(path, body, error)}


def _message(error: Mapping[str, Any]) -> str:
    kind: str = error["type"]
    if kind in _KNOWN_TYPES:
        return _MESSAGES.get(kind) or str(error["msg"])
    # A validator of the application wrote it: kept, unless it quotes the input.
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return "The value is not valid" if _quotes(message, error.get("input")) else message


def _quotes(message: str, sent: Any) -> bool:
    """Tell whether a message holds a value that was sent; yes when there are too many to look for."""
    pending: list[Any] = [sent]
    for item in pending:
        members: Any = item
        if isinstance(item, Mapping):
            pending.extend(members.values())
        elif isinstance(item, list | tuple):
            pending.extend(members)
        elif item not in (None, "") and re.search(rf"(?<!\w){re.escape(str(item))}(?!\w)", message):
            return True
        if len(pending) > _MAX_QUOTES:
            return True
    return False


def _pointer(path: Sequence[Any], body: Any, error: Mapping[str, Any]) -> str:
    """Resolve pydantic's `loc` against the body.

    `loc` also holds the labels of unions and discriminators, which are no part of the body. A label can look
    like a key that is there, so of the ways to read `loc` the one that ends at the reported input wins, then the
    one that follows most of it.
    """
    if error["type"] == "missing":
        path = path[:-1]
    reported = error.get("input")
    longest: tuple[str, ...] = ()
    for value, tokens in islice(_readings(path, body), _MAX_READINGS):
        if value is reported:
            longest = tokens
            break
        longest = max(longest, tokens, key=len)
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in longest)


def _readings(path: Sequence[Any], value: Any) -> Iterator[tuple[Any, tuple[str, ...]]]:
    if not path:
        yield value, ()
        return
    step, *rest = path
    found = _child(value, step)
    if found is not None:
        for end, tokens in _readings(rest, found[0]):
            yield end, (str(step), *tokens)
    if not isinstance(step, int):  # a label, or a key that is not there
        yield from _readings(rest, value)


def _child(value: Any, step: Any) -> tuple[Any] | None:
    members: Any = value
    if isinstance(value, dict) and step in value:
        return (members[step],)
    if isinstance(value, list) and isinstance(step, int) and 0 <= step < len(members):
        return (members[step],)
    return None
