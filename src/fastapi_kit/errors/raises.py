"""Declaring which problems an endpoint or a dependency can answer with."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi_kit.errors.problem import Problem

__all__ = ["problems_of", "raises"]

_CallableT = TypeVar("_CallableT", bound=Callable[..., Any])


def raises(*kinds: type[Problem]) -> Callable[[_CallableT], _CallableT]:
    """Declare that an endpoint or a dependency can raise these problems.

    `errors.install` puts them into the OpenAPI of every route that uses the callable, directly
    or through a router. It documents; it checks nothing at run time.

    >>> from fastapi_kit.errors import NotFoundError
    >>> @raises(NotFoundError)
    ... async def item_or_404(item_id: int) -> str:
    ...     raise NotFoundError(f"There is no item {item_id}.")
    """

    def mark(function: _CallableT) -> _CallableT:
        function.__problems__ = (*problems_of(function), *kinds)  # type: ignore[attr-defined]
        return function

    return mark


def problems_of(function: Callable[..., Any] | None) -> tuple[type[Problem], ...]:
    """Return the problems that `raises` declared on a callable; empty if none."""
    return getattr(function, "__problems__", ())
