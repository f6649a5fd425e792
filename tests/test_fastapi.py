"""The adapter to what FastAPI does not publish, for the releases that are installed."""

from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from starlette.requests import HTTPConnection
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient

from fastapi_kit._fastapi import route_template, routes_of


async def template(connection: HTTPConnection) -> str:
    return route_template(connection.scope)


Template = Annotated[str, Depends(template)]

items = APIRouter()


@items.get("/items/{item_id}")
async def read(item_id: int, found: Template) -> str:
    return found


def make_app() -> FastAPI:
    app, nested, mounted = FastAPI(), APIRouter(prefix="/orgs/{org}"), FastAPI()
    nested.include_router(items)
    app.include_router(items)
    app.include_router(items, prefix="/v1")
    app.include_router(nested, prefix="/v2")

    @app.websocket("/ws/{room}")
    async def ws(websocket: WebSocket, room: str, found: Template) -> None:
        await websocket.accept()
        await websocket.send_text(found)
        await websocket.close()

    mounted.include_router(items, prefix="/sub")
    app.mount("/mount", mounted)
    return app


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/items/1", "/items/{item_id}"),
        ("/v1/items/1", "/v1/items/{item_id}"),
        ("/v2/orgs/9/items/1", "/v2/orgs/{org}/items/{item_id}"),
        ("/mount/sub/items/1", "/mount/sub/items/{item_id}"),
    ],
)
def test_the_template_has_every_prefix(path: str, expected: str) -> None:
    assert TestClient(make_app()).get(path).json() == expected


def test_a_root_path_of_a_proxy_is_not_part_of_it() -> None:
    assert TestClient(make_app(), root_path="/proxy").get("/v1/items/1").json() == "/v1/items/{item_id}"


def test_websockets_have_a_template_too() -> None:
    with TestClient(make_app()).websocket_connect("/ws/blue") as socket:
        assert socket.receive_text() == "/ws/{room}"


def test_without_a_route_it_is_the_path() -> None:
    assert route_template({"type": "http", "path": "/nowhere"}) == "/nowhere"


def test_routes_are_listed_through_included_routers_with_all_they_depend_on() -> None:
    routes = {route.path: route for route in routes_of(make_app())}
    assert set(routes) == {
        "/items/{item_id}",
        "/v1/items/{item_id}",
        "/v2/orgs/{org}/items/{item_id}",
        "/ws/{room}",
    }
    nested = routes["/v2/orgs/{org}/items/{item_id}"]
    assert nested.methods == {"GET"}
    assert [dependency.call for dependency in nested.dependencies] == [read, template]


def test_routes_of_mounted_apps_are_listed_with_their_prefix_where_asked_for() -> None:
    app, router, deep = FastAPI(), APIRouter(), FastAPI()
    deep.include_router(items, prefix="/deep")
    router.mount("/inner", make_app())
    app.include_router(router, prefix="/v1")
    app.host("items.example", deep)
    app.mount("/static", StaticFiles(directory="/"))
    assert list(routes_of(app)) == []
    assert [route.path for route in routes_of(app, mounted=True)] == [
        "/v1/inner/items/{item_id}",
        "/v1/inner/v1/items/{item_id}",
        "/v1/inner/v2/orgs/{org}/items/{item_id}",
        "/v1/inner/ws/{room}",
        "/v1/inner/mount/sub/items/{item_id}",
        "/deep/items/{item_id}",
    ]
