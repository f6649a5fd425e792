"""Exchanging a refresh token for its successor, once (RFC 9700, 4.14.2)."""

import logging
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from hmac import compare_digest
from typing import NamedTuple

from fastapi_kit.auth.errors import InvalidGrantError, InvalidScopeError
from fastapi_kit.auth.sessions._token import RefreshToken
from fastapi_kit.auth.sessions.store import SessionRecord, SessionStore, unavailable
from fastapi_kit.errors import UnavailableError

__all__ = ["MAX_SKEW_MS", "Exchanged", "Rotation"]

MAX_SKEW_MS = 60_000
"""How far the clocks of two workers may differ; no grace is longer."""

_ATTEMPTS = 3

_log = logging.getLogger("fastapi_kit.auth")


class Exchanged(NamedTuple):
    """The log-in as it is now, its good refresh token, and the scopes asked for."""

    record: SessionRecord
    token: RefreshToken
    scopes: frozenset[str]
    is_new: bool
    """Whether it was this call that made the token the good one, and not one that it repeats."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """Decide what a refresh token gets: its successor, the one that it got before, or the end of the log-in."""

    idle_ms: int
    grace_ms: int

    async def exchange(
        self, store: SessionStore, presented: RefreshToken, asked: frozenset[str] | None, now: int
    ) -> Exchanged:
        """Return the successor of a token.

        Raises `InvalidGrantError`, `InvalidScopeError` before anything is changed, and `UnavailableError`.
        """
        nonce = secrets.token_hex(32)
        for _ in range(_ATTEMPTS):
            record = await _living(store, presented.session_id, now)
            if compare_digest(presented.secret_hash, record.secret_hash):
                scopes = _narrowed(record, asked)
                successor = presented.successor(nonce)
                expires_at = min(now + self.idle_ms, record.ends_at)
                if await store.rotate(
                    record.id,
                    presented=presented.secret_hash,
                    successor=successor.secret_hash,
                    nonce=nonce,
                    now=now,
                    expires_at=expires_at,
                ):
                    return Exchanged(replace(record, expires_at=expires_at), successor, scopes, is_new=True)
            elif self._is_retry(presented, record, now):
                scopes = _narrowed(record, asked)
                return Exchanged(record, presented.successor(record.nonce), scopes, is_new=False)
            else:
                await store.end(record.id, now)
                _log.warning(
                    "A refresh token of the log-in %s of %r was used again: the log-in is ended",
                    record.id,
                    record.subject,
                )
                raise InvalidGrantError("replayed")
        raise unavailable()  # the store answers with what was before the last change

    async def undo(self, store: SessionStore, presented: RefreshToken, exchanged: Exchanged) -> None:
        """Make the token before good again; its successor, which nobody was told, is not even one for a retry."""
        if exchanged.is_new:
            with suppress(UnavailableError):  # then the grace has to do
                await store.rotate(
                    presented.session_id,
                    presented=exchanged.token.secret_hash,
                    successor=presented.secret_hash,
                    nonce=secrets.token_hex(32),
                    now=0,
                    expires_at=exchanged.record.expires_at,
                )

    def _is_retry(self, presented: RefreshToken, record: SessionRecord, now: int) -> bool:
        # Another worker's clock may be ahead, and this request may have waited: rotated_at can be after now. But not
        # by any amount, or a clock that was set back would prolong the grace.
        since = now - record.rotated_at
        return (
            self.grace_ms > 0
            and -MAX_SKEW_MS <= since < self.grace_ms
            and compare_digest(presented.secret_hash, record.previous_hash)
        )


async def _living(store: SessionStore, session_id: str, now: int) -> SessionRecord:
    found = await store.find(session_id)
    if found is None:
        raise InvalidGrantError("unknown")
    record, epoch = found
    if reason := record.why_ended(epoch, now):
        raise InvalidGrantError(reason)
    return record


def _narrowed(record: SessionRecord, asked: frozenset[str] | None) -> frozenset[str]:
    if asked is None:
        return record.scopes
    if not asked <= record.scopes:
        raise InvalidScopeError
    return asked
