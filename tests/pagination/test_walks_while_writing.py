"""Walks while other connections insert and delete: each row that is there all the while is seen exactly once."""

import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import delete, func, insert, make_url, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_kit.pagination import fetch
from tests.pagination.kinds import after

pytestmark = pytest.mark.anyio


class _Base(DeclarativeBase):
    pass


class Entry(_Base):
    __tablename__ = "walked_entry"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    rank: Mapped[int]
    score: Mapped[int | None]


@pytest.fixture
async def shared(engine: AsyncEngine, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """An engine of several connections, with a table of 120 rows."""
    url = engine.url if engine.name != "sqlite" else make_url(f"sqlite+aiosqlite:///{tmp_path}/walked.db")
    several = create_async_engine(url)
    async with several.begin() as connection:
        if several.name == "sqlite":
            await connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        await connection.run_sync(_Base.metadata.create_all)
        await connection.execute(insert(Entry), [row(number) for number in range(120)])
    try:
        yield several
    finally:
        async with several.begin() as connection:
            await connection.run_sync(_Base.metadata.drop_all)
        await several.dispose()


def row(number: int) -> dict[str, int | None]:
    return {"id": number, "rank": number % 5, "score": number % 7 or None}


ORDERS = {
    "rows compared": [Entry.rank],
    "mixed": [Entry.rank.desc(), Entry.score.asc().nulls_last()],
    "nulls first": [Entry.score.desc().nulls_first()],
}


@pytest.mark.parametrize("is_backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
async def test_rows_that_stay_are_seen_once(shared: AsyncEngine, order: list[Any], is_backwards: bool) -> None:
    kept = {number for number in range(120) if number % 3}
    random_ = random.Random(7)
    seen = Counter[int]()
    commits = 0
    is_done = anyio.Event()

    async def write() -> None:
        nonlocal commits
        fresh = 1000
        while not is_done.is_set():
            async with AsyncSession(shared) as session, session.begin():
                await session.execute(delete(Entry).where(Entry.id == random_.randrange(0, 120, 3)))
                await session.execute(insert(Entry), [row(fresh), row(fresh + 1)])
                await session.execute(delete(Entry).where(Entry.id == random_.randrange(1000, fresh + 1)))
                fresh += 2
            commits += 1
            await anyio.lowlevel.checkpoint()

    async def read() -> None:
        statement = select(Entry.id).order_by(*order)
        start: str | None = None
        if is_backwards:
            async with AsyncSession(shared) as session:
                total = await session.scalar(select(func.count()).select_from(Entry))
                assert total
                last = await fetch(session, statement, after(10_000))
                half = await fetch(session, statement, after(len(last.items) - 1))
                start = half.next_cursor
                tail = await fetch(session, statement, after(10_000, start))
                seen.update(tail.items)
                start = tail.previous_cursor
        cursor = start
        for _ in range(500):
            before = commits
            async with AsyncSession(shared) as session:  # each page in a transaction of its own
                page = await fetch(session, statement, after(7, cursor))
            seen.update(page.items)
            cursor = page.previous_cursor if is_backwards else page.next_cursor
            if cursor is None:
                break
            with anyio.fail_after(20):
                while commits == before:
                    await anyio.sleep(0.001)
        else:
            pytest.fail("the walk does not end")
        is_done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await read()

    assert commits > 5
    assert [number for number, times in seen.items() if times > 1] == []
    assert kept <= set(seen)
