"""What a 422 says: where in the request and what was expected, never what was sent."""

from collections.abc import Mapping, Sequence
from traceback import walk_tb
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

_LIMITS = frozenset({"decimal_places", "ge", "gt", "le", "lt", "max_digits", "max_length", "min_length", "multiple_of"})
"""What a custom error may have in its context: pydantic's names for what the schema, not the client, says."""

_MAX_ERRORS = 100
_MAX_NAMES = 25_600
_MAX_READINGS = 4


def describe(errors: Sequence[Mapping[str, Any]], body: Any) -> list[dict[str, Any]]:
    """Return one entry for each of pydantic's errors, the first 100.

    Each has `detail` and pydantic's error type as `code`. An error in a JSON body has `pointer`: a JSON Pointer
    (RFC 6901) that resolves in `body`, to the value, or to the object that lacks it. Others have `in`
    (`path`, `query`, `header`, `cookie`, `form`) and `name`. No entry holds a value that was sent.

    The names are the client's, so 25600 characters are shared out among the entries, 256 for each where there are
    100: a pointer that is longer ends at the last parent that fits, a name is cut.
    """
    listed = errors[:_MAX_ERRORS]
    return [_entry(error, body, _MAX_NAMES // len(listed)) for error in listed]


def _entry(error: Mapping[str, Any], body: Any, room: int) -> dict[str, Any]:
    where, *path = error["loc"] or ("body",)
    entry = {"detail": _message(error), "code": error["type"]}
    is_form = isinstance(body, Mapping) and not isinstance(body, dict)  # its fields are flat
    if where != "body" or is_form:
        name = ".".join(map(str, path))[:room]
        return entry | {"in": "form" if where == "body" else str(where), "name": name}
    if error["type"] == "json_invalid":
        position = f" at character {path[0]}" if path and isinstance(path[0], int) else ""
        return entry | {"detail": f"The body is not valid JSON{position}", "pointer": ""}
    return entry | {"pointer": _pointer(path, body, error, room)}


def _message(error: Mapping[str, Any]) -> str:
    kind: str = error["type"]
    if kind in _KNOWN_TYPES:
        return _MESSAGES.get(kind) or str(error["msg"])
    # A validator of the application wrote it. No search of the text would find a value in each form it may take there.
    context: Mapping[str, Any] = error.get("ctx", {})
    if context.keys() <= _LIMITS or _is_literal(context.get("error")):
        return str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return "The value is not valid"


def _is_literal(exc: object) -> bool:
    """Tell whether the text of an exception stands in the code that raised it, so that it can hold nothing sent."""
    text = str(exc)
    trace = exc.__traceback__ if isinstance(exc, Exception) else None
    return any(text in frame.f_code.co_consts for frame, _ in walk_tb(trace))


def _pointer(path: Sequence[Any], body: Any, error: Mapping[str, Any], room: int) -> str:
    """Resolve pydantic's `loc` against the body.

    `loc` also holds the labels of unions and discriminators, which are no part of the body. A label can look
    like a key that is there, so of the ways to read `loc` the one that ends at the reported input wins, then the
    longest. The number of ways doubles with each such label: only the longest few are followed.
    """
    if error["type"] == "missing":
        path = path[:-1]
    readings = {"": body}
    for step in path:
        token = "/" + str(step).replace("~", "~0").replace("/", "~1")
        further: dict[str, Any] = {}
        for pointer, value in readings.items():
            if (child := _child(value, step)) is not None:
                if len(pointer) + len(token) > room:
                    return pointer
                further[pointer + token] = child[0]
        if not (further and isinstance(step, int)):  # a label, or what is not there
            further |= readings
        best = sorted(further, key=len, reverse=True)[:_MAX_READINGS]
        readings = {pointer: further[pointer] for pointer in best}
    reported = error.get("input")
    if reported is not None:  # null is no mark of a place, and the kit's own errors leave their input out
        for pointer, value in readings.items():
            if value is reported:
                return pointer
    return max(readings, key=len)


def _child(value: Any, step: Any) -> tuple[Any] | None:
    members: Any = value
    if isinstance(value, dict) and str(step) in value:
        return (members[str(step)],)
    if isinstance(value, list) and isinstance(step, int) and 0 <= step < len(members):
        return (members[step],)
    return None
