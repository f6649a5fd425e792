"""What a slowapi `Limiter` is set to, in the terms of ours."""
# ruff: noqa: SLF001 (slowapi shows its settings in no other way)
# pyright: reportPrivateUsage=false

from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable, signature
from typing import Any, TypedDict, cast
from urllib.parse import urlencode, urlsplit

from starlette.requests import HTTPConnection

from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.ratelimit.counters import Strategy

with needs_extra("ratelimit"):
    from limits.strategies import (
        FixedWindowRateLimiter,
        MovingWindowRateLimiter,
        RateLimiter,
        SlidingWindowCounterRateLimiter,
    )
    from slowapi import Limiter
    from slowapi.extension import C

__all__ = ["SlowapiSettings", "settings_of"]

_STRATEGIES: Mapping[type[RateLimiter], Strategy] = {
    FixedWindowRateLimiter: "fixed-window",
    MovingWindowRateLimiter: "moving-window",
    SlidingWindowCounterRateLimiter: "sliding-window-counter",
}
_REDIS = {"redis", "rediss", "redis+unix"}
_WRITE = 'write the limiter out instead of Limiter.from_slowapi(...), for example Limiter("redis://localhost:6379/0")'


class SlowapiSettings(TypedDict):
    """The arguments of a `fastapi_kit.ratelimit.Limiter` that does what the other does."""

    storage: str
    """A URL, with the storage options in its query."""
    strategy: Strategy
    prefix: str
    key: Callable[[HTTPConnection], Awaitable[str]]
    """A dependency."""
    legacy_headers: bool
    enabled: bool


def settings_of(limiter: Limiter) -> SlowapiSettings:
    """Return what a slowapi limiter was set to by its arguments, the environment and its `.env` file.

    Its key function is called as slowapi calls it, on the event loop, with the request or the WebSocket; one that is
    async is awaited, and what it returns is made a text: empty for None.

    Raises `ConfigurationError` for storage options that a URL cannot carry, and for an unknown strategy.
    """
    if not isinstance(limiter, Limiter):
        raise ConfigurationError(f"a {type(limiter).__name__} is no limiter of slowapi: {_WRITE}")
    strategy = _STRATEGIES.get(type(limiter._limiter))
    if strategy is None:
        name = type(limiter._limiter).__name__
        raise ConfigurationError(f"the strategy {name} of the slowapi limiter is unknown here: {_WRITE}")
    url = limiter._storage_uri or limiter.get_app_config(C.STORAGE_URL, "memory://")
    return SlowapiSettings(
        storage=_with_options(url, limiter._storage_options),
        strategy=strategy,
        prefix=limiter._key_prefix or "",
        key=_dependency(limiter._key_func),
        legacy_headers=bool(limiter._headers_enabled),  # from the environment it is a text
        enabled=bool(limiter.enabled),
    )


def _dependency(key_func: Callable[..., object]) -> Callable[[HTTPConnection], Awaitable[str]]:
    wants_request = "request" in signature(key_func).parameters  # so slowapi tells

    async def key(connection: HTTPConnection) -> str:
        who = key_func(connection) if wants_request else key_func()
        if isawaitable(who):
            who = await cast("Awaitable[object]", who)
        if isinstance(who, bytes):
            return who.decode()  # so `limits` does
        return "" if who is None else str(who)

    return key


def _with_options(url: str, options: Mapping[str, object]) -> str:
    """Return the URL with the options of `limits` in its query."""
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return url  # it takes any option, and heeds none
    left = {name: value for name, value in options.items() if value is not None}
    left.pop("wrap_exceptions", None)  # concerns those who call the storage
    if left.get("key_prefix") == "LIMITS":  # the default
        del left["key_prefix"]
    if not left:
        return url
    if scheme not in _REDIS or "key_prefix" in left:
        raise _cannot_carry(scheme, left)
    stated = _options_in(url)  # which have precedence in redis-py, too
    query = urlencode({name: value for name, value in left.items() if name not in stated})
    carrying = f"{url}{'&' if '?' in url else '?'}{query}" if query else url
    try:
        is_carried = _options_in(carrying) == {**left, **stated}
    except ValueError:
        is_carried = False
    if not is_carried:
        raise _cannot_carry(scheme, left)
    return carrying


def _cannot_carry(scheme: str, options: Mapping[str, object]) -> ConfigurationError:
    return ConfigurationError(
        f"the slowapi limiter has storage options that a URL {scheme}:// cannot carry, among {', '.join(options)}: "
        f"{_WRITE} or with a storage of limits.aio"
    )


def _options_in(url: str) -> dict[str, object]:
    with needs_extra("redis"):
        from redis.connection import parse_url  # noqa: PLC0415 (an extra of its own)
    parse: Any = parse_url
    options: dict[str, object] = parse(url.removeprefix("redis+"))
    return options
