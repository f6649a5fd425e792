"""The text of an API key: `prefix_id_secret`, with a checksum at its end."""

import re
import secrets
import string
import zlib

from fastapi_kit.auth.errors import InvalidApiKeyError
from fastapi_kit.errors import ConfigurationError

__all__ = ["ID_LENGTH", "KeyForm"]

ID_LENGTH = 24
"""Hex digits, 96 bits: unique without asking, and equal in no collation unless they are equal."""

_SECRET_LENGTH = 43
"""Base62 digits: 62**43 is more than 2**256."""
_CHECKSUM_LENGTH = 6
"""Base62 digits: 62**6 is more than 2**32."""

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PREFIX = re.compile(r"[a-z0-9]{2,16}")


class KeyForm:
    """Make and read keys with one prefix.

    The prefix tells a person, and a scanner for leaked secrets, whose key it is. So does the checksum, a CRC-32 of all
    before it: a scanner needs no look-up to tell a key from a text that is like one, nor do we for a key that was cut
    off or mistyped. No part can hold a "_", so there is one way to read a key.

    Raises `ConfigurationError` for a prefix that is not 2 to 16 small letters and digits.
    """

    def __init__(self, prefix: str) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise ConfigurationError(f"prefix is {prefix!r}: use 2 to 16 small letters and digits, as in 'shop'")
        self._prefix = prefix
        self._form = re.compile(
            rf"{prefix}_([0-9a-f]{{{ID_LENGTH}}})_[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECKSUM_LENGTH}}}"
        )

    def new(self) -> tuple[str, str]:
        """Return the id of a new key, and the key."""
        key_id = secrets.token_hex(ID_LENGTH // 2)
        secret = "".join(secrets.choice(_BASE62) for _ in range(_SECRET_LENGTH))
        body = f"{self._prefix}_{key_id}_{secret}"
        return key_id, body + _checksum(body)

    def id_of(self, key: str) -> str:
        """Return the id of a key; raise `InvalidApiKeyError` for any other text."""
        match = self._form.fullmatch(key)
        if match is None:
            raise InvalidApiKeyError("form")
        if _checksum(key[:-_CHECKSUM_LENGTH]) != key[-_CHECKSUM_LENGTH:]:
            raise InvalidApiKeyError("checksum")
        return match.group(1)


def _checksum(body: str) -> str:
    value = zlib.crc32(body.encode())
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        value, digit = divmod(value, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits
