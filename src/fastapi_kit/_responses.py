"""A layer around an app that lets a dependency see, and add to, the response of its request.

A dependency knows the `Response` that FastAPI builds, but not one that the endpoint returns itself, a stream, or the
answer to an exception. Only what stands outside all of the app sees each of them.
"""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Hook", "ResponseHooks", "add_response_hooks", "on_response"]

Hook = Callable[[int, list[tuple[bytes, bytes]]], Awaitable[None] | None]
"""Called with the status and the headers (lower-case names), which it may change in place, before they are sent."""

_HOOKS = "fastapi_kit.response_hooks"


class ResponseHooks:
    """Call the hooks of a request when its response begins, whatever makes it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI 3)."""
        if scope["type"] != "http" or _HOOKS in scope:  # there: of an app that this one is mounted on
            await self._app(scope, receive, send)
            return
        hooks: list[Hook] = []
        scope[_HOOKS] = hooks

        async def pass_on(message: Message) -> None:
            if hooks and message["type"] == "http.response.start":
                # A copy: the list belongs to the `Response`, and an endpoint may return one object for ever.
                message["headers"] = headers = list(message.get("headers", ()))
                for hook in hooks:
                    waiting = hook(message["status"], headers)
                    if waiting is not None:
                        await waiting
            await send(message)

        await self._app(scope, receive, pass_on)


def add_response_hooks(app: FastAPI) -> None:
    """Wrap the built middleware stack of this one app, outside its own error middleware."""
    build = app.build_middleware_stack

    def build_middleware_stack() -> ASGIApp:
        return ResponseHooks(build())

    # The only way to get outside of Starlette's ServerErrorMiddleware.
    setattr(app, "build_middleware_stack", build_middleware_stack)  # noqa: B010  # a method, for type checkers


def on_response(scope: Scope, hook: Hook) -> bool:
    """Call the hook when the response begins; False if there is no layer to do it, and for a WebSocket."""
    hooks: list[Hook] | None = scope.get(_HOOKS)
    if hooks is None:
        return False
    hooks.append(hook)
    return True
