"""The outermost layer of the errors block: the request id, and problem bodies for what no handler sees."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_kit.errors.exchange import Exchange, log_crash
from fastapi_kit.errors.render import Renderer
from fastapi_kit.errors.sockets import serve_socket

__all__ = ["Boundary"]


class Boundary:
    """Wrap a built middleware stack, so that nothing it answers escapes.

    FastAPI makes some answers outside all handlers and user middleware: the 413 of the app's `max_body_size`, the
    500 of a crash, whatever a middleware raises. They are plain text (with `debug`, a page with the traceback).
    This layer keeps such a response back, and answers with a problem once it knows whether an exception came with it.
    """

    def __init__(self, app: ASGIApp, renderer: Renderer) -> None:
        self.app = app
        self._renderer = renderer

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one connection (ASGI 3)."""
        kind = scope["type"]
        if kind == "http":
            return self._exchange(self.app, scope, receive, send)
        if kind == "lifespan":
            return self.app(scope, receive, send)
        return serve_socket(self.app, scope, receive, send, exchange=self._exchange, crashed=log_crash)

    def _exchange(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return Exchange(self._renderer, scope, receive, send).run(app)
