"""Every way in which a WebSocket ends in an error, as the messages of a strict server."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket, WebSocketException
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import Message, Receive, Scope, Send

from fastapi_kit import errors
from fastapi_kit.errors import ConflictError
from tests.errors.exchanges import PROBLEM, SECRET

pytestmark = pytest.mark.anyio


class StrictServer:
    """Takes messages only in the order of ASGI, as real servers do, and reasons that fit their frame."""

    def __init__(self, *, denies: bool = True, leaves: bool = False) -> None:
        self.denies = denies
        self.leaves = leaves
        self.state = "connecting"
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.code: int | None = None
        self.reason = ""
        self.received = iter(["websocket.connect"])

    async def receive(self) -> Message:
        if kind := next(self.received, None):
            return {"type": kind}
        if self.leaves:
            return {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        await anyio.sleep_forever()
        raise AssertionError

    async def send(self, message: Message) -> None:
        kind = message["type"]
        match self.state, kind:
            case ("connecting", "websocket.accept"):
                self.state, self.status, self.headers = "open", 101, message["headers"]
            case ("connecting", "websocket.close"):
                self.state, self.status = "closed", 403
            case ("connecting", "websocket.http.response.start") if self.denies:
                self.state, self.status, self.headers = "denying", message["status"], list(message["headers"])
            case ("denying", "websocket.http.response.body"):
                self.body += message["body"]
                self.state = "denying" if message.get("more_body") else "closed"
            case ("open", "websocket.send"):
                if self.leaves:
                    raise OSError
            case ("open", "websocket.close"):
                if self.leaves:
                    raise OSError
                self.state, self.code, self.reason = "closed", message["code"], message["reason"]
                assert len(self.reason.encode()) <= 123
            case _:
                raise RuntimeError(f"{kind} while {self.state}")

    async def serve(self, app: Any, path: str, query: str = "", host: bytes = b"api.example") -> "StrictServer":
        await app(
            {
                "type": "websocket",
                "asgi": {"version": "3.0", "spec_version": "2.4"},
                "http_version": "1.1",
                "scheme": "ws",
                "path": path,
                "raw_path": path.encode(),
                "query_string": query.encode(),
                "root_path": "",
                "headers": [(b"host", host), (b"x-request-id", b"r-1")],
                "client": ("127.0.0.1", 1),
                "server": ("127.0.0.1", 2),
                "subprotocols": ["v1"],
                "extensions": {"websocket.http.response": {}} if self.denies else {},
            },
            self.receive,
            self.send,
        )
        return self


class S3cretError(Exception):
    pass


def group(*exceptions: Exception) -> Exception:
    return ExceptionGroup(SECRET, exceptions)


RAISED: dict[str, tuple[Callable[[], Exception], int, str, int, str]] = {
    "problem": (lambda: ConflictError("no room"), 409, "conflict", 1008, "conflict"),
    "http": (lambda: HTTPException(401, "who", {"WWW-Authenticate": "Bearer"}), 401, "unauthorized", 1008, "401"),
    "http503": (lambda: HTTPException(503), 503, "service_unavailable", 1011, "503"),
    "websocket": (lambda: WebSocketException(3000, "é" * 100), 403, "forbidden", 3000, "é" * 61),
    "group-problem": (lambda: group(ConflictError("no room")), 409, "conflict", 1008, "conflict"),
    "group-http": (lambda: group(HTTPException(403), group(HTTPException(403))), 403, "forbidden", 1008, "403"),
    "group-websocket": (lambda: group(WebSocketException(3000, "é" * 100)), 403, "forbidden", 3000, "é" * 61),
    "crash": (lambda: S3cretError(SECRET), 500, "internal_server_error", 1011, "internal_server_error"),
    "group-crash": (lambda: group(S3cretError(SECRET)), 500, "internal_server_error", 1011, "internal_server_error"),
    "group-mixed": (
        lambda: group(ConflictError("a"), S3cretError(SECRET)),
        *(500, "internal_server_error", 1011, "internal_server_error"),
    ),
}


async def accepting(websocket: WebSocket) -> AsyncIterator[None]:
    await websocket.accept()
    yield


async def raw_crash(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept", "subprotocol": "v1"})
        raise StarletteHTTPException(404)


async def raw_silence(scope: Scope, receive: Receive, send: Send) -> None: ...


def make_app() -> FastAPI:
    app, inner = FastAPI(), FastAPI()
    errors.install(app)
    errors.install(inner)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["api.example"])
    for each in (app, inner):
        each.add_api_websocket_route("/before/{what}", before)
        each.add_api_websocket_route("/after/{what}", after)
    app.add_api_websocket_route("/accepting", validated, dependencies=[Depends(accepting)])
    app.add_api_websocket_route("/validated", validated)
    for ending in (closing, denying, closed_twice, talking, after_closing):
        app.add_api_websocket_route(f"/{ending.__name__}", ending)
    app.mount("/mounted", inner)
    app.mount("/raw", raw_crash)
    app.mount("/silence", raw_silence)
    return app


async def before(websocket: WebSocket, what: str) -> None:
    raise RAISED[what][0]()


async def after(websocket: WebSocket, what: str) -> None:
    await websocket.accept("v1")
    await websocket.send_text("hello")
    raise RAISED[what][0]()


async def validated(websocket: WebSocket, i: int = 0) -> None: ...


async def closing(websocket: WebSocket) -> None:
    await websocket.close(1008, "not you")


async def denying(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("not you", 404))


async def closed_twice(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close(1000)
    await websocket.send({"type": "websocket.close"})


async def after_closing(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close(1000, "bye")
    raise ConflictError("too late")


async def talking(websocket: WebSocket) -> None:
    async def hear() -> None:
        await websocket.receive_text()

    await websocket.accept()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hear)


app = make_app()


def denied(server: StrictServer, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(server.body)
    PROBLEM.validate(body)
    assert (server.status, body["status"], body["code"], body["request_id"]) == (status, status, code, "r-1")
    names = [name for name, _ in server.headers]
    assert (names.count(b"x-request-id"), (b"content-type", b"application/problem+json") in server.headers) == (1, True)
    assert SECRET not in repr((server.body, server.headers)).lower()
    return body


def crashes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("prefix", ["", "/mounted"])
@pytest.mark.parametrize("what", RAISED)
async def test_what_is_raised_before_the_handshake_is_a_response(
    what: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, status, code, _, _ = RAISED[what]
    server = await StrictServer().serve(app, f"{prefix}/before/{what}")
    denied(server, status, code)
    assert ((b"www-authenticate", b"Bearer") in server.headers) is (what == "http")
    lines = [f"WEBSOCKET {prefix}/before/{{what}} failed, request id r-1"] if status == 500 else []
    assert crashes(caplog) == lines


@pytest.mark.parametrize("prefix", ["", "/mounted"])
@pytest.mark.parametrize("what", RAISED)
async def test_what_is_raised_after_the_handshake_closes(
    what: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, status, _, code, reason = RAISED[what]
    server = await StrictServer().serve(app, f"{prefix}/after/{what}")
    assert (server.status, server.code, server.reason) == (101, code, reason)
    assert server.headers == [(b"x-request-id", b"r-1")]
    assert len(crashes(caplog)) == (1 if status == 500 else 0)


@pytest.mark.parametrize("what", RAISED)
async def test_a_server_that_cannot_deny_is_told_to_close(what: str) -> None:
    server = await StrictServer(denies=False).serve(app, f"/before/{what}")
    assert (server.status, server.state) == (403, "closed")


async def test_a_request_that_is_not_valid() -> None:
    body = denied(await StrictServer().serve(app, "/validated", "i=s3cret"), 422, "validation_error")
    assert [(error["in"], error["name"]) for error in body["errors"]] == [("query", "i")]
    server = await StrictServer().serve(app, "/accepting", "i=s3cret")
    assert (server.status, server.code, server.reason) == (101, 1008, "validation_error")


@pytest.mark.parametrize(
    ("path", "status", "code", "detail"),
    [
        ("/nowhere", 403, "forbidden", None),
        ("/closing", 403, "forbidden", "not you"),
        ("/denying", 404, "not_found", "not you"),
        ("/silence/x", 500, "internal_server_error", None),
    ],
)
async def test_other_refusals(path: str, status: int, code: str, detail: str | None) -> None:
    body = denied(await StrictServer().serve(app, path), status, code)
    assert body.get("detail") == detail


async def test_what_a_middleware_answers() -> None:
    body = denied(await StrictServer().serve(app, "/validated", host=b"evil"), 400, "bad_request")
    assert body["detail"] == "Invalid host header"


async def test_closing_twice_or_late_is_no_fault_for_a_server_to_see() -> None:
    for path, code in [("/closed_twice", 1000), ("/after_closing", 1000), ("/raw/x", 1008)]:
        server = await StrictServer().serve(app, path)
        assert (server.status, server.code) == (101, code)


@pytest.mark.parametrize("path", ["/talking", "/after/crash"])
async def test_a_client_that_leaves_is_no_crash(path: str, caplog: pytest.LogCaptureFixture) -> None:
    server = await StrictServer(leaves=True).serve(app, path)
    assert (server.status, server.state) == (101, "open")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def crash_late(websocket: WebSocket) -> None:
    await websocket.accept()
    raise S3cretError(SECRET)


async def test_a_crash_after_the_client_left_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    late = FastAPI()
    errors.install(late)
    late.add_api_websocket_route("/late", crash_late)
    await StrictServer(leaves=True).serve(late, "/late")
    assert crashes(caplog) == ["WEBSOCKET /late failed, request id r-1"]
