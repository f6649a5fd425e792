"""The endpoints as a careful team writes them by hand: each in one function, one session each, no block of the kit.

Tokens through `jose.jwt`, limits through `limits.aio`, the session by `async with maker()`. Engine, models and
pragmas are those of the kit's app, so that the difference is the blocks alone.
"""

from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Query, Request, Response
from jose import JWTError, jwt
from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import async_sessionmaker

from benchmarks.data import AUDIENCE, ISSUER, SECRET, Item, ItemCreate, ItemRead, User, UserRead
from fastapi_kit.db import Database


class ItemPage(BaseModel):
    items: list[ItemRead]
    total: int
    skip: int
    limit: int


def make_app(db: Database) -> FastAPI:
    app = FastAPI()
    maker = async_sessionmaker(db.engine, expire_on_commit=False)
    limiter, limit = FixedWindowRateLimiter(MemoryStorage()), parse("1000000/minute")

    @app.get("/plain")
    async def plain() -> dict[str, str]:
        return {"status": "ok"}

    def subject_of(authorization: str) -> int:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
        try:
            claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience=AUDIENCE, issuer=ISSUER)
        except JWTError:
            raise HTTPException(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}) from None
        return int(claims["sub"])

    @app.get("/me", response_model=UserRead)
    async def me(authorization: Annotated[str, Header()] = "") -> User:
        subject = subject_of(authorization)
        async with maker() as session:
            user = await session.get(User, subject)
        if user is None:
            raise HTTPException(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        return user

    @app.get("/admin", response_model=UserRead)
    async def admin(authorization: Annotated[str, Header()] = "") -> User:
        subject = subject_of(authorization)
        async with maker() as session:
            user = await session.get(User, subject)
        if user is None:
            raise HTTPException(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        if user.role != "admin":
            raise HTTPException(403)
        return user

    @app.get("/page")
    async def page(
        skip: Annotated[int, Query(ge=0, le=1_000_000)] = 0, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> ItemPage:
        statement = select(Item).where(Item.owner_id == 1)
        async with maker() as session:
            total = await session.scalar(select(func.count()).select_from(Item).where(Item.owner_id == 1))
            rows = await session.scalars(statement.order_by(Item.id).offset(skip).limit(limit))
            items = [ItemRead.model_validate(row) for row in rows]
        return ItemPage(items=items, total=total or 0, skip=skip, limit=limit)

    @app.post("/items", status_code=201)
    async def create(new: ItemCreate) -> ItemRead:
        async with maker() as session:
            item = Item(owner_id=1, name=new.name)
            session.add(item)
            await session.commit()
            return ItemRead.model_validate(item)

    @app.get("/limited")
    async def limited(request: Request, response: Response) -> dict[str, str]:
        client = request.client.host if request.client else ""
        allowed = await limiter.hit(limit, client, "limited")
        window = await limiter.get_window_stats(limit, client, "limited")
        if not allowed:
            raise HTTPException(429, headers={"Retry-After": str(int(window.reset_time))})
        response.headers["RateLimit"] = f'"default";r={window.remaining};t={int(window.reset_time)}'
        response.headers["RateLimit-Policy"] = f'"default";q={limit.amount};w={limit.get_expiry()}'
        return {"status": "ok"}

    @app.get("/stack")
    async def stack(
        request: Request,
        response: Response,
        authorization: Annotated[str, Header()] = "",
        skip: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> ItemPage:
        await limited(request, response)
        subject = subject_of(authorization)
        statement = select(Item).where(Item.owner_id == 1)
        async with maker() as session:
            user = await session.get(User, subject)
            if user is None:
                raise HTTPException(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
            if user.role != "admin":
                raise HTTPException(403)
            total = await session.scalar(select(func.count()).select_from(Item).where(Item.owner_id == 1))
            rows = await session.scalars(statement.order_by(Item.id).offset(skip).limit(limit))
            items = [ItemRead.model_validate(row) for row in rows]
        return ItemPage(items=items, total=total or 0, skip=skip, limit=limit)

    return app
