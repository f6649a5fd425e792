"""What an `ExceptionGroup` stands for: task groups raise one also for a single exception."""

from collections.abc import Iterator
from typing import cast

from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect

__all__ = ["has_left", "leaves_of", "sole"]


def leaves_of(exc: Exception) -> Iterator[Exception]:
    """Yield the exceptions of a group, through the groups in it; of anything else, itself."""
    if not isinstance(exc, ExceptionGroup):
        yield exc
        return
    for inner in cast(ExceptionGroup[Exception], exc).exceptions:
        yield from leaves_of(inner)


def sole(exc: Exception) -> Exception | None:
    """Return the first exception of a group that is all of one kind, None of a mixed one; of anything else, itself.

    Of one kind are those of one class and, where they have one, one status.
    """
    first, *others = leaves_of(exc)
    return first if all(_kind(other) == _kind(first) for other in others) else None


def has_left(exc: Exception) -> bool:
    """Tell whether an exception says no more than that the client has gone: nobody is to be answered, nothing broke."""
    return all(isinstance(leaf, ClientDisconnect | WebSocketDisconnect) for leaf in leaves_of(exc))


def _kind(exc: Exception) -> tuple[type[Exception], int | None]:
    return type(exc), getattr(exc, "status_code", None)
