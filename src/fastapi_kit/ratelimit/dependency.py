"""One limit as a dependency of a route."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature
from itertools import count
from typing import Any, NoReturn, Protocol, Self
from weakref import WeakKeyDictionary, ref

from fastapi import Depends, Response
from starlette.requests import HTTPConnection
from starlette.types import Scope

from fastapi_kit._fastapi import matched_route, route_template
from fastapi_kit.errors import ConfigurationError, UnavailableError, needs_extra, raises
from fastapi_kit.ratelimit.client_ip import ClientIP
from fastapi_kit.ratelimit.counters import Counters
from fastapi_kit.ratelimit.errors import RateLimitExceededError
from fastapi_kit.ratelimit.fields import Fields
from fastapi_kit.ratelimit.keys import bounded, text_of
from fastapi_kit.ratelimit.ledger import Charge, ledger_of
from fastapi_kit.ratelimit.rates import parse_rates, refusal
from fastapi_kit.ratelimit.workers import warn_of_several_workers

with needs_extra("ratelimit"):
    from limits import RateLimitItem

__all__ = ["AppNames", "Plans", "RateLimit"]


class _Switch(Protocol):
    enabled: bool


class AppNames:
    """Tell apart the apps of a process that share a limiter; the first one needs no name."""

    def __init__(self) -> None:
        self._first: ref[object] | None = None
        self._others: WeakKeyDictionary[object, str] = WeakKeyDictionary()
        self._numbers = count(1)

    def of(self, app: object) -> str:
        """Return what to append to the name of a route."""
        if self._first is None:
            warn_of_several_workers()  # where uvicorn.run() stands in a script, it is known by now
            self._first = ref(app)
        if self._first() is app:
            return ""
        name = self._others.get(app)
        if name is None:
            name = self._others[app] = f" {next(self._numbers)}"
        return name


@dataclass(frozen=True, slots=True)
class _Rates:
    items: tuple[RateLimitItem, ...]
    fields: Fields


@dataclass(frozen=True, slots=True)
class Plans:
    """The limits of each plan; without plans, one under None."""

    by_name: Mapping[str | None, _Rates | None]
    rates: object
    """What tells these limits from others, hashable."""
    least: int
    """The smallest amount."""

    @classmethod
    def read(cls, rates: str | Mapping[str, str | None], *, by_plan: bool, standard: bool, legacy: bool) -> Self:
        """Return the limits that were written; raise `ConfigurationError` for ones that cannot work."""
        if not isinstance(rates, str | Mapping):
            raise ConfigurationError(f'{rates!r} is no rate limit: write for example "5/minute"')
        if by_plan is isinstance(rates, str):
            raise ConfigurationError(
                'rates by plan and plan= belong together: limiter({"free": "60/minute"}, plan=current_plan)'
            )
        written: Mapping[Any, str | None] = {None: rates} if isinstance(rates, str) else rates
        parsed = {name: None if text is None else parse_rates(text) for name, text in written.items()}
        amounts = [item.amount for items in parsed.values() for item in items or ()]
        if not amounts:
            raise ConfigurationError(f"{rates!r} limits no plan: give one of them a rate")
        return cls(
            {
                name: None if items is None else _Rates(items, Fields(items, standard=standard, legacy=legacy))
                for name, items in parsed.items()
            },
            frozenset(parsed.items()),
            min(amounts),
        )


@raises(RateLimitExceededError)
class RateLimit:
    """One limit as a dependency, made by calling a `Limiter`.

    Raises `RateLimitExceededError` (429, `rate_limited`) when a quota is used up; a WebSocket is refused
    before it is accepted. With `on_failure="deny"`, `UnavailableError` (503) while the storage does not answer.
    """

    def __init__(
        self,
        switch: _Switch,
        *,
        counters: Counters,
        prefix: str,
        apps: AppNames | None,
        denies: bool,
        plans: Plans,
        plan: Callable[..., Any] | None,
        key: Callable[..., Any],
        scope: str | None,
        cost: int | Callable[..., Any],
        exempt: Callable[..., Any] | None,
        only: Collection[int] | None,
    ) -> None:
        self._switch = switch
        self._counters = counters
        self._prefix = (prefix,) if prefix else ()
        self._apps = apps
        self._by_plan = plans.by_name
        self._key = key
        self._scope = scope
        self._cost = cost if isinstance(cost, int) else None
        self._only = only
        self._names: dict[tuple[int, str], tuple[object, str]] = {}
        """What was found for a route and a method; there are as many as routes with this limit."""
        self.__signature__: Signature = _signature(
            key=None if isinstance(key, ClientIP) else key,  # is asked directly, which saves a dependency's cost
            plan=plan,
            cost=None if isinstance(cost, int) else cost,
            exempt=exempt,
        )
        if denies:
            raises(UnavailableError)(self)

    async def __call__(
        self,
        connection: HTTPConnection,
        response: Response,
        key: object = None,
        plan: Any = None,
        cost: object = None,
        exempt: object = False,
    ) -> None:
        """Count the request, or refuse it."""
        if (exempt is not False and self._is_exempt(exempt)) or not self._switch.enabled:
            return
        try:
            rates = self._by_plan[plan]
        except (KeyError, TypeError):
            raise LookupError(f"no rate limit for the plan {plan!r}: add it, with None for no limit") from None
        if rates is None:
            return
        charged = _whole(cost) if self._cost is None else self._cost
        ledger = ledger_of(connection.scope)
        if ledger.has(self):  # FastAPI calls it again for a `Security`, or in another scope
            return
        if self._only is not None and not ledger.sees_response:
            raise ConfigurationError(
                "only= has to see the response: call errors.install(app) or ratelimit.install(app), and use it on"
                " no WebSocket"
            )
        who = self._key.key_of(connection) if isinstance(self._key, ClientIP) else text_of(key, self._key)
        bucket = (*self._prefix, bounded(who), self._where(connection.scope))
        try:
            standings, taken = await self._counters.take(rates.items, bucket, charged)
        except UnavailableError as exc:
            await ledger.refuse(exc)
            raise
        if taken is None and standings:
            connection.state.view_rate_limit = None  # slowapi's handler reads it, and fails without
            fields = rates.fields.of(standings)
            error = refusal(rates.items, standings, charged, fields, key=self._key, scope=self._scope)
            await ledger.refuse(error)
            raise error
        ledger.add(Charge(self, self._counters, taken, standings, rates.fields, self._only))
        if not ledger.sees_response:
            rates.fields.add_to(response.raw_headers, standings)

    @property
    def dependency(self) -> NoReturn:
        """Refuse to stand in `dependencies=[...]` by itself: FastAPI asks for it there."""
        raise ConfigurationError("a limit by itself is no dependency: write Depends(limiter(...))")

    def _is_exempt(self, answer: object) -> bool:
        if not isinstance(answer, bool):
            raise TypeError(f"`exempt` of a rate limit must return a bool, not {type(answer).__name__}")
        return answer

    def _where(self, scope: Scope) -> str:
        where = self._scope
        if where is None:
            route, method = matched_route(scope), scope.get("method", "WS")
            known = self._names.get((id(route), method))
            if known is not None and known[0] is route:
                where = known[1]
            else:
                where = f"{method} {route_template(scope)} {_name_of(scope['endpoint'])}"
                if not scope.get("root_path"):  # below a mount the template is another for each of them
                    self._names[id(route), method] = route, where
        return where if self._apps is None else where + self._apps.of(scope["app"])


def _name_of(endpoint: object) -> str:
    return f"{endpoint.__module__}.{getattr(endpoint, '__qualname__', None) or type(endpoint).__qualname__}"


def _whole(cost: object) -> int:
    if isinstance(cost, bool) or not isinstance(cost, int) or cost < 0:
        raise TypeError(f"the cost of a rate limit must be a whole number of 0 or more, not {cost!r}")
    return cost


def _signature(**dependencies: Callable[..., Any] | None) -> Signature:
    """Return what FastAPI is to inject."""
    kind = Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        Parameter("connection", kind, annotation=HTTPConnection),
        Parameter("response", kind, annotation=Response),
    ]
    parameters.extend(
        Parameter(name, kind, default=Depends(call)) for name, call in dependencies.items() if call is not None
    )
    return Signature(parameters)
