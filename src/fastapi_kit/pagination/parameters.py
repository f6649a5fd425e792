"""Which page a client asks for, as dependencies that bound it."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Query, Response
from fastapi.params import Depends
from starlette.requests import HTTPConnection

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.pagination.origin import Origin

__all__ = [
    "PageNumber",
    "PageNumberParams",
    "SkipLimit",
    "SkipLimitParams",
    "check_limits",
    "page_number",
    "skip_limit",
]

_FURTHEST = 2**63 - 1
"""The last OFFSET that a database takes; anything above would be a 500."""

_MOST = 2**31 - 2
"""The most rows of a page: one more is asked for, to see whether there are more."""


@dataclass(frozen=True, slots=True)
class SkipLimitParams:
    """Ask for `limit` rows (1 or more) after the first `skip` (0 or more).

    As a parameter of an endpoint it needs `skip_limit()`, which bounds it.

    Raises `ValueError` when it is built by hand with a negative `skip` or a `limit` below 1.
    """

    skip: int
    limit: int
    origin: Origin | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.skip < 0 or self.limit < 1:
            raise ValueError(f"skip={self.skip} must be 0 or more, limit={self.limit} 1 or more")


@dataclass(frozen=True, slots=True)
class PageNumberParams:
    """Ask for the page numbered `page`, from 1 on, of pages of `size` rows (1 or more).

    As a parameter of an endpoint it needs `page_number()`, which bounds it.

    Raises `ValueError` when it is built by hand with either below 1.
    """

    page: int
    size: int
    origin: Origin | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.page < 1 or self.size < 1:
            raise ValueError(f"page={self.page} and size={self.size} must be 1 or more")

    @property
    def skip(self) -> int:
        """Return the number of rows before the page."""
        return (self.page - 1) * self.size

    @property
    def limit(self) -> int:
        """Return the number of rows of the page, `size`."""
        return self.size


def skip_limit(
    *,
    default: int = 20,
    maximum: int = 100,
    max_skip: int = 1_000_000,
    names: tuple[str, str] = ("skip", "limit"),
    link_header: bool = False,
) -> Depends:
    """Return the dependency that reads `?skip=` and `?limit=`, for `Annotated[SkipLimitParams, ...]`.

    It runs on the event loop. OFFSET reads every row it skips, so `max_skip` bounds what one
    request can cost as well as `maximum` does; raise it where a table is longer and is to be
    walked to its end, or better page by cursor.

    `default`: rows when the client does not say, 1 to `maximum`. `maximum`: most rows a client
    gets, 1 or more. `max_skip`: largest `skip`, 0 to 2**63 - 1. `names`: of the two query
    parameters. `link_header`: answer with a `Link` header (RFC 8288), which a `Response` that the
    endpoint returns itself would not carry. The bounds are in the OpenAPI.

    Raises `ConfigurationError` at once when they contradict each other. A client outside of
    them is answered 422, never given a page that it did not ask for.

    >>> from typing import Annotated
    >>> from fastapi_kit.pagination import SkipLimitParams, skip_limit
    >>> Fifty = Annotated[SkipLimitParams, skip_limit(maximum=50)]
    """
    check_limits(default, maximum, "default", "maximum")
    check_names(names)
    if not 0 <= max_skip <= _FURTHEST:
        raise ConfigurationError(f"max_skip={max_skip} must be between 0 and 2**63 - 1")
    skip_name, limit_name = names

    async def read_skip_and_limit(
        connection: HTTPConnection,  # so that a WebSocket may ask for pages too
        response: Response,
        skip: Annotated[
            int, Query(alias=skip_name, ge=0, le=max_skip, description="Rows to leave out before the page.")
        ] = 0,
        limit: Annotated[
            int, Query(alias=limit_name, ge=1, le=maximum, description="Rows of the page at most.")
        ] = default,
    ) -> SkipLimitParams:
        return SkipLimitParams(skip, limit, Origin(connection, names, response if link_header else None))

    return Depends(read_skip_and_limit)


def page_number(
    *,
    default_size: int = 20,
    max_size: int = 100,
    max_page: int = 1_000_000,
    names: tuple[str, str] = ("page", "size"),
    link_header: bool = False,
) -> Depends:
    """Return the dependency that reads `?page=` and `?size=`, for `Annotated[PageNumberParams, ...]`.

    It runs on the event loop. `default_size`: rows of a page when the client does not say, 1 to
    `max_size`. `max_size`: most rows of a page, 1 or more. `max_page`: largest page number, 1 or
    more, such that the last row is within 2**63 - 1. `names` and `link_header`: as those of
    `skip_limit`. The bounds are in the OpenAPI.

    Raises `ConfigurationError` at once when they contradict each other. A client outside of
    them is answered 422.

    >>> from typing import Annotated
    >>> from fastapi_kit.pagination import PageNumberParams, page_number
    >>> LikeGitHub = Annotated[PageNumberParams, page_number(names=("page", "per_page"), link_header=True)]
    """
    check_limits(default_size, max_size, "default_size", "max_size")
    check_names(names)
    if not (max_page >= 1 and max_page * max_size <= _FURTHEST):
        raise ConfigurationError(f"max_page={max_page} must be 1 or more, and max_page * max_size below 2**63")
    page_name, size_name = names

    async def read_page_and_size(
        connection: HTTPConnection,  # so that a WebSocket may ask for pages too
        response: Response,
        page: Annotated[
            int, Query(alias=page_name, ge=1, le=max_page, description="Number of the page, from 1 on.")
        ] = 1,
        size: Annotated[
            int, Query(alias=size_name, ge=1, le=max_size, description="Rows of a page at most.")
        ] = default_size,
    ) -> PageNumberParams:
        return PageNumberParams(page, size, Origin(connection, names, response if link_header else None))

    return Depends(read_page_and_size)


def check_limits(default: int, maximum: int, default_name: str, maximum_name: str) -> None:
    """Raise `ConfigurationError` unless 1 <= default <= maximum."""
    if not 1 <= default <= maximum <= _MOST:
        raise ConfigurationError(
            f"{default_name}={default} must be between 1 and {maximum_name}={maximum}, and {maximum_name} below 2**31"
        )


def check_names(names: Collection[str]) -> None:
    """Raise `ConfigurationError` unless they are the different names of two query parameters."""
    if len(set(names)) != 2 or isinstance(names, str) or not all(names):
        raise ConfigurationError(f"names={names!r} must be the names of two different query parameters")


SkipLimit = Annotated[SkipLimitParams, skip_limit()]
"""`?skip=0&limit=20`, at most 100 rows and 1,000,000 skipped; `skip_limit` makes others."""

PageNumber = Annotated[PageNumberParams, page_number()]
"""`?page=1&size=20`, at most 100 rows and page 1,000,000; `page_number` makes others."""
