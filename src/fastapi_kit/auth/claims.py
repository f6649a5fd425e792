"""What credentials say once they are verified."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["AccessClaims"]


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What verified credentials say: a token, or an API key. Times are seconds since the epoch."""

    subject: str
    """Who it is for (`sub`): the id of your user, as a string."""
    issuer: str
    """Who issued it (`iss`); `"api_key"` for an API key."""
    scopes: frozenset[str]
    """What it allows (`scope`); empty when it names none."""
    token_id: str | None
    """Its own id (`jti`), by which it can be revoked."""
    session_id: str | None
    """The log-in that it belongs to (`sid`); `None` for a token that was issued on its own."""
    issued_at: float | None
    """When it was issued (`iat`)."""
    not_before: float
    """When it begins to be valid (`nbf`); 0 when it does not say."""
    expires_at: float
    """When it ceases to be valid (`exp`); infinity for an API key without an end."""
    members: Mapping[str, Any] = field(repr=False)
    """All claims as they stand in the token, read-only: arrays are tuples."""
