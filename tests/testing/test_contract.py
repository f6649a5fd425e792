"""`Contract` over small apps: what it lets pass, and what it raises about."""

import gzip
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from fastapi_kit import errors, testing
from fastapi_kit.testing import Contract, ContractError


class GoneError(errors.Problem):
    code = "contract_gone"
    status = 404


class LostError(errors.Problem):
    code = "contract_lost"
    status = 404


class BadNameError(errors.Problem):
    code = "contract_bad_name"
    status = 400


class Thing(BaseModel):
    name: Annotated[str, Field(max_length=9)]
    parts: "list[Thing]" = []


def kit_app(**settings: Any) -> FastAPI:
    app = FastAPI(**settings)
    errors.install(app)
    return app


def client_of(app: FastAPI) -> TestClient:
    return TestClient(Contract(app), follow_redirects=False)


def complaint(app: FastAPI, method: str = "GET", path: str = "/", **request: Any) -> str:
    """Return what the one error says that this request raises."""
    contract = Contract(app)
    with pytest.raises(ContractError) as raised:
        TestClient(contract, follow_redirects=False).request(method, path, **request)
    assert contract.errors == [raised.value]
    return str(raised.value)


def answering(make: Callable[[], Any], app: FastAPI | None = None, **route: Any) -> FastAPI:
    app = app or kit_app()

    @app.get("/", **route)
    def answer() -> Any:
        return make()

    return app


def raising(exc: Exception, *declared: type[errors.Problem], app: FastAPI | None = None, **route: Any) -> FastAPI:
    app = app or kit_app()

    @app.get("/", **route)
    @errors.raises(*declared)
    def fail() -> None:
        raise exc

    return app


# What passes


def test_what_is_documented_passes_and_is_counted() -> None:
    app = kit_app()

    @app.get("/things/{name}", response_model=Thing)
    @errors.raises(GoneError)
    def read(name: str) -> Any:
        if name == "gone":
            raise GoneError("It is gone.")
        return {"name": name, "parts": [{"name": "wheel"}]}

    @app.delete("/things/{name}", status_code=204)
    def delete(name: str) -> None: ...

    contract = Contract(app)
    client = TestClient(contract)
    assert client.get("/things/cart").json()["name"] == "cart"
    assert client.get("/things/gone").json()["code"] == "contract_gone"
    assert client.delete("/things/cart").status_code == 204
    template = "/things/{name}"
    assert contract.checked == {("GET", template, 200), ("GET", template, 404), ("DELETE", template, 204)}
    assert contract.errors == []


def test_the_general_errors_need_no_declaration() -> None:
    app = kit_app(max_body_size=500)

    @app.post("/")
    def crash(thing: Thing) -> None:
        raise RuntimeError(thing)

    contract = Contract(app)
    client = TestClient(contract)
    assert client.post("/", json={"name": "x"}).status_code == 500
    assert client.post("/", json={"name": "x" * 10}).status_code == 422
    assert client.post("/", content=b"[" * 10_000).status_code == 413
    assert client.post("/nowhere").status_code == 404
    assert client.put("/").status_code == 405
    assert client.head("/").status_code == 405
    assert raising_client(errors.BadRequestError()).get("/").status_code == 400


def raising_client(exc: Exception, *declared: type[errors.Problem]) -> TestClient:
    return client_of(raising(exc, *declared))


def test_a_general_error_passes_where_its_status_has_a_code_of_its_own() -> None:
    assert raising_client(errors.BadRequestError(), BadNameError).get("/").status_code == 400


def test_a_status_is_documented_by_its_class_too() -> None:
    app = raising(HTTPException(418), responses={"4XX": {"description": "Refused"}})
    assert "lists none" in complaint(app)
    content: dict[str, Any] = {"application/problem+json": {}}
    app = raising(HTTPException(418), responses={"4XX": {"description": "Refused", "content": content}})
    assert client_of(app).get("/").status_code == 418


def test_any_code_passes_where_the_schema_names_none() -> None:
    class Refusal(BaseModel):
        code: str

    class Other(BaseModel):
        code: Literal["other"]

    for model in (Refusal, Refusal | Other):
        response: dict[str, Any] = {"model": model, "content": {"application/problem+json": {}}}
        schema = FastAPI.openapi(answering(dict, responses={404: response}))["paths"]["/"]["get"]["responses"]["404"]
        listed = {"application/problem+json": schema["content"]["application/json"]}
        app = raising(GoneError(), responses={404: {"model": model, "content": listed}})
        assert client_of(app).get("/").status_code == 404


