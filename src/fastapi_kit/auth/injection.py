"""Calling a function of the application whose first argument is ours and whose others are FastAPI's."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Generic, TypeVar, cast, get_origin

from fastapi import BackgroundTasks, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.params import Body, Depends, Param
from fastapi.security import SecurityScopes
from starlette.requests import HTTPConnection

from fastapi_kit.errors import ConfigurationError

__all__ = ["Injected"]

_ResultT = TypeVar("_ResultT")

_GIVEN_BY_FASTAPI = (HTTPConnection, Response, BackgroundTasks, SecurityScopes)


class Injected(Generic[_ResultT]):
    """A function `(given, *dependencies) -> result`, sync or async, that FastAPI feeds all but the first argument.

    `parameters` are the ones that FastAPI has to resolve: put them into the signature of a dependency, and hand what
    it gets to `call`, or use the dependency `resolve`. A sync function runs in the thread pool, as a sync dependency
    would.

    Raises `ConfigurationError` when the function takes no argument, or its annotations cannot be resolved, and for a
    further parameter that is no dependency.
    """

    def __init__(self, function: Callable[..., Awaitable[_ResultT] | _ResultT], role: str, given: str) -> None:
        try:
            first, *rest = inspect.signature(function, eval_str=True).parameters.values()
        except NameError as exc:
            raise ConfigurationError(f"{role}: an annotation cannot be resolved at run time: {exc}") from exc
        except ValueError:
            raise ConfigurationError(f"{role} must take the {given} as its first argument") from None
        if first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
            raise ConfigurationError(f"{role} must take the {given} as its first argument")
        if get_origin(first.annotation) is Annotated or isinstance(first.default, Depends):
            raise ConfigurationError(f"{role} takes the {given} first, then its dependencies: move {first.name!r} back")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(f"{role} must return its result, not yield it: put the clean-up in a dependency")
        if undeclared := [parameter.name for parameter in rest if not _is_declared(parameter)]:
            raise ConfigurationError(
                f"{role} has the parameter {undeclared[0]!r}, which FastAPI would take from the query, so the client"
                " could set it: make it a dependency, Annotated[..., Depends(...)], or say Query()"
            )
        # By keyword: a dependency of ours may put parameters of its own before them.
        self.parameters: list[inspect.Parameter] = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in rest
        ]
        self.resolve: Callable[..., Awaitable[dict[str, Any]]] = _resolver(self.parameters)
        """A dependency that gives them by name, for `call`."""
        self._function = function
        self._role = role
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004
        )

    async def call(self, given: object, resolved: Mapping[str, Any]) -> _ResultT:
        """Return the function's result.

        Raises `TypeError` for a generator, which would otherwise pass for a result.
        """
        result: Any
        if self._is_async:
            result = self._function(given, **resolved)
        else:
            result = await run_in_threadpool(self._function, given, **resolved)
        if inspect.isawaitable(result):  # also what a sync wrapper of an async function returns
            result = await result
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            raise TypeError(f"{self._role} gave a generator in place of a result")
        return cast(_ResultT, result)


def _is_declared(parameter: inspect.Parameter) -> bool:
    """Tell whether it is said where a parameter comes from; FastAPI takes what is left from the query."""
    metadata = getattr(parameter.annotation, "__metadata__", ())
    if any(isinstance(said, Depends | Param | Body) for said in (*metadata, parameter.default)):
        return True
    return isinstance(parameter.annotation, type) and issubclass(parameter.annotation, _GIVEN_BY_FASTAPI)


def _resolver(parameters: list[inspect.Parameter]) -> Callable[..., Awaitable[dict[str, Any]]]:
    async def resolve(**resolved: Any) -> dict[str, Any]:
        return resolved

    resolve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return resolve
