"""Every error response of an app, whatever made it, has the one shape (RFC 9457)."""

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_kit import errors
from fastapi_kit.errors import ConfigurationError, ConflictError, NotFoundError, Problem


class TooFewLeftError(Problem):
    code = "too_few_left"
    status = 409
    title = "Not enough stock"
    available: int


class Raising:
    """A middleware that raises what the header asks for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if b"x-refuse" in headers:
            raise HTTPException(403, "not from there", headers={"X-Why": "test"})
        if b"x-crash" in headers:
            raise RuntimeError("s3cret")
        await self.app(scope, receive, send)


def make_app(debug: bool = False, **options: Any) -> FastAPI:
    app = FastAPI(debug=debug, max_body_size=1000)
    app.add_middleware(Raising)
    errors.install(app, **options)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["testserver"])

    @app.get("/stock")
    async def stock() -> None:
        raise TooFewLeftError("Only 3 left.", available=3)

    @app.get("/http/{status}")
    async def http(status: int, detail: str | None = None) -> None:
        raise HTTPException(status, detail, headers={"Retry-After": "7"})

    @app.get("/data")
    async def data() -> None:
        raise HTTPException(400, {"why": ["because", float("inf")]})

    @app.get("/none")
    async def none() -> None:
        error = HTTPException(404)
        error.detail = None  # type: ignore[assignment]  # as an older Starlette left it
        raise error

    @app.get("/surrogate")
    async def surrogate() -> None:
        raise HTTPException(400, {"a": ["\ud800", ("b",)], "n": 1})

    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError("s3cret")

    @app.get("/group/{kind}")
    async def group(kind: str) -> None:
        groups: dict[str, list[Exception]] = {
            "one": [NotFoundError("gone")],
            "same": [ConflictError("a"), ExceptionGroup("inner", [ConflictError("b")])],
            "mixed": [ConflictError("a"), ValueError("b")],
            "crash": [ValueError("s3cret"), ValueError("b")],
            "own": [LookupError("x")],
        }
        raise ExceptionGroup("s3cret", groups[kind])

    @app.exception_handler(LookupError)
    def lookup(request: Request, exc: LookupError) -> Response:
        return JSONResponse({"own": True}, 410)

    @app.get("/empty")
    async def empty() -> Response:
        return Response(status_code=404, headers={"X-Own": "kept"})

    @app.get("/text")
    async def text() -> Response:
        return PlainTextResponse("no " * 200, 400)

    @app.get("/page")
    async def page() -> Response:
        return HTMLResponse("<p>my own 500</p>", 500)

    @app.get("/json")
    async def json_() -> Response:
        return JSONResponse({"mine": 1}, 418)

    @app.get("/stream")
    async def stream(length: int) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"x"
            raise RuntimeError("s3cret")

        return StreamingResponse(parts(), headers={"content-length": str(length)})

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> str:
        def fail() -> None:
            raise RuntimeError("s3cret")

        tasks.add_task(fail)
        return "sent"

    @app.get("/id")
    async def id_() -> str | None:
        return errors.request_id()

    @app.post("/small", max_body_size=10)
    async def small(body: dict[str, str]) -> None: ...

    @app.post("/large")
    async def large(body: dict[str, str]) -> None: ...

    @app.websocket("/ws/{what}")
    async def ws(websocket: WebSocket, what: str, n: int = 0) -> None:
        if what == "before":
            raise ConflictError("no room")
        await websocket.accept()
        if what == "after":
            raise ConflictError("no room")
        if what == "http":
            raise HTTPException(503)
        await websocket.close()

    return app


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(make_app()) as client:
        yield client


def check(response: Any, status: int, code: str, **members: Any) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["request_id"] == response.headers["x-request-id"]
    assert {name: body[name] for name in members} == members
    assert isinstance(body["type"], str)
    assert isinstance(body["title"], str)
    assert "s3cret" not in response.text
    return body


def test_a_domain_error_has_its_code_detail_and_extensions(client: TestClient) -> None:
    body = check(client.get("/stock"), 409, "too_few_left", detail="Only 3 left.", available=3, title="Conflict")
    assert body["type"] == "about:blank"


def test_unknown_routes_and_wrong_methods(client: TestClient) -> None:
    check(client.get("/nowhere"), 404, "not_found")
    response = client.post("/stock")
    check(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "bad_request"),
        (413, "content_too_large"),
        (418, "im_a_teapot"),
        (422, "unprocessable_content"),
        (499, "error"),
    ],
)
def test_an_http_exception_takes_its_code_from_the_status(client: TestClient, status: int, code: str) -> None:
    response = client.get(f"/http/{status}?detail=because")
    check(response, status, code, detail="because")
    assert response.headers["retry-after"] == "7"


def test_details_of_other_types_stay_valid(client: TestClient) -> None:
    check(client.get("/data"), 400, "bad_request", context={"why": ["because", None]})
    assert "detail" not in check(client.get("/none"), 404, "not_found")
    assert "detail" not in check(client.get("/http/404"), 404, "not_found")
    check(client.get("/surrogate"), 400, "bad_request", context={"a": ["?", ["b"]], "n": 1})


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body_have_none(client: TestClient, status: int) -> None:
    response = client.get(f"/http/{status}")
    assert (response.status_code, response.content, response.headers["retry-after"]) == (status, b"", "7")


def test_a_redirect_raised_as_an_exception_stays_one(client: TestClient) -> None:
    response = client.get("/http/307?detail=moved", follow_redirects=False)
    assert (response.status_code, response.text) == (307, "moved")


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_a_crash_says_nothing_and_is_logged_once(debug: bool, accept: str, caplog: pytest.LogCaptureFixture) -> None:
    response = TestClient(make_app(debug)).get("/crash", headers={"accept": accept, "x-request-id": "r-1"})
    body = check(response, 500, "internal_server_error", request_id="r-1")
    assert "detail" not in body
    (record,) = caplog.records
    assert record.getMessage() == "GET /crash failed, request id r-1"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], RuntimeError)
    assert record.exc_info[1].__traceback__ is not None


def test_the_detail_of_a_bare_500_is_logged_and_not_sent(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    body = check(client.get("/http/500?detail=s3cret"), 500, "internal_server_error")
    assert "detail" not in body
    assert "s3cret" in caplog.text


@pytest.mark.parametrize("path", ["/stock", "/nowhere"])
def test_what_a_middleware_raises(client: TestClient, path: str, caplog: pytest.LogCaptureFixture) -> None:
    response = client.get(path, headers={"x-refuse": "1"})
    check(response, 403, "forbidden", detail="not from there")
    assert response.headers["x-why"] == "test"
    check(client.get(path, headers={"x-crash": "1"}), 500, "internal_server_error")
    assert len(caplog.records) == 1


def test_what_a_middleware_answers_in_plain_text(client: TestClient) -> None:
    check(client.get("/stock", headers={"host": "evil"}), 400, "bad_request", detail="Invalid host header")


def test_a_body_too_large_by_length_chunked_and_per_route(client: TestClient) -> None:
    kind = {"content-type": "application/json"}
    check(client.post("/large", content=b"x" * 1001, headers=kind), 413, "content_too_large")
    check(client.post("/large", content=iter([b"x" * 600] * 2), headers=kind), 413, "content_too_large")
    check(client.post("/small", content=b"x" * 11, headers=kind), 413, "content_too_large")
    check(client.post("/small", content=iter([b"x" * 6] * 2), headers=kind), 413, "content_too_large")


def test_groups_of_one_kind_are_unwrapped_and_mixed_ones_are_crashes(client: TestClient) -> None:
    check(client.get("/group/one"), 404, "not_found", detail="gone")
    check(client.get("/group/same"), 409, "conflict", detail="a")
    check(client.get("/group/mixed"), 500, "internal_server_error")
    check(client.get("/group/crash"), 500, "internal_server_error")
    assert client.get("/group/own").json() == {"own": True}


def test_responses_without_a_problem_become_one_and_own_bodies_stay(client: TestClient) -> None:
    response = client.get("/empty")
    assert "detail" not in check(response, 404, "not_found")
    assert response.headers["x-own"] == "kept"
    assert len(check(client.get("/text"), 400, "bad_request")["detail"]) == 200
    assert client.get("/page").text == "<p>my own 500</p>"
    assert client.get("/json").json() == {"mine": 1}


def test_a_crash_in_the_middle_of_a_stream_cuts_it(client: TestClient) -> None:
    with pytest.raises(RuntimeError, match="the crash is logged"):
        client.get("/stream?length=2")


def test_a_failing_background_task_is_logged_and_the_answer_stands(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.get("/background").json() == "sent"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_head_has_the_headers_and_uvicorn_drops_the_body(client: TestClient) -> None:
    response = client.head("/nowhere")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


def test_the_request_id_is_new_or_the_clients_if_it_is_well_formed(client: TestClient) -> None:
    assert errors.request_id() is None
    first, second = client.get("/id"), client.get("/id")
    assert first.headers["x-request-id"] == first.json() != second.json()
    assert client.get("/id", headers={"x-request-id": "a.B-9_"}).json() == "a.B-9_"
    for hostile in ["a b", "x" * 129, "a\u00e9", "<script>", ""]:
        sent = client.get("/id", headers=[(b"x-request-id", hostile.encode("latin-1"))])
        assert len(sent.json()) == 32


def test_titles_can_be_translated_and_types_can_be_pages() -> None:
    def german(code: str, title: str, connection: HTTPConnection) -> str:
        return (
            {"not_found": "Nicht gefunden"}.get(code, title) if "de" in connection.headers["accept-language"] else title
        )

    client = TestClient(make_app(type_base="https://errors.example.com/", title_of=german))
    german_headers = {"accept-language": "de"}
    check(
        client.get("/nowhere", headers=german_headers),
        404,
        "not_found",
        title="Nicht gefunden",
        type="https://errors.example.com/not_found",
    )
    check(client.get("/stock", headers=german_headers), 409, "too_few_left", title="Not enough stock")


def test_websockets_are_denied_before_and_closed_after_they_were_accepted(client: TestClient) -> None:
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/ws/before"):
        pass
    assert denied.value.status_code == 409
    assert denied.value.json()["code"] == "conflict"
    for what, code, reason in [("after", 1008, "conflict"), ("http", 1011, "503")]:
        with client.websocket_connect(f"/ws/{what}") as socket, pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
        assert (closed.value.code, closed.value.reason) == (code, reason)


def test_a_websocket_request_that_is_not_valid_is_denied_as_one_of_http_is(client: TestClient) -> None:
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/ws/x?n=s3cret"):
        pass
    (error,) = check(denied.value, 422, "validation_error")["errors"]
    assert (error["in"], error["name"]) == ("query", "n")


def test_a_mounted_app_shares_the_request_id() -> None:
    outer, inner = make_app(), make_app()
    outer.mount("/inner", inner)
    response = TestClient(outer).get("/inner/nowhere", headers={"x-request-id": "one"})
    check(response, 404, "not_found", request_id="one")
    assert response.headers.get_list("x-request-id") == ["one"]


def test_a_wrong_set_up_is_told_at_once() -> None:
    app = make_app()
    with pytest.raises(ConfigurationError, match="called twice"):
        errors.install(app)
    with pytest.raises(ConfigurationError, match="'/errors/' is not absolute"):
        errors.install(FastAPI(), type_base="/errors/")
    TestClient(started := FastAPI()).get("/")
    with pytest.raises(ConfigurationError, match="after the app began to serve"):
        errors.install(started)


@pytest.mark.parametrize("kind", [HTTPException, StarletteHTTPException, RequestValidationError])
def test_a_handler_that_it_would_replace_is_an_error_and_one_added_later_wins(kind: type[Exception]) -> None:
    async def handle(request: Request, exc: Exception) -> Response:
        return Response(status_code=418)

    taken = FastAPI()
    taken.add_exception_handler(kind, handle)
    with pytest.raises(ConfigurationError, match=f"handler for {kind.__name__}"):
        errors.install(taken)
    later = FastAPI()
    errors.install(later)
    later.add_exception_handler(kind, handle)
    later.add_api_route("/{number}", _number)
    path = "/many" if kind is RequestValidationError else "/0"
    assert TestClient(later).get(path).status_code == 418


def _number(number: int) -> int:
    raise HTTPException(404)


def test_a_type_base_that_would_run_into_the_code_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="end it with a slash"):
        errors.install(FastAPI(), type_base="https://shop.example/problems")
    errors.install(FastAPI(), type_base="https://shop.example/problems#")
