"""API keys beside the application's own rows: whose transaction, what happens when the database does not answer."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import event, inspect, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from fastapi_kit import errors
from fastapi_kit.auth import AccessClaims, ApiKeys, Auth
from fastapi_kit.auth.api_keys.sqlalchemy import ApiKeyMixin, SQLAlchemyApiKeyStore
from fastapi_kit.db import Database
from fastapi_kit.errors import ConfigurationError, UnavailableError
from tests.auth.api_keys.conftest import Clock
from tests.auth.api_keys.support import ApiKey, Base, on_mariadb, on_postgres, on_sqlite, store_in

pytestmark = pytest.mark.anyio

PEPPER = secrets.token_bytes(32)


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Database]:
    match request.param:
        case "sqlite":
            context = on_sqlite(tmp_path)
        case "postgres":
            context = on_postgres(request.getfixturevalue("postgres_url"))
        case _:
            context = on_mariadb(request.getfixturevalue("mariadb_url"))
    async with context as database:
        yield database


def app_of(database: Database, keys: ApiKeys) -> FastAPI:
    app = FastAPI()
    errors.install(app)
    Session = Annotated[AsyncSession, database.per_request]

    async def load_user(claims: AccessClaims, session: Session) -> str | None:
        await session.get(Note, 0)
        return claims.subject

    auth = Auth(keys, load_user)

    @app.post("/notes/{note_id}")
    async def write(note_id: int, user: Annotated[str, Depends(auth.current_user)], session: Session) -> str:
        session.add(Note(id=note_id))
        await session.flush()
        if note_id > 100:
            raise HTTPException(418)
        return user

    return app


def client_of(app: FastAPI, key: str = "") -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app)
    return httpx2.AsyncClient(transport=transport, base_url="http://test", headers={"X-API-Key": key})


async def test_the_last_use_is_noted_whatever_becomes_of_the_request(database: Database, clock: Clock) -> None:
    keys = ApiKeys(store_in(database), PEPPER, prefix="kit", clock=clock)
    new = await keys.create("ada")
    async with client_of(app_of(database, keys), new.key) as client:
        assert (await client.post("/notes/101")).status_code == 418
    (info,) = await keys.list("ada")
    assert info.last_used_at == info.created_at
    async with database.session() as session:
        assert await session.get(Note, 101) is None


async def test_40_requests_at_once_with_one_key_write_its_last_use_once(database: Database, clock: Clock) -> None:
    keys = ApiKeys(store_in(database), PEPPER, prefix="kit", clock=clock)
    new = await keys.create("ada")
    updates: list[str] = []

    @event.listens_for(database.engine.sync_engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE"):
            updates.append(statement)

    async with client_of(app_of(database, keys), new.key) as client:
        responses = await asyncio.gather(*[client.post(f"/notes/{1 + n}") for n in range(40)])
    assert {response.status_code for response in responses} == {200}
    assert 1 <= len(updates) <= 10  # who looked the key up before the first was written may try, and changes nothing
    (info,) = await keys.list("ada")
    assert info.last_used_at == info.created_at


async def test_of_20_rotations_at_once_one_makes_a_successor(database: Database) -> None:
    keys = ApiKeys(store_in(database), PEPPER, prefix="kit")
    new = await keys.create("ada")
    outcomes = await asyncio.gather(*[keys.rotate(new.id, subject="ada") for _ in range(20)], return_exceptions=True)
    assert [isinstance(one, errors.ConflictError) for one in outcomes].count(False) == 1
    assert len(await keys.list("ada")) == 2


async def test_sessions_of_a_sessionmaker_will_do(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/keys.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    keys = ApiKeys(SQLAlchemyApiKeyStore(async_sessionmaker(engine).begin, ApiKey), PEPPER, prefix="kit")
    old = await keys.create("ada", scopes=["read"])
    new = await keys.rotate(old.id, subject="ada")
    assert [info.id for info in await keys.list("ada")] in ([new.id, old.id], [old.id, new.id])
    await keys.revoke(old.id, subject="ada")
    await engine.dispose()


async def test_the_table_has_the_columns_and_the_index_of_the_mixin(database: Database) -> None:
    async with database.session() as session:
        connection = await session.connection()
        indexes = await connection.run_sync(lambda sync: inspect(sync).get_indexes("api_keys"))
        columns = await connection.run_sync(lambda sync: inspect(sync).get_columns("api_keys"))
    assert ["subject"] in [index["column_names"] for index in indexes]
    optional = {column["name"] for column in columns if column["nullable"]}
    assert optional == {"expires_at", "revoked_at", "last_used_at", "successor_id"}


def test_two_tables_can_have_the_mixin() -> None:
    class Other(DeclarativeBase):
        pass

    class Ours(ApiKeyMixin, Other):
        __tablename__ = "ours"

    class Theirs(ApiKeyMixin, Other):
        __tablename__ = "theirs"

    assert {index.name for table in Other.metadata.tables.values() for index in table.indexes} == {
        "ix_ours_subject",
        "ix_theirs_subject",
    }


async def test_a_table_of_dataclasses_with_columns_of_its_own_will_do(tmp_path: Path) -> None:
    class Other(MappedAsDataclass, DeclarativeBase):
        pass

    class Ours(ApiKeyMixin, Other):
        __tablename__ = "api_keys"
        tenant: Mapped[str] = mapped_column(default="ours", server_default="theirs")

    database = Database(f"sqlite+aiosqlite:///{tmp_path}/keys.db")
    await database.create_all(Other.metadata)
    keys = ApiKeys(SQLAlchemyApiKeyStore(database.session, Ours), PEPPER, prefix="kit")
    new = await keys.create("ada")
    async with database.session(read_only=True) as session:
        assert (await session.get_one(Ours, new.id)).tenant == "ours"
    await database.dispose()


@pytest.mark.parametrize("server", ["postgres", "mariadb"])
async def test_a_server_that_is_down_is_a_503_and_lets_nobody_pass(server: str, request: pytest.FixtureRequest) -> None:
    url = make_url(request.getfixturevalue(f"{server}_url")).set(port=1)
    database = Database(url)
    bare = create_async_engine(url)
    for store in [store_in(database), SQLAlchemyApiKeyStore(async_sessionmaker(bare).begin, ApiKey)]:
        keys = ApiKeys(store, PEPPER, prefix="kit")
        with pytest.raises(UnavailableError):
            await keys.create("ada")
        key = ApiKeys(store, PEPPER, prefix="kit")._form.new()[1]
        async with client_of(app_of(database, keys), key) as client:
            response = await client.post("/notes/1")
        assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
        assert int(response.headers["Retry-After"]) > 0
    await bare.dispose()
    await database.dispose()


async def test_an_error_in_a_statement_is_a_defect_and_not_an_outage(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    class Other(DeclarativeBase):
        pass

    class Missing(ApiKeyMixin, Other):
        __tablename__ = "missing_keys"

    class Unmigrated(ApiKeyMixin, Other):
        __tablename__ = "api_keys"
        device: Mapped[str | None]

    for model, name in (Missing, "missing_keys"), (Unmigrated, "device"):
        for begin in database.session, async_sessionmaker(database.engine).begin:
            with pytest.raises(DBAPIError, match=name):
                await SQLAlchemyApiKeyStore(begin, model).find("0" * 24)
    assert caplog.messages == []


async def test_a_locked_sqlite_is_told_with_what_to_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/keys.db", busy_timeout_seconds=0.01)
    await database.create_all(Base.metadata)
    keys = ApiKeys(store_in(database), PEPPER, prefix="kit")
    async with database.session() as session:
        await session.get(Note, 0)
        with pytest.raises(UnavailableError):
            await keys.create("ada")
    (message,) = [record.message for record in caplog.records if record.name == "fastapi_kit.auth"]
    assert message == (
        "The database of the API keys does not answer: OperationalError (SQLite is locked: if the session of the same"
        " request holds the lock, make the call before that session executes anything)"
    )
    await keys.create("ada")
    await database.dispose()


class ForeignBase(DeclarativeBase):
    pass


class Foreign(ForeignBase):
    __tablename__ = "foreign"
    id: Mapped[int] = mapped_column(primary_key=True)


class Demanding(ApiKeyMixin, ForeignBase):
    __tablename__ = "demanding"
    device: Mapped[str]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (lambda db: (db, ApiKey), "begin is a Database"),
        (lambda db: (db.session(), ApiKey), "begin is a _AsyncGeneratorContextManager"),
        (lambda db: (db.per_request, ApiKey), "begin is a Depends"),
        (lambda db: (async_sessionmaker(db.engine), ApiKey), "begin is a async_sessionmaker"),
        (lambda db: (ApiKey, db.session), "table is a method"),
        (lambda db: (db.session, Foreign), "table is Foreign: give your model"),
        (lambda db: (db.session, ApiKeyMixin), "table is ApiKeyMixin: give your model"),
        (lambda db: (db.session, ApiKey.__table__), "table is a Table"),
        (lambda db: (db.session, Demanding), "Demanding.device has no default"),
    ],
)
def test_what_no_store_can_work_with_is_told_at_once(arguments: Callable[[Database], Any], fault: str) -> None:
    database = Database("sqlite+aiosqlite://")
    with pytest.raises(ConfigurationError, match=fault):
        SQLAlchemyApiKeyStore(*arguments(database))
    with pytest.raises(ConfigurationError, match="read is a Database"):
        SQLAlchemyApiKeyStore(database.session, ApiKey, read=database)  # type: ignore[arg-type]


async def test_a_database_that_takes_no_writes_still_lets_keys_pass(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with on_sqlite(tmp_path) as database:
        new = await ApiKeys(store_in(database), PEPPER, prefix="kit", clock=clock).create("ada")
        read_only = SQLAlchemyApiKeyStore(lambda: database.session(read_only=True), ApiKey)
        keys = ApiKeys(read_only, PEPPER, prefix="kit", clock=clock)
        async with client_of(app_of(database, keys), new.key) as client:
            assert [(await client.post(f"/notes/{n}")).status_code for n in (1, 2)] == [200, 200]
        assert (await keys.list("ada"))[0].last_used_at is None
    assert caplog.messages == [
        "The database of the API keys does not answer: OperationalError",
        f"The last use of API key {new.id} was not noted: UnavailableError",
    ]
