"""Giving an app the one error shape."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from fastapi_kit._responses import add_response_hooks
from fastapi_kit.errors.boundary import Boundary
from fastapi_kit.errors.configuration import ConfigurationError
from fastapi_kit.errors.handlers import Handlers
from fastapi_kit.errors.openapi import document_problems
from fastapi_kit.errors.render import Renderer, TitleOf

__all__ = ["install"]


def install(app: FastAPI, *, type_base: str | None = None, title_of: TitleOf | None = None) -> None:
    """Make every error response of the app a problem (RFC 9457), and document them.

    Covers `Problem` and `HTTPException`, validation, unknown routes, wrong methods, bodies that are too large,
    what middleware raises, and crashes. A crash is logged once, with its traceback and request id, on the logger
    `fastapi_kit.errors`, and is not raised again: a test that wants the exception reads the log. Every response
    carries `X-Request-ID`. Error responses without a body or in plain text become problems of the same status.

    No problems are: an error that an endpoint writes itself as JSON or HTML; the errors of a mounted FastAPI app that
    has no `install` of its own; the 400 of the server for what it cannot read as HTTP, which no app sees. The 500 of a
    crash is made outside all middleware and lacks their headers: CORS has to go around the app, not into it, where a
    browser is to read it.

    `type_base` is an absolute URL to which each code is appended to make the `type`; without it, `type` is
    `about:blank` and `title` the phrase of the status. `title_of(code, title, connection)` may translate titles.
    Call it once, on the outermost app and on each mounted one; handlers added afterwards win over these.

    Raises `ConfigurationError` when it was called on this app before, after the app has begun to serve, or with a
    `type_base` that is not absolute.

    Security: `detail` of an `HTTPException` goes to the client, except for status 500.
    """
    if type_base is not None and not urlsplit(type_base).scheme:
        raise ConfigurationError(f"type_base {type_base!r} is not absolute: write https://errors.example.com/")
    if app.middleware_stack is not None:
        raise ConfigurationError("errors.install came after the app began to serve: call it where the app is made")
    if "openapi" in vars(app) and getattr(app.openapi, "__module__", "") == document_problems.__module__:
        raise ConfigurationError("errors.install was called twice on this app: call it once")
    renderer = Renderer(type_base, title_of)
    handlers = Handlers(renderer)
    registered: dict[type[Exception], Callable[..., Awaitable[Any]]] = {
        HTTPException: handlers.http,
        RequestValidationError: handlers.validation,
        WebSocketRequestValidationError: handlers.websocket_validation,
        ExceptionGroup: handlers.group,
    }
    for kind, handler in registered.items():
        app.add_exception_handler(kind, handler)
    _assign(app, "openapi", document_problems(app, renderer))
    build = app.build_middleware_stack

    def build_middleware_stack() -> ASGIApp:
        return Boundary(build(), renderer)

    _assign(app, "build_middleware_stack", build_middleware_stack)
    add_response_hooks(app)


def _assign(app: FastAPI, method: str, replacement: Callable[..., Any]) -> None:
    """Replace a method of this one instance.

    That is FastAPI's documented way for `openapi`, and the only one to get outside its own error middleware.
    """
    setattr(app, method, replacement)
