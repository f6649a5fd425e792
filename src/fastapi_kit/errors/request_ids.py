"""The id that ties a response, its error body and its log lines together."""

import os
import re
from contextvars import ContextVar

from starlette.types import Scope

__all__ = ["HEADER", "REQUEST_ID", "accept_request_id", "request_id"]

HEADER = b"x-request-id"
SCOPE_KEY = "fastapi_kit.request_id"

REQUEST_ID: ContextVar[str | None] = ContextVar("fastapi_kit_request_id", default=None)
"""Read it with `request_id()`; the boundary of `errors.install` alone sets it."""

_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def request_id() -> str | None:
    """Return the id of the request being served, for log lines and upstream calls; `None` outside one."""
    return REQUEST_ID.get()


def accept_request_id(scope: Scope) -> str:
    """Return the request's id: its own `X-Request-ID` if that is 1 to 128 of `A-Za-z0-9._-`, else a new one.

    Anything else is replaced, not cut or escaped, so that no client can write into headers or logs.
    """
    if SCOPE_KEY not in scope:  # a mounted app keeps the id of the app around it
        sent: bytes = next((value for name, value in scope["headers"] if name == HEADER), b"")
        scope[SCOPE_KEY] = sent.decode("ascii") if _WELL_FORMED.fullmatch(sent) else os.urandom(16).hex()
    return str(scope[SCOPE_KEY])
