import asyncio
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import URL, MetaData, func, make_url, select, text
from sqlalchemy.exc import OperationalError

from fastapi_kit.db import Database, SyncDatabase
from fastapi_kit.errors import ConfigurationError, UnavailableError
from fastapi_kit.testing.database import template_database
from tests.db.support import Base, Owner

pytestmark = pytest.mark.anyio
BEGIN = "fastapi_kit test database of "


@pytest.fixture(
    params=["sqlite+aiosqlite", "sqlite+pysqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql+pymysql"]
)
def url(request: pytest.FixtureRequest) -> URL:
    match request.param.partition("+")[0]:
        case "sqlite":
            return make_url(f"{request.param}://")
        case "postgresql":
            return make_url(request.getfixturevalue("postgres_url")).set(drivername=request.param)
        case _:
            return make_url(request.getfixturevalue("mariadb_url")).set(drivername=request.param)


@pytest.fixture
def metadata(url: URL) -> MetaData:
    if url.get_backend_name() != "mysql":
        return Base.metadata
    metadata = MetaData()  # MariaDB wants a length
    Owner.metadata.tables["owners"].to_metadata(metadata).c.name.type.length = 90  # type: ignore[attr-defined]
    return metadata


@contextmanager
def admin_of(url: URL) -> Generator[SyncDatabase]:
    sync = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "sqlite": "sqlite+pysqlite"}
    database = SyncDatabase(url.set(drivername=sync[url.get_backend_name()]))
    yield database
    database.dispose()


def made(url: URL) -> list[str]:
    """Return the names of the databases on a server that `template_database` made."""
    query = {
        "postgresql": "SELECT datname FROM pg_database WHERE datname ~ '^kit_[0-9a-f]{32}'",
        "mysql": "SELECT schema_name FROM information_schema.schemata WHERE schema_comment LIKE 'fastapi_kit test%'",
        "sqlite": "SELECT 1 WHERE FALSE",
    }[url.get_backend_name()]
    with admin_of(url) as admin, admin.session() as session:
        return [str(name) for name in session.scalars(text(query))]


def count(url: URL) -> int | None:
    with admin_of(url) as database, database.session() as session:
        return session.scalar(select(func.count()).select_from(Owner))


def store(url: URL) -> None:
    with admin_of(url) as database, database.session() as session:
        session.add(Owner(name="ann", visits=0))


async def test_each_copy_is_as_it_was_prepared_and_is_dropped(url: URL, metadata: MetaData) -> None:
    with template_database(url, metadata, worker="w") as template:  # in an async test too
        with template.copy() as first, template.copy() as second:
            assert first.drivername == url.drivername
            assert first.password == url.password
            store(first)
            assert (count(first), count(second)) == (1, 0)
        with template.copy() as third:
            assert count(third) == 0
        with pytest.raises(ZeroDivisionError), template.copy() as failing:
            store(failing)
            raise ZeroDivisionError
        for gone in (first, third, failing):
            with pytest.raises((OperationalError, UnavailableError)):
                count(gone)
    assert not [name for name in made(url) if "_w_" in name]


async def test_a_function_prepares_it_which_may_be_async(tmp_path: Path) -> None:
    async def migrate(url: URL) -> None:
        database = Database(url)
        await database.create_all(Base.metadata)
        await database.dispose()

    with template_database("sqlite+aiosqlite://", migrate) as template, template.copy() as url:
        assert count(url) == 0


def test_a_function_that_starts_a_loop_may_prepare_it_too() -> None:
    def migrate(url: URL) -> None:
        with admin_of(url) as database:
            asyncio.run(asyncio.sleep(0))
            database.create_all(Base.metadata)

    with template_database("sqlite+pysqlite://", migrate) as template, template.copy() as url:
        assert count(url) == 0


def test_a_preparation_that_fails_leaves_nothing(postgres_url: str, mariadb_url: str) -> None:
    def migrate(url: URL) -> None:
        prepared.append(str(url.database))
        raise ZeroDivisionError

    for url in (make_url(postgres_url), make_url(mariadb_url)):
        prepared: list[str] = []
        with pytest.raises(ZeroDivisionError):
            with template_database(url, migrate) as template, template.copy():
                pass
        assert len(prepared) == 1
        assert prepared[0] not in made(url)


