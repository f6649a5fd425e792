"""A page of a statement by its distance from the first row."""

from collections.abc import Sequence
from typing import Any, TypeVar, cast, overload

from pydantic import BaseModel

from fastapi_kit.errors import needs_extra
from fastapi_kit.pagination._statement import AnySelect, PagedStatement
from fastapi_kit.pagination.pages import NumberedPage, Page
from fastapi_kit.pagination.parameters import PageNumberParams, SkipLimitParams

with needs_extra("db"):
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

__all__ = ["paginate", "paginate_sync"]

ModelT = TypeVar("ModelT", bound=BaseModel)


@overload
async def paginate(
    session: AsyncSession,
    statement: AnySelect,
    params: SkipLimitParams,
    model: type[ModelT],
    *,
    total: bool = True,
) -> Page[ModelT]: ...
@overload
async def paginate(
    session: AsyncSession,
    statement: AnySelect,
    params: PageNumberParams,
    model: type[ModelT],
    *,
    total: bool = True,
) -> NumberedPage[ModelT]: ...
async def paginate(
    session: AsyncSession,
    statement: AnySelect,
    params: SkipLimitParams | PageNumberParams,
    model: type[ModelT],
    *,
    total: bool = True,
) -> Page[ModelT] | NumberedPage[ModelT]:
    """Return one page of a statement, each row made into a `model`, and the total.

    Rows and total come in one round trip. Only a page past the end, which has no row to carry
    the total, costs a second. The total counts rows as the statement returns them, under
    DISTINCT, GROUP BY and HAVING too; a join to many returns an entity once for each match, so
    select those with `.distinct()`, or filter with `exists()` in place of the join.

    An order with ties returns tied rows in any order, and so can show a row on two pages and
    another on none: the primary key of what is selected is appended to the order unless it is
    there. That needs ORM entities or their columns; give other statements, and columns under
    DISTINCT or GROUP BY, an `order_by` without ties. Rows inserted or deleted between two
    requests still shift the pages after them: that is the nature of OFFSET.

    `session`: an async session; for a sync one, `paginate_sync`. `statement`: any `Select`
    without LIMIT and OFFSET, of an entity, of several, or of columns. `params`: what
    `SkipLimit` or `PageNumber` read; it decides the kind of page. `model`: is validated from
    the attributes of the entity, or from the row's columns by their names. `total`: False
    leaves the count out of the statement, and the total is None.

    A page past the end has no items. Raises `TypeError` for what is no `Select` and for a
    collection loaded by a join, `ValueError` for a statement with a LIMIT of its own and for the
    total of one with FOR UPDATE; they are mistakes in the endpoint, never caused by a client.
    """
    paged = PagedStatement(statement, counted=total)
    rows, count = paged.read(await session.execute(paged.window(params.skip, params.limit)))
    if total and not rows and params.skip:
        _, count = paged.read(await session.execute(paged.window(0, 1)))
    return _page(rows, count or 0 if total else None, params, model)


@overload
def paginate_sync(
    session: Session,
    statement: AnySelect,
    params: SkipLimitParams,
    model: type[ModelT],
    *,
    total: bool = True,
) -> Page[ModelT]: ...
@overload
def paginate_sync(
    session: Session,
    statement: AnySelect,
    params: PageNumberParams,
    model: type[ModelT],
    *,
    total: bool = True,
) -> NumberedPage[ModelT]: ...
def paginate_sync(
    session: Session,
    statement: AnySelect,
    params: SkipLimitParams | PageNumberParams,
    model: type[ModelT],
    *,
    total: bool = True,
) -> Page[ModelT] | NumberedPage[ModelT]:
    """Return what `paginate` does, through a sync session, in a sync endpoint or a script."""
    paged = PagedStatement(statement, counted=total)
    rows, count = paged.read(session.execute(paged.window(params.skip, params.limit)))
    if total and not rows and params.skip:
        _, count = paged.read(session.execute(paged.window(0, 1)))
    return _page(rows, count or 0 if total else None, params, model)


def _page(
    rows: Sequence[Any], total: int | None, params: SkipLimitParams | PageNumberParams, model: type[ModelT]
) -> Page[ModelT] | NumberedPage[ModelT]:
    # of the class that the endpoint declares, so that FastAPI does not validate the items again
    page: dict[str, Any] = {"items": rows, "total": total}
    if isinstance(params, SkipLimitParams):
        page |= {"skip": params.skip, "limit": params.limit}
        kind = cast(type[Page[ModelT]], Page.__class_getitem__(model))
        return kind.model_validate(page, from_attributes=True)
    pages = None if total is None else -(-total // params.size)
    page |= {"page": params.page, "size": params.size, "pages": pages}
    numbered = cast(type[NumberedPage[ModelT]], NumberedPage.__class_getitem__(model))
    return numbered.model_validate(page, from_attributes=True)
