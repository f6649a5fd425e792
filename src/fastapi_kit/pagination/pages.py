"""The bodies that lists are answered with."""

from typing import Generic, TypeVar

from pydantic import Field

from fastapi_kit.schemas import OutputModel

__all__ = ["NumberedPage", "Page"]

ItemT = TypeVar("ItemT")


class Page(OutputModel, Generic[ItemT]):
    """The rows after the first `skip`, `limit` of them at most.

    `total` counts the rows of all pages; it is None where the endpoint does not count. A page
    past the end has no items, and the same total.
    """

    items: list[ItemT]
    total: int | None = Field(ge=0, description="Rows on all pages; null where they are not counted.")
    skip: int = Field(ge=0)
    limit: int = Field(ge=1)


class NumberedPage(OutputModel, Generic[ItemT]):
    """The page numbered `page`, from 1 on, `size` rows of it at most.

    `total` counts the rows and `pages` the pages that hold them, 0 when there are none; both
    are None where the endpoint does not count.
    """

    items: list[ItemT]
    total: int | None = Field(ge=0, description="Rows on all pages; null where they are not counted.")
    page: int = Field(ge=1)
    size: int = Field(ge=1)
    pages: int | None = Field(ge=0, description="Pages that hold rows; null where they are not counted.")
