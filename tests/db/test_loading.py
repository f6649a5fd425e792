import pickle
import re
from collections.abc import Callable, Generator
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import ForeignKey, String, create_engine, delete, event, exists, func, select, text, union_all, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    immediateload,
    joinedload,
    lazyload,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
    subqueryload,
)

from fastapi_kit.db import Database, loading
from fastapi_kit.db.loading import LazyLoadError, guarded_session
from fastapi_kit.db.models import IntegerKey, SoftDelete, Timestamps, Versioned
from fastapi_kit.testing.database import rolled_back

pytestmark = pytest.mark.anyio


class Base(AsyncAttrs, DeclarativeBase):
    pass


class Person(IntegerKey, SoftDelete, Base):
    __tablename__ = "people"
    name: Mapped[str] = mapped_column(String(20))
    bio: Mapped[str] = mapped_column(String(20), default="", deferred=True)
    things: Mapped[list["Thing"]] = relationship(back_populates="person", cascade="all, delete-orphan")


class Thing(IntegerKey, Timestamps, Versioned, SoftDelete, Base):
    __tablename__ = "things"
    name: Mapped[str] = mapped_column(String(20))
    person_id: Mapped[int | None] = mapped_column(ForeignKey("people.id"))
    part_of_id: Mapped[int | None] = mapped_column(ForeignKey("things.id"))
    person: Mapped[Person | None] = relationship(back_populates="things")
    part_of: Mapped["Thing | None"] = relationship(
        back_populates="parts", remote_side="Thing.id", lazy="joined", join_depth=1
    )
    parts: Mapped[list["Thing"]] = relationship(back_populates="part_of")


def fill(session: Session) -> None:
    """Store ann with a pen that is a part of a cup, and bob with a hat; bob and the cup are marked."""
    ann, bob = Person(name="ann"), Person(name="bob")
    cup = Thing(name="cup", person=ann)
    session.add_all([ann, bob, Thing(name="pen", person=ann, part_of=cup), cup, Thing(name="hat", person=bob)])
    session.flush()
    bob.soft_delete()
    cup.soft_delete()
    session.commit()


def sync_sessions(*, lazy_loads: bool) -> Generator[sessionmaker[Session]]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine, class_=guarded_session(Session, is_async=False, lazy_loads=lazy_loads))
    with sessions() as session:
        fill(session)
    yield sessions
    engine.dispose()


@pytest.fixture
def lazy() -> Generator[sessionmaker[Session]]:
    yield from sync_sessions(lazy_loads=True)


@pytest.fixture
def strict() -> Generator[sessionmaker[Session]]:
    yield from sync_sessions(lazy_loads=False)


@pytest.fixture
async def sessions(database: Database) -> async_sessionmaker[AsyncSession]:
    await database.create_all(Base.metadata)
    kind = guarded_session(Session, is_async=True)
    sessions = async_sessionmaker(database.engine, sync_session_class=kind, expire_on_commit=False)
    async with sessions() as session:
        await session.run_sync(fill)
    return sessions


def names(rows: Any) -> list[str]:
    return sorted(row.name for row in rows)


def is_cup() -> Any:
    return Thing.name == "cup"


def loaded_by(option: Any) -> Callable[[Session], list[list[str]]]:
    statement = select(Person).options(option(Person.things))
    return lambda session: [names(person.things) for person in session.scalars(statement).unique()]


def pen_of(session: Session) -> Thing:
    return session.scalars(select(Thing).where(Thing.name == "pen")).one()


