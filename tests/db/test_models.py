import time
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, ForeignKey, Index, MetaData, String, UniqueConstraint, insert, select, update
from sqlalchemy.exc import InvalidRequestError, StatementError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, declared_attr, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from fastapi_kit.db import Database
from fastapi_kit.db.models import (
    NAMING_CONVENTION,
    IntegerKey,
    SoftDelete,
    Timestamps,
    UUIDKey,
    Versioned,
    uuid7,
)
from fastapi_kit.errors import ConfigurationError, ConflictError
from tests.db.support import on_mariadb, on_postgres, on_sqlite

pytestmark = pytest.mark.anyio

LONG = "a_name_that_is_nearly_as_long_as_all_of_a_table_name_can_be"


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Thing(IntegerKey, Timestamps, Versioned, SoftDelete, Base):
    __tablename__ = "things"
    name: Mapped[str] = mapped_column(String(50))
    kind: Mapped[str] = mapped_column(String(20), default="thing")

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        return {**super().__mapper_args__, "polymorphic_on": "kind", "polymorphic_identity": "thing"}


class Book(Thing):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(ForeignKey("things.id"), primary_key=True)
    pages: Mapped[int]

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"polymorphic_identity": "book"}


class Car(UUIDKey, Versioned, Base):
    __tablename__ = "cars"


class Van(Car):
    __tablename__ = "vans"
    id: Mapped[UUID] = mapped_column(ForeignKey("cars.id"), primary_key=True)


class Named(IntegerKey, Base):
    __tablename__ = LONG
    first: Mapped[str] = mapped_column(String(20))
    second: Mapped[str] = mapped_column(String(20), index=True)
    thing_id: Mapped[int] = mapped_column(ForeignKey("things.id"))
    __table_args__ = (
        UniqueConstraint("first"),
        UniqueConstraint("first", "second"),
        Index(None, "first", "second"),
        CheckConstraint("first <> second", name="differ"),
    )


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
async def database(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Database]:
    match request.param:
        case "sqlite":
            context = on_sqlite(tmp_path)
        case "postgres":
            context = on_postgres(request.getfixturevalue("postgres_url"))
        case _:
            context = on_mariadb(request.getfixturevalue("mariadb_url"))
    async with context as database:
        await database.create_all(Base.metadata)
        yield database


async def stored(session: AsyncSession, thing: Thing) -> tuple[int, datetime]:
    """Return version and time of the last change as the database has them."""
    rows = await session.execute(select(Thing.version, Thing.updated_at).where(Thing.id == thing.id))
    version, time = rows.one()
    return version, time


async def test_alembic_finds_nothing_to_change_after_create_all(database: Database) -> None:
    def differences(session: Session) -> list[Any]:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        ours = Base.metadata.tables
        differences: Any = compare_metadata(context, Base.metadata)
        # Those of `support` are there too.
        return [one for one in differences if str(getattr(one[1], "table", one[1])) in ours]

    async with database.session() as session:
        assert await session.run_sync(differences) == []


def test_constraints_are_named_for_all_their_columns() -> None:
    table = Base.metadata.tables[LONG]
    assert {item.name for item in table.constraints} | {item.name for item in table.indexes} == {
        f"pk_{LONG}",
        f"fk_{LONG}_thing_id_things",
        f"uq_{LONG}_first",
        f"uq_{LONG}_first_second",
        f"ix_{LONG}_second",
        f"ix_{LONG}_first_second",
        f"ck_{LONG}_differ",
    }


async def test_a_row_is_read_after_the_flush_without_a_query_and_reads_the_same_later(database: Database) -> None:
    before = datetime.now(UTC)
    async with database.session() as session:
        thing = Thing(name="pen")
        session.add(thing)
        await session.flush()
        assert thing.id == 1
        assert before <= thing.created_at == thing.updated_at <= datetime.now(UTC)
        first = thing.version, thing.updated_at
        assert await stored(session, thing) == first
        thing.name = "ink"
        await session.flush()
        assert thing.version == first[0] + 1
        assert thing.updated_at > thing.created_at == first[1]
        assert await stored(session, thing) == (thing.version, thing.updated_at)
        await session.flush()
        assert thing.version == first[0] + 1


async def test_statements_keep_time_and_version_as_the_orm_does(database: Database) -> None:
    async with database.session() as session:
        await session.execute(insert(Thing), [{"name": "pen"}, {"name": "ink"}])
        await session.execute(insert(Base.metadata.tables["things"]).values(name="cup", kind="thing"))
        pen, ink, cup = await session.scalars(select(Thing).order_by(Thing.id))
        assert all(thing.created_at == thing.updated_at for thing in (pen, ink, cup))
        assert len({pen.version, ink.version, cup.version}) == 3
        was = {thing: await stored(session, thing) for thing in (pen, ink, cup)}
        await session.execute(update(Thing).where(Thing.id == pen.id).values(name="new"))
        await session.execute(update(Base.metadata.tables["things"]).where(Thing.id == ink.id).values(name="new"))
        for thing, more in ((pen, 1), (ink, 1), (cup, 0)):
            version, time = await stored(session, thing)
            assert (version - was[thing][0], time > was[thing][1]) == (more, bool(more))
        pen.name = "newer"  # what the statement wrote is known to the session
        await session.flush()
        assert pen.version == was[pen][0] + 2


