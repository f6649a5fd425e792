"""What Pydantic lets pass for something else."""

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import repeat
from numbers import Number
from typing import Any, TypeAlias

from pydantic import SecretStr
from pydantic_core import InitErrorDetails, PydanticCustomError

__all__ = ["Value", "find_lookalikes"]

_Where: TypeAlias = tuple[int | str, ...]
Value: TypeAlias = tuple[_Where, Any, Any]
"""Where a value is, what was sent, what it was read as."""

# tuples, since a union would be built anew for each value
_NUMBERS = (Number, timedelta)
_SEQUENCES = (list, tuple)
_SETS = (set, frozenset)
_NUL = PydanticCustomError("string_nul", "String should not contain the NUL character")
_SURROGATE = PydanticCustomError("string_surrogate", "String should not contain a lone surrogate")
_SURROGATE_RANGE = re.compile("[\ud800-\udfff]")
_BOOL = PydanticCustomError("number_from_bool", "Input should be a number, not a boolean")


def find_lookalikes(values: Iterable[Value]) -> list[InitErrorDetails]:
    """Return an error for each boolean read as a number, each string with a NUL or a lone surrogate.

    Lists and dicts are gone through, without recursion since a body may nest deeply. Nested
    models are not: they look after themselves.
    """
    pending = list(values)
    flaws: list[InitErrorDetails] = []
    for where, sent, read in pending:
        text = read.get_secret_value() if isinstance(read, SecretStr) else read
        if isinstance(text, str):
            if "\0" in text:
                flaws.append(_flaw(where, _NUL))
            elif not text.isascii() and _SURROGATE_RANGE.search(text):
                flaws.append(_flaw(where, _SURROGATE))
        elif type(sent) is bool:
            if isinstance(read, _NUMBERS) and not isinstance(read, bool):
                flaws.append(_flaw(where, _BOOL))
        elif isinstance(read, dict):
            pending.extend(_members(where, sent, read))
        elif isinstance(read, _SEQUENCES):
            same = isinstance(sent, _SEQUENCES) and len(sent) == len(read)
            pairs = zip(sent if same else repeat(None), read, strict=False)
            pending.extend(((*where, index), *pair) for index, pair in enumerate(pairs))
        elif isinstance(read, _SETS):
            pending.extend((where, None, item) for item in read)
            # a set has no order to compare by, but it cannot have lost a boolean that it may hold
            if isinstance(sent, Iterable) and bool in set(map(type, sent)) - set(map(type, read)):
                pending.append((where, True, 1))
    return flaws


def _members(where: _Where, sent: Any, read: dict[Any, Any]) -> Iterable[Value]:
    sent = sent if isinstance(sent, Mapping) else {}
    if sent.keys().isdisjoint(read):  # the keys were converted, {"1": ...} to {1: ...}; the order stays
        sent = dict(zip(read, sent.values(), strict=False))
    for key, value in read.items():
        inner = (*where, key if isinstance(key, int) else str(key))
        yield inner, None, key
        yield inner, sent.get(key), value


def _flaw(where: _Where, error: PydanticCustomError) -> InitErrorDetails:
    return InitErrorDetails(type=error, loc=where, input=None)  # no input, which may be a secret
