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
        """Serve one connection (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        token = REQUEST_ID.set(accept_request_id(scope))
        try:
            if scope["type"] == "http":
                await self._exchange(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        finally:
            REQUEST_ID.reset(token)

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = (HEADER, accept_request_id(scope).encode())
        kept: list[Message] = []
        started = complete = False

        async def pass_on(message: Message) -> None:
            nonlocal started, complete
            if kept:
                kept.append(message)
                return
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                if message["status"] >= 400 and _is_foreign(message["status"], headers):
                    kept.append(message)
                    return
                _identify(headers, request_id)
                started = True
            else:
                complete = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, pass_on)
        except Exception as exc:
            if started and not complete:
                raise  # the server must cut the connection: half a response must not look like a whole one
            response = self._response_to(Request(scope), exc, started=started)
            if started:
                return
        else:
            if not kept:
                return
            if _header(kept[0]["headers"], b"content-type").startswith(b"text/html"):  # an endpoint's own page
                _identify(kept[0]["headers"], request_id)
                for message in kept:
                    await send(message)
                return
            response = self._replacement(Request(scope), kept)
        _identify(response.raw_headers, request_id)
        await response(scope, receive, send)

    def _response_to(self, request: Request, exc: Exception, *, started: bool) -> Response:
        if isinstance(exc, HTTPException) and not started:  # raised by a middleware
            return self._renderer.render_exception(request, exc)
        _log.error("%s %s failed, request id %s", request.method, request.url.path, REQUEST_ID.get(), exc_info=exc)
        return self._renderer.render(request, 500, "internal_server_error")

    def _replacement(self, request: Request, kept: list[Message]) -> Response:
        status: int = kept[0]["status"]
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in kept[0]["headers"]
            if name.lower() not in (b"content-type", b"content-length")
        }
        text = b"".join(message.get("body", b"") for message in kept[1:])
        detail = text[:_MAX_DETAIL].decode("utf-8", "replace") if status != 500 else ""
        return self._renderer.render(request, status, detail=detail, headers=headers)


def _identify(headers: list[tuple[bytes, bytes]], request_id: tuple[bytes, bytes]) -> None:
    """Put the id on the response, once, also where a mounted app or an endpoint put one."""
    if _header(headers, HEADER):
        headers[:] = [header for header in headers if header[0].lower() != HEADER]
    headers.append(request_id)


def _is_foreign(status: int, headers: list[tuple[bytes, bytes]]) -> bool:
    """Tell whether an error response has no body, plain text, or the page that `debug` makes of a crash."""
    media_type = _header(headers, b"content-type")
    if not media_type or media_type.startswith(b"text/plain"):
        return True
    return status == 500 and media_type.startswith(b"text/html")


def _header(headers: list[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    for name, value in headers:
        if name == wanted or name.lower() == wanted:
            return value
    return b""
