"""Declaring which problems an endpoint or a dependency can answer with."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi_kit.errors.problem import Problem

__all__ = ["problems_of", "raises"]

_ALWAYS = "__problems__"
_WHEN_SCOPED = "__problems_when_scoped__"

_CallableT = TypeVar("_CallableT", bound=Callable[..., Any])


def raises(*kinds: type[Problem], when_scoped: bool = False) -> Callable[[_CallableT], _CallableT]:
    """Declare that an endpoint or a dependency can raise these problems.

    `errors.install` puts them into the OpenAPI of every route that uses the callable, directly
    or through a router. With `when_scoped`, only of those that ask it for OAuth2 scopes: `Security(..., scopes=[...])`.
    It documents; it checks nothing at run time.

    >>> from fastapi_kit.errors import NotFoundError
    >>> @raises(NotFoundError)
    ... async def item_or_404(item_id: int) -> str:
    ...     raise NotFoundError(f"There is no item {item_id}.")
    """

    def mark(function: _CallableT) -> _CallableT:
        name = _WHEN_SCOPED if when_scoped else _ALWAYS
        setattr(function, name, (*getattr(function, name, ()), *kinds))
        return function

    return mark


def problems_of(function: Callable[..., Any], *, scoped: bool = False) -> tuple[type[Problem], ...]:
    """Return the problems that `raises` declared on a callable, `scoped` if scopes are asked of it; empty if none."""
    always: tuple[type[Problem], ...] = getattr(function, _ALWAYS, ())
    return (*always, *getattr(function, _WHEN_SCOPED, ())) if scoped else always
