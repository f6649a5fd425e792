"""What the outermost layer adds to each response, and the line that it writes of each request."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Response, WebSocket
from fastapi.responses import StreamingResponse
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from fastapi_kit import errors
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.observability.fields import bind, bound_fields
from fastapi_kit.observability.headers import SecurityHeaders
from fastapi_kit.observability.installation import install

pytestmark = pytest.mark.anyio


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    caplog.set_level(logging.INFO, "fastapi_kit.access")
    return _Lines(caplog)


class _Lines(list[dict[str, Any]]):
    """The fields of the lines so far, read when they are asked for."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        super().__init__()
        self._caplog = caplog

    def _read(self) -> list[dict[str, Any]]:
        return [vars(record)["request"] for record in self._caplog.records if record.name == "fastapi_kit.access"]

    def __iter__(self) -> Any:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __getitem__(self, index: Any) -> Any:
        return self._read()[index]


def make_app(*, with_errors: bool = True, first: str = "errors", **options: Any) -> FastAPI:
    app = FastAPI(max_body_size=100)
    if first == "observability":
        install(app, **options)
    if with_errors:
        errors.install(app)
    if first == "errors":
        install(app, **options)

    @app.get("/plain")
    async def plain() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/items")
    async def take(body: dict[str, str]) -> dict[str, str]:
        return body

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("hunter2")

    return app


@pytest.mark.parametrize("first", ["errors", "observability"])
@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/plain", None, 200),
        ("GET", "/nowhere", None, 404),
        ("POST", "/plain", None, 405),
        ("POST", "/items", b"x" * 101, 413),
        ("POST", "/items", b"[]", 422),
        ("GET", "/broken", None, 500),
    ],
)
def test_each_response_has_its_id_its_headers_and_one_line(
    lines: list[dict[str, Any]], first: str, method: str, path: str, body: bytes | None, status: int
) -> None:
    client = TestClient(make_app(first=first))
    response = client.request(method, path, content=body, headers={"X-Request-ID": "known-1"})
    assert response.status_code == status
    assert response.headers.get_list("X-Request-ID") == ["known-1"]
    assert response.headers.get_list("X-Content-Type-Options") == ["nosniff"]
    (line,) = lines
    assert (line["method"], line["status"], line["client"]) == (method, status, "testclient")
    assert line["duration_ms"] > 0


def test_the_line_of_an_error_has_the_code_of_its_problem(lines: list[dict[str, Any]]) -> None:
    client = TestClient(make_app())
    client.post("/items", json=[])
    client.get("/plain")
    assert (lines[0]["problem"], "problem" in lines[1]) == ("validation_error", False)


def test_without_the_problems_the_ids_and_lines_are_the_same(lines: list[dict[str, Any]]) -> None:
    client = TestClient(make_app(with_errors=False), raise_server_exceptions=False)
    assert client.get("/plain", headers={"X-Request-ID": "a b"}).headers["X-Request-ID"] != "a b"
    assert len(client.get("/plain").headers["X-Request-ID"]) == 32
    assert client.get("/broken").status_code == 500
    assert [line["status"] for line in lines] == [200, 200, 500]


def test_the_route_is_its_full_template_and_what_matches_none_is_told_by_its_path(lines: list[dict[str, Any]]) -> None:
    app = make_app()
    inner, router = APIRouter(prefix="/inner"), APIRouter(prefix="/v1")
    inner.add_api_route("/items/{item_id}", lambda item_id: item_id)
    router.include_router(inner)
    app.include_router(router)
    mounted = FastAPI()
    install(mounted)
    mounted.add_api_route("/things/{thing}", lambda thing: thing)
    app.mount("/of/{tenant}", mounted)
    client = TestClient(app)
    client.get("/v1/inner/items/7")
    client.get("/of/ada/things/8")
    client.get("/" + "x" * 300)
    assert [line["route"] for line in lines] == ["/v1/inner/items/{item_id}", "/of/{tenant}/things/{thing}", None]
    assert "path" not in lines[0]
    assert lines[2]["path"] == "/" + "x" * 199


def test_probes_and_what_is_excluded_have_no_line(lines: list[dict[str, Any]]) -> None:
    client = TestClient(make_app())
    for path in ("/health/live", "/health/ready", "/metrics"):
        client.get(path)
    TestClient(make_app(exclude_paths=["/plain"])).get("/plain")
    TestClient(make_app(log_requests=False)).get("/plain")
    assert not lines


def test_no_line_is_made_that_nobody_wants(caplog: pytest.LogCaptureFixture, lines: list[dict[str, Any]]) -> None:
    caplog.set_level(logging.WARNING, "fastapi_kit.access")
    app = make_app()

    @app.websocket("/socket")
    async def talk(websocket: WebSocket) -> None:
        await websocket.close()

    client = TestClient(app)
    assert client.get("/plain").headers["X-Request-ID"]
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/socket"):
        pass
    assert not lines


def test_what_is_bound_is_shared_by_all_that_runs_for_the_request(lines: list[dict[str, Any]]) -> None:
    app = make_app()
    seen: list[dict[str, Any]] = []

    def knows_who() -> None:
        bind(user="7", status="mine")

    async def asks() -> AsyncGenerator[None]:
        bind(tenant="t")
        yield

    @app.get("/bound", dependencies=[Depends(knows_who), Depends(asks)])
    def bound(tasks: BackgroundTasks) -> str:
        bind(order=12)
        tasks.add_task(lambda: seen.append(dict(bound_fields())))
        return errors.request_id() or ""

    client = TestClient(app)
    assert client.get("/bound", headers={"X-Request-ID": "known-2"}).json() == "known-2"
    client.get("/plain")
    assert {"user": "7", "tenant": "t", "order": 12}.items() <= lines[0].items()
    assert lines[0]["status"] == 200
    assert "user" not in lines[1]
    assert seen == [{"user": "7", "status": "mine", "tenant": "t", "order": 12}]
    assert bound_fields() == {}
    bind(user="nobody")  # outside of a request
    assert bound_fields() == {}


