"""Letting the limits of an app see its responses, where `errors.install` does not."""

from fastapi import FastAPI

from fastapi_kit._layers import add_response_hooks
from fastapi_kit.errors import ConfigurationError

__all__ = ["install"]


def install(app: FastAPI) -> None:
    """Put the fields of the limits on each response of the app, and let `only=` see its status.

    Responses that an endpoint builds itself, streams, and the answers to errors pass a dependency by; this wraps the
    app. `errors.install` does the same besides, so an app that calls it needs this not. Of apps that are mounted on
    another, the outermost is enough.

    Raises `ConfigurationError` after the app has begun to serve.
    """
    if app.middleware_stack is not None:
        raise ConfigurationError("ratelimit.install came after the app began to serve: call it where the app is made")
    add_response_hooks(app)
