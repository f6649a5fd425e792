import asyncio
import gc
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from fastapi_kit.db import Database

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("options", [{"read_only": True}, {"snapshot": True}, {"isolation_level": "SERIALIZABLE"}])
async def test_a_session_cancelled_while_its_isolation_is_set_gives_its_connection_back(
    options: dict[str, Any], postgres_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(postgres_url.replace("asyncpg", "psycopg"), pool_size=1, max_overflow=0)

    async def use() -> None:
        async with database.session(**options) as session:
            await session.execute(text("SELECT 1"))

    async def be_cancelled(connection: object, value: object) -> None:  # where psycopg waits if the loop is busy
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    await use()
    with monkeypatch.context() as patch:
        patch.setattr(psycopg.AsyncConnection, "set_isolation_level", be_cancelled)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(use())
    gc.collect()
    assert "garbage collector" not in caplog.text
    await use()
    assert database.pool_states()["primary"].in_use == 0
    await database.dispose()
