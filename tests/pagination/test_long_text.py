"""An order by text that is too long for a cursor: its rows are found again by their key."""

import pytest
from sqlalchemy import Text, delete, func, insert, literal, select, union
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_kit.pagination import InvalidCursorError, fetch
from fastapi_kit.pagination.cursors import LONGEST
from tests.pagination.kinds import after

pytestmark = pytest.mark.anyio

WORDS = ["a", "b" * 9000, "c" * 9000, "d" * 9000, "e"]


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    word: Mapped[str] = mapped_column(Text)


@pytest.fixture
async def notes(engine: AsyncEngine) -> AsyncSession:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(insert(Note), [{"id": n, "word": word} for n, word in enumerate(WORDS)])
    return AsyncSession(engine)


async def test_walk_goes_on_at_a_row_with_a_long_text_both_ways(notes: AsyncSession, sent: list[str]) -> None:
    statement, seen = select(Note.id).order_by(Note.word), list[int]()
    cursor, longest = None, 0
    async with notes as session:
        while True:
            page = await fetch(session, statement, after(1, cursor))
            seen += page.items
            if (cursor := page.next_cursor) is None:
                break
            longest = max(longest, len(cursor))
        assert seen == [0, 1, 2, 3, 4]
        assert longest < LONGEST
        assert len(sent) == 5 + 3  # one more to look up each of the long ones

        while page.previous_cursor is not None:
            page = await fetch(session, statement, after(1, page.previous_cursor))
            seen += page.items
        assert seen[5:] == [3, 2, 1, 0]


async def test_groups_are_found_again_by_what_they_are_grouped_by(notes: AsyncSession) -> None:
    statement = select(Note.id, func.max(Note.word)).group_by(Note.id).order_by(func.max(Note.word))
    async with notes as session:
        page = await fetch(session, statement, after(2))
        assert [row.id for row in page.items] == [0, 1]
        rest = await fetch(session, statement, after(9, page.next_cursor))
        assert [row.id for row in rest.items] == [2, 3, 4]


async def test_row_that_is_gone_is_400(notes: AsyncSession) -> None:
    async with notes as session:
        page = await fetch(session, select(Note).order_by(Note.word), after(2))
        await session.execute(delete(Note).where(Note.id == 1))
        with pytest.raises(InvalidCursorError, match="is gone: start again"):
            await fetch(session, select(Note).order_by(Note.word), after(2, page.next_cursor))


async def test_where_nothing_tells_the_rows_apart_it_is_an_error(notes: AsyncSession) -> None:
    both = union(select(Note.word), select(literal("z"))).subquery()
    async with notes as session:
        with pytest.raises(ValueError, match="order by columns with shorter values"):
            await fetch(session, select(both.c.word).where(both.c.word > "c").order_by(both.c.word), after(1))


async def test_texts_that_begin_alike_are_refused_where_mariadb_sorts_by_the_beginning(
    engine: AsyncEngine, notes: AsyncSession
) -> None:
    async with notes as session:
        await session.execute(insert(Note), [{"id": 9, "word": "b" * 9000 + "!"}, {"id": 10, "word": "b" * 150}])
        statement = select(Note.id).order_by(Note.word)
        assert (await fetch(session, statement, after(2))).items == [0, 10]
        if engine.dialect.name == "mysql":
            with pytest.raises(ValueError, match=r"order by func\.substr\(column, 1, 200\)"):
                await fetch(session, statement, after(3))
        else:
            assert (await fetch(session, statement, after(5))).items == [0, 10, 1, 9, 2]
