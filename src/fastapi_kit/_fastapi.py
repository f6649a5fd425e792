"""The one place that touches what FastAPI does not publish; `tests/test_fastapi.py` holds it to the releases it is for.

FastAPI 0.163 to 0.165: the scope's `"fastapi"` entry holds an HTTP route as it was included, prefix and
all, while `scope["route"].path` lacks the prefix; and a route's `dependant` is the tree of its dependencies,
each with the fields of its query parameters, which `get_flat_params` takes out of their models.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import iter_route_contexts
from fastapi.security import APIKeyQuery
from pydantic import AliasChoices, AliasPath
from starlette.routing import BaseRoute, Host, Mount, compile_path
from starlette.types import Scope

__all__ = ["Dependency", "Route", "matched_route", "query_names", "route_template", "routes_of"]


@dataclass(frozen=True, slots=True)
class Dependency:
    """One dependency of a route: its callable and the scope that was asked for, if any."""

    call: Callable[..., Any]
    scope: str | None
    is_scoped: bool
    """Whether OAuth2 scopes are asked of it, by itself or by what depends on it."""
    is_used_on_the_loop: bool
    """Whether what depends on it is an `async def`, and not run in a thread."""


@dataclass(frozen=True, slots=True)
class Route:
    """An API route as it answers: full path template, methods (upper case), endpoint first among its dependencies."""

    path: str
    methods: frozenset[str]
    dependencies: tuple[Dependency, ...]


def routes_of(app: FastAPI, *, mounted: bool = False) -> Iterator[Route]:
    """Yield every HTTP and WebSocket route of the app, through included routers.

    `mounted`: those of the apps that are mounted on it too, with their prefix. The app's own schema knows them not.
    """
    return _routes_below("", app.routes, mounted)


def _routes_below(prefix: str, routes: Sequence[BaseRoute], mounted: bool) -> Iterator[Route]:
    for context in iter_route_contexts(routes):
        dependant = getattr(context, "dependant", None)
        if isinstance(dependant, Dependant):
            path = getattr(context, "path_format", None) or context.path or ""
            yield Route(prefix + path, frozenset(context.methods or ()), tuple(_walk(dependant)))
        elif mounted and isinstance(context.original_route, Mount | Host):
            yield from _routes_below(prefix + (context.path or ""), context.original_route.routes, mounted)


def _walk(dependant: Dependant, *, is_used_on_the_loop: bool = False) -> Iterator[Dependency]:
    is_scoped = bool(dependant.own_oauth_scopes or dependant.parent_oauth_scopes)
    call = cast(Callable[..., Any], dependant.call)
    yield Dependency(call, dependant.scope, is_scoped, is_used_on_the_loop)
    for child in dependant.dependencies:
        yield from _walk(child, is_used_on_the_loop=_runs_on_the_loop(call))


def _runs_on_the_loop(call: Callable[..., Any]) -> bool:
    forms = inspect.unwrap(call), getattr(call, "__call__", None)  # noqa: B004  # of an instance
    return any(inspect.iscoroutinefunction(form) or inspect.isasyncgenfunction(form) for form in forms)


def route_template(scope: Scope) -> str:
    """Return the full path template of the matched route (`/v1/items/{id}`), include and mount prefixes included.

    Of a mount whose own path has parameters their names stand there (`/of/{tenant}`): their values are the client's.
    The raw path where no route matched.
    """
    template = getattr(matched_route(scope), "path", None)
    if template is None:
        return str(scope["path"])
    root: str = scope.get("root_path", "")
    app_root: str = scope.get("app_root_path", root)  # a Mount alone sets it
    prefix = root.removeprefix(app_root)
    return (_mount_template(scope, prefix) if prefix else "") + str(template)


_STATIC_MOUNTS = "fastapi_kit_static_mounts"


def _mount_template(scope: Scope, prefix: str) -> str:
    """Return the template of the mounts that a prefix has passed, from the outermost router on."""
    router = scope.get("router")
    known: set[str] = getattr(router, _STATIC_MOUNTS, set[str]())
    if prefix in known:
        return prefix
    template = _template_below(getattr(router, "routes", ()), f"{prefix}/")
    if template == prefix:  # of these there are as many as mounts; of the others as many as clients like
        setattr(router, _STATIC_MOUNTS, known | {prefix})
    if template is None:  # below something that is not Starlette's
        return "/*" if scope["path_params"] else prefix
    return template


def _template_below(routes: Sequence[BaseRoute], rest: str) -> str | None:
    for context in iter_route_contexts(routes):
        route = context.original_route
        if isinstance(route, Mount):
            path = context.path or ""  # as it was included
            match = _mount_regex(path).match(rest)
            if match is None:
                continue
            left = "/" + match["path"]
            inner = "" if left == "/" else _template_below(route.routes, left)
            if inner is not None:
                return path + inner
        elif isinstance(route, Host):
            inner = _template_below(route.routes, rest)
            if inner is not None:
                return inner
    return None


@lru_cache(maxsize=256)
def _mount_regex(path: str) -> re.Pattern[str]:
    return compile_path(path + "/{path:path}")[0]


def matched_route(scope: Scope) -> Any:
    """Return the matched route as it was included, or None."""
    route = scope.get("route")
    context = scope.get("fastapi", {}).get("effective_route_context")
    if context is not None and context.original_route is route:
        return context
    return route  # as it was declared, a WebSocket's as it was included; the context is of what this app is mounted on


_QUERY_NAMES = "fastapi_kit_query_names"


def query_names(scope: Scope) -> frozenset[str]:
    """Return the names of all query parameters of the matched route, those of its dependencies included.

    Fields of a model in `Query()` count, and what `APIKeyQuery` reads. What a dependency takes from
    `request.query_params` is not declared and not known, nor what an entry of `dependency_overrides` declares.
    Empty where no route of FastAPI matched. Worked out once for each route, and kept on it to die with it.
    """
    route = matched_route(scope)
    dependant = getattr(route, "dependant", None)
    if not isinstance(dependant, Dependant):
        return frozenset()
    kept = vars(route)
    if _QUERY_NAMES not in kept:
        kept[_QUERY_NAMES] = frozenset(_query_names(dependant))
    names: frozenset[str] = kept[_QUERY_NAMES]
    return names


def _query_names(dependant: Dependant) -> Iterator[str]:
    if isinstance(dependant.call, APIKeyQuery):
        yield dependant.call.model.name
    for field in get_flat_params(Dependant(query_params=dependant.query_params)):
        alias = field.field_info.validation_alias or field.alias
        for choice in alias.choices if isinstance(alias, AliasChoices) else (alias,):
            yield str(choice.path[0]) if isinstance(choice, AliasPath) else choice
        config = field.config or {}
        if config.get("populate_by_name") or config.get("validate_by_name"):
            yield field.name
    for child in dependant.dependencies:
        yield from _query_names(child)
