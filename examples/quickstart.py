"""A whole service in one file: accounts, log-in, items and an admin's view. Start it with `make run`."""

import os
import secrets
from typing import Annotated

from fastapi import Depends, FastAPI, Path
from sqlalchemy import ForeignKey, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_kit import errors, health
from fastapi_kit.auth import AccessClaims, Auth, Key, KeySet, Login, PasswordHasher, TokenService, login_router
from fastapi_kit.db import Database
from fastapi_kit.pagination import Page, SkipLimit, paginate
from fastapi_kit.ratelimit import Limiter
from fastapi_kit.schemas import CreateModel, ReadModel, ShortText, StrongPassword, Username


class Base(DeclarativeBase): ...


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    role: Mapped[str] = mapped_column(default="user")


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey(User.id), index=True)
    name: Mapped[str]


class UserCreate(CreateModel):
    username: Username
    password: StrongPassword


class UserRead(ReadModel):
    id: int
    username: str
    role: str


class ItemCreate(CreateModel):
    name: ShortText


class ItemRead(ReadModel):
    id: int
    name: str


db = Database(os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///./quickstart.db"), create_all=Base.metadata)
Session = Annotated[AsyncSession, db.per_request]  # commits before the response is sent
secret = os.environ.get("QUICKSTART_SECRET") or secrets.token_urlsafe(64)  # no default that anybody could know
tokens = TokenService(KeySet(Key.hmac(secret, setting="QUICKSTART_SECRET")), issuer="quickstart", audience="quickstart")
passwords, limiter = PasswordHasher(), Limiter()


async def load_user(claims: AccessClaims, session: Session) -> User | None:
    return await session.get(User, int(claims.subject))


async def find_login(username: str) -> Login | None:
    async with db.session(read_only=True) as session:  # its connection is free before the password is hashed
        user = await session.scalar(select(User).where(User.username == username))
        return Login(str(user.id), user.password_hash) if user else None


auth = Auth(tokens, load_user, roles=lambda user: [user.role], token_url="/auth/token")
CurrentUser = Annotated[User, Depends(auth.current_user)]
app = FastAPI(title="Quickstart", lifespan=db.lifespan)
errors.install(app)
app.include_router(health.health_router(database=db.ping))
app.include_router(login_router(tokens, passwords, find_login), dependencies=[Depends(limiter("10/minute"))])


@app.post("/users", status_code=201, response_model=UserRead, dependencies=[Depends(limiter("20/hour"))])
async def register(new: UserCreate, session: Session) -> User | None:
    values = {"username": new.username, "password_hash": await passwords.hash(new.password)}
    return await session.scalar(insert(User).values(values).returning(User))


@app.get("/users/me", response_model=UserRead)
async def read_me(user: CurrentUser) -> User:
    return user


@app.get("/users", dependencies=[Depends(auth.require_any_role("admin"))])
async def list_users(session: Session, page: SkipLimit) -> Page[UserRead]:
    return await paginate(session, select(User), page, UserRead)


@app.post("/items", status_code=201, response_model=ItemRead)
async def create_item(new: ItemCreate, user: CurrentUser, session: Session) -> Item | None:
    return await session.scalar(insert(Item).values(owner_id=user.id, name=new.name).returning(Item))


@app.get("/items")
async def list_items(user: CurrentUser, session: Session, page: SkipLimit) -> Page[ItemRead]:
    return await paginate(session, select(Item).where(Item.owner_id == user.id), page, ItemRead)


@app.get("/items/{item_id}", response_model=ItemRead)
@errors.raises(errors.NotFoundError)
async def read_item(item_id: Annotated[int, Path(ge=1, lt=2**31)], user: CurrentUser, session: Session) -> Item:
    item = await session.get(Item, item_id)
    if item is None or item.owner_id != user.id:
        raise errors.NotFoundError(f"You have no item {item_id}.")
    return item


@app.delete("/items/{item_id}", status_code=204)
async def delete_item(item: Annotated[Item, Depends(read_item)], session: Session) -> None:
    await session.delete(item)
