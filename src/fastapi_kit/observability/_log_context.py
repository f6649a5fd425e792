"""What a line says of the request that it was written in."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry.trace import get_current_span

from fastapi_kit.errors.request_ids import REQUEST

__all__ = ["CONTEXT", "Context", "RequestContextFilter", "current"]

CONTEXT = "fastapi_kit_context"
"""The attribute of a record that holds it."""


class Context(NamedTuple):
    """The ids and the bound fields of a request."""

    request_id: str | None
    trace_id: str | None
    span_id: str | None
    bound: Mapping[str, Any]


def current() -> Context:
    """Return what is known here and now."""
    request = REQUEST.get()
    request_id, bound = (None, {}) if request is None else (request.id, request.fields or {})
    span = get_current_span().get_span_context()
    if span.is_valid:
        return Context(request_id, f"{span.trace_id:032x}", f"{span.span_id:016x}", bound)
    return Context(request_id, None, None, bound)


class RequestContextFilter(logging.Filter):
    """Keep the ids and the bound fields of the request on each record, for a formatter that runs elsewhere.

    For a `QueueHandler` alone, whose listener formats in a thread that knows no request: add it to that handler.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Note what is known, and let the record pass."""
        context = current()
        setattr(record, CONTEXT, context._replace(bound=dict(context.bound)))
        return True
