"""What is particular to databases: isolation levels, the application's own transaction, tables and migrations."""

import asyncio
import io
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import URL, MetaData, create_engine, insert, select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from fastapi_kit.auth import InvalidGrantError, TokenPair
from fastapi_kit.auth.sessions.sqlalchemy import RevocationMixin, SessionMixin, SQLAlchemySessionStore
from fastapi_kit.db import Database
from fastapi_kit.errors import ConfigurationError, UnavailableError
from tests.auth.sessions.support import (
    NOW_MS,
    Base,
    Clock,
    LoginSession,
    Revocation,
    record,
    sessions_of,
    store_on,
)


@pytest.fixture(params=["SERIALIZABLE", "REPEATABLE READ", "mariadb SERIALIZABLE", "sqlite"])
async def strict_store(
    request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str
) -> AsyncGenerator[SQLAlchemySessionStore]:
    """A store over a plain sessionmaker, with more isolation than is usual or, on SQLite, with Python's own."""
    options: dict[str, Any] = {}
    url: str | URL
    match request.param.split():
        case ["sqlite"]:
            url = f"sqlite+aiosqlite:///{tmp_path}/plain.db"
            options = {"connect_args": {"timeout": 30}}
        case ["mariadb", level]:
            url, options = request.getfixturevalue("mariadb"), {"isolation_level": level}
        case level:
            url = request.getfixturevalue("postgres_url")
            schema = {"search_path": request.getfixturevalue("schema")}
            options = {"isolation_level": " ".join(level), "connect_args": {"server_settings": schema}}
    engine = create_async_engine(url, **options)
    if request.param == "sqlite":
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
    yield SQLAlchemySessionStore(async_sessionmaker(engine).begin, LoginSession, Revocation)
    await engine.dispose()


@pytest.mark.anyio
async def test_a_transaction_that_was_overtaken_is_tried_again(
    strict_store: SQLAlchemySessionStore, clock: Clock
) -> None:
    sessions = sessions_of(strict_store, clock)
    first = await sessions.start("7")
    pairs = await asyncio.gather(*(sessions.refresh(first.refresh_token) for _ in range(20)))
    assert len({pair.refresh_token for pair in pairs}) == 1
    subject = uuid4().hex
    raised = [strict_store.raise_epoch(subject, now=NOW_MS, keep_until=NOW_MS) for _ in range(5)]
    assert sorted(await asyncio.gather(*raised)) == list(range(NOW_MS, NOW_MS + 5))


@pytest.mark.anyio
async def test_one_wins_without_a_grace_whatever_the_isolation(
    strict_store: SQLAlchemySessionStore, clock: Clock
) -> None:
    sessions = sessions_of(strict_store, clock, grace=timedelta(0))
    first = await sessions.start("7")
    answers = await asyncio.gather(*(sessions.refresh(first.refresh_token) for _ in range(20)), return_exceptions=True)
    assert [type(answer) for answer in answers].count(TokenPair) == 1
    assert [type(answer) for answer in answers].count(InvalidGrantError) == 19


@pytest.mark.anyio
async def test_a_record_that_vanishes_between_look_and_change_is_made_anew(database: Database) -> None:
    @asynccontextmanager
    async def read_then_purge() -> AsyncGenerator[AsyncSession]:
        async with database.session(read_only=True) as session:
            yield session
        await store_on(database).purge(NOW_MS * 2)

    store = SQLAlchemySessionStore(database.session, LoginSession, Revocation, read=read_then_purge)
    subject = uuid4().hex
    await store_on(database).raise_epoch(subject, now=NOW_MS, keep_until=NOW_MS)
    assert await store.raise_epoch(subject, now=5, keep_until=NOW_MS) == 5