def test_the_workers_of_a_run_share_the_template_until_the_last_has_ended(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = uuid4().hex
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", run)
    prepared: list[URL] = []

    def migrate(url: URL) -> None:
        prepared.append(url)
        with admin_of(url) as database:
            database.create_all(Base.metadata)

    with template_database(postgres_url, migrate, worker="a") as first:
        with template_database(postgres_url, migrate, worker="b") as second:
            with first.copy() as one, second.copy() as other:
                assert one != other
        with first.copy() as again:
            assert count(again) == 0
    assert len(prepared) == 1
    assert not [name for name in made(make_url(postgres_url)) if run in name]


def test_what_a_worker_on_mariadb_uses_is_not_left_over(mariadb_url: str) -> None:
    with template_database(mariadb_url, MetaData(), worker="a") as first, first.copy() as url:
        with template_database(mariadb_url, MetaData(), worker="b"):
            assert url.database in made(url)
        assert url.database in made(url)


def test_what_a_killed_run_left_is_dropped_and_nothing_else(postgres_url: str, mariadb_url: str) -> None:
    for url, dead in ((make_url(postgres_url), uuid4().hex), (make_url(mariadb_url), uuid4().hex)):
        on_postgres = url.get_backend_name() == "postgresql"
        left, foreign = f"kit_{dead}_gw0_1", f"kit_{uuid4().hex}_gw0_1"
        with admin_of(url) as admin:
            connection = admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            with connection:
                connection.execute(text(f"CREATE DATABASE {foreign}"))
                if on_postgres:
                    connection.execute(text(f"CREATE DATABASE {left}"))
                    connection.execute(text(f"COMMENT ON DATABASE {left} IS '{BEGIN}{dead} unfinished'"))
                else:
                    connection.execute(text(f"CREATE DATABASE {left} COMMENT '{BEGIN}{dead}_gw0'"))
                with template_database(url, MetaData()):
                    names = connection.scalars(
                        text("SELECT datname FROM pg_database" if on_postgres else "SHOW DATABASES")
                    ).all()
                connection.execute(text(f"DROP DATABASE {foreign}"))
        assert foreign in names
        assert left not in names


def test_a_database_that_it_did_not_make_stays(postgres_url: str) -> None:
    with admin_of(make_url(postgres_url)) as admin:
        with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            with template_database(postgres_url, MetaData()) as template:
                with pytest.raises(ConfigurationError, match="was not made by `template_database`"):
                    with template.copy() as url:
                        connection.execute(text(f"DROP DATABASE {url.database}"))
                        connection.execute(text(f"CREATE DATABASE {url.database}"))
            connection.execute(text(f"DROP DATABASE {url.database}"))


def test_an_unfinished_template_of_the_same_run_is_made_anew(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = uuid4().hex
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", run)
    with admin_of(make_url(postgres_url)) as admin:
        with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            with template_database(postgres_url, Base.metadata):
                connection.execute(text(f"COMMENT ON DATABASE kit_{run} IS '{BEGIN}{run} unfinished'"))
                with template_database(postgres_url, Base.metadata) as other, other.copy() as url:
                    assert count(url) == 0


def test_other_databases_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="is of oracle: give one of SQLite"):
        with template_database("oracle://", MetaData()):
            pass


CONFTEST = """
import pytest
from fastapi_kit.db import Database
from fastapi_kit.testing.database import template_database
from tests.db.support import Base

@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"

@pytest.fixture(scope="session", params=["sqlite+aiosqlite://", "SERVER"])
def template(request):
    with template_database(request.param, Base.metadata) as template:
        yield template

@pytest.fixture
async def db(template):
    with template.copy() as url:
        database = Database(url)
        yield database
        await database.dispose()
"""
TESTS = """
from pathlib import Path
import pytest
from tests.db.support import Owner, owners

@pytest.mark.anyio
@pytest.mark.parametrize("number", range(4))
async def test_it(db, number):
    seen = Path(__file__).parent / "seen" / str(db.engine.url.database).replace("/", "-")
    seen.touch(exist_ok=False)
    assert await owners(db) == []
    async with db.session() as session:
        session.add(Owner(name="ann"))
    assert await owners(db) == ["ann"]
    assert number != 3
"""


def test_with_xdist_no_database_is_left(postgres_url: str, tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    (tmp_path / "conftest.py").write_text(CONFTEST.replace("SERVER", postgres_url))
    (tmp_path / "test_it.py").write_text(TESTS)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        cwd=tmp_path,
    )
    assert "2 failed, 6 passed" in ran.stdout, ran.stdout + ran.stderr
    names = [each.name for each in (tmp_path / "seen").iterdir()]
    on_server = [name.split("_") for name in names if name.startswith("kit_")]
    assert (len(names), len(on_server)) == (8, 4)
    (run,) = {parts[1] for parts in on_server}
    assert {parts[2] for parts in on_server} <= {"gw0", "gw1"}
    assert not [name for name in made(make_url(postgres_url)) if run in name]
    assert not [name for name in names if Path(name.replace("-", "/")).exists()]
