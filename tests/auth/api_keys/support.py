"""Databases with a table of API keys, each of its own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

from sqlalchemy import make_url, text
from sqlalchemy.orm import DeclarativeBase

from fastapi_kit.auth.api_keys.sqlalchemy import ApiKeyMixin, SQLAlchemyApiKeyStore
from fastapi_kit.db import Database


class Base(DeclarativeBase):
    pass


class ApiKey(ApiKeyMixin, Base):
    __tablename__ = "api_keys"


def store_in(database: Database) -> SQLAlchemyApiKeyStore:
    return SQLAlchemyApiKeyStore(database.session, ApiKey, read=partial(database.session, read_only=True))


@asynccontextmanager
async def on_sqlite(folder: Path) -> AsyncGenerator[Database]:
    database = Database(f"sqlite+aiosqlite:///{folder}/{uuid4().hex}.db")
    await database.create_all(Base.metadata)
    yield database
    await database.dispose()


@asynccontextmanager
async def on_postgres(url: str) -> AsyncGenerator[Database]:
    """Give a database whose tables are in a schema of their own, dropped at the end."""
    schema = f"kit_{uuid4().hex}"
    in_schema = {"connect_args": {"server_settings": {"search_path": schema}}}
    async with _around(url, f"CREATE SCHEMA {schema}", f"DROP SCHEMA {schema} CASCADE"):
        async with _with_table(Database(url, engine_options=in_schema)) as database:
            yield database


@asynccontextmanager
async def on_mariadb(url: str) -> AsyncGenerator[Database]:
    name = f"kit_{uuid4().hex}"
    # Case-insensitive, accent-insensitive, and blind to trailing spaces: the least that one can get.
    create = f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
    async with _around(url, create, f"DROP DATABASE {name}"):
        async with _with_table(Database(make_url(url).set(database=name))) as database:
            yield database


@asynccontextmanager
async def _around(url: str, before: str, after: str) -> AsyncGenerator[None]:
    admin = Database(url)
    async with admin.session() as session:
        await session.execute(text(before))
    try:
        yield
    finally:
        async with admin.session() as session:
            await session.execute(text(after))
        await admin.dispose()


@asynccontextmanager
async def _with_table(database: Database) -> AsyncGenerator[Database]:
    await database.create_all(Base.metadata)
    yield database
    await database.dispose()
