from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from fastapi_kit.db import Database
from tests.db.servers import cluster, pgbouncer, standby
from tests.db.support import on_postgres, on_sqlite

__all__ = ["cluster", "database", "pgbouncer", "standby"]


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Database]:
    is_sqlite = request.param == "sqlite"
    context = on_sqlite(tmp_path) if is_sqlite else on_postgres(request.getfixturevalue("postgres_url"))
    async with context as database:
        yield database
