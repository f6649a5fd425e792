"""Which page a client asks for by a cursor, or by a row of its own."""

import json
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import Query, Response
from fastapi.params import Depends
from starlette.requests import HTTPConnection

from fastapi_kit.errors import BadRequestError, ConfigurationError, raises
from fastapi_kit.pagination.cursors import Cursors, InvalidCursorError
from fastapi_kit.pagination.origin import Origin
from fastapi_kit.pagination.parameters import check_limits, check_names
from fastapi_kit.pagination.positions import Position

__all__ = ["BesideRowParams", "CursorParams", "cursor_limit"]


@dataclass(frozen=True, slots=True)
class CursorParams:
    """Ask for `limit` rows (1 or more) beyond the place that `cursor` holds; for the first ones where it is None.

    `cursors` reads the cursor, and makes those of the next and the previous page. They are bound
    to `list_id` and to the order of the statement: a cursor of another list is refused. As a
    parameter of an endpoint it needs `cursor_limit()`, which makes the list's id of the path and
    of all other query parameters; by hand give one that no other list has.

    Raises `ValueError` when it is built by hand with a `limit` below 1.
    """

    limit: int
    cursor: str | None
    cursors: Cursors = field(repr=False)
    list_id: str
    origin: Origin | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit={self.limit} must be 1 or more")

    def bound_to(self, *what: object) -> "CursorParams":
        """Return the same, with cursors that hold for this only: a tenant, a user, a filter that is in the body.

        `what`: ints, strings, or anything whose `str()` says what it is.

        >>> from fastapi_kit.pagination import CursorParams, Cursors
        >>> import os
        >>> params = CursorParams(20, None, Cursors(os.environ["CURSOR_SECRET"]), "books")
        >>> params.bound_to("tenant", 7).list_id
        '["books", "tenant", "7"]'
        """
        return replace(self, list_id=json.dumps([self.list_id, *map(str, what)]))

    def position(self, order: list[str]) -> Position | None:
        """Return the place that the cursor holds in an order; None for the first page.

        Raises `InvalidCursorError` (400, `invalid_cursor`).
        """
        return None if self.cursor is None else self.cursors.decode(self.cursor, self._context(order))

    def cursor_of(self, position: Position, order: list[str]) -> str:
        """Return the cursor of a place in an order."""
        return self.cursors.encode(position, self._context(order))

    def _context(self, order: list[str]) -> str:
        return json.dumps([self.list_id, *order])


@dataclass(frozen=True, slots=True)
class BesideRowParams:
    """Ask for `limit` rows after, or before, the row with some primary key, as Stripe's `starting_after` does.

    `after`, `before`: the key, a tuple where it has several columns; None in both is the first
    page. It costs one statement more than a cursor, which looks up the place of that row; a row
    that is not in the list, or not any more, is a 400 with the code `invalid_cursor`. For `fetch`.

    Raises `BadRequestError` (400, `bad_request`) for both `after` and `before`, and `ValueError` for a `limit` below 1.
    """

    limit: int
    after: Any = None
    before: Any = None

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit={self.limit} must be 1 or more")
        if self.after is not None and self.before is not None:
            raise BadRequestError("Ask for rows after a row or before one, not both.")


def cursor_limit(
    cursors: Cursors,
    *,
    default: int = 20,
    maximum: int = 100,
    names: tuple[str, str] = ("cursor", "limit"),
    link_header: bool = False,
) -> Depends:
    """Return the dependency that reads `?cursor=` and `?limit=`, for `Annotated[CursorParams, ...]`.

    It runs on the event loop. A cursor holds for one list: the path and all query parameters but
    these two are what it was made for, so a client that changes the sort or a filter starts again
    without one. A cursor of something else is a 400 with the code `invalid_cursor`, never the first page.

    `default`: rows when the client does not say, 1 to `maximum`. `maximum`: most rows a client
    gets, 1 or more. `names`: of the two query parameters. `link_header`: answer with a `Link`
    header (RFC 8288), which a `Response` that the endpoint returns itself would not carry.

    Raises `ConfigurationError` at once when the bounds contradict each other.

    >>> import os
    >>> from typing import Annotated
    >>> from fastapi_kit.pagination import CursorParams, Cursors, cursor_limit
    >>> cursors = Cursors(os.environ["CURSOR_SECRET"])
    >>> CursorLimit = Annotated[CursorParams, cursor_limit(cursors)]
    """
    if not isinstance(cursors, Cursors):
        raise ConfigurationError(f"cursor_limit() needs Cursors(secret), not a {type(cursors).__name__}")
    check_limits(default, maximum, "default", "maximum")
    check_names(names)
    cursor_name, limit_name = names

    @raises(InvalidCursorError)
    async def read_cursor_and_limit(
        connection: HTTPConnection,  # so that a WebSocket may ask for pages too
        response: Response,
        cursor: Annotated[
            str | None,
            Query(alias=cursor_name, description="`next_cursor` or `previous_cursor` of another page of this list."),
        ] = None,
        limit: Annotated[
            int, Query(alias=limit_name, ge=1, le=maximum, description="Rows of the page at most.")
        ] = default,
    ) -> CursorParams:
        origin = Origin(connection, names, response if link_header else None)
        return CursorParams(limit, cursor, cursors, origin.list_id(), origin)

    return Depends(read_cursor_and_limit)
