"""Every path by which a response of 400 or more can arise, over the socket of a real uvicorn."""

import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.errors.exchanges import Answer, Served, check, parsed, raw, serving
from tests.errors.served_app import make_app

Headers = dict[str, str]
JSON = ("content-type", "application/json")

RAISED: dict[str, tuple[int, str, Headers]] = {
    "crash": (500, "internal_server_error", {}),
    "problem": (409, "served_full", {}),
    "http": (429, "too_many_requests", {"retry-after": "7"}),
    "http500": (500, "internal_server_error", {}),
    "group-problem": (404, "not_found", {}),
    "group-problems": (409, "conflict", {}),
    "group-http": (401, "unauthorized", {"www-authenticate": "Bearer"}),
    "group-https": (403, "forbidden", {}),
    "group-statuses": (500, "internal_server_error", {}),
    "group-crash": (500, "internal_server_error", {}),
    "group-mixed": (500, "internal_server_error", {}),
    "group-nested": (404, "not_found", {}),
}
"""What each exception is to a client, wherever it is raised before the response begins."""

PLACES: dict[str, tuple[str, Headers]] = {
    "endpoint": ("/raise/{}", {}),
    "thread": ("/threaded/{}", {}),
    "asyncio-task-group": ("/task-group/asyncio/{}", {}),
    "anyio-task-group": ("/task-group/anyio/{}", {}),
    "function-dependency-before": ("/depends/function/before/{}?what={}", {}),
    "function-dependency-after": ("/depends/function/after/{}?what={}", {}),
    "function-dependency-grouped": ("/depends/function/grouped/{}?what={}", {}),
    "request-dependency-before": ("/depends/request/before/{}?what={}", {}),
    "pure-middleware": ("/empty/200", {"x-pure": "before {}"}),
    "pure-middleware-unrouted": ("/nowhere", {"x-pure": "before {}"}),
    "base-middleware": ("/based/empty/200", {"x-based": "before {}"}),
    "base-middleware-after": ("/based/empty/200", {"x-based": "after {}"}),
    "below-base-middleware": ("/based/raise/{}", {}),
    "mounted": ("/mounted/raise/{}", {}),
    "mounted-task-group": ("/mounted/task-group/anyio/{}", {}),
}
"""Where it may be raised before the response begins, with the header that asks a middleware for it."""

OTHERS: list[tuple[str, int, str, Headers]] = [
    ("/nowhere", 404, "not_found", {}),
    ("/mounted/nowhere", 404, "not_found", {}),
    ("/nothing/at/all", 500, "internal_server_error", {}),
    ("/body", 405, "method_not_allowed", {"allow": "POST"}),
    ("/mounted/body", 405, "method_not_allowed", {"allow": "POST"}),
    ("/detail/str", 400, "bad_request", {"allow": "GET", "retry-after": "7", "x-own": "kept"}),
    ("/detail/dict", 400, "bad_request", {"x-own": "kept"}),
    ("/detail/list", 400, "bad_request", {"x-own": "kept"}),
    ("/detail/none", 400, "bad_request", {"x-own": "kept"}),
    ("/detail/object", 400, "bad_request", {"x-own": "kept"}),
    ("/text/400", 400, "bad_request", {}),
    ("/text/500", 500, "internal_server_error", {}),
    ("/empty/404", 404, "not_found", {"x-own": "kept"}),
    ("/empty/503", 503, "service_unavailable", {"x-own": "kept"}),
    ("/wrong-response", 500, "internal_server_error", {}),
    ("/filtered/s3cret", 422, "validation_error", {}),
    ("/filtered/1?page=s3cret", 422, "validation_error", {}),
    ("/raise/crash?x=%00", 500, "internal_server_error", {}),
]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "debug"])
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serving(make_app(request.param)) as served:
        yield served


def ask(server: Served, method: str, target: str, headers: Headers | None = None) -> Answer:
    """Ask with an id of our own, so that two answers to the same are equal and the log lines can be told apart."""
    sent = {"x-request-id": uuid4().hex, "accept": "text/html"} | (headers or {})
    return server.request(method, target, list(sent.items()))


def twice(server: Served, target: str, headers: Headers, status: int, code: str) -> Answer:
    """Ask with GET and with HEAD; return the answer to GET."""
    request_id = uuid4().hex
    answer, head = (ask(server, method, target, headers | {"x-request-id": request_id}) for method in ("GET", "HEAD"))
    assert answer.request_id == request_id
    check(answer, status, code)
    check(head, status, code, method="HEAD")
    assert [item for item in head.headers if item[0] != "date"] == [
        item for item in answer.headers if item[0] != "date"
    ]
    return answer


@pytest.mark.parametrize("what", RAISED)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_raised_before_the_response_begins(server: Served, place: str, what: str) -> None:
    target, headers = PLACES[place]
    status, code, expected = RAISED[what]
    asked = {name: value.format(what) for name, value in headers.items()}
    answer = twice(server, target.format(what, what), asked, status, code)
    for name, value in expected.items():
        assert answer.all(name) == [value]
    assert len(server.crashes(answer.request_id)) == (2 if status == 500 else 0)  # of GET and of HEAD


