"""A PgBouncer in transaction mode that has one connection for all of its clients."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from sqlalchemy import make_url, select, text
from sqlalchemy.exc import DBAPIError

from fastapi_kit.db import Database
from tests.db.faults import POSTGRES
from tests.db.support import Base, Owner, app_of, served

pytestmark = pytest.mark.anyio


@pytest.fixture(params=POSTGRES)
async def two(request: pytest.FixtureRequest, pgbouncer: str, anyio_backend: str) -> AsyncGenerator[list[Database]]:
    url = make_url(pgbouncer).set(drivername=f"postgresql+{request.param}")
    two = [Database(url, pgbouncer=True, pool_size=1, max_overflow=0) for _ in range(2)]
    async with two[0].engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
    await two[0].create_all(Base.metadata)
    yield two
    for database in two:
        await database.dispose()


async def test_what_one_client_sets_does_not_reach_another(two: list[Database]) -> None:
    reading, writing = two
    for number in range(5):
        async with reading.session(read_only=True) as session:
            with pytest.raises(DBAPIError, match="read-only"):
                await session.execute(text("DELETE FROM owners"))
        async with reading.session(snapshot=True) as session:
            assert len((await session.scalars(select(Owner))).all()) == number
        async with writing.session() as session:
            session.add(Owner(name=f"o{number}"))
        async with writing.session(isolation_level="SERIALIZABLE") as session:
            assert await session.scalar(text("SHOW transaction_isolation")) == "serializable"
        async with reading.session() as session:
            assert await session.scalar(text("SHOW transaction_isolation")) == "read committed"


async def test_statements_are_prepared_for_each_transaction(two: list[Database]) -> None:
    async def use(database: Database, turn: int) -> None:
        for number in range(10):
            async with database.session(read_only=bool(number % 2)) as session:
                for value in range(3):
                    assert await session.scalar(select(Owner.id).where(Owner.id == -value)) is None
                assert await session.scalar(text("SELECT :n + 0").bindparams(n=turn)) == turn

    await asyncio.gather(*(use(database, turn) for turn, database in enumerate(two)))


async def test_requests_through_pgbouncer(two: list[Database]) -> None:
    async with served(app_of(two[0])) as client, served(app_of(two[1])) as other:
        for number in range(5):
            created = await client.post(f"/owners/o{number}")
            assert created.status_code == 201
            assert (await other.get(f"/owners/{created.json()}")).json() == f"o{number}"
            assert (await other.post(f"/owners/o{number}")).status_code == 409
