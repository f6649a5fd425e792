"""What goes around a whole app, outside its own middleware: the layers of the blocks, and the hooks of a response.

FastAPI makes some answers outside all user middleware: the 413 of `max_body_size`, the 500 of a crash. Only what stands
around the built middleware stack sees each response.
"""

from collections.abc import Awaitable, Callable
from enum import IntEnum

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Hook", "Layer", "add_layer", "add_response_hooks", "has_layer", "on_response"]


class Layer(IntEnum):
    """The layers of an app from the inside out, whatever the order in which the blocks are installed."""

    PREFLIGHTS = 1
    HOSTS = 2
    ERRORS = 3
    HOOKS = 4
    CORS = 5
    REQUESTS = 6


_LAYERS = "_fastapi_kit_layers"


def add_layer(app: FastAPI, layer: Layer, wrap: Callable[[ASGIApp], ASGIApp]) -> bool:
    """Wrap the built middleware stack of this one app; False, and nothing done, where this layer is there already.

    A layer keeps what it wraps as `app`, by which FastAPI's telemetry looks for other instrumentation further in.
    """
    layers: dict[Layer, Callable[[ASGIApp], ASGIApp]] | None = vars(app).get(_LAYERS)
    if layers is None:
        layers = {}
        vars(app)[_LAYERS] = layers
        build = app.build_middleware_stack

        def build_middleware_stack() -> ASGIApp:
            stack = build()
            for _, put_around in sorted(layers.items()):
                stack = put_around(stack)
            return stack

        # The only way to get outside of Starlette's ServerErrorMiddleware.
        setattr(app, "build_middleware_stack", build_middleware_stack)  # noqa: B010  # a method, for type checkers
    if layer in layers:
        return False
    layers[layer] = wrap
    return True


def has_layer(app: FastAPI, layer: Layer) -> bool:
    """Tell whether `add_layer` put this layer around the app."""
    return layer in vars(app).get(_LAYERS, ())


Hook = Callable[[int, list[tuple[bytes, bytes]]], Awaitable[None] | None]
"""Called with the status and the headers (lower-case names), which it may change in place, before they are sent."""

_HOOKS = "fastapi_kit.response_hooks"


class _ResponseHooks:
    """Call the hooks of a request when its response begins, whatever makes it.

    A dependency knows the `Response` that FastAPI builds, but not one that the endpoint returns itself, a stream, or
    the answer to an exception.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI 3)."""
        if scope["type"] != "http" or _HOOKS in scope:  # there: of an app that this one is mounted on
            await self.app(scope, receive, send)
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

        await self.app(scope, receive, pass_on)


def add_response_hooks(app: FastAPI) -> None:
    """Let `on_response` work in this app, however many blocks ask for it."""
    add_layer(app, Layer.HOOKS, _ResponseHooks)


def on_response(scope: Scope, hook: Hook) -> bool:
    """Call the hook when the response begins; False if there is no layer to do it, and for a WebSocket."""
    hooks: list[Hook] | None = scope.get(_HOOKS)
    if hooks is None:
        return False
    hooks.append(hook)
    return True
