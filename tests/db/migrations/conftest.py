from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from fastapi_kit.db import Database, SyncDatabase
from tests.db.migrations.support import AnyDatabase, Revisions, dispose, fresh

ASYNC = ["sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy"]
SYNC = ["sqlite+pysqlite", "mysql+pymysql"]


@pytest.fixture
def revisions(tmp_path: Path) -> Revisions:
    return Revisions(tmp_path / "revisions")


@pytest.fixture
async def url(driver: str, tmp_path: Path, request: pytest.FixtureRequest, anyio_backend: str) -> AsyncGenerator[str]:
    """The URL of an empty database, for the `driver` that the test asks for."""
    if driver.startswith("sqlite"):
        yield f"{driver}:///{tmp_path}/app.db"
        return
    server = request.getfixturevalue("postgres_url" if driver.startswith("postgresql") else "mariadb_url")
    async with fresh(server) as found:
        yield make_url(found).set(drivername=driver).render_as_string(hide_password=False)


@pytest.fixture
async def db(driver: str, url: str) -> AsyncGenerator[AnyDatabase]:
    database: AnyDatabase = SyncDatabase(url) if driver in SYNC else Database(url)
    yield database
    await dispose(database)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that uses a database on all of them, unless it names its drivers itself."""
    named = any("driver" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "driver" in metafunc.fixturenames and not named:
        metafunc.parametrize("driver", [*ASYNC, *SYNC])
