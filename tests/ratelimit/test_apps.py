"""Which routes share a count: no two by accident."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.testclient import TestClient

from fastapi_kit.ratelimit import Limiter


def endpoint(answer: str) -> Callable[[], str]:
    def handler() -> str:
        return answer

    return handler


def passes(client: TestClient, path: str, **options: Any) -> bool:
    """Whether a request passes and the next one does not."""
    return [client.get(path, **options).status_code for _ in range(2)] == [200, 429]


def test_two_apps_with_one_limiter_share_nothing_in_memory() -> None:
    limiter = Limiter()

    def make() -> FastAPI:
        app = FastAPI(dependencies=[Depends(limiter("1/hour"))])
        app.get("/items")(endpoint("one"))
        app.get("/token", dependencies=[Depends(limiter("1/hour", scope="login"))])(endpoint("one"))
        return app

    clients = [TestClient(make()) for _ in range(5)]
    for client in clients:
        assert passes(client, "/items")
        assert passes(client, "/token")


def test_apps_on_hosts_and_mounts_share_nothing() -> None:
    limiter = Limiter()
    outer, included, tenants = FastAPI(), APIRouter(), FastAPI()
    tenants.get("/items", dependencies=[Depends(limiter("1/hour"))])(endpoint("tenant"))
    for name in ("a", "b"):
        inner = FastAPI()
        inner.get("/items", dependencies=[Depends(limiter("1/hour"))])(endpoint(name))
        outer.host(f"{name}.example", inner)
        outer.mount(f"/{name}", inner)
        included.mount(f"/{name}", inner)
    outer.include_router(included, prefix="/v2")
    outer.mount("/of/{tenant}", tenants)
    client = TestClient(outer)
    for path in ("/a/items", "/b/items", "/v2/a/items", "/v2/b/items"):
        assert passes(client, path)
    for name in ("a", "b"):
        assert passes(client, "/items", headers={"Host": f"{name}.example"})
    assert passes(client, "/of/acme/items")
    assert client.get("/of/other/items").status_code == 429  # or each client would choose its own count


def test_the_values_of_a_mount_are_the_clients_and_its_fixed_parts_are_not() -> None:
    limiter, app, inner = Limiter(), FastAPI(), FastAPI()
    inner.get("/items/{id}", dependencies=[Depends(limiter("1/hour"))])(endpoint("item"))
    for mount in ("/eu/{id}", "/us/{id}"):
        app.mount(mount, inner)
    client = TestClient(app)
    for region in ("eu", "us"):
        assert passes(client, f"/{region}/a/items/1")
        assert [client.get(f"/{region}/{value}/items/2").status_code for value in "bcd"] == [429] * 3


def test_handlers_of_one_name_have_a_count_for_each_route() -> None:
    limiter = Limiter()
    app = FastAPI()
    for path in ("/a", "/b", "/c/{item_id}"):
        app.get(path, dependencies=[Depends(limiter("1/hour"))])(endpoint(path))
    client = TestClient(app)
    assert [passes(client, path) for path in ("/a", "/b", "/c/1")] == [True] * 3
    assert client.get("/c/2").status_code == 429


class Callback:
    """An endpoint that is an object, without a name of its own."""

    def __call__(self) -> str:
        return "called"


def test_an_endpoint_may_be_an_object() -> None:
    app = FastAPI()
    app.add_api_route("/", Callback(), dependencies=[Depends(Limiter()("1/hour"))])
    assert passes(TestClient(app), "/")


@pytest.mark.anyio
async def test_in_redis_other_endpoints_on_the_same_path_count_apart(redis_url: str, prefix: str) -> None:
    limiter = Limiter(redis_url, prefix=prefix, timeout_seconds=30)

    def other() -> str:
        return "other"

    for handler in (endpoint("one"), other):
        app = FastAPI()
        app.get("/items", dependencies=[Depends(limiter("1/hour"))])(handler)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            assert [(await client.get("/items")).status_code for _ in range(2)] == [200, 429]
    await limiter.aclose()