async def test_a_change_to_another_version_is_a_conflict_and_no_row(database: Database) -> None:
    async with database.session() as session:
        session.add(Thing(name="pen"))
    async with database.session() as session:
        changed = await session.get_one(Thing, 1)
    async with database.session() as session:
        deleted = await session.get_one(Thing, 1)
    async with database.session() as session:
        await session.execute(update(Thing).values(name="theirs"))
    changed.name = "mine"
    with pytest.raises(ConflictError) as raised:
        async with database.session() as session:
            session.add(changed)
    assert isinstance(raised.value.__cause__, StaleDataError)
    with pytest.raises(ConflictError):
        async with database.session() as session:
            await session.delete(deleted)
    async with database.session() as session:
        assert await session.scalar(select(Thing.name)) == "theirs"


async def test_a_subclass_is_versioned_with_its_parent(database: Database) -> None:
    async with database.session() as session:
        book, van = Book(name="novel", pages=300), Van()
        session.add_all([book, van])
        await session.flush()
        version = book.version
        book.pages = 301
        await session.flush()
        assert book.version == version + 1
        assert Van.__table__.columns.keys() == ["id"]


async def test_a_row_made_again_has_another_etag(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        await database.create_all(Base.metadata)
        etags = []
        for _ in range(2):
            async with database.session() as session:
                thing = Thing(name="pen")
                session.add(thing)
                await session.flush()
                assert thing.id == 1
                etags.append(thing.etag)
                await session.delete(thing)
        assert etags[0] != etags[1]
        assert etags[0] == f'"{int(etags[0][1:-1])}"'


async def test_an_etag_is_of_what_is_stored_and_of_nothing_else(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        await database.create_all(Base.metadata)
        async with database.session() as session:
            thing = Thing()
            with pytest.raises(InvalidRequestError, match=r"Thing\.etag is that of a row: flush the session before"):
                _ = thing.etag
            thing.name = "pen"
            session.add(thing)
            await session.flush()
            first = thing.etag
            thing.name = "ink"
            with pytest.raises(InvalidRequestError):
                _ = thing.etag
            await session.flush()
            assert thing.etag != first
        assert thing.etag  # detached, it is still the one of its row


@pytest.mark.parametrize("versioned_first", [True, False])
def test_mapper_arguments_that_switch_versions_off_are_refused(versioned_first: bool) -> None:
    class Other(DeclarativeBase):
        pass

    bases = (Versioned, Other) if versioned_first else (Other, Versioned)
    body = {"__tablename__": "odd", "id": mapped_column(String, primary_key=True), "__mapper_args__": {"batch": True}}
    with pytest.raises(ConfigurationError, match=r"Odd is Versioned.*super\(\)\.__mapper_args__"):
        type("Odd", bases, body)


@pytest.fixture
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Let the machine be in a time zone that is not UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_elsewhere")
async def test_instants_are_stored_in_utc_whatever_their_zone(database: Database) -> None:
    tokyo = datetime(2026, 11, 21, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=9)))
    async with database.session() as session:
        session.add(Thing(name="pen", created_at=tokyo))
        await session.flush()
        session.expire_all()
        thing = await session.get_one(Thing, 1)
        assert (thing.created_at, thing.created_at.tzinfo) == (tokyo, UTC)
        assert thing.updated_at == tokyo
        assert thing.deleted_at is None
        assert await session.scalar(select(Thing.id).where(Thing.created_at == tokyo, Thing.created_at >= tokyo))


async def test_an_instant_without_a_zone_is_refused() -> None:
    database = Database("sqlite+aiosqlite://", create_all=Base.metadata)
    await database.create_all(Base.metadata)
    naive = datetime(2026, 11, 21)  # noqa: DTZ001
    async with database.session() as session:
        with pytest.raises(StatementError, match=r"has no time zone: use datetime\.now\(UTC\)"):
            await session.execute(insert(Thing).values(name="pen", created_at=naive))
    await database.dispose()


async def test_an_interval_can_be_added_to_an_instant(postgres_url: str) -> None:
    async with on_postgres(postgres_url) as database:
        await database.create_all(Base.metadata)
        async with database.session() as session:
            session.add(Thing(name="pen"))
            await session.flush()
            is_young = Thing.created_at + timedelta(days=1) > datetime.now(UTC)
            assert await session.scalar(select(Thing.name).where(is_young)) == "pen"


async def test_ids_of_version_7_are_in_order(database: Database) -> None:
    before = time.time_ns()
    async with database.session() as session:
        cars = []
        for _ in range(3):
            cars.append(Car())
            session.add(cars[-1])
            await session.flush()
        assert list(await session.scalars(select(Car.id).order_by(Car.id))) == [car.id for car in cars]
    first = cars[0].id
    assert (first.version, first.variant) == (7, UUID(int=2 << 62).variant)
    assert before // 1_000_000 <= first.int >> 80 <= time.time_ns() // 1_000_000


def test_the_fraction_of_a_millisecond_is_in_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9562, 6.2, method 3, with its example: 0.1234 ms is 505 of 4096."""
    monkeypatch.setattr(time, "time_ns", lambda: 1_645_557_742_000_123_400)
    assert str(uuid7()).startswith("017f22e2-79b0-71f9-")
    monkeypatch.setattr(time, "time_ns", lambda: 1_645_557_742_000_999_999)
    assert str(uuid7()).startswith("017f22e2-79b0-7fff-")
    assert uuid7() != uuid7()


def test_a_mark_keeps_its_first_time_and_can_be_taken_away() -> None:
    thing = Thing()
    thing.soft_delete()
    first = thing.deleted_at
    thing.soft_delete()
    assert thing.deleted_at is first is not None
    thing.restore()
    assert thing.deleted_at is None
