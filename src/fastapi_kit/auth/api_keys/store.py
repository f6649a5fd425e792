"""The port between API keys and what holds them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

__all__ = ["ApiKeyRecord", "ApiKeyStore"]


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """What is kept of one API key. Times are milliseconds since the epoch; `None` for what has not happened."""

    id: str
    """The part of the key by which it is found: 24 hex digits, no secret."""
    secret_hash: str = field(repr=False)
    """HMAC-SHA256 of the whole key under the pepper, in hex: without the pepper no guess can be tried on it."""
    subject: str
    name: str
    """What its owner calls it."""
    scopes: frozenset[str]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None
    """When it was last seen, give or take the time between two writes."""
    successor_id: str | None = None
    """The key that it was rotated to."""


@runtime_checkable
class ApiKeyStore(Protocol):
    """Hold API keys.

    Every method is one atomic step, in a transaction of its own. All raise `UnavailableError` (503) when the store
    does not answer, so that nobody passes for want of an answer.
    """

    async def add(self, record: ApiKeyRecord, /) -> None:
        """Keep a new key."""
        ...

    async def find(self, key_id: str, /) -> ApiKeyRecord | None:
        """Return a key by its id, revoked and expired ones too; `None` for an unknown one."""
        ...

    async def of_subject(self, subject: str, /) -> Sequence[ApiKeyRecord]:
        """Return all keys of a subject, newest first, and of no other that a collation takes for the same."""
        ...

    async def replace(self, key_id: str, successor: ApiKeyRecord, /, *, expires_at: int) -> bool:
        """Keep the successor of a key, and let the key end at `expires_at`, if it is neither revoked nor replaced.

        Returns whether it did: of any number of callers at once, one.
        """
        ...

    async def revoke(self, key_id: str, now: int, /) -> None:
        """Revoke a key; the time of the first call stays. No error for an unknown one."""
        ...

    async def touch(self, key_id: str, /, *, now: int, before: int, secret_hash: str) -> None:
        """Note that a key was used, unless its last use was noted at `before` or later.

        `secret_hash` becomes its hash, so that a key that is in use moves to the newest pepper.
        """
        ...
