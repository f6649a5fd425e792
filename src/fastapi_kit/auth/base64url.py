"""Unpadded base64url, one text for one value (RFC 7515, 2; RFC 4648, 3.5)."""

import re
from base64 import urlsafe_b64encode
from binascii import a2b_base64

__all__ = ["decode", "encode"]

_ALPHABET = re.compile(rb"[A-Za-z0-9_-]*")
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_LAST: tuple[bytes | None, ...] = (b"", None, b"AQgw", b"AEIMQUYcgkosw048")
"""What the last character may be, by the length modulo 4: its spare bits are 0. One character over is no encoding."""


def encode(raw: bytes) -> str:
    """Return the unpadded base64url form."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: bytes, *, is_of_alphabet: bool = False) -> bytes:
    """Return what `encode` made this of; `is_of_alphabet` tells that its characters were checked before.

    Raises `ValueError` for padding, other characters, and a length or trailing bits that no encoder makes.
    """
    last = _LAST[len(text) & 3]
    if last is None or (last and text[-1] not in last) or not (is_of_alphabet or _ALPHABET.fullmatch(text)):
        raise ValueError("no canonical unpadded base64url")
    return a2b_base64(text.translate(_TO_STANDARD) + b"==")
