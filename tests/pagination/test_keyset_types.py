"""Cursors in random orders of random rows, with a column of every kind: each row is seen once, both ways."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_kit.pagination import CursorParams, fetch
from tests.pagination.kinds import CURSORS, KEYS, VALUES, Sample, after, walk

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:Dialect sqlite")]  # which has no decimals

NEVER_NULL = {"rank", "title"}
FILLED = st.fixed_dictionaries(
    {
        name: st.sampled_from(values) if name in NEVER_NULL else st.sampled_from([None, None, *values])
        for name, values in VALUES.items()
    }
)
KEPT_BY_THE_DATABASE = st.booleans()


@st.composite
def orders(draw: st.DrawFn) -> list[Any]:
    """Draw one to four keys, each ascending or descending, with NULLs first, last or where the database puts them."""
    clauses = []
    for name in draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=4, unique=True)):
        clause = KEYS[name].desc() if draw(st.booleans()) else KEYS[name].asc()
        nulls = draw(st.sampled_from(["", "nulls_first", "nulls_last"]))
        clauses.append(getattr(clause, nulls)() if nulls else clause)
    return clauses


async def fill(session: AsyncSession, rows: list[tuple[dict[str, Any], bool]]) -> None:
    """Write the rows; those with True have the time that the database wrote."""
    for is_written in (False, True):
        values = [
            {"a": number % 3, "b": f"k{number // 3}", **row}
            for number, (row, by_database) in enumerate(rows)
            if by_database is is_written
        ]
        if is_written:
            values = [{name: value for name, value in row.items() if name != "written"} for row in values]
        if values:
            await session.execute(insert(Sample), values)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    rows=st.lists(st.tuples(FILLED, KEPT_BY_THE_DATABASE), min_size=1, max_size=14),
    order=orders(),
    limit=st.integers(1, 8),
)
async def test_walk_in_any_order_sees_each_row_once(
    kinds: AsyncEngine, rows: list[tuple[dict[str, Any], bool]], order: list[Any], limit: int
) -> None:
    async with AsyncSession(kinds) as session:  # it rolls back
        await fill(session, rows)

        seen = await walk(session, select(Sample).order_by(*order), limit)

    assert len({(row.a, row.b) for row in seen}) == len(seen) == len(rows)


def varied(count: int = 24) -> list[tuple[dict[str, Any], bool]]:
    rows = []
    for number in range(count):
        row = {name: [*values, None][number % (len(values) + 1)] for name, values in VALUES.items()}
        row |= {name: VALUES[name][number % len(VALUES[name])] for name in NEVER_NULL}
        rows.append((row, number % 4 == 0))
    return rows


async def test_each_kind_of_key(kinds_session: AsyncSession) -> None:
    await fill(kinds_session, varied())

    for number, key in enumerate(KEYS.values()):
        ordered = key.desc() if number % 2 else key.asc()
        clause = [ordered, ordered.nulls_first(), ordered.nulls_last()][number % 3]
        assert len(await walk(kinds_session, select(Sample.a, Sample.b).order_by(clause), 9)) == 24


@pytest.mark.parametrize("limit", [1, 7, 24, 25])
async def test_keys_that_are_never_null(kinds_session: AsyncSession, limit: int) -> None:
    await fill(kinds_session, varied())
    rank, title = Sample.rank, Sample.title

    for order in (
        [],
        [rank, title],
        [rank.desc(), title.desc(), Sample.a.desc(), Sample.b.desc()],
        [rank.desc(), title],
        [title, title.desc()],
    ):
        assert len(await walk(kinds_session, select(Sample).order_by(*order), limit)) == 24


@pytest.mark.parametrize("extreme", [float("inf"), float("-inf"), float("nan"), -0.0])
async def test_floats_beyond_the_numbers(kinds_session: AsyncSession, extreme: float) -> None:
    if kinds_session.get_bind().dialect.name == "mysql":
        pytest.skip("MariaDB has no infinities, and no NaN")
    await fill(kinds_session, varied())
    await kinds_session.execute(update(Sample).where(Sample.a == 1).values(double=extreme, real=extreme))

    for key in (Sample.double, Sample.real.desc(), Sample.real * Sample.double):
        assert len(await walk(kinds_session, select(Sample).order_by(key), 4)) == 24


async def test_value_changed_by_another_program_is_compared_as_it_is_stored(kinds_session: AsyncSession) -> None:
    if kinds_session.get_bind().dialect.name != "sqlite":
        pytest.skip("SQLite alone keeps a datetime as whatever text it was given")
    await fill(kinds_session, varied())
    connection = await kinds_session.connection()
    for number, text in enumerate(["2026-01-01T00:00:00Z", "2026-01-01", "2026-01-01 00:00:00.5"]):
        await connection.exec_driver_sql("UPDATE sample SET written = ? WHERE a = 1 AND b = ?", (text, f"k{number}"))

    columns = select(Sample.a, Sample.b).order_by(Sample.written)

    assert len(await walk(kinds_session, columns, 1)) == 24


async def test_values_come_back_as_python_has_them(kinds_session: AsyncSession) -> None:
    await fill(kinds_session, varied(4))

    page = await fetch(kinds_session, select(Sample).order_by(Sample.instant, Sample.backwards), after(10))

    assert {type(row.written) for row in page.items} <= {datetime, type(None)}
    assert {row.backwards for row in page.items} == {"az", "za", "mm", None}


async def test_literal_in_the_order_is_told_apart(kinds_session: AsyncSession) -> None:
    await fill(kinds_session, varied())
    doubled = (Sample.rank * 2 + literal(1)).label("doubled")

    assert len(await walk(kinds_session, select(Sample.a, Sample.b, doubled).order_by("doubled"), 3)) == 24


async def test_key_that_no_cursor_can_hold_is_named(kinds_session: AsyncSession) -> None:
    if kinds_session.get_bind().dialect.name != "postgresql":
        pytest.skip("PostgreSQL alone has arrays")
    from sqlalchemy.dialects.postgresql import array

    await fill(kinds_session, varied())

    with pytest.raises(TypeError, match="a cursor cannot hold a list"):
        await fetch(
            kinds_session, select(Sample).order_by(array([Sample.a, Sample.rank])), CursorParams(1, None, CURSORS, "x")
        )
