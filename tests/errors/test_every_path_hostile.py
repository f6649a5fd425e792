"""Whatever a client sends is the client's error, and no value of it comes back; over the socket of a real uvicorn."""

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.errors.exchanges import Answer, Served, check, serving
from tests.errors.served_app import make_app

MARK = b"hunter2-MARK"
JSON = ("content-type", "application/json")
FORM = ("content-type", "application/x-www-form-urlencoded")
MULTIPART = ("content-type", "multipart/form-data; boundary=B")
EXAMPLES = max(300, int(os.environ.get("KIT_FUZZ", "0")) // 100)  # each is a request over a socket

BODIES: dict[str, bytes] = {
    "nan": b'{"i": NaN, "name": "hunter2-MARK-hunter2-MARK"}',
    "infinity": b'{"i": -Infinity}',
    "too large a number": b'{"i": 1e999}',
    "too many digits": b'{"i": ' + b"9" * 5000 + b"}",
    "surrogate as a value": b'{"i": "\\ud800hunter2-MARK"}',
    "surrogate as a name": b'{"\\ud800": "hunter2-MARK", "i": "\\udc00"}',
    "surrogate as a name within": b'{"tags": {"\\udfff": ["hunter2-MARK"]}}',
    "surrogate in utf-8": b'{"i": "\xed\xa0\x80hunter2-MARK"}',
    "nested objects": b'{"tags":' * 2000 + b'"hunter2-MARK"' + b"}" * 2000,
    "nested arrays": b"[" * 2000 + b'"hunter2-MARK"' + b"]" * 2000,
    "open arrays": b"[" * 9000,
    "nested where a list is due": b'{"tags": {"a": ' + b"[" * 2000 + b"]" * 2000 + b"}}",
    "bad utf-8": b'{"name": "hunter2-MARK\xff\xfe"}',
    "utf-16": '{"name": "hunter2-MARK hunter2-MARK"}'.encode("utf-16"),
    "utf-8 with a byte order mark": b'\xef\xbb\xbf{"i": "hunter2-MARK"}',
    "nul": b'{"i": "hunter2-MARK\\u0000"}',
    "raw nul": b'{"i": "hunter2-MARK\x00"}',
    "nothing but nul": b"\x00",
    "no json": b"hunter2-MARK",
    "half of json": b'{"i": "hunter2-MARK"',
    "two values": b'{"i": 1} "hunter2-MARK"',
    "wrong types": b'{"i": "hunter2-MARK", "name": ["hunter2-MARK"], "tags": "hunter2-MARK"}',
    "too long": b'{"name": "' + MARK * 9 + b'"}',
    "an extra member": b'{"password": "hunter2-MARK"}',
    "a string": b'"hunter2-MARK"',
    "a list": b'["hunter2-MARK"]',
    "null": b"null",
    "an empty body": b"",
}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "debug"])
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serving(make_app(request.param)) as served:
        yield served


def refused(server: Served, answer: Answer, statuses: Sequence[int] = (400, 404, 413, 415, 422)) -> dict[str, Any]:
    """Check that an answer is the client's error, holds no value that was sent, and that nothing crashed."""
    assert answer.status in statuses, (answer.status, answer.body)
    body = check(answer, answer.status, json.loads(answer.body)["code"])
    assert MARK.lower() not in answer.body.lower(), answer.body
    assert MARK not in repr(answer.headers).encode()
    assert [trace for _, trace in server.records if trace] == []
    return body


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body(server: Served, name: str) -> None:
    refused(
        server, server.request("POST", "/body", [JSON, ("content-length", "0")][: 2 - bool(BODIES[name])], BODIES[name])
    )


