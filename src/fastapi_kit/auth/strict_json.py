"""JSON from strangers, without what RFC 8259 leaves open: one meaning, or none."""

import json
import math
from typing import Any

__all__ = ["parse_object"]


def parse_object(raw: bytes) -> dict[str, Any]:
    """Return the members of a JSON object.

    Raises `ValueError`, and nothing else, for what is no JSON object in UTF-8, and for duplicate members (RFC 7515, 4;
    RFC 7519, 4), NaN, numbers too large for a float, lone surrogates, and nesting deeper than the interpreter goes.
    """
    try:
        value: Any = _decoder.decode(raw.decode())
        if b"\\u" in raw:
            json.dumps(value, ensure_ascii=False).encode()  # raises for a lone surrogate
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    members: dict[str, Any] = value
    return members


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("duplicate member")
    return members


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a number that JSON has")
    return number


_decoder = json.JSONDecoder(object_pairs_hook=_members, parse_float=_number, parse_constant=_number)