@pytest.mark.parametrize("media_type", ["text/*", "*/*", "text/csv; charset=utf-8"])
def test_a_range_of_media_types_and_parameters_match(media_type: str) -> None:
    app = answering(
        lambda: Response("a,b", media_type="text/csv"),
        response_class=Response,
        responses={200: {"content": {media_type: {}}}},
    )
    assert client_of(app).get("/").text == "a,b"


def test_streams_pages_and_heads_pass() -> None:
    app = kit_app()

    async def chunks() -> AsyncIterator[str]:
        yield "data: 1\n\n"
        yield "data: 2\n\n"

    @app.get("/events", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
    async def events() -> StreamingResponse:
        return StreamingResponse(chunks(), media_type="text/event-stream")

    @app.get("/page", response_class=HTMLResponse)
    async def page() -> str:
        return "<p>"

    @app.head("/page", response_class=HTMLResponse)
    async def head_of_page() -> str:
        return "<p>"

    @app.head("/thing")
    async def head() -> Response:
        return Response()

    client = client_of(app)
    assert client.get("/events").text.count("data") == 2
    assert client.get("/page").text == "<p>"
    assert client.head("/page").status_code == client.head("/thing").status_code == 200


def test_what_is_compressed_is_not_read() -> None:
    packed = gzip.compress(b"{}")
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    app = answering(lambda: Response(packed, headers=headers), response_model=Thing)
    assert client_of(app).get("/").content == b"{}"


@pytest.mark.anyio
async def test_a_response_that_breaks_off_is_not_read() -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.debug", "info": {}})
        await send({"type": "http.response.body", "body": b'{"na', "more_body": True})

    class Half(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await half(scope, receive, send)

    app = answering(Half, response_model=Thing)
    sent: list[str] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "http_version": "1.1"}
    contract = Contract(app)
    await contract(scope, receive, send)
    assert (sent[-1], contract.checked) == ("http.response.body", {("GET", "/", 200)})


def test_what_is_not_in_the_document_is_left_alone() -> None:
    app = kit_app()
    mounted = FastAPI()

    @mounted.get("/")
    @app.get("/hidden", include_in_schema=False)
    def teapot() -> Response:
        return PlainTextResponse("short and stout", 418)

    @app.get("/gone", include_in_schema=False)
    def gone() -> Response:
        return Response(status_code=404, media_type="text/html")

    @app.get("/mounted/")  # behind the mount, in the document
    def behind() -> None: ...

    app.router.routes.insert(0, app.router.routes.pop())
    app.mount("/mounted", mounted)
    app.router.routes.insert(0, app.router.routes.pop())
    client = client_of(app)
    assert client.get("/hidden").status_code == client.get("/mounted/").status_code == 418
    assert client.get("/mounted/nowhere").status_code == 404
    assert client.get("/docs").status_code == client.get("/openapi.json").status_code == 200
    assert client.get("/hidden/").status_code == 307
    assert client.get("/gone").status_code == 404


def test_what_a_middleware_answers_is_left_alone() -> None:
    app = answering(lambda: 1)

    @app.middleware("http")
    async def closed(request: Request, call_next: Any) -> Response:
        return PlainTextResponse("Closed", 503)

    assert client_of(app).get("/").status_code == 503


def test_websockets_and_the_lifespan_pass_through() -> None:
    app = kit_app()

    @app.websocket("/ws")
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    with TestClient(Contract(app)) as client, client.websocket_connect("/ws") as socket:
        assert socket.receive_text() == "hello"


def test_an_exception_that_leaves_the_app_comes_as_it_is() -> None:
    contract = Contract(answering(lambda: 1 / 0, FastAPI()))
    with pytest.raises(ZeroDivisionError):
        TestClient(contract).get("/")
    assert TestClient(contract, raise_server_exceptions=False).get("/").status_code == 500
    assert contract.errors == []


def test_an_app_without_the_kit_is_compared_with_what_fastapi_documents() -> None:
    app = FastAPI(max_body_size=100_000)

    @app.post("/things", response_model=Thing)
    def make(thing: Thing) -> Any:
        if thing.name in {"no", "what"}:
            raise HTTPException(409 if thing.name == "no" else 400)
        return {"name": thing.name * 5}

    client = client_of(app)
    assert client.post("/things", json={"name": 1}).status_code == 422
    assert client.post("/things", json={"name": "x" * 100_000}).status_code == 413
    assert (client.get("/nowhere").status_code, client.get("/things").status_code) == (404, 405)
    assert client.post("/things", json={"name": "x"}).json()["name"] == "xxxxx"
    assert complaint(app, "POST", "/things", json={"name": "no"}) == (
        "POST /things answered 409 there, the document lists 200, 422. "
        'Set status_code=409 on the route, or add responses={409: {"description": "..."}}.'
    )
    assert "POST /things answered 400" in complaint(app, "POST", "/things", json={"name": "what"})


def test_a_route_that_is_added_later_is_known() -> None:
    app = kit_app()
    client = client_of(app)
    assert client.get("/").status_code == 404
    answering(lambda: {"name": "x"}, app, response_model=Thing)
    assert client.get("/").status_code == 200


# What does not


def test_an_error_that_is_not_documented_is_told_with_the_cure() -> None:
    app = kit_app()
    router = APIRouter(prefix="/v1")

    async def find(thing_id: int) -> None:
        raise GoneError("It is gone.")

    @router.get("/things/{thing_id}", dependencies=[Depends(find)])
    async def read() -> None: ...

    app.include_router(router)
    assert complaint(app, path="/v1/things/7") == (
        "GET /v1/things/{thing_id} answered 404 with the code 'contract_gone', the document lists 200, 422, default. "
        "Put @errors.raises(GoneError) on the endpoint, or on the dependency that raises it."
    )


def test_another_code_of_a_documented_status_is_told() -> None:
    said = complaint(raising(LostError(), GoneError, errors.NotFoundError))
    assert "with the code 'contract_lost', the document lists contract_gone, not_found for 404" in said
    assert "@errors.raises(LostError)" in said
    assert "@errors.raises(a Problem of your own)" in complaint(raising(HTTPException(418, "x")))


def test_default_allows_no_status_that_is_not_general() -> None:
    for status in (401, 403, 404, 409, 429, 503):
        assert f"answered {status} with the code" in complaint(raising(HTTPException(status)))


def test_two_problems_of_one_class_name_are_documented_apart() -> None:
    class NotFoundError(errors.Problem):
        code = "contract_other_not_found"
        status = 404

    class Thing(errors.Problem):
        code = "contract_thing"
        status = 404

    app = raising(NotFoundError(), errors.NotFoundError, NotFoundError, Thing)

    @app.post("/", response_model=globals()["Thing"])
    def make() -> Any:
        return {"name": "x"}

    client = client_of(app)
    assert client.get("/").json()["code"] == "contract_other_not_found"
    assert client.post("/").status_code == 200


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"name": "0123456789"}, "$.name: '0123456789' is too long"),
        ({"name": "x", "parts": [{"name": 1}]}, "$.parts[0].name: 1 is not of type 'string'"),
        ({}, "$: 'name' is a required property"),
    ],
)
def test_a_body_that_does_not_fit_is_told(made: Any, said: str) -> None:
    app = answering(lambda: JSONResponse(made), response_model=Thing)
    assert f"answered 200 with a body that does not fit its schema: {said}" in complaint(app)


