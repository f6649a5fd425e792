"""The check at start-up that no route takes its session in a way that commits after the response."""

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import FastAPI

from fastapi_kit._fastapi import Route, routes_of
from fastapi_kit.errors import ConfigurationError

__all__ = ["refuse_sessions_on_the_loop", "refuse_wrong_scopes"]


def refuse_wrong_scopes(
    app: FastAPI, sessions: Iterable[Callable[..., Any]], unit_of_work: Callable[..., Any], annotation: str
) -> None:
    """Raise `ConfigurationError` for a route that uses one of `sessions` outside function scope, or `unit_of_work`.

    Routes of mounted apps included. `dependency_overrides` are not looked at: FastAPI has no public way to tell,
    at run time, in which scope a dependency was called.
    """
    for route in routes_of(app, mounted=True):
        for dependency in route.dependencies:
            if dependency.call == unit_of_work:
                fault = "depends on `db.session`, which is for use outside of a request"
            elif dependency.call in sessions and dependency.scope != "function":
                fault = "takes its session in request scope, which commits after the response was sent"
            else:
                continue
            raise ConfigurationError(f"{_name(route)} {fault}: annotate it Annotated[{annotation}, db.per_request]")


def refuse_sessions_on_the_loop(app: FastAPI, sessions: Iterable[Callable[..., Any]]) -> None:
    """Raise `ConfigurationError` for an `async def`, endpoint or dependency, that takes one of `sessions`."""
    for route in routes_of(app, mounted=True):
        for dependency in route.dependencies:
            if dependency.call in sessions and dependency.is_used_on_the_loop:
                raise ConfigurationError(
                    f"{_name(route)} takes a session of a SyncDatabase in an `async def`, where each statement stops"
                    " the event loop: write `def`, or use a Database"
                )


def _name(route: Route) -> str:
    return f"{','.join(sorted(route.methods)) or 'WEBSOCKET'} {route.path}"
