"""The response fields that tell a client where it stands."""

import time
from collections.abc import Sequence
from math import ceil

from fastapi_kit.errors import needs_extra
from fastapi_kit.ratelimit.counters import Standing

with needs_extra("ratelimit"):
    from limits import RateLimitItem

__all__ = ["Fields", "describe"]

Raw = list[tuple[bytes, bytes]]


class Fields:
    """Write `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4).

    A policy is named for its limit: `"5-per-minute";q=5;w=60`. The structured fields are
    Lists, so several limits are several members, in the order of the rate string.
    """

    def __init__(self, items: Sequence[RateLimitItem], *, standard: bool, legacy: bool) -> None:
        self._items = items
        self._standard = standard
        self._legacy = legacy
        names = [describe(item).replace(" ", "-") for item in items]
        self._members = [f'"{name}";r=' for name in names]
        policy = ", ".join(
            f'"{name}";q={item.amount};w={item.get_expiry()}' for name, item in zip(names, items, strict=True)
        )
        self._policy = (b"ratelimit-policy", policy.encode())

    def add_to(self, headers: Raw, standings: Sequence[Standing], returned: int = 0) -> None:
        """Add the fields for the limits as they stand, after what was `returned` of a charge; none for none."""
        if not standings:
            return
        if self._standard:
            members = [
                f"{member}{each.remaining + returned};t={ceil(each.reset_seconds)}"
                for member, each in zip(self._members, standings, strict=True)
            ]
            headers += (self._policy, (b"ratelimit", ", ".join(members).encode()))
        if self._legacy:
            self._add_legacy(headers, standings, returned)

    def _add_legacy(self, headers: Raw, standings: Sequence[Standing], returned: int) -> None:
        """Write slowapi's fields, for the limit with least left; the reset is in epoch seconds."""
        item, least = min(zip(self._items, standings, strict=True), key=lambda pair: pair[1].remaining)
        stated = [value for name, value in headers if name == b"x-ratelimit-remaining"]
        if any(value.isdigit() and int(value) < least.remaining + returned for value in stated):
            return  # of another limit, slowapi's perhaps, with less left
        fields = {
            b"x-ratelimit-limit": item.amount,
            b"x-ratelimit-remaining": least.remaining + returned,
            b"x-ratelimit-reset": ceil(time.time() + least.reset_seconds),
        }
        headers[:] = [header for header in headers if header[0] not in fields]  # they are no lists
        headers.extend((name, str(value).encode()) for name, value in fields.items())

    def of(self, standings: Sequence[Standing]) -> dict[str, str]:
        """Return the fields for an exception."""
        headers: Raw = []
        self.add_to(headers, standings)
        return {_NAMES[name]: value.decode() for name, value in headers}


_NAMES = {
    name.lower().encode(): name
    for name in ("RateLimit-Policy", "RateLimit", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
}


def describe(item: RateLimitItem) -> str:
    """Return a limit in words: `5 per minute`, `5 per 2 hours`."""
    unit = item.GRANULARITY.name
    return f"{item.amount} per {unit if item.multiples == 1 else f'{item.multiples} {unit}s'}"
