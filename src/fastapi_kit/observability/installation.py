"""Giving an app its request ids, its log, and the headers of its responses."""

from collections.abc import Collection

from fastapi import FastAPI
from starlette.types import ASGIApp

from fastapi_kit._layers import Layer, add_layer
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.observability.cors import Cors, install_cors, install_trusted_hosts
from fastapi_kit.observability.headers import SecurityHeaders
from fastapi_kit.observability.requests import Requests

__all__ = ["install"]

_PROBES = ("/health/live", "/health/ready", "/metrics")


def install(
    app: FastAPI,
    *,
    log_requests: bool = True,
    exclude_paths: Collection[str] = _PROBES,
    security_headers: SecurityHeaders | None = SecurityHeaders(),  # noqa: B008  # it is frozen
    cors: Cors | None = None,
    trusted_hosts: Collection[str] | None = None,
    server_timing: bool = False,
) -> None:
    """Give each request of the app an id and a log line, and each response its security headers.

    The layer is the outermost of the app, so that the 413 and the 500 that FastAPI makes outside of all middleware
    have them too, whatever the order in which the blocks are installed. `X-Request-ID` is the client's if that is 1 to
    128 of `A-Za-z0-9._-`, else a new one; `errors.request_id()` returns it, and `configure_logging` puts it into each
    line. Of apps that are mounted on another, the outermost is enough.

    - `log_requests`: one line a request on the logger `fastapi_kit.access`, at INFO, without those of `exclude_paths`:
      whole paths, as they are requested. Moved probes and a moved `/metrics` are to be named here too.
    - `security_headers`: None for none.
    - `cors`: which origins may read responses, those to errors and crashes included; None, the default, for none.
    - `trusted_hosts`: which `Host` a request may have, else it is 400; None, the default, for any.
    - `server_timing`: puts the milliseconds until the response began into `Server-Timing` (W3C), for whoever asks.

    Raises `ConfigurationError` when it was called on this app before, after the app has begun to serve, for lists that
    are empty, and for a list of origins in place of a `Cors`.
    """
    if app.middleware_stack is not None:
        raise ConfigurationError(
            "observability.install came after the app began to serve: call it where the app is made"
        )
    _check_cors(cors)
    add_headers = None if security_headers is None else security_headers.add

    def wrap(stack: ASGIApp) -> Requests:
        return Requests(
            stack, add_headers=add_headers, log=log_requests, excluded=exclude_paths, server_timing=server_timing
        )

    if not add_layer(app, Layer.REQUESTS, wrap):
        raise ConfigurationError("observability.install was called twice on this app: call it once")
    if cors is not None:
        install_cors(app, cors)
    if trusted_hosts is not None:
        install_trusted_hosts(app, trusted_hosts)


def _check_cors(cors: object) -> None:
    if cors is not None and not isinstance(cors, Cors):
        raise ConfigurationError(
            f'cors is a {type(cors).__name__}: write cors=observability.Cors(origins=["https://shop.example"])'
        )
