"""Cursors: positions in a list, written so that a client can keep them and neither read nor make them."""

from base64 import urlsafe_b64encode
from binascii import a2b_base64
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from json import JSONDecoder, JSONEncoder
from typing import Any
from uuid import UUID

from fastapi_kit.errors import BadRequestError, ConfigurationError, needs_extra
from fastapi_kit.errors.secrets import secret_bytes
from fastapi_kit.pagination.origin import NoField
from fastapi_kit.pagination.positions import Position, Reach

with needs_extra("pagination"):
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV
    from cryptography.hazmat.primitives.hashes import SHA512
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["LONGEST", "Cursors", "InvalidCursorError", "LongCursorError"]

LONGEST = 4000
"""Characters of a cursor at most, so that it fits into a URL with all else that is there."""

_PURPOSE = b"fastapi_kit.pagination cursor v1"
"""Count it up with every change of the format: what the older one wrote then does not decrypt."""

_BLOCK = 16
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
# strings may hold lone surrogates, which UTF-8 proper refuses and JSON escapes would join into pairs
_SURROGATES = "surrogatepass"
_to_json = JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
_from_json: Callable[[str], Any] = JSONDecoder().decode


class InvalidCursorError(BadRequestError):
    """Answer 400: the cursor was not made by this service for this list, filter and sort, or not lately.

    There is nothing of the cursor in its text, and one text for all that is damaged or forged: a client can
    only do one thing, and someone who forges cursors is to learn nothing.
    """

    code = "invalid_cursor"
    status = 400
    title = "The cursor is damaged, too old, or belongs to another list, filter or sort: start again without it"


class LongCursorError(ValueError):
    """Say that a position has more text in it than a URL takes."""


class Cursors(NoField):
    """Encrypt positions into cursors, and read them back; build it once, with a secret of its own.

    The secret must be random, of at least 32 bytes, and the same on every worker. To replace it,
    give the new one first and the older ones after it: the first encrypts, all decrypt. A cursor
    does not expire by itself; those of an older secret are refused from when it is left out.
    Where workers are replaced one after the other, start them with the new secret in second
    place, then all with it in first place.

    Cursors are encrypted and authenticated with AES-SIV (RFC 5297), under a key that HKDF with
    SHA-512 (RFC 5869) makes of the secret. There is no nonce that could repeat, so a secret need
    not be replaced after some number of cursors; and the same position always makes the same
    cursor, so that pages can be cached by their URL.

    Security: a client can neither read the values in a cursor, nor change one, nor use one for
    another list, filter or sort. It can see about how long the values are, to 16 bytes, and that
    two cursors of the same list are equal. A cursor is no access right: whoever has one can send
    it, so the endpoint's own filter must decide, at each request, who sees what.

    `secrets`: str or bytes, one at least. Raises `ConfigurationError`, which never shows a secret, for
    none, for one that is short, known from tutorials or monotonous, and for one that is given twice.

    >>> import os
    >>> from fastapi_kit.pagination import Cursors
    >>> cursors = Cursors(os.environ["CURSOR_SECRET"])
    """

    def __init__(self, *secrets: str | bytes) -> None:
        if not secrets:
            raise ConfigurationError("Cursors() needs a secret: the newest first, then the older ones")
        raw = [secret_bytes(one, "a cursor secret") for one in secrets]
        if len(set(raw)) < len(raw):
            raise ConfigurationError("two cursor secrets are the same: give the new one first, then the older ones")
        self._keys = [AESSIV(HKDF(SHA512(), 64, salt=None, info=_PURPOSE).derive(one)) for one in raw]

    def encode(self, position: Position, context: str) -> str:
        """Return the cursor of a position, in the characters of base64url (RFC 4648, 5).

        `context`: what the cursor is good for, as the path, the filter and the order; it is
        authenticated and takes no room. It must not be one text for two lists.

        Raises `TypeError` for a value of a type that cannot be restored, and `LongCursorError` where
        the cursor would be longer than `LONGEST`. Neither shows a value.
        """
        mark = position.reach[0].upper() if position.is_key else position.reach[0]
        text = _to_json([mark, *map(_written, position.values)]).encode(errors=_SURROGATES)
        padded = text + b" " * (-len(text) % _BLOCK)
        cursor = _base64url(self._keys[0].encrypt(padded, [context.encode(errors=_SURROGATES)]))
        if len(cursor) > LONGEST:
            raise LongCursorError(
                f"the cursor has {len(cursor)} characters, and may have {LONGEST}: order by columns with shorter values"
            )
        return cursor

    def decode(self, cursor: str, context: str) -> Position:
        """Return the position that `encode` made the cursor of, in the same context.

        Each value has the type that it had, save that subclasses are restored as their base, and
        time zones as the offset from UTC, in whole seconds.

        Raises `InvalidCursorError`, 400 with the code `invalid_cursor`, for any other text.
        """
        if len(cursor) > LONGEST:
            raise InvalidCursorError
        opened = self._opened(cursor, [context.encode(errors=_SURROGATES)])
        try:
            return _position(opened)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # it is of another format
            raise InvalidCursorError from None

    def _opened(self, cursor: str, context: list[bytes]) -> bytes:
        try:
            sealed = _bytes(cursor)
        except ValueError:  # the cause quotes the cursor
            raise InvalidCursorError from None
        for key in self._keys:
            try:
                return key.decrypt(sealed, context)
            except InvalidTag:
                continue
        raise InvalidCursorError


def _base64url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    raw = a2b_base64(text.encode("ascii").translate(_TO_STANDARD) + b"==")
    if _base64url(raw) != text:  # the decoder skips what it does not know
        raise ValueError("no canonical unpadded base64url")
    return raw


_MICROSECOND = timedelta(microseconds=1)
_PLAIN = (bool, int, float, str, type(None))
"""What JSON restores as it was; it writes the infinities and NaN too, by their names in JavaScript."""

_KINDS: tuple[tuple[type, str, Callable[[Any], str], Callable[[str], Any]], ...] = (
    # a datetime is a date too, so it is looked for first
    (datetime, "t", datetime.isoformat, datetime.fromisoformat),
    (date, "d", date.isoformat, date.fromisoformat),
    (UUID, "u", lambda value: value.hex, UUID),
    (Decimal, "n", str, Decimal),
    (time, "c", time.isoformat, time.fromisoformat),
    (timedelta, "i", lambda value: str(value // _MICROSECOND), lambda text: timedelta(microseconds=int(text))),
    (bytes, "b", _base64url, _bytes),
)
_READERS = {tag: read for _, tag, _, read in _KINDS}
_REACHES: dict[str, Reach] = {"a": "after", "b": "before", "f": "from", "u": "until"}


def _written(value: object) -> object:
    if isinstance(value, _PLAIN):
        return value
    for kind, tag, write, _ in _KINDS:
        if isinstance(value, kind):
            return [tag, write(value)]
    raise TypeError(
        f"a cursor cannot hold a {type(value).__name__}: order by columns of bool, int, float, str, Decimal,"
        " datetime, date, time, timedelta, UUID or bytes"
    )


def _position(text: bytes) -> Position:
    mark, *values = _from_json(text.decode(errors=_SURROGATES))
    return Position(tuple([_read(value) for value in values]), _REACHES[mark.lower()], mark.isupper())


def _read(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    tag, text = value
    return _READERS[tag](text)
