"""One page of a statement, through an async session or a sync one."""

from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, cast, overload

from pydantic import BaseModel

from fastapi_kit.errors import needs_extra
from fastapi_kit.pagination.cursor_parameters import CursorParams
from fastapi_kit.pagination.fetching import fetching
from fastapi_kit.pagination.pages import CursorPage, NumberedPage, Page, enveloped
from fastapi_kit.pagination.parameters import PageNumberParams, SkipLimitParams
from fastapi_kit.pagination.selects import AnySelect
from fastapi_kit.pagination.slices import AnyParams, Slice
from fastapi_kit.pagination.statement import AnyTotal

with needs_extra("pagination"):
    from sqlalchemy import Row, Select

if TYPE_CHECKING:  # SQLAlchemy's asyncio part cannot be imported without greenlet
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

__all__ = ["fetch", "fetch_sync", "paginate", "paginate_sync"]

ItemT = TypeVar("ItemT")
ModelT = TypeVar("ModelT", bound=BaseModel)
ParamsT = TypeVar("ParamsT", bound=AnyParams)
FirstT = TypeVar("FirstT")
SecondT = TypeVar("SecondT")
RestT = TypeVarTuple("RestT")


@overload
async def paginate(
    session: "AsyncSession",
    statement: AnySelect,
    params: SkipLimitParams,
    model: type[ModelT],
    *,
    total: AnyTotal = True,
) -> Page[ModelT]: ...
@overload
async def paginate(
    session: "AsyncSession",
    statement: AnySelect,
    params: PageNumberParams,
    model: type[ModelT],
    *,
    total: AnyTotal = True,
) -> NumberedPage[ModelT]: ...
@overload
async def paginate(
    session: "AsyncSession",
    statement: AnySelect,
    params: CursorParams,
    model: type[ModelT],
) -> CursorPage[ModelT]: ...
async def paginate(
    session: "AsyncSession",
    statement: AnySelect,
    params: SkipLimitParams | PageNumberParams | CursorParams,
    model: type[ModelT],
    *,
    total: AnyTotal | None = None,
) -> Page[ModelT] | NumberedPage[ModelT] | CursorPage[ModelT]:
    """Return one page of a statement, each row made into a `model`.

    `session`: an async session; for a sync one, `paginate_sync`. `statement`: any `Select`
    without LIMIT and OFFSET, of an entity, of several, or of columns. `params`: what `SkipLimit`,
    `PageNumber` or `cursor_limit` read; it decides the kind of page. `model`: is validated from
    the attributes of the entity, or from the row's columns by their names.

    An order with ties returns tied rows in any order, and so can show a row on two pages and
    another on none: what tells the rows apart, as the primary key, is appended to the order unless it is
    there. Where nothing is known to, as of a union, give an `order_by` without ties.

    By `skip` or `page`: rows and total come in one round trip; only a page past the end, which has
    no row to carry the total, costs a second. `total`: True for an exact count of the rows as the
    statement returns them, False for none, `at_most(10_000)` to count no further, or a `Select` of
    one number of your own. Rows that are inserted or deleted between two requests shift the pages
    after them: that is the nature of OFFSET.

    By cursor: one SELECT, which begins at the place of the cursor in whatever index has the order,
    so that a deep page costs what the first one costs. Each row that is there all the while, with an
    order that does not change, is seen once. An order by a nullable column is right, but its deep
    pages cost like OFFSET where the NULLs come last.

    A page past the end has no items. Raises `InvalidCursorError` (400, `invalid_cursor`); `TypeError`
    for what is no `Select`, for a join to many that returns an entity more than once, and for a
    collection loaded by a join; `ValueError` for a LIMIT of the statement's own, for the total of one with
    FOR UPDATE, and for an order that cursors cannot follow. But for the first they are mistakes in
    the endpoint, never caused by a client.
    """
    return enveloped(await _run(session, statement, params, total, as_rows=True), model)


