"""The outermost layer of an app: the request id, and problem bodies for what no handler sees."""

import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_kit.errors.render import Renderer
from fastapi_kit.errors.request_id import HEADER, REQUEST_ID, accept_request_id

__all__ = ["Boundary"]

_log = logging.getLogger("fastapi_kit.errors")
_MAX_DETAIL = 200


class Boundary:
    """Wrap a built middleware stack, so that nothing it answers escapes.

    FastAPI makes some answers outside all handlers and user middleware: the 413 of the app's `max_body_size`, the
    500 of a crash, whatever a middleware raises. They are plain text (with `debug`, a page with the traceback).
    This layer keeps such a response back, and answers with a problem once it knows whether an exception came with it.
    """

    def __init__(self, app: ASGIApp, renderer: Renderer) -> None:
        self._app = app
        self._renderer = renderer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        token = REQUEST_ID.set(accept_request_id(scope))
        try:
            if scope["type"] == "http":
                await _Exchange(scope, send, self._renderer).run(self._app, receive)
            else:
                await self._app(scope, receive, send)
        finally:
            REQUEST_ID.reset(token)


class _Exchange:
    """One request: passes its response on, or keeps it back."""

    def __init__(self, scope: Scope, send: Send, renderer: Renderer) -> None:
        self._scope = scope
        self._send = send
        self._renderer = renderer
        self._header = (HEADER.lower().encode(), accept_request_id(scope).encode())
        self._kept: list[Message] = []
        self._started = False
        self._complete = False

    async def run(self, app: ASGIApp, receive: Receive) -> None:
        try:
            await app(self._scope, receive, self._pass_on)
        except Exception as exc:
            if self._started and not self._complete:
                raise  # the server must cut the connection: half a response must not look like a whole one
            response = self._response_to(exc)
            if self._started:
                return
        else:
            if not self._kept:
                return
            kept_response = self._replacement()
            if kept_response is None:
                for message in self._kept:
                    await self._send(message)
                return
            response = kept_response
        self._identify(response.raw_headers)
        await response(self._scope, receive, self._send)

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.setdefault("headers", [])
            if _is_foreign(message["status"], headers):
                self._kept.append(message)
                return
            self._identify(headers)
            self._started = True
        elif self._kept:
            self._kept.append(message)
            return
        self._complete = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    def _identify(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Put the id on the response, once, also where a mounted app or an endpoint put one."""
        headers[:] = [header for header in headers if header[0].lower() != self._header[0]] + [self._header]

    def _response_to(self, exc: Exception) -> Response:
        request = Request(self._scope)
        if isinstance(exc, HTTPException) and not self._started:  # raised by a middleware
            return self._renderer.render_exception(request, exc)
        _log.error(
            "%s %s failed, request id %s", request.method, request.url.path, REQUEST_ID.get(), exc_info=exc
        )
        return self._renderer.render(request, 500, "internal_server_error")

    def _replacement(self) -> Response | None:
        """Return the problem that stands for the kept response; `None` for an endpoint's own page."""
        status: int = self._kept[0]["status"]
        headers = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in self._kept[0]["headers"]}
        if headers.get("content-type", "").startswith("text/html"):
            return None
        text = b"".join(message.get("body", b"") for message in self._kept[1:])
        detail = text[:_MAX_DETAIL].decode("utf-8", "replace") if status != 500 else ""
        kept_headers = {
            name: value for name, value in headers.items() if name not in ("content-type", "content-length")
        }
        return self._renderer.render(Request(self._scope), status, detail=detail, headers=kept_headers)


def _is_foreign(status: int, headers: list[tuple[bytes, bytes]]) -> bool:
    """Tell whether an error response has no body, plain text, or the page that `debug` makes of a crash."""
    if status < 400:
        return False
    media_type = next((value for name, value in headers if name.lower() == b"content-type"), b"text/plain")
    return media_type.startswith(b"text/plain") or (status == 500 and media_type.startswith(b"text/html"))