@pytest.mark.parametrize(("target", "status", "code", "expected"), OTHERS, ids=[case[0] for case in OTHERS])
def test_other_paths(server: Served, target: str, status: int, code: str, expected: Headers) -> None:
    answer = twice(server, target, {}, status, code)
    for name, value in expected.items():
        assert answer.all(name) == [value]


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_none(server: Served, status: int) -> None:
    answer = ask(server, "GET", f"/bodiless/{status}")
    assert (answer.status, answer.body, answer.all("etag")) == (status, b"", ['"1"'])
    assert len(answer.request_id) == 32


@pytest.mark.parametrize("what", RAISED)
@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/background/{}", {}),
        ("/depends/request/after/{}?what={}", {}),
        ("/depends/request/grouped/{}?what={}", {}),
        ("/empty/200", {"x-pure": "after {}"}),
        ("/mounted/background/{}", {}),
    ],
)
def test_what_is_raised_after_a_whole_response_is_logged_once_and_the_response_stands(
    server: Served, target: str, headers: Headers, what: str
) -> None:
    asked = {name: value.format(what) for name, value in headers.items()}
    answer = ask(server, "GET", target.format(what, what), asked)
    assert (answer.status, answer.is_whole) == (200, True)
    assert len(server.crashes(answer.request_id)) == 1


@pytest.mark.parametrize("what", ["crash", "group-crash", "group-mixed", "http500"])
@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/stream/first/{}", {}),
        ("/stream/half/{}", {}),
        ("/stream/half/{}?length=100", {}),
        ("/mounted/stream/half/{}", {}),
        ("/detail/str", {"x-pure": "began {}"}),
    ],
)
def test_half_a_response_does_not_look_like_a_whole_one(
    server: Served, target: str, headers: Headers, what: str
) -> None:
    asked = {name: value.format(what) for name, value in headers.items()}
    answer = ask(server, "GET", target.format(what), asked)
    assert not answer.is_whole
    assert b"s3cret" not in answer.body
    assert len(server.crashes(answer.request_id)) == 1


def test_a_body_that_is_too_large_by_its_length_in_chunks_and_for_its_route(server: Served) -> None:
    chunked = [JSON, ("transfer-encoding", "chunked")]
    for target, size in [("/body", 10_001), ("/small", 11), ("/mounted/body", 10_001)]:
        content = b'"' + b"x" * size + b'"'
        check(server.request("POST", target, [JSON], content), 413, "content_too_large")
        head = raw("POST", target, chunked)
        part = b"%x\r\n%s\r\n" % (len(content), content)
        check(parsed(server.send(head + part)), 413, "content_too_large")


def test_a_client_that_waits_for_100_is_told_413_at_once(server: Served) -> None:
    expecting = raw("POST", "/body", [JSON, ("expect", "100-continue"), ("content-length", "200000")])
    check(parsed(server.send(expecting)), 413, "content_too_large")
    invalid = raw("POST", "/body", [JSON, ("expect", "100-continue"), ("content-length", "2")])
    received = server.send(invalid, b"[]")
    interim, _, rest = received.partition(b"\r\n\r\n")
    assert interim.startswith(b"HTTP/1.1 100 ")
    check(parsed(rest), 422, "validation_error")


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "", "application/jsonx", "x"])
def test_a_body_of_another_type_is_refused(server: Served, content_type: str) -> None:
    answer = server.request("POST", "/body", [("content-type", content_type)], b'{"i": 1}')
    check(answer, 422, "validation_error")


def test_an_upgrade_that_the_server_does_not_know_is_a_404(server: Served) -> None:
    check(ask(server, "GET", "/ws", {"upgrade": "websocket", "sec-websocket-version": "13"}), 404, "not_found")


@pytest.mark.parametrize("target", ["/reads", "/body"])
def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_crash(target: str) -> None:
    app = make_app()
    app.state.reading, app.state.left = threading.Event(), threading.Event()
    with serving(app) as server:
        request_id = uuid4().hex
        head = raw("POST", target, [JSON, ("content-length", "100"), ("x-request-id", request_id)])
        server.send(head, b'{"i"', leaves=True)
        while request_id not in server.ended:
            pass
        assert server.ended[request_id].wait(30)
        assert app.state.left.is_set() is (target == "/reads")
    assert server.records == []


def test_a_route_that_crashes_is_named_in_the_log_by_its_template(server: Served) -> None:
    answer = ask(server, "GET", "/raise/crash%0A2026%20ERROR%20forged")
    check(answer, 500, "internal_server_error")
    server.finish(answer.request_id)
    (message,) = [message for message, _ in server.records if answer.request_id in message]
    assert message == f"GET /raise/{{what}} failed, request id {answer.request_id}"


def test_below_a_base_http_middleware_starlette_ends_a_stream_that_broke_and_the_crash_is_logged(
    server: Served,
) -> None:
    answer = ask(server, "GET", "/based/stream/half/crash")
    assert (answer.status, answer.is_whole) == (200, True)  # nothing above it can tell
    assert len(server.crashes(answer.request_id)) == 1
    assert not ask(server, "GET", "/based/stream/half/crash?length=100").is_whole


def test_details(server: Served) -> None:
    details: dict[str, Any] = {
        kind: check(ask(server, "GET", f"/detail/{kind}"), 400, "bad_request")
        for kind in ("str", "dict", "list", "none", "object")
    }
    assert details["str"]["detail"] == "because"
    assert details["dict"]["context"] == {"why": ["because", None], "status": 200}
    assert details["list"]["context"] == [1, {"a": None}]
    assert details["none"].keys() == {"type", "title", "status", "code", "request_id"}
    assert details["object"]["context"].keys() == {"value", "bytes", "text"}
