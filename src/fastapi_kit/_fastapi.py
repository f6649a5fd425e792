"""The one place that touches what FastAPI does not publish; `tests/test_fastapi.py` holds it to the releases it is for.

FastAPI 0.163 to 0.165: the scope's `"fastapi"` entry holds the route as it was included, prefix and
all, while `scope["route"].path` lacks the prefix; and a route's `dependant` is the tree of its dependencies.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Host, Mount
from starlette.types import Scope

__all__ = ["Dependency", "Route", "route_template", "routes_of"]


@dataclass(frozen=True, slots=True)
class Dependency:
    """One dependency of a route: its callable and the scope that was asked for, if any."""

    call: Callable[..., Any]
    scope: str | None
    is_scoped: bool
    """Whether OAuth2 scopes are asked of it, by itself or by what depends on it."""


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


def _walk(dependant: Dependant) -> Iterator[Dependency]:
    is_scoped = bool(dependant.own_oauth_scopes or dependant.parent_oauth_scopes)
    yield Dependency(cast(Callable[..., Any], dependant.call), dependant.scope, is_scoped)
    for child in dependant.dependencies:
        yield from _walk(child)


def route_template(scope: Scope) -> str:
    """Return the full path template of the matched route (`/v1/items/{id}`), include and mount prefixes included.

    The raw path where no route matched.
    """
    context = scope.get("fastapi", {}).get("effective_route_context")
    route = context if context is not None else scope.get("route")
    template = getattr(route, "path", None)
    if template is None:
        return str(scope["path"])
    root: str = scope.get("root_path", "")
    app_root: str = scope.get("app_root_path", root)  # a Mount alone sets it
    return root.removeprefix(app_root) + str(template)
