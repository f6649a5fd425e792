"""The rows that a client asks for, by query parameters that the endpoint lists."""

from collections.abc import Mapping, Sequence
from inspect import Parameter, Signature
from typing import Annotated, Any, TypeAlias

from fastapi import Query
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.params import Depends
from starlette.requests import HTTPConnection

from fastapi_kit._fastapi import query_names
from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.pagination.filters import Filter

with needs_extra("pagination"):
    from sqlalchemy import ColumnElement

__all__ = ["Conditions", "filter_by"]

Conditions: TypeAlias = Sequence[ColumnElement[bool]]
"""The conditions for `select(...).where(*where)`; none where the client gives no filter."""

_MOST_UNKNOWN = 10


def filter_by(filters: Mapping[str, Filter], *, ignore_unknown: bool = False) -> Depends:
    """Return the dependency that reads the filters from the query, for `Annotated[Conditions, ...]`.

    It runs on the event loop. A query parameter that the route does not declare, in this dependency or another, is
    422: a mistyped filter would return everything.

    `filters`: the query parameters by their names, any text: `filter[status]` and `created[gte]` are names too.
    `ignore_unknown`: True lets others pass, for links that have parameters of trackers, and for dependencies that
    read `request.query_params` without declaring what.

    Returns the conditions, those of all filters that the client gives. Raises `ConfigurationError` at once for no
    filters and for an empty name. A client is answered 422 for a value that is not of the filter's type.

    >>> from typing import Annotated
    >>> from sqlalchemy import Integer, String, column
    >>> from fastapi_kit.pagination import Conditions, Filter, filter_by
    >>> Where = Annotated[
    ...     Conditions,
    ...     filter_by({
    ...         "min_pages": Filter.at_least(column("pages", Integer)),
    ...         "q": Filter.search(column("title", String)),
    ...     }),
    ... ]
    """
    if not filters or not all(name and isinstance(one, Filter) for name, one in filters.items()):
        raise ConfigurationError("filter_by() needs names and filters, such as {'status': Filter.equals(Book.status)}")
    return Depends(_Filters(filters, ignore_unknown=ignore_unknown))


class _Filters:
    """The dependency: FastAPI reads its parameters from `__signature__`."""

    def __init__(self, filters: Mapping[str, Filter], *, ignore_unknown: bool) -> None:
        self._hint = f"There is no such parameter. What filters is: {', '.join(filters)}"
        self._ignores_unknown = ignore_unknown
        self._conditions = [(f"kit_filter_{n}", one.condition) for n, one in enumerate(filters.values())]
        self.__signature__ = Signature(
            [
                Parameter("connection", Parameter.KEYWORD_ONLY, annotation=HTTPConnection),
                *(
                    Parameter(
                        f"kit_filter_{n}",
                        Parameter.KEYWORD_ONLY,
                        default=None,
                        annotation=Annotated[one.as_type, Query(alias=name, description=one.description)],
                    )
                    for n, (name, one) in enumerate(filters.items())
                ),
            ]
        )

    async def __call__(self, connection: HTTPConnection, **values: Any) -> Conditions:
        if not self._ignores_unknown:
            self._refuse_unknown(connection)
        return [
            condition
            for name, make in self._conditions
            if (value := values[name]) is not None and (condition := make(value)) is not None
        ]

    def _refuse_unknown(self, connection: HTTPConnection) -> None:
        unknown = connection.query_params.keys() - query_names(connection.scope)
        if unknown:
            kind = RequestValidationError if connection.scope["type"] == "http" else WebSocketRequestValidationError
            raise kind(
                [
                    {"type": "query_unknown", "loc": ("query", name), "msg": self._hint}
                    for name in sorted(unknown)[:_MOST_UNKNOWN]
                ]
            )
