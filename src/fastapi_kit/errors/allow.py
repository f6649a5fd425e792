"""What `Allow` says of a path."""

from collections.abc import Mapping
from typing import Any

from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

__all__ = ["with_all_methods"]


def with_all_methods(connection: HTTPConnection, exc: HTTPException) -> HTTPException:
    """Return a router's 405 with every method of the path in `Allow` (RFC 9110, 15.5.6 and 10.2.1).

    The router names those of the first route alone that has the path, and a route of FastAPI mostly has one method.
    Any other exception is returned as it is, also the 405 of an endpoint for a method that it has.
    """
    if exc.status_code != 405 or "Allow" not in (exc.headers or {}):
        return exc
    scope = connection.scope
    path = scope["path"].removeprefix(scope.get("root_path", "").removesuffix("/"))
    methods: set[str] = set()
    for route in iter_route_contexts(connection.app.routes):
        pattern: Any = getattr(route, "path_regex", None)
        if route.methods and pattern is not None and pattern.match(path):
            methods |= route.methods
    if not methods or scope["method"] in methods:
        return exc
    headers: Mapping[str, str] = {**(exc.headers or {}), "Allow": ", ".join(sorted(methods))}
    return HTTPException(405, exc.detail, headers)
