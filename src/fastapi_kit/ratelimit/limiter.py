"""Limits that share one storage."""

from collections.abc import Callable, Collection, Mapping
from inspect import Signature
from typing import Any, Self, get_args

from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.ratelimit.attempts import Attempts, CountedBy
from fastapi_kit.ratelimit.client_ip import ClientIP, by_ip
from fastapi_kit.ratelimit.counters import Counters, Strategy
from fastapi_kit.ratelimit.dependency import AppNames, Plans, RateLimit
from fastapi_kit.ratelimit.memory import MemoryCounters
from fastapi_kit.ratelimit.outages import Breaker, OnFailure, OutageCounters
from fastapi_kit.ratelimit.slowapi import settings_of
from fastapi_kit.ratelimit.storages import open_storage
from fastapi_kit.ratelimit.workers import warn_of_several_workers

with needs_extra("ratelimit"):
    from limits.aio.storage import Storage
    from slowapi import Limiter as SlowapiLimiter

__all__ = ["Limiter"]


class Limiter:
    """Make rate limits that share one storage: `Depends(limiter("5/minute"))`.

    Put it on a route, a router or the app; it needs no `request` parameter and serves HTTP and
    WebSocket. It is a dependency, so the request body was read before it is asked. A request whose values are
    invalid (422) is counted; one whose body cannot be read (malformed JSON, too large) is not.

    - `storage`: `"memory://"`, a URL of `limits` such as `"redis://localhost:6379/0"`, or a storage of
      `limits.aio`. In memory every limiter and every worker process counts for itself: with four workers a
      client may have four times its quota; a warning is logged where several are found. In Redis all count
      together where prefix, key, scope (or route) and limit are equal.
    - `key`: who is counted when a limit names no other key, see `Limiter.__call__`.
    - `strategy`: `"fixed-window"`, `"moving-window"` (exact) or `"sliding-window-counter"`.
    - `prefix`: the first part of every key; give each service its own in a Redis that they share.
    - `headers`: whether responses carry `RateLimit` and `RateLimit-Policy`; on each response of an app with
      `errors.install` or `ratelimit.install`, else on the 429 and on those that FastAPI builds from a returned value.
    - `legacy_headers`: whether they carry `X-RateLimit-Limit`, `-Remaining` and `-Reset`, too.
    - `enabled`: False lets all requests pass uncounted; may be changed at any time, as tests do.
    - `on_failure`: while the storage fails, `"memory"` counts in each process, `"allow"` lets all pass, `"deny"`
      answers 503. One request a second tries the storage again. Attempts (`attempts`) are always denied.
    - `timeout_seconds`: how long a request waits for the storage.
    - `max_keys`: how many counts are kept in memory. Beyond, new clients share counts: none is unlimited, and
      no count is forgotten for another.

    Security: with `"allow"`, who can overload the storage is limited no more.

    Raises `ConfigurationError` for an unknown storage scheme, strategy or policy, numbers that are not positive, and a
    missing package.
    """

    def __init__(
        self,
        storage: str | Storage = "memory://",
        *,
        key: Callable[..., Any] = by_ip,
        strategy: Strategy = "fixed-window",
        prefix: str = "",
        headers: bool = True,
        legacy_headers: bool = False,
        enabled: bool = True,
        on_failure: OnFailure = "memory",
        timeout_seconds: float = 0.5,
        max_keys: int = 100_000,
    ) -> None:
        _one_of("strategy", strategy, get_args(Strategy))
        _one_of("on_failure", on_failure, get_args(OnFailure))
        _above_0("timeout_seconds", timeout_seconds)
        _above_0("max_keys", max_keys)
        _text("prefix", prefix)
        self.enabled = enabled
        self._headers = headers
        self._legacy_headers = legacy_headers
        self._key = _dependency("key", key)
        self._prefix = prefix
        self._made: dict[tuple[object, ...], RateLimit] = {}
        memory = MemoryCounters(strategy, max_keys=max_keys)
        self._counters: Counters = memory
        self._attempts: Counters = memory
        self._denies = False
        self._apps: AppNames | None = AppNames()
        if isinstance(storage, str) and storage.startswith("memory://"):
            warn_of_several_workers()
            return
        remote, breaker = open_storage(storage, strategy, timeout_seconds=timeout_seconds), Breaker()
        self._counters = OutageCounters(remote, breaker, on_failure=on_failure, memory=memory)
        self._attempts = OutageCounters(remote, breaker, on_failure="deny", memory=memory)
        self._denies = on_failure == "deny"
        self._apps = None  # their names would have to be the same in each worker

    @classmethod
    def from_slowapi(cls, limiter: SlowapiLimiter, **options: Any) -> Self:
        """Return a limiter with the storage, prefix, strategy, key function and switches of a slowapi `Limiter`.

        In Redis, limits of both with an equal scope, rate and key share their counts. In memory each counts for itself.
        slowapi lets a request pass whose key is empty; here all of them share a count.
        `options` are those of `Limiter`, and win.

        Raises `ConfigurationError` for what cannot be taken over, and says what to write instead.
        """
        return cls(**{**settings_of(limiter), **options})

    def __call__(
        self,
        rates: str | Mapping[str, str | None],
        *,
        key: Callable[..., Any] | None = None,
        scope: str | None = None,
        cost: int | Callable[..., Any] = 1,
        plan: Callable[..., Any] | None = None,
        exempt: Callable[..., Any] | None = None,
        only: Collection[int] | None = None,
    ) -> RateLimit:
        """Return a dependency that lets a request pass if every one of the limits does.

        `key`, `cost`, `plan` and `exempt` may be any dependency, sync or async, with dependencies of its own;
        `app.dependency_overrides` replaces it, but never a `ClientIP`, which is called directly for speed.

        - `rates`: `"5/minute"`, `"5 per 2 minutes"`, several as `"5/minute; 100/hour"`; at least 1 in a
          window of at most 366 days. A refused request counts against none of them, nor against other limits of its
          route that were asked before.
        - `plan`, with `rates` by plan, `{"free": "60/minute", "pro": "600/minute", "staff": None}`: returns
          the name of the caller's plan. None is no limit. A name that is not there is a `LookupError`, a 500.
        - `key`: returns who is counted, a `str`, `int` or `UUID`. All requests whose key is empty or None share one
          bucket. Up to 64 characters are stored as they are, so hash an API key first; of a longer one its SHA-256.
        - `scope`: routes that name the same scope share their counts. Without it each route, told
          apart by its full path template, method and endpoint, has its own, so `/items/1` and `/items/2` share, and
          a limit on a router is one for each of its routes. In memory two apps never share.
        - `cost`: what a request counts, at least 1 and at most the smallest limit; from a dependency 0 or more, where 0
          counts nothing and more than the limit is always a 429.
        - `exempt`: returns a `bool`, whether to let the request pass uncounted.
        - `only`: the statuses of the responses that count, `{401}` for a log-in; any other is given back as the
          response begins. All count while they are under way, so of any number at the same moment no more pass than the
          limit allows; a few that would not count may be refused meanwhile. It needs `errors.install` or
          `ratelimit.install`, and a route that is no WebSocket.

        Equal calls return the same dependency, so a limit that stands on a router and again on its
        route counts a request once.

        Raises `ConfigurationError` for arguments that cannot work.
        """
        key = self._key if key is None else _dependency("key", key)
        if scope is not None:
            _text("scope", scope)
        if scope == "":
            raise ConfigurationError('scope="" names nothing: use for example scope="login", or leave it out')
        plans = Plans.read(rates, by_plan=plan is not None, standard=self._headers, legacy=self._legacy_headers)
        if callable(cost):
            _dependency("cost", cost)
        elif cost not in range(1, plans.least + 1):
            raise ConfigurationError(f"cost={cost!r} does not fit {rates!r}: use 1 to {plans.least}, or a dependency")
        for name, given in (("plan", plan), ("exempt", exempt)):
            if given is not None:
                _dependency(name, given)
        if only is not None:
            if not _are_statuses(only):
                raise ConfigurationError(f"only={only!r} are no statuses: write for example only={{401}}")
            only = frozenset(only)
            if not self._counters.can_give_back:
                raise ConfigurationError('only= needs strategy="fixed-window" in this storage, or Redis, or memory')
        wanted = (plans.rates, plan, key, scope, cost, exempt, only)
        if wanted not in self._made:
            self._made[wanted] = RateLimit(
                self,
                counters=self._counters,
                prefix=self._prefix,
                apps=self._apps,
                denies=self._denies,
                plans=plans,
                plan=plan,
                key=key,
                scope=scope,
                cost=cost,
                exempt=exempt,
                only=only,
            )
        return self._made[wanted]

    def attempts(self, rates: str, *, by: CountedBy, scope: str = "login", address: ClientIP | None = None) -> Attempts:
        """Return a limit on log-ins, for `login_router(..., limit=...)`; see `Attempts`.

        - `rates`: as for a route, `"5/15 minutes"`.
        - `by`: what is counted, `"account_and_address"`, `"account"` or `"address"`.
        - `scope`: limits with the same one share their counts; give another form that takes a secret its own.
        - `address`: how to tell the client's address; the limiter's `key` if that is a `ClientIP`, else `by_ip`. Behind
          a proxy it has to know it: see `ClientIP`.

        In a storage or by a strategy that cannot count down (memcached; of the storages of `limits` all but fixed
        windows), log-ins that succeed stay counted too, each with a warning in the log.

        Raises `ConfigurationError` for rates, a `by` or a scope that cannot work.
        """
        if address is None:
            address = self._key if isinstance(self._key, ClientIP) else by_ip
        return Attempts(
            self, counters=self._attempts, prefix=self._prefix, rates=rates, by=by, scope=scope, address=address
        )

    @property
    def __signature__(self) -> Signature:
        """Refuse to be a dependency: FastAPI asks for it when a limiter stands in `Depends` that was not called."""
        raise ConfigurationError('Depends(limiter) would limit nothing: write Depends(limiter("5/minute"))')

    async def ping(self) -> None:
        """Return if the storage answers, a check for `health_router`; raise `UnavailableError` (503) if it does not."""
        await self._counters.ping()

    async def reset(self) -> None:
        """Forget every count under the prefix, without one every count of the storage, those of others included.

        For tests. A storage of `limits` other than memory and Redis knows no prefix.
        """
        await self._counters.reset(self._prefix)

    async def aclose(self) -> None:
        """Close the connections to a storage that was given by URL; call it at shutdown. Memory has none."""
        await self._counters.aclose()


def _dependency(name: str, given: Callable[..., Any]) -> Callable[..., Any]:
    if given is ClientIP:
        raise ConfigurationError(f"{name}=ClientIP is a class: write ClientIP()")
    if not callable(given):
        example = "by_ip or a function returning a str" if name == "key" else "a function"
        raise ConfigurationError(f"{name}={given!r} is no dependency: use {example}")
    return given


def _above_0(name: str, given: object) -> None:
    if not isinstance(given, int | float) or not given > 0:
        raise ConfigurationError(f"{name}={given!r} cannot work: choose a number above 0")


def _text(name: str, given: object) -> None:
    if not isinstance(given, str):
        raise ConfigurationError(f"{name}={given!r} is no text")


def _are_statuses(only: object) -> bool:
    return isinstance(only, Collection) and bool(only) and all(status in range(100, 600) for status in only)


def _one_of(name: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ConfigurationError(f"unknown {name} {given!r}: use one of {', '.join(known)}")
