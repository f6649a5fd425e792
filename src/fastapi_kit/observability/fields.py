"""What is known of the request that is served, for each of its log lines."""

from typing import Any

from fastapi_kit.errors.request_ids import REQUEST

__all__ = ["bind", "bound_fields"]


def bind(**fields: Any) -> None:
    """Add fields to every further log line of the request being served, its own line included.

    In a dependency that knows who asks: `bind(user=str(user.id))`. What runs for the request in threads, tasks and
    background tasks shares them. Outside of a request, and in an app without `observability.install`, it does nothing.
    A field named like one that the line has by itself (`status`, `route`) is left out.

    Security: a field whose name tells that it holds a secret (`password`, `token`) is redacted, see `Redactor`.
    """
    context = REQUEST.get()
    if context is not None:
        if context.fields is None:
            context.fields = {}
        context.fields.update(fields)


def bound_fields() -> dict[str, Any]:
    """Return the fields of the request being served; empty outside of one."""
    context = REQUEST.get()
    return (context.fields or {}) if context is not None else {}
