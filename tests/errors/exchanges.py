"""A real uvicorn on a socket, requests as bytes, and the one check that every error response passes."""

import json
import logging
import socket
import threading
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from jsonschema import Draft202012Validator
from starlette.types import ASGIApp, Receive, Scope, Send

SECRET = "s3cret"
"""In the text, the class or the detail of each crash, and in no response."""

PROBLEM = Draft202012Validator(
    {
        "type": "object",
        "required": ["type", "title", "status", "code", "request_id"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 100, "maximum": 599},
            "detail": {"type": "string"},
            "instance": {"type": "string", "format": "uri-reference"},
            "code": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"},
            "request_id": {"type": "string", "minLength": 1},
        },
    }
)
"""RFC 9457, appendix A, and what the kit adds to it."""


@dataclass
class Answer:
    """One response as it came, its headers in their order."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    is_whole: bool

    def all(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header == name]

    @property
    def request_id(self) -> str:
        (sent,) = self.all("x-request-id")
        return sent


@dataclass(repr=False)
class Served:
    """A server in a thread of its own, and what it logged."""

    port: int = 0
    records: list[tuple[str, str]] = field(default_factory=list)
    """Message and traceback of each warning and error."""
    ended: dict[str, threading.Event] = field(default_factory=dict)
    loop: AbstractEventLoop | None = None

    def send(self, *parts: bytes, leaves: bool = False) -> bytes:
        """Send bytes over one connection, and return all that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            for part in parts:
                connection.sendall(part)
            if leaves:
                return b""
            received = bytearray()
            while chunk := connection.recv(65536):
                received += chunk
            return bytes(received)

    def request(
        self, method: str, target: str, headers: Sequence[tuple[str, str | bytes]] = (), body: bytes = b""
    ) -> Answer:
        return parsed(self.send(raw(method, target, headers, body)), method)

    def crashes(self, request_id: str) -> list[str]:
        """Return the messages that came with a traceback, but for the server's own, once it is done."""
        self.finish(request_id)
        return [
            message
            for message, trace in self.records
            if trace and request_id in message + trace and not message.startswith("Exception in ASGI application")
        ]

    def finish(self, request_id: str) -> None:
        """Wait until the server is done with a request, background tasks and logging included."""
        assert self.ended[request_id].wait(30)
        assert self.loop is not None
        behind = threading.Event()
        self.loop.call_soon_threadsafe(behind.set)  # by then the server has logged what the app raised, if it did
        assert behind.wait(30)


class _Watched:
    """Tell when the app is done with a request; the id is the client's."""

    def __init__(self, app: ASGIApp, served: Served) -> None:
        self._app = app
        self._served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self._served.loop = get_running_loop()
            await self._app(scope, receive, send)
            return
        sent = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        ended = self._served.ended.setdefault(sent, threading.Event())
        try:
            await self._app(scope, receive, send)
        finally:
            ended.set()


class _Collecting(logging.Handler):
    def __init__(self, records: list[tuple[str, str]]) -> None:
        super().__init__(logging.WARNING)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        self._records.append((record.getMessage(), trace))


@contextmanager
def serving(app: ASGIApp) -> Iterator[Served]:
    served = Served()
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    served.port = listener.getsockname()[1]
    config = uvicorn.Config(_Watched(app, served), log_config=None, lifespan="on", ws="none", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    collecting = _Collecting(served.records)
    logging.getLogger().addHandler(collecting)
    thread.start()
    try:
        yield served
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        logging.getLogger().removeHandler(collecting)


def raw(method: str, target: str, headers: Sequence[tuple[str, str | bytes]] = (), body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1".encode(), b"host: api.example", b"connection: close"]
    for name, value in headers:
        lines.append(name.encode() + b": " + (value.encode("latin-1") if isinstance(value, str) else value))
    if body:
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


def parsed(received: bytes, method: str = "GET") -> Answer:
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
    lengths = [int(value) for name, value in headers if name == "content-length"]
    status = int(first.split()[1])
    if ("transfer-encoding", "chunked") in headers:
        is_whole = rest.endswith(b"0\r\n\r\n")
    else:
        assert len(lengths) == (0 if status in (204, 304) else 1), headers
        is_whole = method == "HEAD" or status in (204, 304) or len(rest) == lengths[0]
    return Answer(status, headers, rest, is_whole)


def check(answer: Answer, status: int, code: str, *, method: str = "GET") -> dict[str, Any]:
    """Check all that holds for each error response, and return its body, empty for HEAD."""
    shown = (answer.status, answer.headers, answer.body)
    assert answer.status == status, shown
    assert answer.all("content-type") == ["application/problem+json"], shown
    assert answer.is_whole, shown
    assert SECRET not in repr(shown).lower(), shown
    assert "traceback" not in repr(shown).lower(), shown
    if method == "HEAD":
        assert answer.body == b"", shown
        assert answer.request_id
        return {}
    body: dict[str, Any] = json.loads(answer.body.decode("utf-8"))
    PROBLEM.validate(body)
    assert body["status"] == status, shown
    assert body["code"] == code, shown
    assert body["request_id"] == answer.request_id, shown
    return body
