"""Keys as they are stored."""

from hashlib import sha256
from uuid import UUID

from fastapi_kit.errors import needs_extra

with needs_extra("ratelimit"):
    from limits import RateLimitItem

__all__ = ["bounded", "stored_key", "text_of"]

_LONGEST_KEY = 64


def text_of(key: object, source: object) -> str:
    """Return what a key function returned as text; raise `TypeError` for what tells nobody from others."""
    if key is None:
        return ""
    if isinstance(key, str):
        return key
    if isinstance(key, int | UUID) and not isinstance(key, bool):
        return str(key)
    kind = type(key).__name__
    raise TypeError(f"the rate limit key {source!r} must return a str, an int or a UUID, not {kind}")


def bounded(who: str) -> str:
    """Return a key that costs little to store, and that a client's own text in it cannot make that of another."""
    if len(who) > _LONGEST_KEY:  # the prefix makes it longer than any key that is stored as it is
        return "sha256:" + sha256(who.encode(errors="surrogatepass")).hexdigest()
    return who.replace("%", "%25").replace("/", "%2F") if "%" in who or "/" in who else who


def stored_key(item: RateLimitItem, joined: str) -> str:
    """Return `item.key_for(*bucket)` for the parts of a bucket joined by "/", in a third of the time."""
    return f"{item.namespace}/{joined}/{item.amount}/{item.multiples}/{item.GRANULARITY.name}"
