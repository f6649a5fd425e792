"""Refusing, at start-up, secrets that somebody could guess."""

import re
from collections import Counter
from math import log2
from operator import eq

from fastapi_kit.errors.configuration import ConfigurationError

__all__ = ["REMEDY", "secret_bytes"]

_MIN_DISTINCT_BYTES = 8
_MIN_BITS_PER_BYTE = 2.5
"""In 32 bytes 80 bits; 32 random characters in hexadecimal have about 115."""
_MAX_PERIOD = 256
_GUESSABLE = (
    *("changeme", "replaceme", "replacethis", "generateme", "placeholder", "donotuse", "insecure"),
    *("password", "passphrase", "p4ssw0rd", "passw0rd", "yourkey"),
    *("secretkey", "mysecret", "yoursecret", "supersecret", "topsecret", "jwtsecret", "appsecret", "isasecret"),
    *("bitsecret", "stringsecret", "keyboardcat", "qwertyui", "abcdefgh", "09d25e094faa6ca2", "1234567890"),
)
"""What tutorials, templates and keyboards put into secrets, without `-`, `_` and spaces, in small letters.

The one in hexadecimal is in the FastAPI documentation. Each has 7 characters or more, so that 88 random characters of
base64 hold one of them with a chance of 4e-9.
"""
_GUESSABLE_IF_TYPED = ("secret", "qwerty", "12345678")
"""Those that chance writes more often: "secret" into one random secret in 12 million."""
REMEDY = 'make one with: python -c "import secrets; print(secrets.token_urlsafe(64))"'


def secret_bytes(secret: str | bytes, setting: str, *, least: int = 32, user: str = "it") -> bytes:
    """Return a secret as bytes, if it is long and random enough to be one.

    `setting` and `user` are what the error calls the secret and what needs it; `least` is in bytes. Raises
    `ConfigurationError`, which never shows the secret, for one that is short, known from tutorials or monotonous, and
    for a text with white space around it: mostly the end of a line in a file, which the other side may leave out.
    """
    raw = _encoded(secret, setting)
    if len(raw) < least:
        raise ConfigurationError(f"{setting} has {len(raw)} bytes, {user} needs {least}; {REMEDY}")
    text = re.sub(r"[-_\s]", "", raw.decode("latin-1"))
    letters = text.lower()
    words = _GUESSABLE + _GUESSABLE_IF_TYPED if _seems_typed(text) else _GUESSABLE
    if any(word in letters for word in words):
        raise ConfigurationError(f"{setting} is like those of tutorials, which anybody can try; {REMEDY}")
    if isinstance(secret, str) and secret != secret.strip():
        raise ConfigurationError(f"{setting} begins or ends with white space: take it away; {REMEDY}")
    if len(set(raw)) < _MIN_DISTINCT_BYTES or _entropy(raw) < _MIN_BITS_PER_BYTE * min(len(raw), 32) or _recurs(raw):
        raise ConfigurationError(f"{setting} repeats a few characters, so it can be guessed; {REMEDY}")
    return raw


def _seems_typed(text: str) -> bool:
    """Tell whether a text is in one case, or has digits at its ends alone, but is not hexadecimal.

    Of 43 random characters of base64 the first holds with a chance of 2e-10, the second of 3e-4.
    """
    if re.fullmatch(r"[0-9a-fA-F]*", text):
        return False
    return text in (text.lower(), text.upper()) or text.strip("0123456789!?.+/=").isalpha()


def _entropy(raw: bytes) -> float:
    """Return the bits of a text whose characters are as frequent as in this one (Shannon)."""
    return sum(-count * log2(count / len(raw)) for count in Counter(raw).values())


def _recurs(raw: bytes) -> bool:
    """Tell whether three of four bytes are those that stand a fixed distance before them.

    Of 32 random characters in hexadecimal that holds with a chance of 1e-11.
    """
    distances = range(1, min(len(raw) // 2, _MAX_PERIOD) + 1)
    return any(4 * sum(map(eq, raw, raw[step:])) >= 3 * (len(raw) - step) for step in distances)


def _encoded(secret: object, setting: str) -> bytes:
    try:
        return secret if isinstance(secret, bytes) else str.encode(secret)  # type: ignore[arg-type]
    except (TypeError, UnicodeEncodeError):  # the cause quotes the secret
        raise ConfigurationError(f"{setting} must be a str in UTF-8, or bytes, not {type(secret).__name__}") from None
