"""The rows of one page with all that an envelope may want to say of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from fastapi_kit.pagination.cursor_parameters import BesideRowParams, CursorParams
from fastapi_kit.pagination.parameters import PageNumberParams, SkipLimitParams

__all__ = ["AnyParams", "Slice"]

AnyParams = SkipLimitParams | PageNumberParams | CursorParams | BesideRowParams

ItemT_co = TypeVar("ItemT_co", covariant=True)
ParamsT_co = TypeVar("ParamsT_co", covariant=True, bound=AnyParams)


@dataclass(frozen=True, slots=True)
class Slice(Generic[ItemT_co, ParamsT_co]):
    """A page before it has an envelope: what `fetch` returns, for envelopes and transformations of one's own.

    `items`: what was selected, entities or values where it is one thing, rows where it is several.
    `params`: what was asked for. `has_previous`, `has_next`: whether there are rows before and
    after; after a cursor there always is a row before, unless it was deleted since. `total`: as it
    was asked for, else None; `total_capped`: whether there are more than it says.
    `next_cursor`, `previous_cursor`: where the params have cursors and there are such rows.
    """

    items: Sequence[ItemT_co]
    params: ParamsT_co
    has_previous: bool
    has_next: bool
    total: int | None = None
    total_capped: bool = False
    next_cursor: str | None = None
    previous_cursor: str | None = None

    @property
    def links(self) -> dict[str, str]:
        """Return relative references of the first, previous, next and last page, in this order, by relation type.

        They keep the other query parameters, and hold behind every proxy, since they begin with "?"
        (RFC 3986, 4.2); `urllib.parse.urljoin(str(request.url), link)` makes them absolute. A page
        that does not exist has none; `last` needs an exact total. One beyond `max_skip` or `max_page` has, and is
        answered 422: a client that follows `next` must not take it for the end. Empty where the params came from
        no request.
        """
        params = self.params
        if isinstance(params, BesideRowParams) or params.origin is None:
            return {}
        if isinstance(params, CursorParams):
            pages = self._by_cursor(params)
        elif isinstance(params, PageNumberParams):
            pages = self._by_number(params)
        else:
            pages = self._by_skip(params)
        where, how_many = params.origin.names
        changes = {relation: {where: place} if place else {} for relation, place in pages.items()}
        return {
            relation: params.origin.reference({**change, how_many: params.limit})
            for relation, change in changes.items()
        }

    @property
    def link_header(self) -> str:
        """Return the links as the value of a `Link` header (RFC 8288, 3)."""
        return ", ".join(f'<{link}>; rel="{relation}"' for relation, link in self.links.items())

    def add_link_header(self) -> None:
        """Add the header to the response, if the params ask for it; `fetch` has done it."""
        origin = None if isinstance(self.params, BesideRowParams) else self.params.origin
        if origin is not None and origin.response is not None:
            origin.response.headers.append("Link", self.link_header)

    def _by_cursor(self, params: CursorParams) -> dict[str, str | int]:
        pages: dict[str, str | int] = {"first": ""}
        if self.previous_cursor is not None:
            pages["prev"] = self.previous_cursor
        if self.next_cursor is not None:
            pages["next"] = self.next_cursor
        return pages

    def _by_number(self, params: PageNumberParams) -> dict[str, str | int]:
        last = self._last_start(params.size)
        pages: dict[str, str | int] = {"first": 1}
        if self.has_previous:
            pages["prev"] = params.page - 1 if last is None else min(params.page - 1, last // params.size + 1)
        if self.has_next:
            pages["next"] = params.page + 1
        if last is not None:
            pages["last"] = last // params.size + 1
        return pages

    def _by_skip(self, params: SkipLimitParams) -> dict[str, str | int]:
        last = self._last_start(params.limit)
        pages: dict[str, str | int] = {"first": 0}
        if self.has_previous:
            before = max(0, params.skip - params.limit)
            pages["prev"] = before if last is None else min(before, last)
        if self.has_next:
            pages["next"] = params.skip + params.limit
        if last is not None:
            pages["last"] = last
        return pages

    def _last_start(self, limit: int) -> int | None:
        """Return how many rows are before the last page, of pages that begin at the first row."""
        if self.total is None or self.total_capped:
            return None
        return max(0, self.total - 1) // limit * limit