READS: dict[str, tuple[Callable[[Session], Any], Any, Any]] = {
    "entities": (lambda s: names(s.scalars(select(Thing))), ["hat", "pen"], ["cup", "hat", "pen"]),
    "columns": (lambda s: names(s.execute(select(Thing.name))), ["hat", "pen"], ["cup", "hat", "pen"]),
    "query": (lambda s: names(s.query(Thing)), ["hat", "pen"], ["cup", "hat", "pen"]),
    "get": (lambda s: s.get(Person, 2) is None, True, False),
    "count": (lambda s: s.scalar(select(func.count()).select_from(Thing)), 2, 3),
    "alias": (lambda s: names(s.scalars(select(aliased(Thing)))), ["hat", "pen"], ["cup", "hat", "pen"]),
    "join": (lambda s: names(s.scalars(select(Thing).join(Thing.person))), ["pen"], ["cup", "hat", "pen"]),
    "subquery": (lambda s: s.scalar(select(func.count()).select_from(select(Thing.id).subquery())), 2, 3),
    "in": (
        lambda s: names(s.scalars(select(Person).where(Person.id.in_(select(Thing.person_id).where(is_cup()))))),
        [],
        ["ann"],
    ),
    "exists": (
        lambda s: names(s.scalars(select(Person).where(exists().where(Thing.person_id == Person.id, is_cup())))),
        [],
        ["ann"],
    ),
    "any": (lambda s: names(s.scalars(select(Person).where(Person.things.any(is_cup())))), [], ["ann"]),
    "union": (
        lambda s: names(s.execute(union_all(select(Thing.name).where(is_cup()), select(Thing.name)))),
        ["hat", "pen"],
        ["cup", "cup", "hat", "pen"],
    ),
    "joinedload": (loaded_by(joinedload), [["pen"]], [["cup", "pen"], ["hat"]]),
    "selectinload": (loaded_by(selectinload), [["pen"]], [["cup", "pen"], ["hat"]]),
    "subqueryload": (loaded_by(subqueryload), [["pen"]], [["cup", "pen"], ["hat"]]),
    "immediateload": (loaded_by(immediateload), [["pen"]], [["cup", "pen"], ["hat"]]),
    "lazy": (
        lambda s: [names(person.things) for person in s.scalars(select(Person))],
        [["pen"]],
        [["cup", "pen"], ["hat"]],
    ),
    "to one": (
        lambda s: [t.person is None for t in s.scalars(select(Thing).order_by(Thing.name))][-2:],
        [True, False],
        [False, False],
    ),
    "joined by the model": (lambda s: pen_of(s).part_of is None, True, False),
    "update": (lambda s: len(s.scalars(update(Thing).values(name="x").returning(Thing.id)).all()), 2, 3),
}
"""What is done, what comes of it, and what does in a session that includes what is deleted."""


@pytest.mark.parametrize("read", READS)
def test_marked_rows_are_left_out(lazy: sessionmaker[Session], read: str) -> None:
    run, live, every = READS[read]
    with lazy() as session:
        assert run(session) == live
    with lazy(execution_options={"include_deleted": True}) as session:
        assert run(session) == every


def test_no_statement_asks_twice(lazy: sessionmaker[Session]) -> None:
    statements: list[str] = []
    event.listen(lazy.kw["bind"], "before_cursor_execute", lambda *args: statements.append(args[2]))
    with lazy() as session:
        for option in (selectinload, subqueryload, immediateload, lazyload):
            names(session.scalars(select(Person).options(option(Person.things))).one().things)
            session.expunge_all()
    assert len(statements) == 8
    for statement in statements:
        asked = re.findall(r"\w+\.deleted_at IS NULL", statement)
        assert len(asked) == len(set(asked)) > 0, statement


