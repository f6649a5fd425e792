"""Log-ins in the memory of the process: for development and tests."""

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from threading import Lock
from typing import Any

from fastapi_kit.auth.sessions.store import SessionRecord, SessionState, revocation_key

__all__ = ["MemorySessionStore"]

_SWEPT_PER_CALL = 4


class MemorySessionStore:
    """Keep log-ins in this process: they are lost when it ends, and no other worker knows of them.

    A lock makes each call one step for every thread and event loop. Each new record makes room by deleting a few that
    are past their end, so no call takes long but `purge`.

    Security: revocations are lost at a restart as well, so a token that was revoked may pass again until it
    expires. Therefore a `UserWarning` says so, unless `development` is true.
    """

    def __init__(self, *, development: bool = False, clock: Callable[[], float] = time.time) -> None:
        if not development:
            warnings.warn(
                "MemorySessionStore forgets log-ins and revocations at a restart, and no other worker shares them: use"
                " SQLAlchemySessionStore or RedisSessionStore, or say development=True",
                stacklevel=2,
            )
        self._clock = clock
        self._lock = Lock()
        self._sessions: dict[str, SessionRecord] = {}  # the ones used longest ago first
        self._epochs: dict[str, tuple[int, int]] = {}  # (epoch, keep_until) by key
        self._denied: dict[str, int] = {}  # keep_until by key

    async def epoch(self, subject: str) -> int:
        """Return the subject's epoch."""
        with self._lock:
            return self._epoch(subject)

    async def add(self, record: SessionRecord) -> None:
        """Keep a new log-in."""
        with self._lock:
            self._sweep()
            self._sessions[record.id] = record

    async def find(self, session_id: str) -> tuple[SessionRecord, int] | None:
        """Return a log-in and its subject's epoch."""
        with self._lock:
            record = self._sessions.get(session_id)
            return None if record is None else (record, self._epoch(record.subject))

    async def rotate(
        self, session_id: str, *, presented: str, successor: str, nonce: str, now: int, expires_at: int
    ) -> bool:
        """Replace the good hash, if it is the one presented."""
        with self._lock:
            record = self._sessions.get(session_id)
            if record is None or record.secret_hash != presented or record.ended_at:
                return False
            del self._sessions[session_id]  # the end of a dict is the place of the one used last
            self._sessions[session_id] = replace(
                record,
                secret_hash=successor,
                previous_hash=presented,
                nonce=nonce,
                rotated_at=now,
                expires_at=expires_at,
            )
            return True

    async def end(self, session_id: str, now: int) -> None:
        """End one log-in."""
        with self._lock:
            record = self._sessions.get(session_id)
            if record is not None and not record.ended_at:
                self._sessions[session_id] = replace(record, ended_at=now)

    async def raise_epoch(self, subject: str, *, now: int, keep_until: int) -> int:
        """Raise the subject's epoch, and return it."""
        with self._lock:
            key = revocation_key("epoch", subject)
            before, kept_until = self._epochs.pop(key, (0, 0))
            epoch = max(now, before + 1)
            self._sweep()
            self._epochs[key] = epoch, max(keep_until, kept_until)
            return epoch

    async def deny(self, token_id: str, *, keep_until: int) -> None:
        """Revoke one access token."""
        with self._lock:
            self._sweep()
            self._denied[revocation_key("token", token_id)] = keep_until

    async def check(self, subject: str, session_id: str | None, token_id: str | None) -> SessionState:
        """Return what there is to know of an access token."""
        with self._lock:
            return SessionState(
                is_denied=revocation_key("token", token_id or "") in self._denied,
                epoch=self._epoch(subject),
                session=self._sessions.get(session_id or ""),
            )

    async def purge(self, now: int) -> int:
        """Delete all that is past its end; how long it takes grows with what there is."""
        with self._lock:
            return sum(_drop(records, list(records), ends, now) for records, ends in self._kinds())

    def _epoch(self, subject: str) -> int:
        return self._epochs.get(revocation_key("epoch", subject), (0, 0))[0]

    def _kinds(self) -> list[tuple[dict[str, Any], Callable[[Any], int]]]:
        """Return the records of each kind, with what tells their end."""
        return [
            (self._sessions, lambda record: record.expires_at),
            (self._epochs, lambda kept: kept[1]),
            (self._denied, lambda keep_until: keep_until),
        ]

    def _sweep(self) -> None:
        """Delete a few that are past their end, from the front: most of what is behind them ends later."""
        now = int(self._clock() * 1000)
        for records, ends in self._kinds():
            _drop(records, list(islice(records, _SWEPT_PER_CALL)), ends, now)


def _drop(records: dict[str, Any], keys: list[str], ends: Callable[[Any], int], now: int) -> int:
    past = [key for key in keys if ends(records[key]) <= now]
    for key in past:
        del records[key]
    return len(past)
