"""The exception handlers: every error of an app as a problem response."""

import inspect
import logging
from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

from fastapi_kit.errors.allow import with_all_methods
from fastapi_kit.errors.groups import sole
from fastapi_kit.errors.render import Renderer
from fastapi_kit.errors.request_ids import request_id
from fastapi_kit.errors.validation import describe

__all__ = ["Handlers"]

_log = logging.getLogger("fastapi_kit.errors")


class Handlers:
    """The handlers that `errors.install` registers; methods, so that each app has its own rendering."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    async def http(self, connection: HTTPConnection, exc: HTTPException) -> Response | None:
        """Answer any `HTTPException`; on an accepted WebSocket, close it with the code as the reason."""
        if exc.status_code == 500:
            _log.error("HTTPException with status 500, request id %s", request_id(), exc_info=exc)
        if isinstance(connection, WebSocket) and connection.application_state is WebSocketState.CONNECTED:
            reason = getattr(exc, "code", str(exc.status_code))
            await connection.close(1011 if exc.status_code >= 500 else 1008, reason)
            return None
        return self._renderer.render_exception(connection, with_all_methods(connection, exc))

    async def validation(self, request: Request, exc: RequestValidationError) -> Response:
        """Answer 422 with a pointer for each error and no value that was sent."""
        return self._invalid(request, exc.errors(), exc.body)

    async def websocket_validation(self, websocket: WebSocket, exc: WebSocketRequestValidationError) -> Response | None:
        """Refuse the handshake with a 422 as of HTTP; one that a dependency has accepted is closed with 1008."""
        if websocket.application_state is WebSocketState.CONNECTED:
            await websocket.close(1008, "validation_error")
            return None
        return self._invalid(websocket, exc.errors(), None)

    async def group(self, connection: HTTPConnection, exc: ExceptionGroup[Exception]) -> Response | None:
        """Answer a group whose exceptions are all of one kind like the first of them; a mixed one is a crash.

        Of one kind are those of one class and, where they have one, one status.
        """
        first = sole(exc)
        if first is None:
            raise exc
        for kind in type(first).__mro__:
            handler = connection.app.exception_handlers.get(kind)
            if handler is not None and kind is not Exception:
                answer = handler(connection, first)
                response: Response | None = await answer if inspect.isawaitable(answer) else answer
                return response
        if isinstance(first, WebSocketException) and isinstance(connection, WebSocket):  # as Starlette does
            await connection.close(first.code, first.reason)
            return None
        raise exc

    def _invalid(self, connection: HTTPConnection, found: Sequence[Any], body: Any) -> Response:
        return self._renderer.render(
            connection,
            422,
            "validation_error",
            title="The request is not valid",
            extensions={"errors": describe(found, body)},
        )
