"""The adapter to what FastAPI does not publish, for the releases that are installed."""

from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, WebSocket
from fastapi.security import APIKeyHeader, APIKeyQuery
from pydantic import AliasChoices, AliasPath, BaseModel, Field
from starlette.requests import HTTPConnection
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from fastapi_kit._fastapi import query_names, route_template, routes_of


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


def make_mounts() -> FastAPI:
    app, included = FastAPI(), APIRouter()
    included.mount("/mount", make_app())
    app.include_router(included, prefix="/v3")
    app.mount("/of/{tenant}", make_app())
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
    assert TestClient(make_mounts()).get(f"/v3/mount{path}").json() == f"/v3/mount{expected}"


@pytest.mark.parametrize("value", ["acme", "7", "007"])
@pytest.mark.parametrize(
    ("mounts", "path"),
    [
        (["/of/{tenant}"], "/of/{}"),
        (["/{item_id}"], "/{}"),  # a name that the route has, too
        (["/eu/{t}"], "/eu/{}"),
        (["/a/{b}", "/{b}"], "/a/{}/{}"),
        (["/{b}", "/v"], "/{}/v"),
        (["", "/{b}"], "/{}"),
    ],
)
def test_of_a_mount_with_parameters_the_names_are_left(mounts: list[str], path: str, value: str) -> None:
    app = make_app()
    for mount in reversed(mounts):
        outer = FastAPI()
        outer.mount("/static", StaticFiles(directory="/"))
        outer.mount(mount, app)
        app = outer
    app.host("other.example", make_app())
    answer = TestClient(app).get(path.replace("{}", value) + "/v1/items/1")
    assert answer.json() == f"{''.join(mounts)}/v1/items/{{item_id}}"


def test_mounts_on_a_host_have_a_template() -> None:
    app, on_host = FastAPI(), FastAPI()
    on_host.mount("/{tenant}", make_app())
    app.host("other.example", make_app())
    app.host("items.example", on_host)
    client = TestClient(app, base_url="http://items.example")
    assert client.get("/acme/items/1").json() == "/{tenant}/items/{item_id}"


class Foreign:
    """A router that is not Starlette's: what follows the tenant is the app's."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        root = scope.get("root_path", "")
        tenant = scope["path"].removeprefix(root).split("/")[1]
        inner = {"root_path": f"{root}/{tenant}", "app_root_path": "", "path_params": {"tenant": tenant}}
        await self.app({**scope, **inner}, receive, send)


def test_below_what_is_not_starlettes_values_are_left_out_too() -> None:
    client = TestClient(Foreign(make_app()))
    assert client.get("/acme/items/1").json() == "/*/items/{item_id}"
    app = FastAPI()
    app.mount("/of", Foreign(make_app()))
    assert TestClient(app).get("/of/acme/items/1").json() == "/*/items/{item_id}"


def test_a_root_path_of_a_proxy_is_not_part_of_it() -> None:
    assert TestClient(make_app(), root_path="/proxy").get("/v1/items/1").json() == "/v1/items/{item_id}"


@pytest.mark.parametrize("prefix", ["", "/v3/mount"])
def test_websockets_have_a_template_too(prefix: str) -> None:
    with TestClient(make_mounts() if prefix else make_app()).websocket_connect(f"{prefix}/ws/blue") as socket:
        assert socket.receive_text() == f"{prefix}/ws/{{room}}"


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


class Wanted(BaseModel):
    plain: int = 0
    renamed: int = Field(0, alias="new-name")
    chosen: int = Field(0, validation_alias=AliasChoices("first", AliasPath("second", "deep")))


class ByName(BaseModel, populate_by_name=True):
    either: int = Field(0, alias="or-this")


async def deepest(deep: int = 0) -> None: ...


async def nested(
    found: Annotated[None, Depends(deepest)],
    one: Annotated[int, Query(alias="filter[one]")] = 0,
    header: Annotated[str | None, Depends(APIKeyHeader(name="X-Key", auto_error=False))] = None,
    key: Annotated[str | None, Depends(APIKeyQuery(name="api-key", auto_error=False))] = None,
) -> None: ...


async def names(connection: HTTPConnection) -> list[str]:
    return sorted(query_names(connection.scope))


Names = Annotated[list[str], Depends(names)]

queries = APIRouter()


@queries.get("/mine/{number}", dependencies=[Depends(nested)])
async def mine(
    number: int, found: Names, own: int = 0, several: Annotated[list[str] | None, Query()] = None
) -> list[str]:
    return found


@queries.get("/models")
async def models(found: Names, wanted: Annotated[Wanted, Query()]) -> list[str]:
    return found


@queries.get("/by-name")
async def by_name(found: Names, wanted: Annotated[ByName | None, Query()] = None) -> list[str]:
    return found


@queries.get("/none")
async def none(found: Names) -> list[str]:
    return found


async def direct(found: Names, own: int = 0) -> list[str]:
    return found


@queries.websocket("/socket")
async def socket(websocket: WebSocket, found: Names, own: int = 0) -> None:
    await websocket.accept()
    await websocket.send_json(found)
    await websocket.close()


async def of_router(router: int = 0) -> None: ...


def make_app_with_queries() -> FastAPI:
    app, router, outer, mounted = FastAPI(), APIRouter(), APIRouter(), FastAPI()
    app.include_router(queries)
    router.include_router(queries, prefix="/{inner}", dependencies=[Depends(of_router)])
    outer.include_router(router, prefix="/outer")
    mounted.add_api_route("/direct", direct)
    mounted.include_router(queries)
    outer.mount("/mount", mounted)
    app.include_router(outer)
    return app


MINE = ["api-key", "deep", "filter[one]", "own", "several"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/mine/1", MINE),
        ("/outer/x/mine/1", [*MINE[:-1], "router", "several"]),
        ("/mount/mine/1", MINE),
        ("/mount/direct", ["own"]),
        ("/models", ["first", "new-name", "plain", "second"]),
        ("/by-name", ["either", "or-this"]),
        ("/none", []),
        ("/outer/x/none", ["router"]),
    ],
)
def test_the_query_parameters_of_a_route_are_known_with_those_of_all_it_depends_on(
    path: str, expected: list[str]
) -> None:
    client = TestClient(make_app_with_queries())
    assert client.get(path).json() == expected
    assert client.get(path).json() == expected


def test_the_query_parameters_of_a_websocket_are_known() -> None:
    client = TestClient(make_app_with_queries())
    for path, expected in [("/socket", ["own"]), ("/outer/x/socket", ["own", "router"])]:
        with client.websocket_connect(path) as connected:
            assert connected.receive_json() == expected


def test_without_a_route_no_query_parameter_is_known() -> None:
    assert query_names({"type": "http", "path": "/nowhere"}) == frozenset()
