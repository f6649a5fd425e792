"""A problem is sent as what it is, whatever the exception carries."""

from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from starlette.testclient import TestClient

from fastapi_kit import errors

app = FastAPI()
errors.install(app)


@app.get("/headers")
async def headers() -> None:
    raise HTTPException(400, "<script>", headers={"Content-Type": "text/html", "CONTENT-LENGTH": "3", "X-Why": "test"})


@app.get("/only")
async def only() -> None:
    raise HTTPException(400, "no", headers={"content-length": "3"})


@app.get("/bytes")
async def bytes_(kind: str) -> None:
    details: dict[str, Any] = {
        "value": {"a": b"\xff", "b": [bytearray(b"ok\xfe")]},
        "name": {b"\xff": 1},
        "itself": b"\xff",
    }
    raise HTTPException(400, details[kind])


@app.get("/group/{first}/{second}")
async def group(first: int, second: int) -> None:
    raise ExceptionGroup("s3cret", [HTTPException(first, "a"), HTTPException(second, "b")])


client = TestClient(app)


@pytest.mark.parametrize("path", ["/headers", "/only"])
def test_headers_of_an_exception_do_not_describe_the_body(path: str) -> None:
    response = client.get(path)
    assert response.headers.get_list("content-type") == ["application/problem+json"]
    assert response.headers.get_list("content-length") == [str(len(response.content))]
    assert response.headers.get("x-why") == ("test" if path == "/headers" else None)


@pytest.mark.parametrize(
    ("kind", "context"),
    [
        ("value", {"a": "\ufffd", "b": ["ok\ufffd"]}),
        ("name", {"\ufffd": 1}),
        ("itself", "\ufffd"),
    ],
)
def test_bytes_that_are_no_text_stay_the_clients_error(kind: str, context: Any) -> None:
    response = client.get(f"/bytes?kind={kind}")
    assert (response.status_code, response.json()["context"]) == (400, context)


@pytest.mark.parametrize(("first", "second", "status"), [(401, 403, 500), (401, 401, 401)])
def test_a_group_is_of_one_kind_if_the_status_is_one(first: int, second: int, status: int) -> None:
    response = client.get(f"/group/{first}/{second}")
    assert (response.status_code, response.json()["status"]) == (status, status)
