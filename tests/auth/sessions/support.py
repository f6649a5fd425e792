"""The stores, each on a server of its own kind, and what the tests of sessions share."""

import base64
import json
import secrets
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from fastapi_kit.auth import InvalidGrantError, Key, Sessions, TokenError, TokenService
from fastapi_kit.auth.sessions.memory import MemorySessionStore
from fastapi_kit.auth.sessions.redis import RedisSessionStore
from fastapi_kit.auth.sessions.sqlalchemy import RevocationMixin, SessionMixin, SQLAlchemySessionStore
from fastapi_kit.auth.sessions.store import SessionRecord, SessionStore
from fastapi_kit.db import Database

NOW = 1_900_000_000
NOW_MS = NOW * 1000
SECRET = secrets.token_urlsafe(64)


class Clock:
    """The time of day, moved by hand."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span).total_seconds()


class Base(DeclarativeBase):
    pass


class LoginSession(SessionMixin, Base):
    __tablename__ = "login_sessions"


class Revocation(RevocationMixin, Base):
    __tablename__ = "revocations"


def record(**fields: Any) -> SessionRecord:
    return SessionRecord(
        **{
            "id": secrets.token_hex(16),
            "subject": uuid4().hex,
            "scopes": frozenset({"b", "a"}),
            "claims": {"tenant": "t1", "nested": {"list": [1, "é", None]}},
            "epoch": 0,
            "secret_hash": secrets.token_hex(32),
            "expires_at": NOW_MS + 1000,
            "ends_at": NOW_MS + 5000,
            **fields,
        }
    )


def sessions_of(store: SessionStore, clock: Clock, **options: Any) -> Sessions:
    tokens = TokenService(Key.hmac(SECRET), issuer="i", audience="a", clock=clock)
    return Sessions(tokens, store, clock=clock, **options)


@contextmanager
def postgres_schema(url: str) -> Generator[str]:
    """Give the name of a schema that has the tables."""
    schema = f"kit_{uuid4().hex}"
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
        connection.execute(text(f"SET LOCAL search_path = {schema}"))
        Base.metadata.create_all(connection)
    yield schema
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


@contextmanager
def mariadb_database(url: str) -> Generator[URL]:
    """Give the URL of a database that has the tables."""
    name = f"kit_{uuid4().hex}"
    engine = create_engine(make_url(url).set(drivername="mysql+pymysql"))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        connection.execute(text(f"USE {name}"))
        Base.metadata.create_all(connection)
    yield make_url(url).set(database=name)
    with engine.begin() as connection:
        connection.execute(text(f"DROP DATABASE {name}"))
    engine.dispose()


def postgres(url: str, schema: str, *, connect_args: dict[str, Any] | None = None, **engine_options: Any) -> Database:
    arguments = {"server_settings": {"search_path": schema}, **(connect_args or {})}
    return Database(url, engine_options={"connect_args": arguments, **engine_options})


def store_on(database: Database) -> SQLAlchemySessionStore:
    return SQLAlchemySessionStore(
        database.session, LoginSession, Revocation, read=partial(database.session, read_only=True)
    )


@asynccontextmanager
async def on_sqlite(folder: Path) -> AsyncGenerator[SQLAlchemySessionStore]:
    database = Database(f"sqlite+aiosqlite:///{folder}/sessions.db", busy_timeout_seconds=30)
    await database.create_all(Base.metadata)
    yield store_on(database)
    await database.dispose()


@asynccontextmanager
async def on_postgres(url: str, schema: str, **engine_options: Any) -> AsyncGenerator[SQLAlchemySessionStore]:
    database = postgres(url, schema, **engine_options)
    yield store_on(database)
    await database.dispose()


@asynccontextmanager
async def on_mariadb(url: URL) -> AsyncGenerator[SQLAlchemySessionStore]:
    """Give a store over a plain sessionmaker, without the kit's Database."""
    engine = create_async_engine(url)
    yield SQLAlchemySessionStore(async_sessionmaker(engine).begin, LoginSession, Revocation)
    await engine.dispose()


@asynccontextmanager
async def on_redis(url: str) -> AsyncGenerator[RedisSessionStore]:
    prefix = f"test-{uuid4().hex}:"
    # A busy machine must not look like a hung Redis.
    store = RedisSessionStore(f"{url}?timeout=60&socket_timeout=30&socket_connect_timeout=30", prefix=prefix)
    yield store
    await store.aclose()
    await delete_keys(url, prefix)


async def delete_keys(url: str, prefix: str) -> None:
    async with Redis.from_url(url) as client:
        async for key in client.scan_iter(f"{prefix}*"):
            await client.delete(key)


@asynccontextmanager
async def in_memory(clock: Clock) -> AsyncGenerator[MemorySessionStore]:
    yield MemorySessionStore(development=True, clock=clock)


async def refused(sessions: Sessions, token: str) -> str:
    with pytest.raises(InvalidGrantError) as error:
        await sessions.refresh(token)
    assert error.value.headers == {"Cache-Control": "no-store"}
    assert error.value.extensions == {"error": "invalid_grant"}
    assert error.value.detail == InvalidGrantError.title
    return error.value.reason


async def revoked(sessions: Sessions, token: str) -> bool:
    try:
        await sessions.verify(token)
    except TokenError as exc:
        if exc.reason == "revoked":
            return True
        raise
    return False


def signed(**claims: Any) -> str:
    """Return a token with these claims besides the required ones, as another service with the same key may issue it."""
    members = {"iss": "i", "aud": "a", "sub": "7", **claims}
    message = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "HS256", "typ": "at+jwt"}, members)
    )
    signature = base64.urlsafe_b64encode(Key.hmac(SECRET).sign(message.encode())).rstrip(b"=").decode()
    return f"{message}.{signature}"
