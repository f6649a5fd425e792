"""Refusing, at start-up, secrets that somebody could guess."""

from fastapi_kit.errors.configuration import ConfigurationError

__all__ = ["secret_bytes"]

_MIN_DISTINCT_BYTES = 8
_GUESSABLE = ("secret", "password", "changeme", "qwerty", "abcdefgh", "12345678", "09d25e094faa6ca2")
"""What tutorials, templates and keyboards put into secrets; the last is in the FastAPI documentation."""
_REMEDY = 'make one with: python -c "import secrets; print(secrets.token_urlsafe(64))"'


def secret_bytes(secret: str | bytes, setting: str, *, least: int = 32, user: str = "it") -> bytes:
    """Return a secret as bytes, if it is long and random enough to be one.

    `setting` and `user` are what the error calls the secret and what needs it; `least` is in bytes. Raises
    `ConfigurationError`, which never shows the secret, for one that is short, known from tutorials or monotonous.
    """
    raw = _encoded(secret, setting)
    if len(raw) < least:
        raise ConfigurationError(f"{setting} has {len(raw)} bytes, {user} needs {least}; {_REMEDY}")
    letters = raw.decode("latin-1").lower().replace("-", "").replace("_", "").replace(" ", "")
    if any(word in letters for word in _GUESSABLE):
        raise ConfigurationError(f"{setting} is like those of tutorials, which anybody can try; {_REMEDY}")
    if len(set(raw)) < _MIN_DISTINCT_BYTES:
        raise ConfigurationError(f"{setting} repeats a few characters, so it can be guessed; {_REMEDY}")
    return raw


def _encoded(secret: object, setting: str) -> bytes:
    try:
        return secret if isinstance(secret, bytes) else str.encode(secret)  # type: ignore[arg-type]
    except (TypeError, UnicodeEncodeError):  # the cause quotes the secret
        raise ConfigurationError(f"{setting} must be a str in UTF-8, or bytes, not {type(secret).__name__}") from None
