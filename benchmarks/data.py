"""What both apps share: the tables with their rows, the models, the secret, and the requests."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from sqlalchemy import ForeignKey, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_kit.auth import Key, KeySet, TokenService
from fastapi_kit.db import Database
from fastapi_kit.schemas import CreateModel, ReadModel, ShortText

ISSUER, AUDIENCE, SECRET = "https://bench.example", "bench", secrets.token_urlsafe(64)
ITEMS = 1000


class Base(DeclarativeBase): ...


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    role: Mapped[str]


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey(User.id), index=True)
    name: Mapped[str]


class UserRead(ReadModel):
    id: int
    name: str
    role: str


class ItemCreate(CreateModel):
    name: ShortText


class ItemRead(ReadModel):
    id: int
    name: str


async def open_database(folder: Path) -> Database:
    """Return a SQLite database in a file, with one admin who has a thousand items."""
    db = Database(f"sqlite+aiosqlite:///{folder}/bench.db")
    await db.create_all(Base.metadata)
    async with db.session() as session:
        await session.execute(insert(User).values(id=1, name="ada", role="admin"))
        await session.execute(insert(Item), [{"owner_id": 1, "name": f"item {n}"} for n in range(ITEMS)])
    return db


def make_tokens() -> TokenService:
    return TokenService(KeySet(Key.hmac(SECRET)), issuer=ISSUER, audience=AUDIENCE, ttl=timedelta(hours=1))


@dataclass(frozen=True)
class Scenario:
    """One request, the status it is answered with, and the ratio to the endpoint by hand that we aim at."""

    name: str
    path: str
    aim: float
    method: str = "GET"
    status: int = 200
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = field(default=(), repr=False)


_BEARER = ((b"authorization", f"Bearer {make_tokens().issue('1').token}".encode()),)
_JSON = ((b"content-type", b"application/json"),)

SCENARIOS = (
    Scenario("plain", "/plain", aim=1.25),
    Scenario("me", "/me", aim=0.95, headers=_BEARER),
    Scenario("admin", "/admin", aim=0.95, headers=_BEARER),
    Scenario("page", "/page?skip=40&limit=20", aim=0.9),
    Scenario("create", "/items", aim=1.25, method="POST", status=201, body=b'{"name": "tea"}', headers=_JSON),
    Scenario("limited", "/limited", aim=1.25),
    Scenario("404", "/nowhere", aim=1.2, status=404),
    Scenario("stack", "/stack?skip=40&limit=20", aim=0.9, headers=_BEARER),
)
