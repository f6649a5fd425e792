"""Whether the answer to a request is one for which its session commits."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

__all__ = ["RollbackRoute", "is_safe", "is_success"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
_STATUS = "fastapi_kit_status"


class RollbackRoute(APIRoute):
    """Roll back the request's session also when the endpoint returns a `Response` with a status of 400 or more.

    `APIRouter(route_class=RollbackRoute)`, or `app.router.route_class = RollbackRoute` for the routes of the app
    itself; it does not reach the routers that are included. Without it the session of a request commits for whatever
    `Response` object is returned. An error that is raised, and a status that is set on the `Response` parameter,
    roll back everywhere.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler that tells the session which status was returned."""
        handler = super().get_route_handler()

        async def tell_status(request: Request) -> Response:
            request.scope[_STATUS] = 500  # for a dependency that hides an error from the session
            response = await handler(request)
            request.scope[_STATUS] = response.status_code  # the session's dependency ends after this
            return response

        return tell_status


def is_safe(connection: HTTPConnection) -> bool:
    """Return whether the method of a request is to read only (RFC 9110, 9.2.1); a WebSocket has none."""
    return connection.scope.get("method") in _SAFE_METHODS


def is_success(connection: HTTPConnection, response: Response) -> bool:
    """Return whether the status is below 400: that of the `Response` parameter, or as `RollbackRoute` tells."""
    # FastAPI's `Response` parameter has no status until the endpoint sets one.
    status: int | None = response.status_code
    return (status or 0) < 400 and connection.scope.get(_STATUS, 0) < 400
