"""Limits on routes, as dependencies."""

import time
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

from fastapi import Depends, Response
from starlette.requests import HTTPConnection
from starlette.types import Scope

from fastapi_kit._fastapi import route_template
from fastapi_kit.errors import ConfigurationError, needs_extra, raises
from fastapi_kit.ratelimit.attempts import Attempts, CountedBy
from fastapi_kit.ratelimit.counters import Counters, Strategy
from fastapi_kit.ratelimit.errors import RateLimitExceededError
from fastapi_kit.ratelimit.fields import Fields
from fastapi_kit.ratelimit.keys import ClientIP, bounded, by_ip
from fastapi_kit.ratelimit.rates import parse_rates, refusal
from fastapi_kit.ratelimit.storages import open_counters

with needs_extra("ratelimit"):
    from limits import RateLimitItem
    from limits.aio.storage import Storage

__all__ = ["Limiter", "RateLimit"]

Key = Callable[..., Any]


class Limiter:
    """Make rate limits that share one storage: `Depends(limiter("5/minute"))`.

    Put it on a route, a router or the app; it needs no `request` parameter and serves HTTP and
    WebSocket. It is a dependency, so the request body was read before it is asked, and a
    request that fails validation (422) is counted.

    - `storage`: `"memory://"`, a URL of `limits` such as `"redis://localhost:6379/0"`, or a storage of
      `limits.aio`. In memory every limiter and every worker process counts for itself: with four workers a
      client may have four times its quota. In Redis all count together where prefix, key, scope (or
      route) and limit are equal.
    - `key`: who is counted when a limit names no other key, see `Limiter.__call__`.
    - `strategy`: `"fixed-window"`, `"moving-window"` (exact) or `"sliding-window-counter"`.
    - `prefix`: the first part of every key; give each service its own in a Redis that they share.
    - `headers`: whether responses carry `RateLimit` and `RateLimit-Policy`.
    - `legacy_headers`: whether they carry `X-RateLimit-Limit`, `-Remaining` and `-Reset`, too.
    - `enabled`: False lets all requests pass uncounted; may be changed at any time, as tests do.

    Headers reach responses that FastAPI builds from what the endpoint returns, and the 429; a
    `Response` that the endpoint builds itself goes out without them.

    Raises `ConfigurationError` for an unknown storage scheme or strategy, and a missing package.
    """

    def __init__(
        self,
        storage: str | Storage = "memory://",
        *,
        key: Key = by_ip,
        strategy: Strategy = "fixed-window",
        prefix: str = "",
        headers: bool = True,
        legacy_headers: bool = False,
        enabled: bool = True,
    ) -> None:
        self.enabled = enabled
        self.headers = headers
        self.legacy_headers = legacy_headers
        self._key = key
        self._prefix = (prefix,) if prefix else ()
        self._counters = open_counters(storage, strategy)
        self._made: dict[tuple[object, ...], RateLimit] = {}

    def __call__(self, rates: str, *, key: Key | None = None, scope: str | None = None, cost: int = 1) -> "RateLimit":
        """Return a dependency that lets a request pass if every one of the limits does.

        - `rates`: `"5/minute"`, `"5 per 2 minutes"`, several as `"5/minute; 100/hour"`; at least 1 in a
          window of at most 366 days. A refused request counts against none of them. Limits of two different
          dependencies are two decisions, though: what the first counted stays counted when the second refuses.
        - `key`: any dependency, sync or async, with dependencies of its own, that returns a `str`: who is
          counted. All requests whose key is empty or None share one bucket. Up to 64 characters are stored
          as they are, so hash an API key first; of a longer key its SHA-256 is stored.
          `app.dependency_overrides` replaces it, but never a `ClientIP`, which is called directly for speed.
        - `scope`: routes that name the same scope share their counts. Without it each route, told
          apart by its full path template and method, has its own, so `/items/1` and `/items/2` share, and
          a limit on a router is one for each of its routes.
        - `cost`: what a request counts, at least 1 and at most the smallest limit.

        Equal calls return the same dependency, so a limit that stands on a router and again on its
        route counts a request once.

        Raises `ConfigurationError` for rates, a key, a scope or a cost that cannot work.
        """
        key = self._key if key is None else key
        if not callable(key):
            raise ConfigurationError(f"key={key!r} is no dependency: use by_ip or a function returning a str")
        if scope == "":
            raise ConfigurationError('scope="" names nothing: use for example scope="login", or leave it out')
        items = parse_rates(rates)
        if not 1 <= cost <= min(item.amount for item in items):
            raise ConfigurationError(f"cost={cost!r} does not fit {rates!r}: use 1, up to the smallest limit")
        wanted = (items, key, scope, cost)
        if wanted not in self._made:
            self._made[wanted] = RateLimit(
                self,
                counters=self._counters,
                prefix=self._prefix,
                items=items,
                key=key,
                scope=scope,
                cost=cost,
            )
        return self._made[wanted]

    def attempts(self, rates: str, *, by: CountedBy, scope: str = "login") -> Attempts:
        """Return a limit on log-ins, for `login_router(..., limit=...)`; see `Attempts`.

        - `rates`: as for a route, `"5/15 minutes"`.
        - `by`: what is counted, `"account_and_address"`, `"account"` or `"address"`.
        - `scope`: limits with the same one share their counts; give another form that takes a secret its own.

        They are counted in fixed windows, whatever the `strategy`. In a storage that cannot count down, such as
        memcached, log-ins that succeed stay counted too, each with a warning in the log.

        Raises `ConfigurationError` for rates, a `by` or a scope that cannot work.
        """
        address = self._key if isinstance(self._key, ClientIP) else by_ip
        return Attempts(
            self, counters=self._counters, prefix=self._prefix, rates=rates, by=by, scope=scope, address=address
        )

    @property
    def __signature__(self) -> Signature:
        """Refuse to be a dependency: FastAPI asks for it when a limiter stands in `Depends` that was not called."""
        raise ConfigurationError('Depends(limiter) would limit nothing: write Depends(limiter("5/minute"))')

    async def reset(self) -> None:
        """Forget every count of the storage, those of others with the same storage included; for tests."""
        await self._counters.reset()

    async def aclose(self) -> None:
        """Close the connections to a storage that was given by URL; call it at shutdown. Memory has none."""
        await self._counters.aclose()