async def test_a_statement_can_include_what_is_deleted(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session:
        people = select(Person).options(selectinload(Person.things)).order_by(Person.id)
        everybody = people.execution_options(include_deleted=True, populate_existing=True)
        (ann,) = await session.scalars(people)
        assert names(ann.things) == ["pen"]
        ann, bob = await session.scalars(everybody)
        assert (names(ann.things), names(bob.things)) == (["cup", "pen"], ["hat"])
        bob.restore()
        await session.flush()
        assert names(await session.scalars(people)) == ["ann", "bob"]


async def test_a_delete_statement_deletes_marked_rows(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session:
        await session.execute(delete(Thing).where(Thing.deleted_at.is_(None)))
        assert names(await session.execute(select(Base.metadata.tables["things"]))) == ["cup"]
        await session.execute(delete(Thing))
        assert names(await session.execute(select(Base.metadata.tables["things"]))) == []


async def test_a_delete_takes_marked_rows_along(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session:
        ann = (await session.scalars(select(Person).options(selectinload(Person.things)))).one()
        session.expire(ann, ["things"])
        await session.delete(ann)
        await session.flush()
        assert names(await session.execute(select(Base.metadata.tables["things"]))) == ["hat"]


async def test_a_delete_of_what_was_loaded_without_its_marked_rows_is_refused_by_the_database(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    async with sessions() as session:
        ann = (await session.scalars(select(Person).options(selectinload(Person.things)))).one()
        await session.delete(ann)
        with pytest.raises(IntegrityError):
            await session.flush()


def test_a_bulk_update_goes_by_the_keys_that_it_names(lazy: sessionmaker[Session]) -> None:
    with lazy() as session:
        session.execute(update(Person), [{"id": 1, "name": "anne"}, {"id": 2, "name": "rob"}])
        assert names(session.execute(select(Base.metadata.tables["people"]))) == ["anne", "rob"]


async def test_core_statements_and_sql_text_see_every_row(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session:
        for statement in (select(Base.metadata.tables["things"]), text("SELECT name FROM things")):
            assert names(await session.execute(statement)) == ["cup", "hat", "pen"]


def test_an_object_that_is_marked_can_be_refreshed(lazy: sessionmaker[Session]) -> None:
    with lazy() as session:
        pen = pen_of(session)
        pen.soft_delete()
        session.flush()
        session.refresh(pen)
        session.expire(pen)
        assert pen.name == "pen"
        assert pen.part_of is None
        assert session.get(Thing, pen.id) is pen, "it is in the session"


def test_the_relationships_of_a_new_object_leave_marked_rows_out(lazy: sessionmaker[Session]) -> None:
    with lazy() as session:
        new = Person(name="new", things=[Thing(name="ink"), Thing(name="nib")])
        session.add(new)
        session.flush()
        new.things[0].soft_delete()
        session.flush()
        session.expire(new, ["things"])
        assert names(new.things) == ["nib"]


def test_objects_can_be_pickled(lazy: sessionmaker[Session]) -> None:
    with lazy() as session:
        pen = pen_of(session)
    copy = pickle.loads(pickle.dumps(pen))
    with lazy() as session:
        session.add(copy)
        assert names(copy.person.things) == ["pen"]


def test_a_model_may_be_defined_after_the_first_session(
    lazy: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = guarded_session(Session, is_async=False)
    with monkeypatch.context() as patch:
        patch.setattr(loading, "SoftDelete", type("NoModelHasIt", (), {}))
        with kind(lazy.kw["bind"]) as session:
            assert names(session.scalars(select(Thing))) == ["cup", "hat", "pen"]
    for _ in range(2):
        with kind(lazy.kw["bind"]) as session:
            assert names(session.scalars(select(Thing))) == ["hat", "pen"]


def refused(attribute: str) -> Any:
    model, key = attribute.split(".")
    refresh = f"await session.refresh({model.lower()}, ['{key}'])"
    advice = f"write select({model}).options(selectinload({attribute})), or {refresh}"
    return pytest.raises(
        LazyLoadError, match=re.escape(f"{attribute} is not loaded, and to read it runs no query: {advice}")
    )


async def test_a_relationship_that_was_not_loaded_is_named(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session:
        ann = (await session.scalars(select(Person))).one()
        with refused("Person.things"):
            _ = ann.things
        pen = (await session.scalars(select(Thing).where(Thing.name == "pen"))).one()
        assert pen.person is ann, "it is in the session"
        session.expunge(ann)
        session.expire(pen, ["person"])
        with refused("Thing.person"):
            _ = pen.person
        await session.refresh(pen, ["person"])  # the session still works
        assert pen.person is not None
        with refused("Person.things"):
            _ = pen.person.things


async def test_a_column_that_was_not_loaded_is_named(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session:
        ann = (await session.scalars(select(Person))).one()
        with pytest.raises(
            LazyLoadError, match=r"^Person\.bio: deferred or expired, .*session\.refresh\(person, \['bio'\]\)"
        ):
            _ = ann.bio
        await session.refresh(ann, ["bio"])
        assert ann.bio == ""
        session.expire(ann, ["name", "id"])
        with pytest.raises(LazyLoadError, match=r"^Person\.id, Person\.name: deferred or expired"):
            _ = ann.name
        await session.refresh(ann)
        assert ann.name == "ann"


async def test_what_was_asked_for_is_loaded(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session:
        ann = (await session.scalars(select(Person))).one()
        assert names(await ann.awaitable_attrs.things) == ["pen"]
        session.expire(ann)
        assert await session.run_sync(lambda _: names(ann.things)) == ["pen"]
        assert await session.run_sync(lambda _: ann.bio) == ""


def test_another_statement_outside_of_a_greenlet_is_not_taken_for_a_load(lazy: sessionmaker[Session]) -> None:
    with guarded_session(Session, is_async=True)(lazy.kw["bind"]) as session:
        for statement in (select(Thing), text("SELECT 1"), update(Thing).values(name="x")):
            session.execute(statement)


async def test_a_response_model_tells_what_was_not_loaded(sessions: async_sessionmaker[AsyncSession]) -> None:
    class ThingRead(BaseModel):
        model_config = ConfigDict(from_attributes=True)
        name: str

    class PersonRead(BaseModel):
        model_config = ConfigDict(from_attributes=True)
        things: list[ThingRead]

    async with sessions() as session:
        ann = (await session.scalars(select(Person))).one()
        with pytest.raises(ValidationError, match=r"LazyLoadError: Person\.things is not loaded"):
            PersonRead.model_validate(ann)


def test_a_sync_session_refuses_the_same_relationships(strict: sessionmaker[Session]) -> None:
    advice = r"Person\.things is not loaded, .* or session\.refresh\(person, \['things'\]\) before"
    with strict() as session:
        ann = session.scalars(select(Person)).one()
        with pytest.raises(LazyLoadError, match=advice):
            _ = ann.things
        assert ann.bio == "", "a column is loaded"
        session.refresh(ann, ["things"])
        assert names(ann.things) == ["pen"]


def test_a_sync_session_loads_what_its_own_methods_need(strict: sessionmaker[Session]) -> None:
    with strict() as session:
        session.merge(Person(id=1, name="anne", things=[Thing(name="nib")]))
        session.commit()
    with strict() as session:
        session.merge_all([Person(id=1, name="anne", things=[Thing(name="ink")])])
        session.commit()
    with strict() as session:
        for option in (selectinload, joinedload, subqueryload, immediateload):
            (ann,) = session.scalars(select(Person).options(option(Person.things))).unique().all()
            assert names(ann.things) == ["ink"]
            session.expunge_all()
        assert names(session.query(Person)) == ["anne"]
        session.delete_all([session.get_one(Person, 1)])
        session.flush()
        assert names(session.execute(select(Base.metadata.tables["things"]))) == ["hat"]


def test_a_delete_frees_marked_rows_that_refer_to_it(strict: sessionmaker[Session]) -> None:
    things = select(Thing).execution_options(include_deleted=True)
    with strict() as session:
        pen_of(session).soft_delete()
        session.commit()
    with strict() as session:
        cup = session.scalars(things.where(is_cup())).one()
        session.delete(cup)
        session.flush()
        assert session.scalars(things.where(Thing.name == "pen")).one().part_of_id is None


def test_a_statement_that_the_orm_did_not_make_is_not_looked_at(
    strict: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(loading, "_refuse_relationships", seen.append)
    core = select(Base.metadata.tables["things"])
    with strict() as session:
        event.listen(session, "do_orm_execute", lambda state: seen.append(state.statement))
        session.execute(core)
    assert len(seen) == 1
    assert seen[0] is core


async def test_the_sessions_of_a_database_are_guarded_in_tests_too(database: Database) -> None:
    async def check() -> None:
        async with database.session() as session:
            await session.run_sync(fill)
        async with database.session() as session:
            ann = (await session.scalars(select(Person))).one()
            with refused("Person.things"):
                _ = ann.things

    await database.create_all(Base.metadata)
    async with rolled_back(database):
        await check()
    await check()
