"""The outermost layer of an app: the request id, the headers of each response, and one log line a request."""

import logging
from collections.abc import Awaitable, Callable, Collection
from time import perf_counter
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_kit._fastapi import matched_route, route_template
from fastapi_kit.errors.request_ids import HEADER, REQUEST, RequestContext, context_of

__all__ = ["AddHeaders", "Requests"]

_log = logging.getLogger("fastapi_kit.access")
_SEEN = "fastapi_kit.observed"
_LONGEST_PATH = 200

AddHeaders = Callable[[Scope, list[tuple[bytes, bytes]]], None]
"""Called with the headers of each response, lower-case names, to which it adds its own."""


class Requests:
    """Serve each request with an id, and say what became of it.

    The line comes when the response is complete, so that its duration is what the client waited, without background
    tasks; where there is no whole response, when the app is done.
    """

    def __init__(
        self, app: ASGIApp, *, add_headers: AddHeaders | None, log: bool, excluded: Collection[str], server_timing: bool
    ) -> None:
        self.app = app
        self._add_headers = add_headers
        self._logs = log
        self._excluded = frozenset(excluded)
        self._server_timing = server_timing

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one connection (ASGI 3)."""
        kind = scope["type"]
        if kind == "lifespan" or _SEEN in scope:  # there: of an app that this one is mounted on
            return self.app(scope, receive, send)
        scope[_SEEN] = True
        serve = self._exchange if kind == "http" else self._converse
        return serve(scope, receive, send, context_of(scope))

    async def _exchange(self, scope: Scope, receive: Receive, send: Send, context: RequestContext) -> None:
        started = perf_counter()
        status: int | None = None
        error: str | None = None
        is_complete = False
        logs = self._logs and scope["path"] not in self._excluded and _log.isEnabledFor(logging.INFO)
        token = REQUEST.set(context)

        async def pass_on(message: Message) -> None:
            nonlocal status, is_complete
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add(message, scope, context, started)
                await send(message)
                return
            await send(message)
            if not message.get("more_body", False):
                is_complete = True
                if logs:
                    self._write(scope, context, started, {"method": scope["method"], "status": status})

        try:
            await self.app(scope, receive, pass_on)
        except BaseException as exc:
            error = type(exc).__name__
            raise
        finally:
            if logs and not is_complete:
                line = {"method": scope["method"], "status": status, "is_complete": False}
                self._write(scope, context, started, line, error)
            REQUEST.reset(token)

    async def _converse(self, scope: Scope, receive: Receive, send: Send, context: RequestContext) -> None:
        """Serve a WebSocket: its status is 101 once it was accepted, and its line comes at its end."""
        started = perf_counter()
        status: int | None = None
        close_code: int | None = None
        error: str | None = None
        token = REQUEST.set(context)

        async def watch() -> Message:
            nonlocal close_code
            message = await receive()
            if message["type"] == "websocket.disconnect" and close_code is None:
                close_code = message.get("code")
            return message

        async def pass_on(message: Message) -> None:
            nonlocal status, close_code
            if message["type"] == "websocket.accept":
                status = 101
            elif message["type"] == "websocket.http.response.start":
                status = message["status"]
                self._add(message, scope, context, started)
            elif message["type"] == "websocket.close":
                close_code = message.get("code", 1000)
                status = status or 403  # what servers answer to one that was not accepted
            await send(message)

        try:
            await self.app(scope, watch, pass_on)
        except BaseException as exc:
            error = type(exc).__name__
            raise
        finally:
            if self._logs and _log.isEnabledFor(logging.INFO):
                line = {"method": "WEBSOCKET", "status": status, "close_code": close_code}
                self._write(scope, context, started, line, error)
            REQUEST.reset(token)

    def _add(self, message: Message, scope: Scope, context: RequestContext, started: float) -> None:
        """Add the headers that the response is to have."""
        # A copy: the list belongs to the `Response`, and an endpoint may return one object for ever.
        message["headers"] = headers = list(message.get("headers", ()))
        for name, _ in headers:
            if name == HEADER:  # from `errors.install`
                break
        else:
            headers.append(context.header)
        if self._add_headers is not None:
            self._add_headers(scope, headers)
        if self._server_timing:
            headers.append((b"server-timing", b"app;dur=%.1f" % ((perf_counter() - started) * 1000)))

    def _write(
        self, scope: Scope, context: RequestContext, started: float, line: dict[str, Any], error: str | None = None
    ) -> None:
        """Write the line of a request; without `error` and without a status the client was gone."""
        duration_ms = round((perf_counter() - started) * 1000, 3)
        if error is not None and line["status"] is None:
            line["status"] = 500  # the server's
        # None where none matched, so that no client makes up routes.
        line["route"] = route = None if matched_route(scope) is None else route_template(scope)
        line["duration_ms"] = duration_ms
        if route is None:
            line["path"] = scope["path"][:_LONGEST_PATH]
        if error is not None:
            line["error"] = error
        if client := scope.get("client"):
            line["client"] = client[0]
        record = _log.makeRecord(
            _log.name,
            logging.INFO,
            __file__,  # what `findCaller` would look for, with as much work as all else here
            0,
            "%s %s %s",
            (line["method"], route or "unmatched", line["status"]),
            None,
            extra={"request": context.fields | line if context.fields else line},
        )
        _log.handle(record)