@pytest.mark.parametrize("text", [b"{", b'{"name": NaN}', b'{"name": "\xff"}'])
def test_a_body_that_is_no_json_is_told(text: bytes) -> None:
    app = answering(lambda: Response(text, media_type="application/json"))
    assert "is not the application/json it says it is" in complaint(app)


def test_an_empty_body_is_told_where_one_is_documented() -> None:
    app = answering(lambda: Response(media_type="application/json"), response_model=Thing)
    assert "without a body, the document has one" in complaint(app)


def test_a_body_is_told_where_none_is_documented() -> None:
    async def one() -> AsyncIterator[str]:
        yield "1"

    app = answering(lambda: StreamingResponse(one()), response_class=StreamingResponse)
    assert 'Send none, or add responses={200: {"content": {"text/plain": {}}}}' in complaint(app)
    app = answering(lambda: PlainTextResponse("Go"), status_code=303, response_class=RedirectResponse)
    assert "answered 200 there, the document lists 303, default" in complaint(app)


def test_another_media_type_is_told() -> None:
    app = answering(lambda: PlainTextResponse("1"))
    assert "answered 200 with text/plain, the document lists application/json. Set response_class" in complaint(app)
    app = answering(lambda: Response(b"1"))
    assert "with no media type, the document lists application/json" in complaint(app)


