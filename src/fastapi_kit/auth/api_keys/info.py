"""What a caller of `ApiKeys` gets to see of a key."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from fastapi_kit.auth.api_keys.store import ApiKeyRecord

__all__ = ["ApiKeyInfo", "NewApiKey", "info_of", "moment_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key that was just made."""

    key: str = field(repr=False)
    """The only time that it is told: show it to its owner once, and keep it nowhere."""
    id: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class ApiKeyInfo:
    """What may be shown of a key: all that is kept but its hash. Times are in UTC."""

    id: str
    subject: str
    name: str
    scopes: tuple[str, ...]
    """In alphabetical order."""
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """When it was last seen, give or take `touch_every`; `None` for a key that was never used."""
    successor_id: str | None
    """The key that it was rotated to."""


def info_of(record: ApiKeyRecord) -> ApiKeyInfo:
    """Return what may be shown of a record."""
    return ApiKeyInfo(
        record.id,
        record.subject,
        record.name,
        tuple(sorted(record.scopes)),
        _EPOCH + timedelta(milliseconds=record.created_at),
        moment_of(record.expires_at),
        moment_of(record.revoked_at),
        moment_of(record.last_used_at),
        record.successor_id,
    )


def moment_of(milliseconds: int | None) -> datetime | None:
    """Return a time since the epoch as a date in UTC, `None` for none."""
    return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)
