"""One request behind the boundary: what the app answers, and the problem that takes the place of what escaped it."""

import logging
from collections.abc import Awaitable

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_kit._fastapi import matched_route, route_template
from fastapi_kit.errors.foreign import Held, header_of, headers_to_keep, is_foreign
from fastapi_kit.errors.groups import has_left, sole
from fastapi_kit.errors.render import Renderer
from fastapi_kit.errors.request_ids import HEADER, REQUEST, context_of

__all__ = ["Exchange", "ResponseCutError", "log_crash"]

_log = logging.getLogger("fastapi_kit.errors")


class ResponseCutError(RuntimeError):
    """Tell the server to cut the connection: half a response must not look like a whole one. The crash is logged."""


class Exchange:
    """Run the app for one request, keep back what is not in the one shape, and answer in its place."""

    # Defaults of the class, so that no request pays for what it does not need.
    _held: Held | None = None
    _refused: Exception | None = None
    _started: bool = False
    _complete: bool = False

    def __init__(self, renderer: Renderer, scope: Scope, receive: Receive, send: Send) -> None:
        self._renderer = renderer
        self._scope = scope
        self._receive = receive
        self._send = send
        self._context = context_of(scope)

    async def run(self, app: ASGIApp) -> None:
        """Serve the request; raise what the server is to know: its own errors, and that a response has to be cut."""
        token = REQUEST.set(self._context)
        try:
            await app(self._scope, self._receive, self._pass_on)
        except Exception as exc:
            if exc is self._refused or isinstance(exc, ResponseCutError):
                raise  # it came from the server or the app around this one; or a mounted app has logged it
            if has_left(exc):
                return
            if self._started and not self._complete:
                log_crash(self._scope, exc)
                raise ResponseCutError(f"the crash is logged, request id {self._context.id}") from None
            response = self._response_to(exc)
            if not self._started:
                await self._answer(response)
        else:
            if not self._started:
                await self._answer_in_the_end()
        finally:
            REQUEST.reset(token)

    async def _pass_on(self, message: Message) -> None:
        if self._held is not None:
            await self._add_to_held(self._held, message)
            return
        is_start = message["type"] == "http.response.start"
        if is_start:
            # A copy: the list belongs to the `Response`, and an endpoint may return one object for ever.
            message["headers"] = headers = list(message.get("headers", ()))
            if message["status"] >= 400 and is_foreign(message["status"], headers):
                self._held = Held(message)
                return
            _identify(headers, self._context.header)
            self._started = True
        try:
            await self._send(message)
        except Exception as exc:
            self._refused = exc
            raise
        if not is_start:
            self._complete = self._started and not message.get("more_body", False)

    async def _add_to_held(self, held: Held, message: Message) -> None:
        if held.is_streamed_page(message):  # an endpoint's own
            self._held = None
            _identify(held.start["headers"], self._context.header)
            self._started = True
            await self._refusable(self._send(held.start))
            await self._pass_on(message)
            return
        held.add(message)
        if not (held.may_be_of_a_crash or message.get("more_body", False)):
            # What the app goes on to do, a background task for one, is nothing the client waits for.
            self._held = None
            await self._refusable(self._answer(self._replacement(held)))

    async def _refusable(self, sending: Awaitable[None]) -> None:
        """Send, and note what the server or the app around this one raises: it is not this app's to answer."""
        try:
            await sending
        except Exception as exc:
            self._refused = exc
            raise

    async def _answer_in_the_end(self) -> None:
        held = self._held
        if held is None:
            _log.error("%s ended without a response, request id %s", _name(self._scope), self._context.id)
            held = Held({"status": 500, "headers": []})
        if held.page is None:
            await self._answer(self._replacement(held))
            return
        _identify(held.start["headers"], self._context.header)  # of an endpoint's own page
        await self._send(held.start)
        await self._send(held.page)

    async def _answer(self, response: Response) -> None:
        _identify(response.raw_headers, self._context.header)
        self._started = True
        await response(self._scope, self._receive, self._send)
        self._complete = True

    def _response_to(self, exc: Exception) -> Response:
        request = HTTPConnection(self._scope)
        first = sole(exc)
        refusal = first if isinstance(first, HTTPException) and not self._started else None  # raised by a middleware
        if refusal is None or refusal.status_code == 500:
            log_crash(self._scope, exc)
        if refusal is not None:
            try:
                return self._renderer.render_exception(request, refusal)
            except Exception as failed:  # noqa: BLE001  # of headers that are none
                log_crash(self._scope, failed)
        return self._renderer.render(request, 500, "internal_server_error")

    def _replacement(self, held: Held) -> Response:
        status: int = held.start["status"]
        headers: list[tuple[bytes, bytes]] = held.start["headers"]
        is_readable = status != 500 and not header_of(headers, b"content-encoding")
        detail = held.text.decode("utf-8", "ignore") if is_readable else ""
        response = self._renderer.render(HTTPConnection(self._scope), status, detail=detail)
        response.raw_headers.extend(headers_to_keep(headers))
        return response


def log_crash(scope: Scope, exc: Exception) -> None:
    """Write the one line of a crash, with its traceback and the id of its request."""
    _log.error("%s failed, request id %s", _name(scope), context_of(scope).id, exc_info=exc)


def _name(scope: Scope) -> str:
    """Return method and route; not the path that was sent, which may hold a token, or line breaks for the log."""
    route = "unmatched" if matched_route(scope) is None else route_template(scope)
    return f"{scope.get('method', 'WEBSOCKET')} {route.encode('unicode_escape').decode()}"


def _identify(headers: list[tuple[bytes, bytes]], request_id: tuple[bytes, bytes]) -> None:
    """Put the id on the response, once, also where a mounted app or an endpoint put one."""
    for name, _ in headers:
        if name.lower() == HEADER:
            headers[:] = [header for header in headers if header[0].lower() != HEADER]
            break
    headers.append(request_id)