@overload
def paginate_sync(
    session: "Session",
    statement: AnySelect,
    params: SkipLimitParams,
    model: type[ModelT],
    *,
    total: AnyTotal = True,
) -> Page[ModelT]: ...
@overload
def paginate_sync(
    session: "Session",
    statement: AnySelect,
    params: PageNumberParams,
    model: type[ModelT],
    *,
    total: AnyTotal = True,
) -> NumberedPage[ModelT]: ...
@overload
def paginate_sync(
    session: "Session",
    statement: AnySelect,
    params: CursorParams,
    model: type[ModelT],
) -> CursorPage[ModelT]: ...
def paginate_sync(
    session: "Session",
    statement: AnySelect,
    params: SkipLimitParams | PageNumberParams | CursorParams,
    model: type[ModelT],
    *,
    total: AnyTotal | None = None,
) -> Page[ModelT] | NumberedPage[ModelT] | CursorPage[ModelT]:
    """Return what `paginate` does, through a sync session, in a sync endpoint or a script."""
    return enveloped(_run_sync(session, statement, params, total, as_rows=True), model)


@overload
async def fetch(
    session: "AsyncSession", statement: Select[ItemT], params: ParamsT, *, total: AnyTotal | None = None
) -> Slice[ItemT, ParamsT]: ...
@overload
async def fetch(
    session: "AsyncSession",
    statement: Select[FirstT, SecondT, *RestT],
    params: ParamsT,
    *,
    total: AnyTotal | None = None,
) -> Slice[Row[FirstT, SecondT, *RestT], ParamsT]: ...
async def fetch(
    session: "AsyncSession", statement: AnySelect, params: ParamsT, *, total: AnyTotal | None = None
) -> Slice[Any, ParamsT]:
    """Return one page as it was selected, for an envelope or a transformation of one's own.

    As `paginate`, of which it is the first half: `Page[BookRead].of(page)` is the second one. `total`
    is True where it is None, but False where the params have cursors.

    >>> from sqlalchemy import select
    >>> async def stripe_list(session, params):  # has_more in place of cursors
    ...     page = await fetch(session, select(Charge), params)
    ...     return {"object": "list", "data": page.items, "has_more": page.has_next}
    """
    return cast("Slice[Any, ParamsT]", await _run(session, statement, params, total, as_rows=False))


@overload
def fetch_sync(
    session: "Session", statement: Select[ItemT], params: ParamsT, *, total: AnyTotal | None = None
) -> Slice[ItemT, ParamsT]: ...
@overload
def fetch_sync(
    session: "Session",
    statement: Select[FirstT, SecondT, *RestT],
    params: ParamsT,
    *,
    total: AnyTotal | None = None,
) -> Slice[Row[FirstT, SecondT, *RestT], ParamsT]: ...
def fetch_sync(
    session: "Session", statement: AnySelect, params: ParamsT, *, total: AnyTotal | None = None
) -> Slice[Any, ParamsT]:
    """Return what `fetch` does, through a sync session."""
    return cast("Slice[Any, ParamsT]", _run_sync(session, statement, params, total, as_rows=False))


async def _run(
    session: "AsyncSession", statement: AnySelect, params: AnyParams, total: AnyTotal | None, *, as_rows: bool
) -> Slice[Any, Any]:
    if not hasattr(session, "sync_session"):
        raise TypeError(f"an async session is needed, not a {type(session).__name__}: see paginate_sync and fetch_sync")
    steps = fetching(statement, params, total, _dialect(session.sync_session, statement), as_rows=as_rows)
    try:
        wanted = next(steps)
        while True:
            wanted = steps.send(await session.execute(wanted))
    except StopIteration as done:
        return cast("Slice[Any, Any]", done.value)


def _run_sync(
    session: "Session", statement: AnySelect, params: AnyParams, total: AnyTotal | None, *, as_rows: bool
) -> Slice[Any, Any]:
    if hasattr(session, "sync_session"):
        raise TypeError("a sync session is needed, and this one is async: await paginate or fetch")
    steps = fetching(statement, params, total, _dialect(session, statement), as_rows=as_rows)
    try:
        wanted = next(steps)
        while True:
            wanted = steps.send(session.execute(wanted))
    except StopIteration as done:
        return cast("Slice[Any, Any]", done.value)


def _dialect(session: "Session", statement: AnySelect) -> str:
    return session.get_bind(clause=statement).dialect.name
