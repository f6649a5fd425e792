"""Giving an app the one error shape."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
    websocket_request_validation_exception_handler,
)
from fastapi.exceptions import HTTPException as FastAPIHTTPException
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException

from fastapi_kit._layers import Layer, add_layer, add_response_hooks
from fastapi_kit.errors.boundary import Boundary
from fastapi_kit.errors.configuration import ConfigurationError
from fastapi_kit.errors.handlers import Handlers
from fastapi_kit.errors.kinds import remember_renderer
from fastapi_kit.errors.openapi import document_problems
from fastapi_kit.errors.render import Renderer, TitleOf

__all__ = ["install"]


_ENDS = ("/", "#", "=", ":")
_OF_FASTAPI: tuple[object, ...] = (
    None,
    http_exception_handler,
    request_validation_exception_handler,
    websocket_request_validation_exception_handler,
)


def install(app: FastAPI, *, type_base: str | None = None, title_of: TitleOf | None = None) -> None:
    """Make every error response of the app a problem (RFC 9457), and document them.

    Covers `Problem` and `HTTPException`, validation, unknown routes, wrong methods, bodies that are too large,
    what middleware raises, and crashes. A crash is logged once, with its traceback and request id, on the logger
    `fastapi_kit.errors`, and is not raised again: a test that wants the exception reads the log. Every response
    carries `X-Request-ID`. Error responses without a body or in plain text become problems of the same status.

    No problems are: an error that an endpoint writes itself as JSON or HTML; the errors of a mounted FastAPI app that
    has no `install` of its own; the 400 of the server for what it cannot read as HTTP, which no app sees. A response
    that was begun cannot become one: it is cut off, by a `ResponseCutError` for the server, once its crash is logged.
    The 500 of a crash is made outside all middleware and lacks their headers, those of CORS too, without which a
    browser cannot read it: `observability.install(cors=...)` puts them there.

    `type_base` is an absolute URL to which each code is appended to make the `type`; without it, `type` is
    `about:blank` and `title` the phrase of the status. `title_of(code, title, connection)` may translate titles.
    Call it once, on the outermost app and on each mounted one; handlers added afterwards win over these.

    Raises `ConfigurationError` when it was called on this app before, after the app has begun to serve, or with a
    `type_base` that is not absolute or has no slash (or `#`, `=`, `:`) at its end. And where a handler of yours for
    `HTTPException` or `RequestValidationError` is there already, which these would replace: add it afterwards, and it
    wins; but leave it out, if problems are to look alike.

    Security: `detail` of an `HTTPException` goes to the client, except for status 500.
    """
    if type_base is not None and not urlsplit(type_base).scheme:
        raise ConfigurationError(f"type_base {type_base!r} is not absolute: write https://errors.example.com/")
    if type_base is not None and not type_base.endswith(_ENDS):
        raise ConfigurationError(f"type_base {type_base!r} would run into the code: end it with a slash")
    if app.middleware_stack is not None:
        raise ConfigurationError("errors.install came after the app began to serve: call it where the app is made")
    renderer = Renderer(type_base, title_of)
    if not add_layer(app, Layer.ERRORS, lambda stack: Boundary(stack, renderer)):
        raise ConfigurationError("errors.install was called twice on this app: call it once")
    add_response_hooks(app)
    remember_renderer(app, renderer)
    handlers = Handlers(renderer)
    registered: dict[type[Exception], Callable[..., Awaitable[Any]]] = {
        HTTPException: handlers.http,
        RequestValidationError: handlers.validation,
        WebSocketRequestValidationError: handlers.websocket_validation,
        ExceptionGroup: handlers.group,
    }
    for kind in (*registered, FastAPIHTTPException):
        if app.exception_handlers.get(kind) not in _OF_FASTAPI:
            raise ConfigurationError(
                f"the app has a handler for {kind.__name__}, in whose place errors.install comes: remove it, or add it"
                " after errors.install"
            )
    for kind, handler in registered.items():
        app.add_exception_handler(kind, handler)
    # FastAPI's documented way: a method of this one instance.
    setattr(app, "openapi", document_problems(app, renderer))  # noqa: B010  # a method, for type checkers
