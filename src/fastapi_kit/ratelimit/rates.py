"""Reading rates, and refusing what exceeds them."""

import re
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.ratelimit.counters import Standing
from fastapi_kit.ratelimit.errors import RateLimitExceededError
from fastapi_kit.ratelimit.fields import describe

with needs_extra("ratelimit"):
    from limits import RateLimitItem, parse_many
    from slowapi.wrappers import Limit

__all__ = ["parse_rates", "refusal"]

_MOST = 1_000_000_000
_LONGEST_WINDOW_SECONDS = 366 * 24 * 3600
_MULTIPLES = re.compile(r"(?:/|per)\s*([0-9]+)", re.IGNORECASE)


def parse_rates(rates: str) -> tuple[RateLimitItem, ...]:
    """Return the limits that a text names; raise `ConfigurationError` for one that names none, or none that works."""
    try:
        items = tuple(dict.fromkeys(parse_many(rates)))  # a limit named twice must not count twice
    except ValueError as exc:
        raise ConfigurationError(
            f'{rates!r} is no rate limit: write for example "5/minute" or "5/minute; 100/hour"'
        ) from exc
    if any(item.amount < 1 for item in items):
        raise ConfigurationError(f"{rates!r} lets nothing pass: allow 1 or more, or take the route away")
    if any(item.amount > _MOST for item in items):
        raise ConfigurationError(f"{rates!r} lets more than a billion pass: take the limit away")
    if 0 in map(int, _MULTIPLES.findall(rates)):  # `limits` would take it for 1
        raise ConfigurationError(f'{rates!r} has a window of no length: write for example "5/minute"')
    if any(item.get_expiry() > _LONGEST_WINDOW_SECONDS for item in items):
        raise ConfigurationError(f"{rates!r} has a window of more than 366 days: use a shorter one")
    return items


def refusal(
    items: Sequence[RateLimitItem],
    standings: Sequence[Standing],
    cost: int,
    fields: Mapping[str, str],
    *,
    key: Callable[..., Any],
    scope: str | None,
) -> RateLimitExceededError:
    """Return the 429 of limits of which one refuses, for the one that does so longest."""
    item, standing = max(zip(items, standings, strict=True), key=lambda pair: pair[1].retry_seconds)
    seconds = max(1, ceil(standing.retry_seconds))
    error = RateLimitExceededError(
        f"The limit of {describe(item)} is used up; try again in {seconds} s."
        if cost <= item.amount
        else f"This request counts as {cost}, more than the limit of {describe(item)} ever lets pass.",
        headers={"Retry-After": str(seconds), **fields},
        retry_after=seconds,
    )
    error.limit = Limit(item, key, scope, False, None, None, None, cost, False)
    return error
