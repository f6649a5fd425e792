"""How new connections are made, and for how long old ones are trusted."""

import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from sqlalchemy import event, insert, make_url, text
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_kit.db import Database
from fastapi_kit.db.hosts import Hosts
from fastapi_kit.errors import UnavailableError
from tests.db.faults import DRIVERS, POSTGRES, Behind, behind, until
from tests.db.servers import free_port
from tests.db.support import Owner, app_of, client_of

pytestmark = pytest.mark.anyio


@pytest.fixture(params=DRIVERS)
async def there(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> AsyncGenerator[Behind]:
    monkeypatch.setattr(Hosts, "trust_seconds", 60)
    url = request.getfixturevalue("postgres_url" if request.param in POSTGRES else "mariadb_url")
    async with behind(url, request.param, pool_size=1, max_overflow=0) as there:
        yield there


only_asyncpg = pytest.mark.parametrize("there", ["asyncpg"], indirect=True)
only_postgres = pytest.mark.parametrize("there", POSTGRES, indirect=True)


async def own_id(there: Behind) -> Any:
    async with there.database.session() as session:
        return await session.scalar(text("SELECT pg_backend_pid()" if there.is_postgres else "SELECT CONNECTION_ID()"))


async def driver_connection(session: AsyncSession) -> Any:
    return (await (await session.connection()).get_raw_connection()).driver_connection


# old ones


async def test_a_connection_that_was_just_used_is_used_again_without_a_ping(
    there: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def round_trips() -> int:
        there.proxy.requests.clear()
        ids.add(await own_id(there))
        return len(there.proxy.requests)

    ids: set[Any] = set()
    await round_trips()
    trusted = await round_trips()
    monkeypatch.setattr(Hosts, "trust_seconds", 0)
    await round_trips()
    assert trusted < await round_trips()
    assert len(ids) == 1


async def test_a_trusted_connection_that_was_cut_is_a_503_once_and_loses_nothing(there: Behind) -> None:
    async with client_of(app_of(there.database)) as client:
        assert (await client.post("/owners/ann")).status_code == 201
        await there.proxy.cut()
        first = (await client.post("/owners/bob")).status_code
        assert first in {201, 503}  # 201 if the driver was told
        assert (await client.post("/owners/eve")).status_code == 201
    assert await there.names() == ["ann", *["bob"][: first == 201], "eve"]
    await there.is_clean()


@only_asyncpg
async def test_a_connection_that_is_known_to_be_closed_is_replaced_although_it_is_trusted(there: Behind) -> None:
    async with there.database.session() as session:
        driver = await driver_connection(session)
    await there.proxy.cut()

    async def is_closed() -> bool:
        return bool(driver.is_closed())

    await until(is_closed)
    async with there.database.session() as session:
        assert await driver_connection(session) is not driver
    await there.is_clean()


@only_postgres
async def test_a_begin_of_ones_own_is_undone_and_the_next_session_has_its_transaction(there: Behind) -> None:
    async with there.database.session(read_only=True) as session:
        await session.execute(text("BEGIN"))
    await there.is_clean()
    async with there.database.session() as session:
        await session.execute(insert(Owner).values(name="ann", visits=0))
    assert await there.names() == ["ann"]
    await there.is_clean()


# new ones


@pytest.mark.parametrize("connects_itself", [False, True])
@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_listener_of_the_application_may_change_what_is_connected_with_or_connect_itself(
    driver: str, connects_itself: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hosts, "trust_seconds", 0)
    url = make_url(request.getfixturevalue("postgres_url" if driver in POSTGRES else "mariadb_url"))
    stale = url.set(drivername=f"{url.get_backend_name()}+{driver}", username="nobody", password="stale")
    database, calls = Database(stale), 0

    @event.listens_for(database.engine.sync_engine, "do_connect")
    def log_in(dialect: Any, record: Any, args: Any, params: dict[str, Any]) -> Any:
        nonlocal calls
        calls += 1
        params |= {"user": url.username, "password": url.password or ""}
        return dialect.connect(*args, **params) if connects_itself else None

    async with database.session() as one, database.session() as other:
        for session in (one, other, one):
            assert await session.scalar(text("SELECT 42")) == 42
    assert calls == 2
    async with database.session() as session:  # one of the two again
        assert await session.scalar(text("SELECT 42")) == 42
    assert calls == 2
    await database.dispose()


@pytest.mark.parametrize("driver", POSTGRES)
async def test_a_host_of_several_that_does_not_answer_is_one_warning_without_its_password(
    driver: str, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    here = make_url(postgres_url).set(drivername=f"postgresql+{driver}")
    nowhere = here.set(host="127.0.0.1", port=free_port(), password="pass-word")
    database = Database(here, replicas=[nowhere])
    with caplog.at_level(logging.WARNING, "fastapi_kit.db"):
        for _ in range(2):
            async with database.session(read_only=True) as session:
                assert await session.scalar(text("SELECT 42")) == 42
    await database.dispose()
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("fastapi_kit.db", "WARNING", f"127.0.0.1:{nowhere.port} does not answer and is left out for 10 s")
    ]


async def test_the_only_host_is_not_said_to_be_left_out(
    there: Behind, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Hosts, "trust_seconds", 0)
    before = await own_id(there)
    await there.proxy.cut()
    nowhere = Database(there.database.engine.url.set(port=free_port(), password="pass-word"))
    with caplog.at_level(logging.WARNING, "fastapi_kit.db"):
        assert await own_id(there) != before
        with pytest.raises(UnavailableError):
            async with nowhere.session() as session:
                await session.execute(text("SELECT 1"))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the database is not available" in caplog.text
    assert "left out" not in caplog.text
    assert "pass-word" not in caplog.text
