"""The id that ties a response, its error body and its log lines together, and what else those lines say."""

import re
from contextvars import ContextVar
from os import urandom
from typing import Any

from starlette.types import Scope

__all__ = ["HEADER", "REQUEST", "RequestContext", "context_of", "request_id"]

HEADER = b"x-request-id"
SCOPE_KEY = "fastapi_kit.request"
_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class RequestContext:
    """What is known of one request, for whatever runs for it: its id, and fields for its log lines."""

    __slots__ = ("fields", "header", "id")

    def __init__(self, request_id: str) -> None:
        self.id: str = request_id
        self.header: tuple[bytes, bytes] = (HEADER, request_id.encode())
        """The header of the response."""
        self.fields: dict[str, Any] | None = None
        """None until there are any, since each request pays for what is made here."""


REQUEST: ContextVar[RequestContext | None] = ContextVar("fastapi_kit_request", default=None)
"""The request being served. The outermost layer of an app sets it, which is that of one of the `install` functions."""


def request_id() -> str | None:
    """Return the id of the request being served, for log lines and upstream calls; `None` outside one."""
    context = REQUEST.get()
    return None if context is None else context.id


def context_of(scope: Scope) -> RequestContext:
    """Return the context of a request, whose id is its own `X-Request-ID` if that is 1 to 128 of `A-Za-z0-9._-`.

    Anything else is replaced by a new id, not cut or escaped, so that no client can write into headers or logs.
    """
    known: RequestContext | None = scope.get(SCOPE_KEY)
    if known is not None:  # a mounted app keeps that of the app around it
        return known
    request_id: str | None = None
    for name, value in scope["headers"]:
        if name == HEADER:
            if _WELL_FORMED.fullmatch(value):
                request_id = value.decode()
            break
    scope[SCOPE_KEY] = context = RequestContext(request_id or urandom(16).hex())
    return context
