"""A small app over a database of its own, for the tests of `db` and of `testing.database`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import httpx2
import uvicorn
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from sqlalchemy import URL, ForeignKey, func, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_kit.db import Database


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owners"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    visits: Mapped[int] = mapped_column(default=0)


class Item(Base):
    """Its owner is checked at the commit, where the database can."""

    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("owners.id", deferrable=True, initially="DEFERRED"))


@asynccontextmanager
async def on_sqlite(folder: Path, **options: Any) -> AsyncGenerator[Database]:
    database = Database(f"sqlite+aiosqlite:///{folder}/{uuid4().hex}.db", **options)
    await database.create_all(Base.metadata)
    yield database
    await database.dispose()


@asynccontextmanager
async def on_postgres(url: str, **options: Any) -> AsyncGenerator[Database]:
    """Give a database whose tables are in a schema of their own, dropped at the end."""
    schema = f"kit_{uuid4().hex}"
    in_schema = {"connect_args": {"server_settings": {"search_path": schema}}}
    admin, database = Database(url), Database(url, engine_options=in_schema, **options)
    async with admin.session() as session:
        await session.execute(text(f"CREATE SCHEMA {schema}"))
    await database.create_all(Base.metadata)
    try:
        yield database
    finally:
        await database.dispose()
        async with admin.session() as session:
            await session.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        await admin.dispose()


@asynccontextmanager
async def on_mariadb(url: str | URL, **options: Any) -> AsyncGenerator[Database]:
    name = f"kit_{uuid4().hex}"
    admin, database = Database(url), Database(make_url(url).set(database=name), **options)
    async with admin.session() as session:
        await session.execute(text(f"CREATE DATABASE {name}"))
    for table in Base.metadata.sorted_tables:
        table.dialect_options["mysql"]["engine"] = "InnoDB"
    async with database.session() as session:
        await session.execute(
            text("CREATE TABLE owners (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(90) UNIQUE, visits INT)")
        )
    try:
        yield database
    finally:
        await database.dispose()
        async with admin.session() as session:
            await session.execute(text(f"DROP DATABASE {name}"))
        await admin.dispose()


async def let_sqlite_stop() -> None:
    """Wait for the thread of a connection that failed to open: it still reports to this test's event loop."""
    await asyncio.sleep(0.05)


async def owners(database: Database) -> list[str]:
    """Return the names that are stored, as another session sees them."""
    async with database.session() as session:
        return list(await session.scalars(select(Owner.name).order_by(Owner.id)))


def app_of(database: Database) -> FastAPI:
    app = FastAPI(lifespan=database.lifespan)
    Session = Annotated[AsyncSession, database.per_request]

    async def nested(session: Session) -> AsyncSession:
        return session

    @app.post("/owners/{name}", status_code=201)
    async def create(name: str, session: Session, background: BackgroundTasks, fail: str = "") -> int:
        owner = Owner(name=name)
        session.add(owner)
        await session.flush()
        match fail:
            case "http":
                raise HTTPException(418)
            case "crash":
                raise RuntimeError("crash")
            case "response":
                return "no number"  # type: ignore[return-value]
            case "background":
                background.add_task(crash)
            case _:
                pass
        return owner.id

    @app.post("/unflushed/{name}", status_code=201)
    async def unflushed(name: str, session: Session) -> None:
        session.add(Owner(name=name))

    @app.post("/items/{owner_id}", status_code=201)
    async def create_item(owner_id: int, session: Session) -> int:
        item = Item(owner_id=owner_id)
        session.add(item)
        await session.flush()
        return item.id

    @app.get("/owners")
    async def count(session: Session) -> int:
        return await session.scalar(select(func.count()).select_from(Owner)) or 0

    @app.get("/owners/{owner_id}")
    async def read(owner_id: int, session: Session) -> str:
        if (owner := await session.get(Owner, owner_id)) is None:
            raise HTTPException(404)
        return owner.name

    @app.post("/visits/{owner_id}")
    async def visit(owner_id: int, session: Session) -> int:
        owner = await session.get_one(Owner, owner_id)
        visits = owner.visits
        await asyncio.sleep(0.002)
        owner.visits = visits + 1
        return owner.visits

    @app.get("/same")
    async def same(session: Session, other: Annotated[AsyncSession, Depends(nested)]) -> bool:
        return session is other

    async def crash() -> None:
        raise RuntimeError("background")

    return app


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    """Call the app in this task; what it raises past its handlers is a 500."""
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@asynccontextmanager
async def served(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    """Serve the app with uvicorn on a socket."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="on"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # uvicorn offers no event
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        server.should_exit = True
        await task
