"""The same endpoints made of the kit's blocks."""

from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.data import Item, ItemCreate, ItemRead, User, UserRead, make_tokens
from fastapi_kit import errors
from fastapi_kit.auth import AccessClaims, Auth
from fastapi_kit.db import Database
from fastapi_kit.pagination import Page, SkipLimit, paginate
from fastapi_kit.ratelimit import Limiter


def make_app(db: Database) -> FastAPI:
    app = FastAPI()
    errors.install(app)
    limiter = Limiter()
    session_dependency = Annotated[AsyncSession, db.per_request]

    async def load_user(claims: AccessClaims, session: session_dependency) -> User | None:
        return await session.get(User, int(claims.subject))

    auth = Auth(make_tokens(), load_user, roles=lambda user: [user.role])

    @app.get("/plain")
    async def plain() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/me", response_model=UserRead)
    async def me(user: Annotated[User, Depends(auth.current_user)]) -> User:
        return user

    @app.get("/admin", response_model=UserRead)
    async def admin(user: Annotated[User, Depends(auth.require_any_role("admin"))]) -> User:
        return user

    @app.get("/page")
    async def page(session: Annotated[AsyncSession, db.per_request], page: SkipLimit) -> Page[ItemRead]:
        return await paginate(session, select(Item).where(Item.owner_id == 1), page, ItemRead)

    @app.post("/items", status_code=201)
    async def create(new: ItemCreate, session: Annotated[AsyncSession, db.per_request]) -> ItemRead:
        item = Item(owner_id=1, name=new.name)
        session.add(item)
        await session.flush()
        return ItemRead.model_validate(item)

    @app.get("/limited", dependencies=[Depends(limiter("1000000/minute"))])
    async def limited() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/stack",
        dependencies=[Depends(limiter("1000000/minute")), Depends(auth.require_any_role("admin"))],
    )
    async def stack(session: Annotated[AsyncSession, db.per_request], page: SkipLimit) -> Page[ItemRead]:
        return await paginate(session, select(Item).where(Item.owner_id == 1), page, ItemRead)

    return app
