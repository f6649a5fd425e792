"""Keeping secrets out of logs."""

import re
from collections import deque
from collections.abc import Collection, Mapping
from datetime import date, time
from functools import lru_cache
from typing import Any

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.observability.log_patterns import REDACTED, name_source, rules, secret_name

__all__ = ["LONGEST_TEXT", "Redactor", "as_text", "cut"]

LONGEST_TEXT = 10_000
"""Characters of a message, and of a field."""
_MARGIN = 4_096
"""Characters looked at beyond a cut, so that a secret that reaches over it is whole."""
_LONGEST_NAME = 200
_MOST_VALUES = 1_000
_MOST_CHARACTERS = 50_000
_DEEPEST = 8
_PLAIN = re.compile(r"[^ :=@_$?&/\\'\"%>]{0,59}")
"""What no rule finds a secret in, but for a JWT and a key of AWS: most short values, ids and addresses."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{1,49}")
_INT64 = 2**63


class Redactor:
    """Replace secrets by `[redacted]`: by the name of what holds them, and by their look.

    Names: a field or a member of a dict, at any depth, whose name holds `password`, `passwd`, `pwd`, `passphrase`,
    `secret`, `token`, `api key`, `private key`, `access key`, `credential`, `authorization`, `cookie`, `signature`,
    `session id`, `jwt`, `otp`, `csrf`; in any case, with `-`, `_` or camelCase. None, True and False are left.

    In any text (message, traceback, value): `password=...`, `"token": "..."` and the like with these names, in JSON,
    reprs, DSNs, query strings, header lists and lines of source; the whole rest of a line `Cookie:` or
    `Authorization:`; `Bearer` and `Basic` credentials; JWTs; the password in `scheme://user:password@host`; PEM private
    keys; password hashes; API keys and refresh tokens of the kit; keys of Stripe (`sk_live_...`), GitHub (`ghp_...`)
    and AWS (`AKIA...`); and what a client sent, where SQLAlchemy, PostgreSQL and Pydantic put it into their messages.

    `names`: more names, such as `("iban", "card number")`. `patterns`: more regular expressions, of which each match is
    replaced as a whole. They run on every line: one that backtracks stops the service.

    Raises `ConfigurationError` for a name that is not letters, digits, `-`, `_` and spaces, and for a pattern that does
    not compile or matches the empty text.

    Security: a net, not a wall. It cannot find a secret that looks like any word and stands under no telling name
    (`log.info("got %s", password)`), one that is encoded or split, the rest of a password that has spaces or `&` in it
    and no quotes around it, nor a password in a URL that reads like a port: up to five digits and then a raw `/`, `?`
    or `#`, as in `redis://user:123/x@host`. So do not log secrets.
    """

    def __init__(self, *, names: Collection[str] = (), patterns: Collection[str | re.Pattern[str]] = ()) -> None:
        words = _checked(names)
        source = name_source(words)
        self._own = tuple(_compiled(pattern) for pattern in _not_text(patterns, "patterns"))
        self._rules = rules(source, words, self._own)
        find = secret_name(source).search
        self._is_secret = lru_cache(maxsize=1_024)(lambda name: find(name) is not None)

    def is_secret(self, name: str) -> bool:
        """Tell whether what has this name is a secret."""
        return self._is_secret(name[-_LONGEST_NAME:])  # its end tells

    def text(self, text: str, *, longest: int | None = None) -> str:
        """Return the text without secrets.

        `longest`: the characters to keep, for a text that somebody else may make as long as he likes. What is cut off
        is not looked at, and its mark tells the whole length.
        """
        size = len(text)
        if longest is not None and size > longest + _MARGIN:
            text = text[: longest + _MARGIN]
        if self._own or size > 59 or not _PLAIN.fullmatch(text) or "eyJ" in text or "AKIA" in text:
            small = text.lower()
            for may_be_in, pattern, replacement in self._rules:
                if may_be_in(text, small):
                    text = pattern.sub(replacement, text)
        if longest is not None and (size > longest + _MARGIN or len(text) > longest):
            return f"{text[:longest]}... [cut, {size} characters]"
        return text

    def value(self, name: str, value: Any) -> Any:
        """Return one field as JSON can hold it: see `fields`."""
        kind = type(value)
        if value is None or kind is bool:
            return value
        if self._is_secret(name) and not (kind is int and name.endswith("tokens")):  # of a language model
            return REDACTED
        if kind is float or (kind is int and -_INT64 <= value < _INT64):
            return value
        if kind is str and len(value) <= LONGEST_TEXT:
            return self.text(value)
        return _Walk(self).plain(value, 0)

    def fields(self, fields: Mapping[Any, Any]) -> dict[str, Any]:
        """Return the fields without secrets, as what JSON can hold; what is no str, number, list or dict becomes text.

        Bounded: each text to 10,000 characters, all of a field's to 50,000, its values to 1,000, its depth to 8.
        """
        return {name: self.value(name, value) for name, value in ((_name(key), item) for key, item in fields.items())}


class _Walk:
    """One value, whose parts share what there is of room."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._values = _MOST_VALUES
        self._characters = _MOST_CHARACTERS

    def plain(self, value: Any, depth: int) -> Any:
        try:
            return self._plain(value, depth)
        except Exception:  # noqa: BLE001  # of the object's own methods
            return f"<{type(value).__name__}, unreadable>"

    def _plain(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is bool or kind is float or (kind is int and -_INT64 <= value < _INT64):
            return value
        if isinstance(value, Mapping):
            return self._members(value, depth) if depth < _DEEPEST else "[deeper]"
        if isinstance(value, list | tuple | set | frozenset | deque):
            return self._items(value, depth) if depth < _DEEPEST else "[deeper]"
        return self._text(as_text(value))

    def _text(self, text: str) -> str:
        if self._characters <= 0:
            return f"[cut, {len(text)} characters]"
        text = self._redactor.text(text, longest=min(LONGEST_TEXT, self._characters))
        self._characters -= len(text)
        return text

    def _members(self, members: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, value in members.items():
            if self._values <= 0:
                plain["[cut]"] = f"{len(members)} members"
                break
            self._values -= 1
            name = _name(key)
            shown = name if name.isidentifier() and len(name) < 60 else self._text(name)
            plain[shown] = self._member(name, value, depth)
        return plain

    def _member(self, name: str, value: Any, depth: int) -> Any:
        hides = self._redactor.is_secret(name) and not (value is None or isinstance(value, bool))
        return REDACTED if hides else self.plain(value, depth + 1)

    def _items(self, items: Collection[Any], depth: int) -> list[Any]:
        pair = tuple(items) if len(items) == 2 and not isinstance(items, set | frozenset) else ()
        if pair and isinstance(pair[0], str | bytes):  # a header
            return [self.plain(pair[0], depth + 1), self._member(_name(pair[0]), pair[1], depth)]
        plain: list[Any] = []
        for item in items:
            if self._values <= 0:
                plain.append(f"[cut, {len(items)} items]")
                break
            self._values -= 1
            plain.append(self.plain(item, depth + 1))
        return plain


def as_text(value: Any) -> str:
    """Return the text of any object, also of one that fails to give it."""
    try:
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value).decode("utf-8", "backslashreplace")
        if isinstance(value, date | time):
            return value.isoformat()
        if isinstance(value, BaseException):
            return f"{type(value).__name__}: {value}"
        return str(value)
    except Exception:  # noqa: BLE001  # of the object's own methods
        return f"<{type(value).__name__}, unreadable>"


def _name(key: Any) -> str:
    return cut(as_text(key), _LONGEST_NAME)


def cut(text: str, longest: int) -> str:
    """Return a text that is no longer than this, but for the mark that it was."""
    return text if len(text) <= longest else f"{text[:longest]}... [cut, {len(text)} characters]"


def _not_text(given: Collection[Any], setting: str) -> Collection[Any]:
    if isinstance(given, str | bytes):
        raise ConfigurationError(f"Redactor's {setting} is one text: write {setting}=[...], a list of them")
    return given


def _checked(names: Collection[str]) -> list[str]:
    for name in _not_text(names, "names"):
        if not isinstance(name, str) or not _WORD.fullmatch(name):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"Redactor's names has {name!r}: use 2 to 50 letters, digits, '-', '_' and spaces, as in 'card number'"
            )
    return list(names)


def _compiled(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
        is_empty = compiled.search("") is not None
    except (re.error, TypeError) as exc:
        raise ConfigurationError(f"Redactor's patterns has {pattern!r}, which is no regular expression: {exc}") from exc
    if is_empty:
        raise ConfigurationError(f"Redactor's patterns has {pattern!r}, which matches the empty text, so everywhere")
    return compiled
