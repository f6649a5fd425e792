"""argon2id and bcrypt as passlib handlers that call argon2-cffi and bcrypt themselves.

passlib 1.7.4's own handlers fail with bcrypt 5 and warn with argon2-cffi 25. These are written to passlib's documented
`PasswordHash` interface, so they work with it and with libpass, its maintained fork.
"""

import re
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

from fastapi_kit.errors import needs_extra

with needs_extra("auth"), warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # passlib imports `crypt`, which Python 3.11 deprecates
    import argon2
    import bcrypt
    from passlib.ifc import PasswordHash

__all__ = ["OWASP", "RFC_9106_LOW_MEMORY", "Argon2Profile", "BcryptHandler", "argon2id_handler", "can_match"]

_BCRYPT_MAX_BYTES = 72
_ARGON2ID = re.compile(rb"\$argon2id\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")


@dataclass(frozen=True, slots=True)
class Argon2Profile:
    """The cost of one argon2id hash: passes over `memory_kib` KiB of memory, in `parallelism` lanes."""

    time_cost: int
    memory_kib: int
    parallelism: int


RFC_9106_LOW_MEMORY = Argon2Profile(time_cost=3, memory_kib=64 * 1024, parallelism=4)
"""The second recommended option of RFC 9106, section 4: 64 MiB for each hash."""

OWASP = Argon2Profile(time_cost=2, memory_kib=19 * 1024, parallelism=1)
"""The first of OWASP's equivalent settings: 19 MiB, for machines with little memory."""


class _Handler(PasswordHash):
    """What the two handlers share: no settings of passlib's, no truncation."""

    setting_kwds = ()
    context_kwds = ()

    @classmethod
    def using(cls, relaxed: bool = False, **_: Any) -> type["_Handler"]:
        """Return a variant, as passlib expects; there are no settings by which it could differ."""
        return type(cls.__name__, (cls,), {})

    @classmethod
    def genhash(cls, secret: str | bytes, config: str, **_: Any) -> str:
        """Refuse passlib's legacy call."""
        raise NotImplementedError("use hash() and verify()")


def argon2id_handler(profile: Argon2Profile) -> type[PasswordHash]:
    """Return a passlib handler that hashes by this profile, and wants older profiles hashed again."""

    class Argon2idHandler(_Handler):
        name = "argon2id"
        _hasher: ClassVar[argon2.PasswordHasher] = argon2.PasswordHasher(
            profile.time_cost, profile.memory_kib, profile.parallelism
        )

        @classmethod
        def identify(cls, hash: str | bytes) -> bool:
            return _ARGON2ID.fullmatch(_bytes(hash)) is not None

        @classmethod
        def hash(cls, secret: str | bytes, **_: Any) -> str:
            return cls._hasher.hash(secret)

        @classmethod
        def verify(cls, secret: str | bytes, hash: str | bytes, **_: Any) -> bool:
            try:
                return cls._hasher.verify(hash, secret)
            except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
                return False

        @classmethod
        def needs_update(cls, hash: str, secret: str | bytes | None = None) -> bool:
            return cls._hasher.check_needs_rehash(hash)

    return Argon2idHandler


class BcryptHandler(_Handler):
    """Verify hashes that an older system left; new ones are never made with it."""

    name = "bcrypt"
    _form: ClassVar[re.Pattern[bytes]] = re.compile(rb"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")

    @classmethod
    def identify(cls, hash: str | bytes) -> bool:
        """Tell whether this is a bcrypt hash."""
        return cls._form.fullmatch(_bytes(hash)) is not None

    @classmethod
    def hash(cls, secret: str | bytes, **_: Any) -> str:
        """Refuse: bcrypt is here to be left behind."""
        raise NotImplementedError("new hashes are argon2id")

    @classmethod
    def verify(cls, secret: str | bytes, hash: str | bytes, **_: Any) -> bool:
        """Tell whether the password is right; never for one of over 72 bytes, since bcrypt reads no more."""
        raw = _bytes(secret)
        return len(raw) <= _BCRYPT_MAX_BYTES and bcrypt.checkpw(raw, _bytes(hash))


def can_match(password: str, hashed: str) -> bool:
    """Tell whether it takes the time of a hash to compare these; bcrypt refuses a long password at once."""
    return not BcryptHandler.identify(hashed) or len(_bytes(password)) <= _BCRYPT_MAX_BYTES


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