@pytest.mark.anyio
async def test_more_than_a_thousand_records_are_purged(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db")
    await database.create_all(Base.metadata)
    rows = [{"key": str(number), "value": 0, "keep_until": number} for number in range(2100)]
    async with database.session() as session:
        await session.execute(insert(Revocation), rows)
    assert await store_on(database).purge(2049) == 2050
    assert await store_on(database).purge(3000) == 50
    await database.dispose()


@pytest.mark.anyio
@pytest.mark.parametrize("store", ["sqlite", "postgres", "mariadb"], indirect=True)
async def test_an_error_in_a_statement_is_a_defect_and_not_a_503(
    store: SQLAlchemySessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    class Other(DeclarativeBase):
        pass

    class Missing(SessionMixin, Other):
        __tablename__ = "missing_sessions"

    class Unmigrated(SessionMixin, Other):
        __tablename__ = "login_sessions"
        device: Mapped[str] = mapped_column(default="unknown")

    class MissingToo(RevocationMixin, Other):
        __tablename__ = "missing_revocations"

    with pytest.raises(DBAPIError, match="missing_sessions"):
        await SQLAlchemySessionStore(store._begin, Missing, Revocation).find("0" * 32)
    with pytest.raises(DBAPIError, match="missing_revocations"):
        await SQLAlchemySessionStore(store._begin, LoginSession, MissingToo).epoch("7")
    with pytest.raises(DBAPIError, match="device"):
        await SQLAlchemySessionStore(store._begin, Unmigrated, Revocation).add(record())
    assert caplog.messages == []


class Foreign(DeclarativeBase):
    pass


class Demanding(SessionMixin, Foreign):
    __tablename__ = "demanding"
    device: Mapped[str]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (lambda db: (db, LoginSession, Revocation), "begin is a Database: give what opens a session"),
        (lambda db: (db.session(), LoginSession, Revocation), "begin is a _AsyncGeneratorContextManager"),
        (lambda db: (db.per_request, LoginSession, Revocation), "begin is a Depends"),
        (lambda db: (async_sessionmaker(db.engine), LoginSession, Revocation), "begin is a async_sessionmaker"),
        (lambda db: (db.session, Revocation, LoginSession), "sessions is Revocation: give your model of this table"),
        (lambda db: (db.session, LoginSession, LoginSession), "revocations is LoginSession: give your model"),
        (lambda db: (db.session, SessionMixin, Revocation), "sessions is SessionMixin: give your model"),
        (lambda db: (db.session, Demanding, Revocation), "Demanding.device has no default"),
    ],
)
def test_what_no_store_can_work_with_is_told_at_once(arguments: Callable[[Database], Any], fault: str) -> None:
    database = Database("sqlite+aiosqlite://")
    with pytest.raises(ConfigurationError, match=fault):
        SQLAlchemySessionStore(*arguments(database))
    with pytest.raises(ConfigurationError, match="read is a Database"):
        SQLAlchemySessionStore(database.session, LoginSession, Revocation, read=database)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_models_may_be_dataclasses_and_have_columns_of_their_own(tmp_path: Path, clock: Clock) -> None:
    class Other(MappedAsDataclass, DeclarativeBase):
        pass

    class Device(SessionMixin, Other):
        __tablename__ = "devices"
        name: Mapped[str] = mapped_column(default="unknown")

    class Ended(RevocationMixin, Other):
        __tablename__ = "ended"

    database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db")
    await database.create_all(Other.metadata)
    sessions = sessions_of(SQLAlchemySessionStore(database.session, Device, Ended), clock)
    pair = await sessions.refresh((await sessions.start("7")).refresh_token)
    async with database.session() as session:
        (device,) = await session.scalars(select(Device).where(Device.subject == "7"))
        assert (device.id, device.name, device.ended_at) == (pair.session_id, "unknown", 0)
    await database.dispose()


ENV = """
from alembic import context

connection, metadata = (context.config.attributes[name] for name in ("connection", "metadata"))
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
"""


def test_alembic_sees_the_tables_and_then_nothing_more(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    config = Config(tmp_path / "alembic.ini", stdout=io.StringIO())
    command.init(config, str(tmp_path / "migrations"))
    (tmp_path / "migrations" / "env.py").write_text(ENV)

    def run(act: Any) -> None:
        with engine.begin() as connection:
            config.attributes.update(connection=connection, metadata=Base.metadata)
            act(config)

    run(partial(command.revision, message="log-ins", autogenerate=True))
    run(partial(command.upgrade, revision="head"))
    run(command.check)  # raises if there is anything left to do
    made = MetaData()
    made.reflect(engine)
    engine.dispose()
    assert {"login_sessions", "revocations"} <= set(made.tables)
    columns = made.tables["login_sessions"].c
    assert {column.name for column in columns} == {column.name for column in LoginSession.__table__.c}


@pytest.mark.anyio
async def test_a_closed_database_is_unavailable_and_its_error_stays_out_of_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = Database("postgresql+asyncpg://user:hidden@127.0.0.1:1/x")
    for store in (
        store_on(database),
        SQLAlchemySessionStore(async_sessionmaker(database.engine).begin, LoginSession, Revocation),
    ):
        with pytest.raises(UnavailableError) as error:
            await store.add(record(subject="secret subject"))
        assert error.value.headers == {"Retry-After": "1"}
        assert error.value.__cause__ is None
        assert error.value.__context__ is None
        assert caplog.messages[-1].endswith(OperationalError.__name__)
        assert "hidden" not in caplog.text
        assert "secret subject" not in caplog.text
    await database.dispose()