def test_a_problem_with_another_status_in_its_body_is_told() -> None:
    app = raising(GoneError(), GoneError)
    mime = "application/problem+json"

    @app.exception_handler(GoneError)
    async def handle(request: Request, exc: GoneError) -> Response:
        body = {"type": "about:blank", "title": "Gone", "status": 410, "code": "contract_gone"}
        return JSONResponse(body, 404, media_type=mime)

    assert "with another status in the body" in complaint(app)


def test_a_404_of_no_route_that_is_no_problem_is_told() -> None:
    app = kit_app()
    answering(lambda: 1, app)

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def handle(request: Request, exc: Exception) -> Response:
        return JSONResponse({"detail": "Not here"}, 405 if request.method == "PUT" else 404)

    assert "GET /nowhere answered 404 with application/json and not with a problem" in complaint(app, path="/nowhere")
    assert "PUT / answered 405 with application/json" in complaint(app, "PUT")
    assert client_of(app).head("/nowhere").status_code == 404


def test_the_errors_are_kept_where_the_client_swallows_them() -> None:
    contract = Contract(raising(GoneError()))
    TestClient(contract, raise_server_exceptions=False).get("/")
    assert ["contract_gone" in str(error) for error in contract.errors] == [True]


@pytest.mark.anyio
async def test_httpx2_raises_it_too() -> None:
    transport = httpx2.ASGITransport(Contract(raising(GoneError())))
    async with httpx2.AsyncClient(transport=transport, base_url="https://test") as client:
        with pytest.raises(ContractError, match="contract_gone"):
            await client.get("/")


def test_testing_has_no_other_names() -> None:
    assert testing.ContractError is ContractError
    with pytest.raises(AttributeError, match="no attribute 'Clock2'"):
        _ = testing.Clock2


def test_a_405_names_every_method_of_the_path() -> None:
    app = kit_app()
    router = APIRouter(prefix="/things")

    @router.get("/{name}")
    @router.delete("/{name}", operation_id="delete")
    def read(name: str) -> None: ...

    @app.put("/things/{name:path}")
    def replace(name: str) -> None: ...

    @app.api_route("/own", methods=["GET", "POST"], include_in_schema=False)
    def own(request: Request) -> None:
        raise HTTPException(405, headers={"Allow": "GET"})

    app.include_router(router)
    inner = kit_app()
    inner.include_router(router)
    app.mount("/inner", inner)
    client = TestClient(app)
    assert client.options("/things/cart").headers["allow"] == "DELETE, GET, PUT"
    assert client.options("/things/a/b").headers["allow"] == "PUT"
    assert client.put("/inner/things/cart").headers["allow"] == "DELETE, GET"
    assert client.post("/own").headers["allow"] == "GET"
    assert client.post("/docs").headers["allow"] == "GET, HEAD"
    behind = TestClient(app, root_path="/proxy")
    assert behind.options("/proxy/things/cart").headers["allow"] == "DELETE, GET, PUT"


def test_an_unreadable_body_is_documented_beside_the_400_of_the_route() -> None:
    app = kit_app()

    @app.post("/")
    @errors.raises(BadNameError)
    def make(thing: Thing) -> None:
        raise BadNameError

    @app.get("/")
    @errors.raises(BadNameError)
    def read() -> None: ...

    operations = app.openapi()["paths"]["/"]
    schema = operations["post"]["responses"]["400"]["content"]["application/problem+json"]["schema"]
    assert [each["$ref"].rpartition("/")[2] for each in schema["anyOf"]] == ["BadNameError", "BadRequestError"]
    schema = operations["get"]["responses"]["400"]["content"]["application/problem+json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/BadNameError"}
    client = client_of(app)
    assert client.post("/", json={"name": "x"}).json()["code"] == "contract_bad_name"
    kind = {"content-type": "application/json"}
    assert client.post("/", content=b"\xff", headers=kind).json()["code"] == "bad_request"
