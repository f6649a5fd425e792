"""Pages of any `Select`: by offset, number or cursor, bounded parameters, sorting and filters by allow-list."""

from fastapi_kit.pagination.cursor_parameters import BesideRowParams, CursorParams, cursor_limit
from fastapi_kit.pagination.cursors import Cursors, InvalidCursorError
from fastapi_kit.pagination.filtering import Conditions, filter_by
from fastapi_kit.pagination.filters import Filter
from fastapi_kit.pagination.lists import fetch_list, paginate_list
from fastapi_kit.pagination.pages import CursorPage, NumberedPage, Page
from fastapi_kit.pagination.paginating import fetch, fetch_sync, paginate, paginate_sync
from fastapi_kit.pagination.parameters import (
    PageNumber,
    PageNumberParams,
    SkipLimit,
    SkipLimitParams,
    page_number,
    skip_limit,
)
from fastapi_kit.pagination.slices import Slice
from fastapi_kit.pagination.sorting import Ordering, sort_by
from fastapi_kit.pagination.statement import AtMost, at_most

__all__ = [
    "AtMost",
    "BesideRowParams",
    "Conditions",
    "CursorPage",
    "CursorParams",
    "Cursors",
    "Filter",
    "InvalidCursorError",
    "NumberedPage",
    "Ordering",
    "Page",
    "PageNumber",
    "PageNumberParams",
    "SkipLimit",
    "SkipLimitParams",
    "Slice",
    "at_most",
    "cursor_limit",
    "fetch",
    "fetch_list",
    "fetch_sync",
    "filter_by",
    "page_number",
    "paginate",
    "paginate_list",
    "paginate_sync",
    "skip_limit",
    "sort_by",
]
