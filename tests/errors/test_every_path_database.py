"""Every way in which a database fails a request, over the socket of a real uvicorn."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import ForeignKey, func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_kit import errors
from fastapi_kit.db import Database
from fastapi_kit.db.models import Versioned
from fastapi_kit.errors import ConflictError
from tests.db.support import on_postgres, on_sqlite
from tests.errors.exchanges import Served, check, serving
from tests.errors.served_app import crash, task_group


class Base(DeclarativeBase):
    pass


class Room(Versioned, Base):
    __tablename__ = "rooms"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Chair(Base):
    __tablename__ = "chairs"
    id: Mapped[int] = mapped_column(primary_key=True)
    room_id: Mapped[int] = mapped_column(ForeignKey("rooms.id", deferrable=True, initially="DEFERRED"))


async def unique(session: AsyncSession) -> None:
    session.add(Room(name="s3cret-taken"))


async def foreign_key(session: AsyncSession) -> None:
    session.add(Chair(room_id=4242))


async def stale(session: AsyncSession) -> None:
    room = await session.scalar(select(Room).limit(1))
    assert room is not None
    await session.execute(text("UPDATE rooms SET version = version + 1"))  # as another session may do
    room.name = "s3cret-new"


async def serialization(session: AsyncSession) -> None:
    await session.execute(text("DO $$ BEGIN RAISE EXCEPTION 's3cret' USING ERRCODE = '40001'; END $$"))


async def lost(session: AsyncSession) -> None:
    await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


FAULTS: dict[str, Any] = {fault.__name__: fault for fault in (unique, foreign_key, stale, serialization, lost)}


def app_of(database: Database, admin: Database) -> FastAPI:
    app = FastAPI(lifespan=database.lifespan)
    errors.install(app)
    Session = Annotated[AsyncSession, database.per_request]

    @app.post("/flush/{fault}")
    async def flush(fault: str, session: Session) -> None:
        session.add(Room(name="first"))
        await session.flush()
        await FAULTS[fault](session)
        await session.flush()
        if fault == "foreign_key":
            await session.commit()  # checked there

    @app.post("/commit/{fault}")
    async def commit(fault: str, session: Session) -> None:
        session.add(Room(name="first"))
        await session.flush()
        if fault != "lost":
            await FAULTS[fault](session)
            return
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        async with admin.session() as other:
            await other.execute(text(f"SELECT pg_terminate_backend({pid}, 5000)"))

    @app.post("/task-group/{library}/{fault}")
    async def grouped(library: str, fault: str, session: Session) -> None:
        session.add(Room(name="first"))
        await session.flush()

        async def fail() -> None:
            await FAULTS[fault](session)
            await session.flush()

        await task_group(library, fail)

    async def fails_in_a_group(library: str, fault: str, session: Session) -> None:
        await grouped(library, fault, session)

    @app.post("/depends/{library}/{fault}", dependencies=[Depends(fails_in_a_group)])
    async def depends(library: str, fault: str) -> None: ...

    @app.post("/own-session/{library}/{fault}")
    async def own_session(library: str, fault: str) -> None:
        async def fail() -> None:
            async with database.session() as session:
                session.add(Room(name="first"))
                await session.flush()
                await FAULTS[fault](session)

        await task_group(library, fail)

    @app.post("/mixed/{what}")
    async def mixed(what: str, session: Session) -> None:
        session.add(Room(name="first"))
        await session.flush()
        session.add(Room(name="s3cret-taken"))
        try:
            await session.flush()
        except IntegrityError as exc:
            others: dict[str, Exception] = {"crash": crash(), "problem": ConflictError("s3cret"), "same": exc}
            raise ExceptionGroup("s3cret", [exc, ExceptionGroup("inner", [others[what]])]) from None

    @app.get("/exhausted")
    async def exhausted(session: Session) -> None:
        await session.execute(text("SELECT 1"))
        async with database.session(read_only=True) as other:
            await other.execute(text("SELECT 1"))

    @app.get("/exhausted-group")
    async def exhausted_group(session: Session) -> None:
        async def want() -> None:
            await exhausted(session)

        await task_group("asyncio", want)

    @app.get("/count")
    async def count(session: Session) -> int:
        return await session.scalar(select(func.count()).select_from(Room)) or 0

    @app.post("/write")
    async def write(session: Session) -> None:
        session.add(Room(name="first"))

    return app


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("database")


@pytest.fixture(scope="module")
def server(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    options: dict[str, Any] = {
        "pool_size": 1,
        "max_overflow": 0,
        "pool_timeout_seconds": 0.3,
        "busy_timeout_seconds": 0.2,
    }
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else f"sqlite+aiosqlite:///{folder}/admin.db"
    opened = on_postgres(url, **options) if kind == "postgres" else on_sqlite(folder, **options)
    with asyncio.Runner() as runner:
        database = runner.run(opened.__aenter__())

        async def fill() -> None:
            await database.create_all(Base.metadata)
            async with database.session() as session:
                session.add(Room(name="s3cret-taken"))
            await database.dispose()

        runner.run(fill())
        with serving(app_of(database, Database(url))) as served:
            yield served
        runner.run(opened.__aexit__(None, None, None))


def post(server: Served, target: str, **headers: str) -> Any:
    return server.request("POST", target, [("x-request-id", uuid4().hex), *headers.items()], b"{}")


def is_undone(server: Served) -> bool:
    return server.request("GET", "/count").body == b"1"


PLACES = [
    "flush",
    "commit",
    *(f"{place}/{library}" for place in ("task-group", "depends", "own-session") for library in ("asyncio", "anyio")),
]


@pytest.mark.parametrize("fault", ["unique", "stale"])
@pytest.mark.parametrize("place", PLACES)
def test_a_conflict_is_a_409_wherever_it_shows_and_nothing_is_stored(server: Served, place: str, fault: str) -> None:
    answer = post(server, f"/{place}/{fault}")
    check(answer, 409, "conflict")
    assert server.crashes(answer.request_id) == []
    assert is_undone(server)


@pytest.mark.parametrize("place", ["flush", "commit", "own-session/asyncio", "own-session/anyio"])
def test_a_reference_to_nothing_is_a_409(server: Served, place: str) -> None:
    check(post(server, f"/{place}/foreign_key"), 409, "conflict")
    assert is_undone(server)


@pytest.mark.parametrize("place", PLACES[:-2])
def test_a_stale_version_under_if_match_is_a_412(server: Served, place: str) -> None:
    check(post(server, f"/{place}/stale", **{"if-match": '"1"'}), 412, "precondition_failed")
    assert is_undone(server)


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
@pytest.mark.parametrize("fault", ["serialization", "lost"])
@pytest.mark.parametrize("place", PLACES)
def test_what_may_work_later_is_a_503_that_says_when(server: Served, place: str, fault: str) -> None:
    answer = post(server, f"/{place}/{fault}")
    check(answer, 503, "service_unavailable")
    assert answer.all("retry-after") == ["1"]
    assert is_undone(server)


@pytest.mark.parametrize("target", ["/exhausted", "/exhausted-group"])
def test_a_pool_without_a_free_connection_is_a_503(server: Served, target: str) -> None:
    answer = server.request("GET", target)
    check(answer, 503, "service_unavailable")
    assert answer.all("retry-after") == ["1"]
    assert is_undone(server)


@pytest.mark.parametrize(("what", "status"), [("same", 409), ("crash", 500), ("problem", 500)])
def test_a_group_of_several_errors_is_a_conflict_only_if_each_is(server: Served, what: str, status: int) -> None:
    answer = post(server, f"/mixed/{what}")
    check(answer, status, "conflict" if status == 409 else "internal_server_error")
    assert len(server.crashes(answer.request_id)) == (1 if status == 500 else 0)
    assert is_undone(server)


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_lock_that_another_process_holds_is_a_503(server: Served, folder: Path) -> None:
    with ExitStack() as locks:
        for file in folder.glob("*.db"):  # the server's, and those of servers before it
            other = locks.enter_context(closing(sqlite3.connect(file, isolation_level=None)))
            other.execute("BEGIN IMMEDIATE")
        answer = post(server, "/write")
    check(answer, 503, "service_unavailable")
    assert answer.all("retry-after") == ["1"]