@raises(RateLimitExceededError)
class RateLimit:
    """One limit as a dependency, made by calling a `Limiter`.

    Raises `RateLimitExceededError` (429, `rate_limited`) when a quota is used up; a WebSocket is refused
    before it is accepted.
    """

    def __init__(
        self,
        limiter: Limiter,
        *,
        counters: Counters,
        prefix: tuple[str, ...],
        items: tuple[RateLimitItem, ...],
        key: Key,
        scope: str | None,
        cost: int,
    ) -> None:
        self._limiter = limiter
        self._counters = counters
        self._prefix = prefix
        self._items = items
        self._key = key
        self._scope = scope
        self._cost = cost
        self._fields = Fields(items)
        self.__signature__: Signature = _signature(key)

    async def __call__(self, connection: HTTPConnection, response: Response, key: object = None) -> None:
        """Count the request, or refuse it."""
        if not self._limiter.enabled:
            return
        who = self._key.key_of(connection) if isinstance(self._key, ClientIP) else self._text(key)
        who = bounded(who)
        where = self._scope or _route(connection.scope)
        verdict = await self._counters.take(self._items, (*self._prefix, who, where), self._cost)
        now = time.time()
        standard = self._fields.standard(verdict.windows, now) if self._limiter.headers else {}
        legacy = self._fields.legacy(verdict.windows) if self._limiter.legacy_headers else {}
        if verdict.refused:
            connection.state.view_rate_limit = None  # slowapi's handler reads it, and fails without
            raise refusal(
                self._items, verdict, now, standard | legacy, key=self._key, scope=self._scope, cost=self._cost
            )
        headers = response.headers
        for name, value in standard.items():
            headers.append(name, value)
        for name, value in legacy.items():
            headers[name] = value  # unlike the others no list: the last limit of a route stays

    def _text(self, key: object) -> str:
        if key is None:
            return ""
        if not isinstance(key, str):
            raise TypeError(f"the rate limit key {self._key!r} must return a str, not {type(key).__name__}")
        return key


def _signature(key: Key) -> Signature:
    """Return what FastAPI is to inject; a `ClientIP` is asked directly, which saves a dependency's cost."""
    kind = Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        Parameter("connection", kind, annotation=HTTPConnection),
        Parameter("response", kind, annotation=Response),
    ]
    if not isinstance(key, ClientIP):
        parameters.append(Parameter("key", kind, default=Depends(key)))
    return Signature(parameters)


def _route(scope: Scope) -> str:
    return f"{scope.get('method', 'WS')} {route_template(scope)}"
