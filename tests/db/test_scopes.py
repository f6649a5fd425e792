from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_kit.db import Database
from fastapi_kit.errors import ConfigurationError

pytestmark = pytest.mark.anyio
REMEDY = r"Annotated\[AsyncSession, db.per_request\]"


def bare(database: Database) -> Callable[..., Any]:
    assert database.per_request.dependency is not None
    return database.per_request.dependency


async def start(app: FastAPI, database: Database) -> None:
    async with database.lifespan(app):
        pass


async def test_the_right_annotation_starts_also_below_other_dependencies() -> None:
    database, app = Database("sqlite+aiosqlite://"), FastAPI()

    async def user(session: Annotated[AsyncSession, database.per_request]) -> int:
        return 1

    @app.get("/")
    async def me(user: Annotated[int, Depends(user, scope="function")]) -> int:
        return user

    await start(app, database)


async def test_request_scope_is_refused_through_routers_and_nesting() -> None:
    database, app, router = Database("sqlite+aiosqlite://"), FastAPI(), APIRouter()

    async def user(session: Annotated[AsyncSession, Depends(bare(database))]) -> int:
        return 1

    @router.post("/me")
    async def me(user: Annotated[int, Depends(user)]) -> int:
        return user

    app.include_router(router, prefix="/v1")
    with pytest.raises(ConfigurationError, match=f"^POST /v1/me takes .* request scope.*{REMEDY}"):
        await start(app, database)


async def test_depending_on_session_is_refused() -> None:
    database, app = Database("sqlite+aiosqlite://"), FastAPI()

    @app.websocket("/talk")
    async def talk(socket: WebSocket, session: Annotated[Any, Depends(database.session)]) -> None: ...

    with pytest.raises(ConfigurationError, match=f"^WEBSOCKET /talk depends on `db.session`.*{REMEDY}"):
        await start(app, database)


async def test_another_database_is_another_matter() -> None:
    database, other, app = Database("sqlite+aiosqlite://"), Database("sqlite+aiosqlite://"), FastAPI()

    @app.get("/")
    async def read(session: Annotated[AsyncSession, Depends(bare(other))]) -> None: ...

    await start(app, database)
    with pytest.raises(ConfigurationError, match="GET / takes"):
        await start(app, other)


async def test_routes_of_mounted_apps_are_checked_too() -> None:
    database, app, admin, inner = Database("sqlite+aiosqlite://"), FastAPI(), FastAPI(), FastAPI()

    @inner.get("/users")
    async def users(session: Annotated[AsyncSession, Depends(bare(database))]) -> None: ...

    admin.mount("/inner", inner)
    app.mount("/admin", admin)
    with pytest.raises(ConfigurationError, match=f"^GET /admin/inner/users takes .* request scope.*{REMEDY}"):
        await start(app, database)
