"""The bodies that lists are answered with."""

from collections.abc import Iterable
from typing import Any, Generic, Self, TypeVar, cast

from pydantic import BaseModel, Field

from fastapi_kit.pagination.cursor_parameters import CursorParams
from fastapi_kit.pagination.parameters import PageNumberParams, SkipLimitParams
from fastapi_kit.pagination.slices import Slice
from fastapi_kit.schemas import OutputModel

__all__ = ["CursorPage", "NumberedPage", "Page", "enveloped"]

ItemT = TypeVar("ItemT")
ModelT = TypeVar("ModelT", bound=BaseModel)

_TOTAL = "Rows on all pages; null where they are not counted."
_CAPPED = "Whether there are more rows than `total`, which counts no further."


class _Envelope(OutputModel, Generic[ItemT]):
    items: list[ItemT]


class Page(_Envelope[ItemT], Generic[ItemT]):
    """The rows after the first `skip`, `limit` of them at most.

    `total` counts the rows of all pages; it is None where the endpoint does not count, and less
    than there are where it says `total_capped`. A page past the end has no items, and the same
    total. The OpenAPI calls it `Page_BookRead_`; a subclass, `class Books(Page[BookRead])`, by its name.
    """

    total: int | None = Field(ge=0, description=_TOTAL)
    total_capped: bool = Field(default=False, description=_CAPPED)
    skip: int = Field(ge=0)
    limit: int = Field(ge=1)

    @classmethod
    def of(cls, page: Slice[Any, SkipLimitParams], items: Iterable[Any] | None = None) -> Self:
        """Return the envelope of what was fetched, with other `items` if they are given.

        Items are validated from their attributes. Raises pydantic's `ValidationError` for those
        that do not fit the model, which is a mistake in the endpoint.
        """
        params = page.params
        return cls.model_validate(
            {
                "items": page.items if items is None else [*items],
                "total": page.total,
                "total_capped": page.total_capped,
                "skip": params.skip,
                "limit": params.limit,
            },
            from_attributes=True,
        )


class NumberedPage(_Envelope[ItemT], Generic[ItemT]):
    """The page numbered `page`, from 1 on, `size` rows of it at most.

    `total` counts the rows and `pages` the pages that hold them, 0 when there are none; both
    are None where the endpoint does not count, and less than there are where it says `total_capped`.
    """

    total: int | None = Field(ge=0, description=_TOTAL)
    total_capped: bool = Field(default=False, description=_CAPPED)
    page: int = Field(ge=1)
    size: int = Field(ge=1)
    pages: int | None = Field(ge=0, description="Pages that hold rows; null where they are not counted.")

    @classmethod
    def of(cls, page: Slice[Any, PageNumberParams], items: Iterable[Any] | None = None) -> Self:
        """Return the envelope of what was fetched, as `Page.of` does."""
        params = page.params
        return cls.model_validate(
            {
                "items": page.items if items is None else [*items],
                "total": page.total,
                "total_capped": page.total_capped,
                "page": params.page,
                "size": params.size,
                "pages": None if page.total is None else -(-page.total // params.size),
            },
            from_attributes=True,
        )


class CursorPage(_Envelope[ItemT], Generic[ItemT]):
    """Some rows, and the cursors of the pages after and before them; None where there are no such rows.

    A cursor is opaque: a client sends it back as it is, with the same other parameters.
    """

    next_cursor: str | None = Field(description="For the page after this one; null on the last page.")
    previous_cursor: str | None = Field(description="For the page before this one; null on the first page.")

    @classmethod
    def of(cls, page: Slice[Any, CursorParams], items: Iterable[Any] | None = None) -> Self:
        """Return the envelope of what was fetched, as `Page.of` does."""
        return cls.model_validate(
            {
                "items": page.items if items is None else [*items],
                "next_cursor": page.next_cursor,
                "previous_cursor": page.previous_cursor,
            },
            from_attributes=True,
        )


def enveloped(page: Slice[Any, Any], model: type[ModelT]) -> Page[ModelT] | NumberedPage[ModelT] | CursorPage[ModelT]:
    """Return the page in the kit's envelope for its params."""
    # of the class that the endpoint declares, so that FastAPI does not validate the items again
    if isinstance(page.params, SkipLimitParams):
        return cast(type[Page[ModelT]], Page.__class_getitem__(model)).of(page)
    if isinstance(page.params, PageNumberParams):
        return cast(type[NumberedPage[ModelT]], NumberedPage.__class_getitem__(model)).of(page)
    if isinstance(page.params, CursorParams):
        return cast(type[CursorPage[ModelT]], CursorPage.__class_getitem__(model)).of(page)
    raise TypeError(f"{type(page.params).__name__} have no envelope of the kit's: use fetch() and one of your own")
