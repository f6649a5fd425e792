"""What credentials say once they are verified."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["AccessClaims", "checked_scopes"]

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


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
    """The log-in of `Sessions` that it belongs to (`sid`); `None` for what belongs to none."""
    issued_at: float | None
    """When it was issued (`iat`)."""
    not_before: float
    """When it begins to be valid (`nbf`); 0 when it does not say."""
    expires_at: float
    """When it ceases to be valid (`exp`); infinity for an API key without an end."""
    members: Mapping[str, Any] = field(repr=False)
    """All claims as they stand in the token, read-only: arrays are tuples."""


def checked_scopes(scopes: Iterable[str]) -> frozenset[str]:
    """Return scopes as a set; raise `ValueError` for a string in place of a list, and for what is no scope."""
    if isinstance(scopes, str):
        raise ValueError(f"scopes got the string {scopes!r} in place of a list: write [{scopes!r}]")
    checked = frozenset(scopes)
    if wrong := [scope for scope in checked if not _SCOPE.fullmatch(scope)]:
        raise ValueError(f"these are no scopes (RFC 6749, 3.3): {wrong}")
    return checked
