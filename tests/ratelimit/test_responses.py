"""The fields on each response of a limited route, whatever makes it."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.testclient import TestClient

from fastapi_kit import errors, ratelimit
from fastapi_kit._layers import on_response
from fastapi_kit.errors import ConfigurationError, NotFoundError
from fastapi_kit.ratelimit import Limiter

FIELDS = ["ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
FOR_EVER = JSONResponse({"one": "object"})


def service(install: Callable[[FastAPI], None] | None) -> FastAPI:
    app = FastAPI()
    if install is not None:
        install(app)
    limit = Depends(Limiter(legacy_headers=True)("100/minute", scope="all"))

    async def guard(x_user: Annotated[str | None, Header()] = None) -> None:
        if x_user is None:
            raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})

    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    def crash() -> None:
        raise RuntimeError

    def missing() -> None:
        raise NotFoundError

    def number(size: int) -> int:
        return size

    endpoints: dict[str, Callable[..., Any]] = {
        "value": lambda: 1,
        "own": lambda: JSONResponse({}, 207),
        "for-ever": lambda: FOR_EVER,
        "stream": lambda: StreamingResponse(chunks()),
        "text-error": lambda: Response("no", 418),
        "raised": missing,
        "invalid": number,
        "crash": crash,
        "guarded": lambda: 1,
    }
    for name, endpoint in endpoints.items():
        dependencies = [limit, Depends(guard)] if name == "guarded" else [limit]
        app.add_api_route(f"/{name}", endpoint, dependencies=dependencies)
    return app


STATUSES = {
    "value": 200,
    "own": 207,
    "for-ever": 200,
    "stream": 200,
    "text-error": 418,
    "raised": 404,
    "invalid": 422,
    "crash": 500,
    "guarded": 401,
}


def fields(response: Any) -> dict[str, list[str]]:
    return {name: response.headers.get_list(name) for name in FIELDS if name in response.headers}


@pytest.mark.parametrize("install", [errors.install, ratelimit.install])
def test_every_response_of_a_limited_route_has_the_fields_once(install: Callable[[FastAPI], None]) -> None:
    client = TestClient(service(install), raise_server_exceptions=False)
    for at, (name, status) in enumerate([*STATUSES.items(), ("for-ever", 200)]):
        response = client.get(f"/{name}")
        assert response.status_code == status
        found = fields(response)
        assert found.pop("x-ratelimit-reset")[0].isdigit()
        assert found == {
            "ratelimit": [f'"100-per-minute";r={99 - at};t=60'],
            "ratelimit-policy": ['"100-per-minute";q=100;w=60'],
            "x-ratelimit-limit": ["100"],
            "x-ratelimit-remaining": [str(99 - at)],
        }, name
    assert client.get("/stream").text == "ab"
    assert fields(client.get("/nowhere")) == {}


def test_without_an_installation_what_fastapi_builds_has_them_and_nothing_else() -> None:
    client = TestClient(service(None), raise_server_exceptions=False)
    assert [name for name in STATUSES if fields(client.get(f"/{name}"))] == ["value"]


def test_both_installations_and_mounted_apps_write_them_once() -> None:
    inner = service(errors.install)
    ratelimit.install(inner)
    app = FastAPI()
    ratelimit.install(app)
    errors.install(app)
    app.mount("/inner", inner)
    response = TestClient(app).get("/inner/own")
    assert response.headers.get_list("RateLimit") == ['"100-per-minute";r=99;t=60']


def test_two_limits_of_a_route_both_show_on_a_response_of_its_own() -> None:
    app, limiter = FastAPI(), Limiter(legacy_headers=True)
    ratelimit.install(app)

    @app.get("/", dependencies=[Depends(limiter("1/second")), Depends(limiter("9/hour"))])
    async def home() -> JSONResponse:
        return JSONResponse({}, headers={"X-RateLimit-Limit": "upstream"})

    response = TestClient(app).get("/")
    assert response.headers.get_list("RateLimit") == ['"1-per-second";r=0;t=1', '"9-per-hour";r=8;t=3600']
    assert response.headers.get_list("X-RateLimit-Limit") == ["1"]


def test_a_response_keeps_the_headers_that_it_had() -> None:
    before = list(FOR_EVER.raw_headers)
    client = TestClient(service(ratelimit.install))
    for _ in range(3):
        client.get("/for-ever")
    assert FOR_EVER.raw_headers == before


def test_an_installation_after_the_app_has_begun_to_serve_is_refused() -> None:
    app = FastAPI()
    TestClient(app).get("/")
    with pytest.raises(ConfigurationError, match="came after the app began to serve"):
        ratelimit.install(app)


def test_there_is_no_hook_on_a_scope_that_no_layer_has_seen() -> None:
    async def hook(status: int, headers: list[tuple[bytes, bytes]]) -> None: ...

    assert not on_response({"type": "http"}, hook)
