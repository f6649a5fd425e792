"""Showing settings without what they hide."""

import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

__all__ = ["shown"]

_MARK = "**********"
_TELLTALE = re.compile(
    r"password|passwd|passphrase|secret|token|credential|signing|encryption|(?:api|private|access|account)_?key"
    r"|(?:^|_)(?:pass|pwd|dsn|auth)(?:_|$)",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"_(?:seconds|minutes|hours|days|ttl|bytes|length|size|count|limit)$", re.IGNORECASE)
_LABEL = re.compile(
    r"(?:password|passwd|passphrase|pwd|secret|token|credential|(?:api|private|access|account)_?key)['\"]?\s*[=:]",
    re.IGNORECASE,
)


class _Shown:
    """A text that is its own repr."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def shown(name: str, value: Any) -> Any:
    """Return something whose repr is that of the value, or a mark where it may show a secret.

    That is where the name says so, its own or of what it is in, but for amounts, `token_ttl_seconds`; for a text with
    `://` and `@`, the URL of a database in a plain `str`; and for one with `password=` or the like.
    """
    if isinstance(value, SecretStr | SecretBytes | Secret | bool) or value is None:
        return value
    parts: Any = value
    members = _members(parts)
    if members is not None:
        texts = (f"{inner}={shown(f'{name}_{inner}', getattr(parts, inner, None))!r}" for inner in members)
        return _Shown(f"{type(parts).__name__}({', '.join(texts)})")
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(name, part) for part in parts]
    if isinstance(value, dict):
        return {key: shown(f"{name}_{key}", part) for key, part in parts.items()}
    if isinstance(value, int | float) and _AMOUNT.search(name):
        return value
    text = repr(value)
    is_telltale = _TELLTALE.search(name) or _LABEL.search(text) or ("://" in text and "@" in text)
    return _Shown(f"'{_MARK}'") if is_telltale else value


def _members(value: Any) -> Iterable[str] | None:
    """Return the names of the members that a model, a dataclass or a named tuple shows; nothing for another value."""
    if isinstance(value, BaseModel):
        return [name for name, field in type(value).model_fields.items() if field.repr]
    if is_dataclass(value):
        return [field.name for field in fields(value) if field.repr]
    return getattr(value, "_fields", None) if isinstance(value, tuple) else None
