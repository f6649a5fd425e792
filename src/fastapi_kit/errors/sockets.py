"""WebSockets behind the boundary: a refused handshake is an HTTP exchange like any other, a close says little."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_kit.errors.groups import has_left

__all__ = ["serve_socket"]

_LONGEST_REASON = 123


async def serve_socket(
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    exchange: Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]],
    crashed: Callable[[Scope, Exception], None],
) -> None:
    """Serve one WebSocket: `exchange` sees its handshake as HTTP, the rest goes by as it comes.

    An app that closes before it accepts makes a 403, as servers do, one that raises a 500; each is a denial response.
    A server without that extension of ASGI is told to close, which it answers with a 403 of its own. After the
    handshake a crash goes to `crashed`, and the socket is closed with 1011. No reason of a close is longer than its
    frame has room for, 123 bytes (RFC 6455, 5.5).
    """
    can_deny = "websocket.http.response" in (scope.get("extensions") or {})
    is_accepted = is_closed = False

    async def conclude(message: Message) -> None:
        kind = message["type"].removeprefix("websocket.")  # a `Response` puts it there
        status = message.get("status")
        if status == 101:
            await send(
                {"type": "websocket.accept", "subprotocol": message["subprotocol"], "headers": message["headers"]}
            )
        elif can_deny:
            await send({**message, "type": f"websocket.{kind}"})
        elif status is not None:
            await send(_close(status))

    async def talk(scope: Scope, receive: Receive, respond: Send) -> None:
        async def pass_on(message: Message) -> None:
            nonlocal is_accepted, is_closed
            if not is_accepted:
                is_accepted = message["type"] == "websocket.accept"
                for part in _as_response(message):
                    await respond(part)
                return
            if message["type"] == "websocket.http.response.start":  # of a handler that does not know how far things are
                message = _close(message["status"])
            if is_closed:
                return
            if message["type"] == "websocket.close":
                await send({**message, "reason": _cut(message.get("reason"))})
                is_closed = True
            else:
                await send(message)

        try:
            await app(scope, receive, pass_on)
        except Exception as exc:
            if not is_accepted or has_left(exc):
                raise
            crashed(scope, exc)
            with suppress(Exception):  # the client has gone too
                await pass_on(_close(500, "internal_server_error"))

    await exchange(talk, scope, receive, conclude)


def _as_response(message: Message) -> tuple[Message, ...]:
    """Return a message of the handshake as those of HTTP; the reason of a close is text, a problem's detail."""
    kind: str = message["type"]
    headers = list(message.get("headers", ()))
    if kind == "websocket.accept":
        subprotocol = message.get("subprotocol")
        return ({"type": "http.response.start", "status": 101, "headers": headers, "subprotocol": subprotocol},)
    if kind == "websocket.close":
        reason = _cut(message.get("reason")).encode()
        return (
            {"type": "http.response.start", "status": 403, "headers": headers},
            {"type": "http.response.body", "body": reason},
        )
    return ({**message, "type": kind.removeprefix("websocket.")},)


def _close(status: int, reason: str = "") -> Message:
    return {"type": "websocket.close", "code": 1011 if status >= 500 else 1008, "reason": reason}


def _cut(reason: str | None) -> str:
    return (reason or "").encode("utf-8", "replace")[:_LONGEST_REASON].decode("utf-8", "ignore")
