"""The base of every error a client may see, and its RFC 9457 body."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform, get_origin, get_type_hints

from starlette.exceptions import HTTPException

__all__ = ["Problem", "catalogue", "code_of", "phrase_of"]

_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
"""Those of RFC 9110, which Python has since 3.13: a code made of the phrase must not depend on the interpreter."""

RESERVED = frozenset({"type", "title", "status", "detail", "instance", "code", "request_id", "headers"})
"""Names an extension may not take: the members of RFC 9457 and those that every body carries."""


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class _ProblemFields(HTTPException):
    """Lets type checkers derive the constructor of each `Problem` from its annotations."""


class Problem(_ProblemFields):
    """Raise to answer with an error that has a stable code (RFC 9457, problem details).

    A subclass is one kind of error: `code` (lower_snake, unique in the process, never
    changed once published), `status` (400 to 599) and `title` (the same text each time).
    Each further annotation is an extension member of the body and a keyword-only argument;
    one with a default may be left out. `detail` says what happened this time: it goes to
    the client, so it must hold no secret. `headers` are added to the response; `response_headers`
    documents them in OpenAPI, the name of each with a description.

    Without the `type_base` of `errors.install` the body's `title` is the phrase of the status (RFC 9457,
    4.2.1), and the class's title stands as `detail` where none is given.

    It is a Starlette `HTTPException`: without `errors.install` an app still answers with
    the right status, headers and detail, in FastAPI's own body.

    Raises `TypeError` when a subclass is declared with a code that is taken, a status that
    is no error, or an extension named like a standard member; and when raised with an
    extension that is unknown or missing.

    >>> class InsufficientStockError(Problem):
    ...     code = "insufficient_stock"
    ...     status = 409
    ...     title = "Not enough stock"
    ...     available: int
    >>> InsufficientStockError("Only 3 left.", available=3).extensions
    {'available': 3}
    """

    code: ClassVar[str] = "internal_server_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal Server Error"
    response_headers: ClassVar[Mapping[str, str]] = {}
    if TYPE_CHECKING:  # set by HTTPException; named here for the derived constructors only
        detail: str = field(default="", kw_only=False)
        headers: Mapping[str, str] | None = field(default=None)

    _extension_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, detail: str = "", *, headers: Mapping[str, str] | None = None, **extensions: Any) -> None:
        cls = type(self)
        super().__init__(cls.status, detail or cls.title, headers)
        for name in self._extension_names:
            if name in extensions:
                setattr(self, name, extensions.pop(name))
            elif not hasattr(cls, name):
                raise TypeError(f"{cls.__name__} needs the extension {name!r}")
        if extensions:
            raise TypeError(f"{cls.__name__} declares no extension {', '.join(sorted(extensions))}")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not 400 <= cls.status <= 599:
            raise TypeError(f"{cls.__name__}.status is {cls.status}, an error has 400 to 599")
        if "title" not in vars(cls) and "status" in vars(cls):
            cls.title = phrase_of(cls.status)
        for other in catalogue():
            same_place = (other.__module__, other.__qualname__) == (cls.__module__, cls.__qualname__)
            if other is not cls and other.code == cls.code and not same_place:
                raise TypeError(
                    f"{cls.__name__}.code {cls.code!r} is taken by {other.__module__}.{other.__qualname__};"
                    " give each kind of error a code of its own"
                )
        own = [name for name, hint in inspect.get_annotations(cls).items() if not _is_class_variable(hint)]
        if clash := RESERVED.intersection(own):
            raise TypeError(f"{cls.__name__} may not redefine {', '.join(sorted(clash))}")
        cls._extension_names = (*cls._extension_names, *own)

    @property
    def extensions(self) -> dict[str, Any]:
        """Return the extension members by name, in the order of their declaration."""
        return {name: getattr(self, name) for name in self._extension_names}

    @classmethod
    def extension_types(cls) -> dict[str, Any]:
        """Return the type of each extension member by name, for the OpenAPI schema."""
        hints = get_type_hints(cls, include_extras=True)
        return {name: hints[name] for name in cls._extension_names}


def phrase_of(status: int) -> str:
    """Return the registered phrase of a status; `"Error"` for one that is not registered."""
    return _PHRASES.get(status, "Error")


@lru_cache
def code_of(status: int) -> str:
    """Return the code of a problem of which nothing is known but its status: `"not_found"`, for one."""
    return phrase_of(status).lower().replace(" ", "_").replace("-", "_").replace("'", "")


def _is_class_variable(hint: object) -> bool:
    return get_origin(hint) is ClassVar or (isinstance(hint, str) and "ClassVar" in hint)


def catalogue() -> Iterator[type[Problem]]:
    """Yield every kind of problem that the process has imported, parents first."""
    pending: list[type[Problem]] = Problem.__subclasses__()
    for kind in pending:
        yield kind
        pending.extend(kind.__subclasses__())
