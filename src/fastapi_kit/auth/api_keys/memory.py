"""API keys in the process's own memory."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock

from fastapi_kit.auth.api_keys.store import ApiKeyRecord

__all__ = ["MemoryApiKeyStore"]


class MemoryApiKeyStore:
    """Keep API keys in this process, for tests and development.

    All keys are lost when the process ends, and another worker does not know them: a key that was revoked in one is
    unknown in the next. Construction warns (`UserWarning`) unless `development` says that this is meant.

    A lock makes each call one step for every thread and event loop.
    """

    def __init__(self, *, development: bool = False) -> None:
        if not development:
            warnings.warn(
                "MemoryApiKeyStore loses all API keys at a restart and shares none between workers: use"
                " SQLAlchemyApiKeyStore, or say MemoryApiKeyStore(development=True)",
                stacklevel=2,
            )
        self._lock = Lock()
        self._records: dict[str, ApiKeyRecord] = {}

    async def add(self, record: ApiKeyRecord, /) -> None:
        """Keep a new key."""
        with self._lock:
            self._records[record.id] = record

    async def find(self, key_id: str, /) -> ApiKeyRecord | None:
        """Return a key by its id, `None` for an unknown one."""
        with self._lock:
            return self._records.get(key_id)

    async def of_subject(self, subject: str, /) -> Sequence[ApiKeyRecord]:
        """Return all keys of a subject, newest first."""
        with self._lock:
            found = [record for record in self._records.values() if record.subject == subject]
            return sorted(found, key=lambda record: (-record.created_at, record.id))

    async def replace(self, key_id: str, successor: ApiKeyRecord, /, *, expires_at: int) -> bool:
        """Keep the successor of a key, and let the key end, if it is neither revoked nor replaced."""
        with self._lock:
            record = self._records.get(key_id)
            if record is None or record.revoked_at is not None or record.successor_id is not None:
                return False
            self._records[key_id] = replace(record, expires_at=expires_at, successor_id=successor.id)
            self._records[successor.id] = successor
            return True

    async def revoke(self, key_id: str, now: int, /) -> None:
        """Revoke a key; the time of the first call stays."""
        with self._lock:
            record = self._records.get(key_id)
            if record is not None and record.revoked_at is None:
                self._records[key_id] = replace(record, revoked_at=now)

    async def touch(self, key_id: str, /, *, now: int, before: int, secret_hash: str) -> None:
        """Note that a key was used, unless that was noted at `before` or later."""
        with self._lock:
            record = self._records.get(key_id)
            if record is not None and (record.last_used_at is None or record.last_used_at < before):
                self._records[key_id] = replace(record, last_used_at=now, secret_hash=secret_hash)
