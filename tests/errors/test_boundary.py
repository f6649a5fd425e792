"""What the outermost layer makes of responses that no handler of the app made."""

import gc
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.background import BackgroundTask
from starlette.middleware.gzip import GZipMiddleware
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_kit import errors
from fastapi_kit.errors.exchange import ResponseCutError

MEGABYTE = b"x" * 1_000_000

app = FastAPI()
errors.install(app)
app.add_middleware(GZipMiddleware, minimum_size=10)


@app.get("/text")
async def text() -> Response:
    about_the_body = {
        "ETag": '"a"',
        "Last-Modified": "Sat, 21 Nov 2026 09:00:00 GMT",
        "Content-Disposition": "attachment",
        "Content-Digest": "sha-256=:x:",
        "Content-Language": "fr",
        "Transfer-Encoding": "chunked",
        "Cache-Control": "no-store",
    }
    return PlainTextResponse("Il n'y en a pas." * 20, 404, headers=about_the_body)


@app.get("/repeated")
async def repeated() -> Response:
    response = PlainTextResponse("no", 401)
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    response.headers.append("WWW-Authenticate", "Basic")
    response.headers.append("WWW-Authenticate", "Bearer")
    return response


@app.get("/range")
async def read_range() -> Response:
    return FileResponse(__file__)


@app.get("/cut")
async def cut() -> Response:
    return PlainTextResponse("x" + "é" * 150, 400)


@app.get("/stream")
async def stream(status: int, media_type: str, megabytes: int = 1) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(megabytes):
            yield MEGABYTE[1:] + b"x"  # a new one each time

    return StreamingResponse(parts(), status, media_type=media_type)


@app.get("/broken-page")
async def broken_page() -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"<p>my own"
        raise RuntimeError("s3cret")

    return StreamingResponse(parts(), 500, media_type="text/html")


@app.get("/page-and-crash")
async def page_and_crash() -> Response:
    def fail() -> None:
        raise RuntimeError("s3cret")

    return HTMLResponse("<p>s3cret</p>", 500, background=BackgroundTask(fail))


client = TestClient(app)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_headers_about_the_body_that_was_replaced_are_dropped(encoding: str) -> None:
    response = client.get("/text", headers={"accept-encoding": encoding})
    assert response.status_code == 404
    assert set(response.headers) <= {"content-type", "content-length", "cache-control", "vary", "x-request-id"}
    assert response.headers["cache-control"] == "no-store"
    assert int(response.headers["content-length"]) == len(response.content)
    assert ("detail" in response.json()) is (encoding == "identity")  # what is compressed is not read


def test_headers_that_come_twice_stay() -> None:
    response = client.get("/repeated")
    assert response.json()["detail"] == "no"
    assert [cookie.split(";")[0] for cookie in response.headers.get_list("set-cookie")] == ["a=1", "b=2"]
    assert response.headers.get_list("www-authenticate") == ["Basic", "Bearer"]
    assert response.headers.get_list("content-type") == ["application/problem+json"]


def test_a_range_that_cannot_be_had_says_how_much_there_is() -> None:
    response = client.get("/range", headers={"range": "bytes=999999-"})
    assert (response.status_code, response.json()["code"]) == (416, "range_not_satisfiable")
    assert response.headers["content-range"].startswith("bytes */")


def test_a_detail_is_not_cut_within_a_character() -> None:
    response = client.get("/cut", headers={"accept-encoding": "identity"})
    assert response.json()["detail"] == "x" + "é" * 99  # of 200 bytes the last is half a character


async def peak_of(path: str, query: bytes) -> tuple[int, int, int]:
    """Serve one request in this task; return the status, the bytes sent and the most memory that it took."""
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query, "headers": []}
    status = sent = 0

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Message) -> None:
        nonlocal status, sent
        status = message.get("status", status)
        sent += len(message.get("body", b""))

    gc.collect()
    tracemalloc.start()
    try:
        await app(scope, receive, send)
        return status, sent, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.anyio
