"""Pages of any `Select`: parameters as dependencies, bounded, and a total that rides with the rows."""

from fastapi_kit.pagination.offset import paginate, paginate_sync
from fastapi_kit.pagination.pages import NumberedPage, Page
from fastapi_kit.pagination.parameters import (
    PageNumber,
    PageNumberParams,
    SkipLimit,
    SkipLimitParams,
    page_number,
    skip_limit,
)

__all__ = [
    "NumberedPage",
    "Page",
    "PageNumber",
    "PageNumberParams",
    "SkipLimit",
    "SkipLimitParams",
    "page_number",
    "paginate",
    "paginate_sync",
    "skip_limit",
]
