"""What type checkers make of the auth block in an app's own code; checked and never run."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, assert_type

from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase

from fastapi_kit.auth import (
    AccessClaims,
    ApiKeys,
    Auth,
    IssuedToken,
    Key,
    KeySet,
    Login,
    NewApiKey,
    PasswordCheck,
    PasswordHasher,
    Principal,
    Sessions,
    TokenCookies,
    TokenPair,
    TokenService,
    cookie_login_router,
    login_router,
)
from fastapi_kit.auth.api_keys.sqlalchemy import ApiKeyMixin, SQLAlchemyApiKeyStore
from fastapi_kit.auth.issuers import Issuers, OutsideIssuer
from fastapi_kit.auth.sessions.redis import RedisSessionStore
from fastapi_kit.auth.sessions.sqlalchemy import RevocationMixin, SessionMixin, SQLAlchemySessionStore
from fastapi_kit.db import Database


@dataclass
class User:
    id: int
    role: str


db = Database("sqlite+aiosqlite://")
Session = Annotated[AsyncSession, db.per_request]
tokens = TokenService(KeySet(Key.hmac("x" * 32)), issuer="https://shop.example", audience="shop")
passwords = PasswordHasher()


async def load_user(claims: AccessClaims, session: Session) -> User | None:
    assert_type(session, AsyncSession)
    return User(int(claims.subject), "admin")


def load_user_sync(claims: AccessClaims) -> User | None:
    return None


async def load_someone(claims: AccessClaims) -> User:
    return User(int(claims.subject), "admin")


async def load_by_name(name: str) -> User | None:
    return None


auth = Auth(tokens, load_user, roles=lambda user: [user.role], is_active=lambda user: user.id > 0)
assert_type(auth, Auth[User])
assert_type(Auth(tokens, load_user_sync), Auth[User])
assert_type(Auth(tokens, load_someone), Auth[User])
Auth(tokens, load_by_name)  # type: ignore[arg-type]
Auth(Key.hmac("x" * 32), load_user)  # type: ignore[call-overload]


class Base(DeclarativeBase): ...


class LoginSession(SessionMixin, Base):
    __tablename__ = "login_sessions"


class Revocation(RevocationMixin, Base):
    __tablename__ = "revocations"


class ApiKey(ApiKeyMixin, Base):
    __tablename__ = "api_keys"


store = SQLAlchemySessionStore(db.session, LoginSession, Revocation)
sessions = Sessions(tokens, store)
cookies = TokenCookies(sessions)
api_keys = ApiKeys(SQLAlchemyApiKeyStore(db.session, ApiKey), "x" * 32, prefix="shop")
issuers = Issuers(sessions, OutsideIssuer("https://id.example", audience="shop", subject_prefix="id|"))
assert_type(Auth([issuers, cookies, api_keys], load_user), Auth[User])
assert_type(Auth(Sessions(tokens, RedisSessionStore("redis://localhost")), load_user), Auth[User])

CurrentUser = Annotated[User, Depends(auth.current_user)]
OptionalUser = Annotated[User | None, Depends(auth.optional_user)]
Caller = Annotated[Principal[User], Depends(auth.principal)]
app = FastAPI()


@app.get("/users/me")
async def me(user: CurrentUser, maybe: OptionalUser, caller: Caller) -> int:
    assert_type(user, User)
    assert_type(maybe, User | None)
    assert_type(caller.user, User)
    assert_type(caller.roles, frozenset[str])
    return user.id


async def owner_of(item_id: int) -> str:
    return str(item_id)


assert_type(auth.current_user, Callable[..., Awaitable[User]])
assert_type(auth.optional_user, Callable[..., Awaitable[User | None]])
assert_type(auth.require_any_role("admin"), Callable[..., Awaitable[User]])
assert_type(auth.require_all_roles("admin"), Callable[..., Awaitable[User]])
assert_type(auth.require_any_permission("write"), Callable[..., Awaitable[User]])
assert_type(auth.require_any_scope("read"), Callable[..., Awaitable[User]])
assert_type(auth.require_all_scopes("read"), Callable[..., Awaitable[User]])
assert_type(auth.require_owner(owner_of), Callable[..., Awaitable[User]])

assert_type(tokens.issue("1", scopes=["read"]), IssuedToken)
assert_type(tokens.verify("token"), AccessClaims)
assert_type(tokens.verify("token").scopes, frozenset[str])
assert_type(tokens.verify("token").members["plan"], Any)


async def find_login(username: str, session: Session) -> Login | None:
    return Login("1", "hash")


app.include_router(login_router(tokens, passwords, find_login))
app.include_router(login_router(sessions, passwords, find_login, auth=auth))
app.include_router(cookie_login_router(sessions, cookies, passwords, find_login, auth=auth))


async def check() -> None:
    assert_type(await passwords.hash("a password"), str)
    assert_type(await passwords.verify("a password", None), PasswordCheck)
    assert_type(await sessions.start("1"), TokenPair)
    assert_type(await sessions.refresh("token", scopes=["read"]), TokenPair)
    assert_type(await sessions.verify("token"), AccessClaims)
    assert_type(await api_keys.create("1"), NewApiKey)