@pytest.mark.parametrize(("with_errors", "error"), [(True, "ResponseCutError"), (False, "RuntimeError")])
def test_the_line_of_a_stream_that_fails_says_so(lines: list[dict[str, Any]], with_errors: bool, error: str) -> None:
    app = make_app(with_errors=with_errors)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "half"
            raise RuntimeError("hunter2")

        return StreamingResponse(parts())

    with pytest.raises(RuntimeError):  # the server is to cut the connection
        TestClient(app).get("/stream")
    (line,) = lines
    assert (line["status"], line["is_complete"], line["error"]) == (200, False, error)


async def test_the_line_of_a_client_that_left_has_no_status(lines: list[dict[str, Any]]) -> None:
    app = make_app()
    waits = asyncio.Event()

    @app.get("/waits")
    async def wait() -> None:
        waits.set()
        await asyncio.Event().wait()

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None: ...

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/waits",
        "raw_path": b"/waits",
        "query_string": b"",
        "headers": [],
    }
    serving = asyncio.create_task(app({**scope, "root_path": "", "scheme": "http"}, receive, send))
    await waits.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    (line,) = lines
    assert (line["is_complete"], line["error"]) == (False, "CancelledError")
    assert "client" not in line


async def test_an_app_that_answers_nothing_has_a_line_without_a_status(lines: list[dict[str, Any]]) -> None:
    app = make_app(with_errors=False)

    class Silent:
        def __init__(self, app: Any) -> None: ...

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    app.add_middleware(Silent)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None: ...

    await app({"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("::1", 1)}, receive, send)
    (line,) = lines
    assert (line["status"], line["is_complete"]) == (None, False)
    assert "error" not in line


def test_a_response_that_is_returned_for_ever_keeps_its_own_headers() -> None:
    app = make_app(server_timing=True)
    kept = Response("same")
    app.add_api_route("/kept", lambda: kept)
    client = TestClient(app)
    for _ in range(2):
        assert len(client.get("/kept").headers.get_list("X-Request-ID")) == 1
    assert not [name for name, _ in kept.raw_headers if name == b"x-request-id"]


def test_server_timing_tells_the_milliseconds() -> None:
    timing = TestClient(make_app(server_timing=True)).get("/plain").headers["Server-Timing"]
    name, milliseconds = timing.split(";dur=")
    assert name == "app"
    assert float(milliseconds) >= 0
    assert "Server-Timing" not in TestClient(make_app()).get("/plain").headers


def test_security_headers_can_be_left_out() -> None:
    assert "X-Content-Type-Options" not in TestClient(make_app(security_headers=None)).get("/plain").headers
    assert "X-Content-Type-Options" in TestClient(make_app(security_headers=SecurityHeaders())).get("/plain").headers


@pytest.mark.parametrize(
    ("with_errors", "path", "status", "close_code", "error"),
    [
        (True, "/accepted", 101, 1000, None),
        (True, "/left", 101, 1001, None),
        (True, "/refused", 403, None, None),  # a denial response, that of a problem
        (True, "/denied", 404, None, None),
        (True, "/crashed", 500, None, None),
        (False, "/accepted", 101, 1000, None),
        (False, "/refused", 403, 1008, None),
        (False, "/crashed", 500, None, "RuntimeError"),
    ],
)
def test_a_websocket_has_one_line_at_its_end(
    lines: list[dict[str, Any]], with_errors: bool, path: str, status: int, close_code: int | None, error: str | None
) -> None:
    app = make_app(with_errors=with_errors)

    @app.websocket("/accepted")
    async def accepted(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(errors.request_id() or "")
        await websocket.close()

    @app.websocket("/left")
    async def left(websocket: WebSocket) -> None:
        await websocket.accept()
        async for _ in websocket.iter_text():
            pass

    @app.websocket("/refused")
    async def refused(websocket: WebSocket) -> None:
        await websocket.close(1008)

    @app.websocket("/denied")
    async def denied(websocket: WebSocket) -> None:
        await websocket.send_denial_response(Response(status_code=404))

    @app.websocket("/crashed")
    async def crashed(websocket: WebSocket) -> None:
        raise RuntimeError("hunter2")

    _talk(app, path)
    (line,) = lines
    assert (line["method"], line["status"], line["close_code"]) == ("WEBSOCKET", status, close_code)
    assert line.get("error") == error
    assert line["route"] == path


def _talk(app: FastAPI, path: str) -> None:
    expected: Iterable[type[Exception]] = (WebSocketDisconnect, WebSocketDenialResponse, RuntimeError)
    try:
        with TestClient(app).websocket_connect(path, headers={"X-Request-ID": "known-3"}) as socket:
            if path == "/accepted":
                assert socket.receive_text() == "known-3"
            socket.close(1001)
    except tuple(expected):
        pass


def test_it_is_installed_once_and_before_the_app_serves() -> None:
    app = make_app()
    with pytest.raises(ConfigurationError, match="twice"):
        install(app)
    served = FastAPI()
    TestClient(served).get("/")
    with pytest.raises(ConfigurationError, match="began to serve"):
        install(served)
