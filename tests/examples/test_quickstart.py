"""The quickstart as its users meet it: every route, over HTTP."""

import contextlib
import importlib.util
import secrets
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from fastapi_kit.testing import Contract

SOURCE = Path(__file__).parents[2] / "examples" / "quickstart.py"
PASSWORD = secrets.token_urlsafe(16)


@pytest.fixture
def quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example, imported anew, on a database of its own."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path}/quickstart.db")
    spec = importlib.util.spec_from_file_location("quickstart_under_test", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(quickstart: ModuleType) -> Iterator[TestClient]:
    contract = Contract(quickstart.app)  # each test checks each response against the OpenAPI document too
    with TestClient(contract) as client:
        yield client
    assert contract.errors == []


def sign_in(client: TestClient, username: str = "ada") -> dict[str, str]:
    created = client.post("/users", json={"username": username, "password": PASSWORD})
    assert created.status_code == 201, created.text
    answer = client.post("/auth/token", data={"username": username, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"]) == (status, code)
    return body


def test_it_is_a_file_that_a_person_reads_at_one_sitting() -> None:
    assert len(SOURCE.read_text().splitlines()) <= 120


def test_registration_gives_a_user_without_password_or_hash(client: TestClient) -> None:
    response = client.post("/users", json={"username": "ada", "password": PASSWORD})
    assert (response.status_code, response.json()) == (201, {"id": 1, "username": "ada", "role": "user"})
    body = problem(client.post("/users", json={"username": "ada", "password": PASSWORD}), 409, "conflict")
    assert "ada" not in str(body)


@pytest.mark.parametrize(
    "body",
    [
        {"username": "ada", "password": "s3cret"},
        {"username": "Ada Lovelace", "password": PASSWORD},
        {"username": "ada", "password": PASSWORD, "role": "admin"},
        {"username": "ada"},
        [],
    ],
)
def test_registration_refuses_what_is_weak_wrong_or_more(client: TestClient, body: Any) -> None:
    response = client.post("/users", json=body)
    problem(response, 422, "validation_error")
    assert "s3cret" not in response.text


def test_me_is_the_user_of_the_token(client: TestClient) -> None:
    assert client.get("/users/me", headers=sign_in(client)).json()["username"] == "ada"
    problem(client.get("/users/me"), 401, "missing_credentials")


def test_log_in_is_limited_to_ten_a_minute(client: TestClient) -> None:
    if time.time() % 60 > 50:  # the window is the clock's minute
        time.sleep(60.1 - time.time() % 60)
    attempt = {"username": "ada", "password": "wrong"}
    for _ in range(10):
        problem(client.post("/auth/token", data=attempt), 401, "invalid_credentials")
    response = client.post("/auth/token", data=attempt)
    problem(response, 429, "rate_limited")
    assert 1 <= int(response.headers["retry-after"]) <= 60


def test_items_are_created_listed_read_and_deleted_by_their_owner(client: TestClient) -> None:
    ada, bob = sign_in(client, "ada"), sign_in(client, "bob")
    for number in range(3):
        created = client.post("/items", json={"name": f"item {number}"}, headers=ada)
        assert (created.status_code, created.json()) == (201, {"id": number + 1, "name": f"item {number}"})
    page = client.get("/items?skip=1&limit=1", headers=ada).json()
    assert (page["items"], page["total"], page["skip"], page["limit"]) == ([{"id": 2, "name": "item 1"}], 3, 1, 1)
    assert client.get("/items", headers=bob).json()["total"] == 0
    assert client.get("/items/2", headers=ada).json() == {"id": 2, "name": "item 1"}
    problem(client.get("/items/2", headers=bob), 404, "not_found")
    problem(client.delete("/items/2", headers=bob), 404, "not_found")
    assert client.delete("/items/2", headers=ada).status_code == 204
    problem(client.get("/items/2", headers=ada), 404, "not_found")
    assert client.get("/items", headers=ada).json()["total"] == 2


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "skip=-1", "skip=1e20", f"skip={2**63}", "limit=x"])
def test_pages_are_bounded(client: TestClient, query: str) -> None:
    problem(client.get(f"/items?{query}", headers=sign_in(client)), 422, "validation_error")


@pytest.mark.parametrize("item_id", ["0", "-1", str(2**31), "1" + "0" * 30, "x", "1e3", "%00"])
def test_an_id_that_no_row_can_have_is_a_422(client: TestClient, item_id: str) -> None:
    problem(client.get(f"/items/{item_id}", headers=sign_in(client)), 422, "validation_error")


def test_only_an_admin_lists_users(client: TestClient, quickstart: ModuleType) -> None:
    headers = sign_in(client)
    problem(client.get("/users", headers=headers), 403, "forbidden")

    async def promote() -> None:
        async with quickstart.db.session() as session:
            await session.execute(update(quickstart.User).values(role="admin"))

    assert client.portal is not None
    client.portal.call(promote)
    assert client.get("/users", headers=headers).json()["items"] == [{"id": 1, "username": "ada", "role": "admin"}]


def test_log_in_waits_for_no_writer(client: TestClient, tmp_path: Path) -> None:
    sign_in(client)
    writer = sqlite3.connect(tmp_path / "quickstart.db", isolation_level=None)
    with contextlib.closing(writer):
        writer.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        answer = client.post("/auth/token", data={"username": "ada", "password": PASSWORD})
        assert (answer.status_code, time.monotonic() - start < 4) == (200, True)  # a writer would wait 5 s


def test_a_deleted_user_is_signed_out(client: TestClient, quickstart: ModuleType) -> None:
    headers = sign_in(client)

    async def remove() -> None:
        async with quickstart.db.session() as session:
            await session.delete(await session.get(quickstart.User, 1))

    assert client.portal is not None
    client.portal.call(remove)
    problem(client.get("/users/me", headers=headers), 401, "invalid_token")


def test_it_is_healthy_and_documented(client: TestClient) -> None:
    assert client.get("/health/live").json() == client.get("/health/ready").json() == {"status": "ok"}
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 200
    assert set(client.get("/openapi.json").json()["paths"]) == {
        "/auth/token",
        "/health/live",
        "/health/ready",
        "/items",
        "/items/{item_id}",
        "/users",
        "/users/me",
    }


def test_the_rest_is_problems_too(client: TestClient) -> None:
    problem(client.get("/nowhere"), 404, "not_found")
    problem(client.put("/users/me"), 405, "method_not_allowed")
    kind = {"content-type": "application/json"}
    problem(client.post("/users", content=b'{"username": NaN}', headers=kind), 422, "validation_error")
    problem(client.post("/users", content=b"[" * 2000, headers=kind), 400, "bad_request")


def test_its_secret_is_checked_at_start_up(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("QUICKSTART_SECRET", "changeme")
    with pytest.raises(Exception, match=r"QUICKSTART_SECRET has 8 bytes, HS256 needs 32; make one with: python -c"):
        request.getfixturevalue("quickstart")
