"""The check at start-up that no route takes its session in a way that commits after the response."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from fastapi_kit._fastapi import routes_of
from fastapi_kit.errors import ConfigurationError

__all__ = ["refuse_wrong_scopes"]


def refuse_wrong_scopes(app: FastAPI, per_request: Callable[..., Any], session: Callable[..., Any]) -> None:
    """Raise `ConfigurationError` for a route that uses `per_request` outside function scope, or `session`.

    Routes of mounted apps included. `dependency_overrides` are not looked at: FastAPI has no public way to tell,
    at run time, in which scope a dependency was called.
    """
    for route in routes_of(app, mounted=True):
        for dependency in route.dependencies:
            if dependency.call == session:
                fault = "depends on `db.session`, which is for use outside of a request"
            elif dependency.call == per_request and dependency.scope != "function":
                fault = "takes its session in request scope, which commits after the response was sent"
            else:
                continue
            where = f"{','.join(sorted(route.methods)) or 'WEBSOCKET'} {route.path}"
            raise ConfigurationError(f"{where} {fault}: annotate it Annotated[AsyncSession, db.per_request]")
