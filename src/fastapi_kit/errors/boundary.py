"""The outermost layer of an app: the request id, and problem bodies for what no handler sees."""

import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_kit.errors.render import Renderer
from fastapi_kit.errors.request_ids import HEADER, REQUEST_ID, accept_request_id

__all__ = ["Boundary"]

_log = logging.getLogger("fastapi_kit.errors")
_MAX_DETAIL = 200
_OF_A_BODY = frozenset(
    {
        b"content-digest",
        b"content-disposition",
        b"content-encoding",
        b"content-language",
        b"content-length",
        b"content-location",
        b"content-md5",
        b"content-type",
        b"digest",
        b"etag",
        b"last-modified",
        b"repr-digest",
        b"trailer",
        b"transfer-encoding",
    }
)
"""Headers that would be wrong about another body. Content-Range stays: on a 416 it is about the resource."""


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
        held: _Held | None = None
        started = complete = False

        async def pass_on(message: Message) -> None:
            nonlocal held, started, complete
            if held is not None:
                if not held.is_streamed_page(message):
                    held.add(message)
                    return
                start, held, started = held.start, None, True
                _identify(start["headers"], request_id)
                await send(start)
            elif message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                if message["status"] >= 400 and _is_foreign(message["status"], headers):
                    held = _Held(message)
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
            if held is None:
                return
            if held.page is not None:  # an endpoint's own
                _identify(held.start["headers"], request_id)
                await send(held.start)
                await send(held.page)
                return
            response = self._replacement(Request(scope), held)
        _identify(response.raw_headers, request_id)
        await response(scope, receive, send)

    def _response_to(self, request: Request, exc: Exception, *, started: bool) -> Response:
        if isinstance(exc, HTTPException) and not started:  # raised by a middleware
            return self._renderer.render_exception(request, exc)
        _log.error("%s %s failed, request id %s", request.method, request.url.path, REQUEST_ID.get(), exc_info=exc)
        return self._renderer.render(request, 500, "internal_server_error")

    def _replacement(self, request: Request, held: "_Held") -> Response:
        status: int = held.start["status"]
        headers: list[tuple[bytes, bytes]] = held.start["headers"]
        is_readable = status != 500 and not _header(headers, b"content-encoding")
        detail = held.text.decode("utf-8", "ignore") if is_readable else ""
        response = self._renderer.render(request, status, detail=detail)
        response.raw_headers.extend(header for header in headers if header[0].lower() not in _OF_A_BODY)
        return response


class _Held:
    """A response that is kept back until the app is done: its start, and what may be needed of its body.

    Of text that is the beginning. The page that `debug` makes of a crash comes in one message, so only a page in one
    message is kept: one that is streamed is an endpoint's own.
    """

    def __init__(self, start: Message) -> None:
        self.start = start
        self.text = b""
        self.page: Message | None = None
        self._is_html = _header(start["headers"], b"content-type").startswith(b"text/html")

    def is_streamed_page(self, message: Message) -> bool:
        """Tell whether the message begins a page that is not `debug`'s."""
        return self._is_html and bool(message.get("more_body", False))

    def add(self, message: Message) -> None:
        """Keep what may be needed of a message of the body."""
        if self._is_html:
            self.page = message
        else:
            self.text += message.get("body", b"")[: _MAX_DETAIL - len(self.text)]


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
