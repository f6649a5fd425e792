"""The small app of `support`, for `def`, over a `SyncDatabase` of its own."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Response
from sqlalchemy import func, make_url, select, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool
from starlette.responses import JSONResponse

from fastapi_kit.db import SyncDatabase
from tests.db.support import Base, Item, Owner


@contextmanager
def sync_on_sqlite(folder: Path, **options: Any) -> Generator[SyncDatabase]:
    database = SyncDatabase(f"sqlite+pysqlite:///{folder}/{uuid4().hex}.db", **options)
    database.create_all(Base.metadata)
    yield database
    database.dispose()


@contextmanager
def sync_on_postgres(url: str, **options: Any) -> Generator[SyncDatabase]:
    schema = f"kit_{uuid4().hex}"
    here = make_url(url).set(drivername="postgresql+psycopg")
    in_schema = {"connect_args": {"options": f"-c search_path={schema}"}}
    admin, database = SyncDatabase(here), SyncDatabase(here, engine_options=in_schema, **options)
    with admin.session() as session:
        session.execute(text(f"CREATE SCHEMA {schema}"))
    database.create_all(Base.metadata)
    try:
        yield database
    finally:
        database.dispose()
        with admin.session() as session:
            session.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        admin.dispose()


@contextmanager
def sync_on_mariadb(url: str, **options: Any) -> Generator[SyncDatabase]:
    name, here = f"kit_{uuid4().hex}", make_url(url).set(drivername="mysql+pymysql")
    admin, database = SyncDatabase(here), SyncDatabase(here.set(database=name), **options)
    with admin.session() as session:
        session.execute(text(f"CREATE DATABASE {name}"))
    with database.session() as session:
        session.execute(
            text("CREATE TABLE owners (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(90) UNIQUE, visits INT)")
        )
    try:
        yield database
    finally:
        database.dispose()
        with admin.session() as session:
            session.execute(text(f"DROP DATABASE {name}"))
        admin.dispose()


def sync_owners(database: SyncDatabase) -> list[str]:
    with database.session() as session:
        return list(session.scalars(select(Owner.name).order_by(Owner.id)))


def connections_out(database: SyncDatabase) -> int:
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout()


def sync_app_of(database: SyncDatabase) -> FastAPI:
    app = FastAPI(lifespan=database.lifespan)
    Writing = Annotated[Session, database.per_request]
    Reading = Annotated[Session, database.per_request_read_only]

    def nested(session: Writing) -> Session:
        return session

    @app.post("/owners/{name}", status_code=201)
    def create(name: str, session: Writing, background: BackgroundTasks, response: Response, fail: str = "") -> Any:
        owner = Owner(name=name)
        session.add(owner)
        session.flush()
        match fail:
            case "http":
                raise HTTPException(418)
            case "crash":
                raise RuntimeError("crash")
            case "set":
                response.status_code = 409
            case "returned":
                return JSONResponse(None, 409)
            case "background":
                background.add_task(crash)
            case _:
                pass
        return owner.id

    @app.post("/invalid/{name}")
    def invalid(name: str, session: Writing) -> int:
        session.add(Owner(name=name))
        session.flush()
        return "no number"  # type: ignore[return-value]

    @app.post("/unflushed/{name}", status_code=201)
    def unflushed(name: str, session: Writing) -> None:
        session.add(Owner(name=name))

    @app.post("/items/{owner_id}", status_code=201)
    def create_item(owner_id: int, session: Writing) -> int:
        item = Item(owner_id=owner_id)
        session.add(item)
        session.flush()
        return item.id

    @app.get("/owners")
    def count(session: Writing) -> int:
        return session.scalar(select(func.count()).select_from(Owner)) or 0

    @app.get("/owners/{owner_id}")
    def read(owner_id: int, session: Writing) -> str:
        if (owner := session.get(Owner, owner_id)) is None:
            raise HTTPException(404)
        return owner.name

    @app.post("/visits/{owner_id}")
    def visit(owner_id: int, session: Writing) -> int:
        owner = session.get_one(Owner, owner_id)
        visits = owner.visits
        time.sleep(0.002)
        owner.visits = visits + 1
        return owner.visits

    @app.get("/same")
    def same(session: Writing, other: Annotated[Session, Depends(nested)]) -> bool:
        return session is other

    @app.post("/both/{name}")
    def both(name: str, reader: Reading, writer: Writing) -> int:
        before = reader.scalar(select(func.count()).select_from(Owner))
        writer.add(Owner(name=name))
        writer.flush()
        return before or 0

    def crash() -> None:
        raise RuntimeError("background")

    return app