@pytest.mark.parametrize("path", ["/body", "/form", "/small", "/mounted/body"])
@pytest.mark.parametrize(
    "content_type",
    [
        *("application/json", "application/json; charset=utf-16", "application/problem+json", "application/JSON;;"),
        *("text/plain", "application/octet-stream", "hunter2-MARK", "/", "\xff/\xfe", "application/", ";", ""),
        *("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 300),
        *("multipart/form-data; boundary=\xff", "application/x-www-form-urlencoded", "multipart/mixed; boundary=B"),
    ],
)
def test_a_hostile_content_type(server: Served, path: str, content_type: str) -> None:
    body = b'{"i": "hunter2-MARK", "x": "hunter2-MARK"}'
    refused(server, server.request("POST", path, [("content-type", content_type)], body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hunter2-MARK",
        b"--B",
        b"--B--",
        b"--B\r\nhunter2-MARK\r\n--B--\r\n",
        b'--B\r\nContent-Disposition: form-data; name="i"\r\n\r\nhunter2-MARK\r\n--B--\r\n',
        b'--B\r\nContent-Disposition: form-data; name="i"; filename="hunter2-MARK"\r\n\r\nhunter2-MARK\r\n--B--\r\n',
        b"--B\r\nContent-Disposition: form-data\r\n\r\nhunter2-MARK\r\n--B--\r\n",
        b'--B\r\nContent-Disposition: form-data; name="hunter2\xff\r\n\r\n\xff\xfe\x00hunter2-MARK\r\n--B--\r\n',
        b'--B\r\nContent-Type: a/b; charset=hunter2-MARK\r\nContent-Disposition: form-data; name="i"\r\n\r\nx\r\n--B--',
        b'--B\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + MARK * 3 + b"\r\n--B--\r\n",
        b'--B\r\nContent-Disposition: form-data; name="i"\r\n\r\n1\r\n' * 1001 + b"--B--\r\n",
        b'--B\r\nContent-Disposition: form-data; name="i"\r\n\r\nhunter2-MARK',
        b"--B\r\n" + b"X-A: hunter2-MARK\r\n" * 300 + b"\r\n\r\n--B--\r\n",
    ],
)
def test_hostile_multipart(server: Served, body: bytes) -> None:
    length = [] if body else [("content-length", "0")]
    refused(server, server.request("POST", "/form", [MULTIPART, *length], body))


@pytest.mark.parametrize(
    "body", [b"i=hunter2-MARK", b"i=%ED%A0%80", b"i=%00", b"i=1&name=" + MARK, b"&" * 5000, b"\xff"]
)
def test_a_hostile_form(server: Served, body: bytes) -> None:
    refused(server, server.request("POST", "/form", [FORM], body))


@pytest.mark.parametrize(
    "value",
    ["hunter2-MARK", "%ED%A0%80hunter2-MARK", "%FF%FE", "%00", "NaN", "1e999", "9" * 5000, "%", "%0D%0Ax:hunter2-MARK"],
)
def test_a_hostile_parameter(server: Served, value: str) -> None:
    for target in (f"/filtered/1?page={value}", f"/filtered/{value}", f"/filtered/1?page={value}&page={value}"):
        refused(server, server.request("GET", target))
    body = refused(server, server.request("GET", f"/filtered/1?%ED%A0%80={value}"))
    assert [error["in"] for error in body["errors"]] == ["query"]
    refused(server, server.request("GET", "/filtered/1", [("x-n", value.encode())]))


@pytest.mark.parametrize(
    "value", [b"\xed\xa0\x80hunter2-MARK", b"\xff\xfe", b"hunter2-MARK", b"\xc3\xa9", b"\t", b"9" * 5000]
)
def test_a_hostile_header(server: Served, value: bytes) -> None:
    refused(server, server.request("GET", "/filtered/1", [("x-n", value)]))
    hostile_id = b"<" + value + b">" * 130
    answer = server.request("GET", "/nowhere", [("x-request-id", hostile_id), ("accept", value), ("cookie", value)])
    refused(server, answer)
    assert len(answer.request_id) == 32


def test_what_is_no_http_is_answered_by_the_server_itself(server: Served) -> None:
    for request in (b"hunter2-MARK\r\n\r\n", b"GET /\x00 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nx: \x00\r\n\r\n"):
        received = server.send(request)
        assert received.startswith(b"HTTP/1.1 400 ")
        assert MARK not in received


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
names = st.text(st.characters(), max_size=5) | st.sampled_from(["i", "name", "tags", "a/b", "~"])
values = st.recursive(
    scalars | st.just(MARK.decode()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
bodies = st.one_of(
    st.dictionaries(names, values, max_size=5).map(lambda value: json.dumps(value).encode()),
    values.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.binary(max_size=200),
    st.tuples(st.sampled_from(list(BODIES.values())), st.integers(0, 200), st.binary(max_size=3)).map(
        lambda drawn: drawn[0][: drawn[1]] + drawn[2] + drawn[0][drawn[1] :]
    ),
)
content_types = st.sampled_from([JSON, FORM, MULTIPART, ("content-type", "application/x+json; charset=utf-16")])


@settings(max_examples=EXAMPLES, deadline=None)
@given(body=bodies, content_type=content_types, path=st.sampled_from(["/body", "/form", "/mounted/body", "/small"]))
def test_any_body_is_taken_or_is_the_clients_error(
    server: Served, body: bytes, content_type: tuple[str, str], path: str
) -> None:
    length = [] if body else [("content-length", "0")]
    answer = server.request("POST", path, [content_type, ("x-request-id", uuid4().hex), *length], body)
    if answer.status != 200:
        refused(server, answer)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.just(MARK.decode()),
    raw=st.binary(max_size=20),
)
def test_any_parameter_is_taken_or_is_the_clients_error(server: Served, text: str, raw: bytes) -> None:
    for value in (quote(text, safe=""), quote(raw, safe="")):
        answer = server.request("GET", f"/filtered/{value}?page={value}&word={value}")
        if answer.status not in (200, 307):  # a slash at the end is a redirect
            refused(server, answer)
        refused(server, server.request("GET", f"/filtered/1?page=x&{quote(raw, safe='')}=1"))
