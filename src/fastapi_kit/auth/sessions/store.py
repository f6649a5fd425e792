"""The port between log-ins and what holds them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from fastapi_kit.errors.standard import UnavailableError

__all__ = [
    "SessionRecord",
    "SessionState",
    "SessionStore",
    "fields_of",
    "record_of",
    "revocation_key",
    "unavailable",
]

_NUMBERS = ("epoch", "expires_at", "ends_at", "rotated_at", "ended_at")


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One log-in, and with it the whole family of its refresh tokens (RFC 9700, 4.14.2).

    Times are milliseconds since the epoch. No token can be made from what stands here: hashes are SHA-256 of 256
    random bits, in hex.
    """

    id: str
    """The `sid` of its access tokens: 32 hex digits."""
    subject: str
    scopes: frozenset[str]
    claims: Mapping[str, Any]
    """Claims of the application's own, for every access token of this log-in: what JSON can hold."""
    epoch: int
    """The subject's epoch when it began; the session has ended when the subject's epoch is higher."""
    secret_hash: str
    """Of the one refresh token that is good now."""
    expires_at: int
    """When it ends unless it is used before; never after `ends_at`."""
    ends_at: int
    """When it ends even if it is used."""
    previous_hash: str = ""
    """Of the refresh token before; empty until the first is used."""
    nonce: str = ""
    """With the previous token, not without it, the present one can be made again."""
    rotated_at: int = 0
    ended_at: int = 0
    """When it was ended; 0 while it lives."""

    def why_ended(self, epoch: int, now: int) -> str:
        """Return why it is not alive, "ended" or "expired", when its subject has this epoch; empty if it is."""
        if self.ended_at or self.epoch < epoch:
            return "ended"
        return "expired" if now >= self.expires_at else ""


@dataclass(frozen=True, slots=True)
class SessionState:
    """What a store knows of an access token."""

    is_denied: bool
    """Its `jti` was revoked."""
    epoch: int
    """The subject's present epoch, 0 if it was never raised, or so long ago that it was forgotten."""
    session: SessionRecord | None
    """The log-in of its `sid`; `None` if it names none, or one that is unknown or forgotten."""


@runtime_checkable
class SessionStore(Protocol):
    """Hold log-ins, and what was revoked.

    Every method is one atomic step. All raise `UnavailableError` (503) when the store does not answer, so that nobody
    passes for want of an answer.
    """

    async def epoch(self, subject: str, /) -> int:
        """Return the subject's epoch, 0 if it was never raised."""
        ...

    async def add(self, record: SessionRecord, /) -> None:
        """Keep a new log-in until its `expires_at` at least."""
        ...

    async def find(self, session_id: str, /) -> tuple[SessionRecord, int] | None:
        """Return a log-in and its subject's present epoch; `None` for one that is unknown or forgotten."""
        ...

    async def rotate(
        self, session_id: str, /, *, presented: str, successor: str, nonce: str, now: int, expires_at: int
    ) -> bool:
        """Make `successor` the good hash in place of `presented`, if that is it and the log-in has not ended.

        Returns whether it did: of any number of callers at once, one. `presented` becomes `previous_hash`, `now`
        `rotated_at`.
        """
        ...

    async def end(self, session_id: str, now: int, /) -> None:
        """End one log-in; no error for one that is unknown or has ended."""
        ...

    async def raise_epoch(self, subject: str, /, *, now: int, keep_until: int) -> int:
        """Set the subject's epoch to `now`, or one above what it is, whichever is more; return it."""
        ...

    async def deny(self, token_id: str, /, *, keep_until: int) -> None:
        """Revoke one access token by its `jti`, until it would have expired."""
        ...

    async def check(self, subject: str, session_id: str | None, token_id: str | None, /) -> SessionState:
        """Return, in one round trip, what there is to know before an access token is accepted."""
        ...

    async def purge(self, now: int, /) -> int:
        """Delete what is past its end, and return how many records that were; for a job that runs now and then."""
        ...


def fields_of(record: SessionRecord) -> dict[str, str | int]:
    """Return a record as flat fields, as a store can keep them."""
    flat = {"scopes": " ".join(sorted(record.scopes)), "claims": json.dumps(record.claims, separators=(",", ":"))}
    return {**asdict(record), **flat}


def record_of(fields: Mapping[Any, Any]) -> SessionRecord:
    """Return the record that these fields were made from; numbers may have become strings."""
    flat = {"scopes": frozenset(fields["scopes"].split()), "claims": json.loads(fields["claims"])}
    return SessionRecord(**{**fields, **{name: int(fields[name]) for name in _NUMBERS}, **flat})


def revocation_key(kind: Literal["epoch", "token"], name: str) -> str:
    """Return the key under which a store keeps the epoch of a subject, or a revoked token: 64 hex digits.

    A hash, so that no length, letter case or odd character of the name matters to the store.
    """
    return hashlib.sha256(f"{kind}:{name}".encode("utf-8", "surrogatepass")).hexdigest()


def unavailable() -> UnavailableError:
    """Return what a store raises when its server does not answer; it says no more than that."""
    return UnavailableError("Log-ins cannot be checked at the moment.", headers={"Retry-After": "1"})
