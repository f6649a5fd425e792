"""A server that goes down under load, and comes back."""

import asyncio

import pytest
from sqlalchemy import text

from fastapi_kit.db import Database
from tests.db.faults import POSTGRES, until
from tests.db.servers import Cluster
from tests.db.support import Base, app_of, owners, served

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("driver", POSTGRES)
async def test_a_server_that_crashes_under_load_loses_no_201_and_the_app_recovers(
    driver: str, cluster: Cluster
) -> None:
    database = Database(cluster.url(driver), application_name=driver)
    async with database.engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
    await database.create_all(Base.metadata)
    answers: dict[str, int] = {}
    is_over = False

    async def post(worker: int) -> None:
        number = 0
        while not is_over:
            number += 1
            name = f"o{worker}-{number}"
            answers[name] = (await client.post(f"/owners/{name}")).status_code
            if answers[name] == 503:
                await asyncio.sleep(0.02)

    async def count(status: int) -> int:
        return sum(answer == status for answer in answers.values())

    async def more(status: int) -> None:
        before = await count(status)
        await until(lambda: is_more(status, before + 20), 30)

    async def is_more(status: int, than: int) -> bool:
        return await count(status) > than

    async with served(app_of(database)) as client:
        workers = [asyncio.create_task(post(worker)) for worker in range(10)]
        await more(201)
        await asyncio.to_thread(cluster.stop)
        await more(503)
        await asyncio.to_thread(cluster.start)
        await more(201)
        is_over = True
        await asyncio.gather(*workers)
        stored = await owners(database)
        assert set(answers.values()) == {201, 503}
        assert {name for name, status in answers.items() if status == 201} <= set(stored)
        assert len(stored) == len(set(stored))
        assert database.pool_states()["primary"].in_use == 0
        async with database.session() as session:
            in_transaction = text(
                "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' AND application_name = :name"
            )
            assert await session.scalar(in_transaction, {"name": driver}) == 0