async def test_a_stream_of_text_is_not_gathered() -> None:
    status, sent, peak = await peak_of("/stream", b"status=502&media_type=text/plain&megabytes=50")
    assert (status, sent < 1000) == (502, True)
    assert peak < 5_000_000


@pytest.mark.anyio
async def test_a_page_that_is_streamed_is_the_endpoints_own_and_is_passed_on_as_it_comes() -> None:
    status, sent, peak = await peak_of("/stream", b"status=500&media_type=text/html&megabytes=50")
    assert (status, sent) == (500, 50_000_000)
    assert peak < 5_000_000


def test_a_streamed_page_has_the_request_id_and_is_cut_where_it_breaks() -> None:
    response = client.get("/stream?status=500&media_type=text/html")
    assert (response.status_code, response.content) == (500, MEGABYTE)
    assert len(response.headers["x-request-id"]) == 32
    with pytest.raises(ResponseCutError):
        client.get("/broken-page")


def test_a_page_that_a_crash_follows_is_not_sent() -> None:
    response = client.get("/page-and-crash")
    assert response.json()["code"] == "internal_server_error"
    assert "s3cret" not in response.text


def test_an_error_in_plain_text_does_not_wait_for_its_background_task() -> None:
    here = FastAPI()
    errors.install(here)
    done: list[str] = []

    async def work() -> None:
        done.append("worked")
        raise RuntimeError("of the task")

    @here.get("/later")
    async def later() -> Response:
        return PlainTextResponse("Not here.", 404, background=BackgroundTask(work))

    answer = TestClient(here).get("/later")
    assert (answer.status_code, answer.json()["detail"], done) == (404, "Not here.", ["worked"])


def test_a_page_that_is_returned_for_ever_is_not_changed() -> None:
    here = FastAPI()
    errors.install(here)
    page = HTMLResponse("<p>Out of order</p>", 500)
    here.add_api_route("/page", lambda: page)
    for number in ("1", "2"):
        answer = TestClient(here).get("/page", headers={"X-Request-ID": number})
        assert answer.headers.get_list("X-Request-ID") == [number]
    assert page.headers.get("X-Request-ID") is None


@pytest.mark.parametrize("value", ["\u2192", 5])
def test_a_middleware_that_raises_what_cannot_be_sent_is_a_crash(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Refusing:
        def __init__(self, app: ASGIApp) -> None: ...

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            raise HTTPException(403, headers={"X-A": value})

    here = FastAPI()
    errors.install(here)
    here.add_middleware(Refusing)
    answer = TestClient(here).get("/secret-path")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_server_error")
    (record,) = [record for record in caplog.records if record.name == "fastapi_kit.errors"]
    assert record.getMessage().startswith("GET unmatched failed, request id ")


def test_a_translation_that_fails_leaves_the_error_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    here = FastAPI()
    errors.install(here, title_of=lambda code, title, connection: connection.headers["x-language"])
    answer = TestClient(here).get("/nowhere")
    assert (answer.status_code, answer.json()["title"]) == (404, "Not Found")
    assert "title_of failed" in caplog.text


def test_a_detail_that_is_no_json_shows_no_object() -> None:
    here = FastAPI()
    errors.install(here)

    @here.get("/object")
    async def read() -> None:
        raise HTTPException(400, {"a": object(), "b": 1})

    assert TestClient(here).get("/object").json()["context"] == {"a": None, "b": 1}


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/text", "/streamed"])
async def test_what_the_server_raises_goes_back_to_it(path: str, caplog: pytest.LogCaptureFixture) -> None:
    here = FastAPI()
    errors.install(here)

    @here.get("/text")
    async def read() -> Response:
        return PlainTextResponse("no", 404)

    @here.get("/streamed")
    async def stream() -> Response:
        async def parts() -> AsyncIterator[str]:
            yield "<p>"
            yield "</p>"

        return StreamingResponse(parts(), 500, media_type="text/html")

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(_: Message) -> None:
        raise ConnectionResetError

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    with pytest.raises((ConnectionResetError, ExceptionGroup)):
        await here(scope, receive, send)
    assert not caplog.records
