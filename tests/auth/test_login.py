"""The form log-in (RFC 6749, 4.3): what it gives, and that all failures look alike."""

import secrets
from collections.abc import Callable
from typing import Annotated, Any

import bcrypt
import pytest
from fastapi import Depends, FastAPI
from starlette.testclient import TestClient

from fastapi_kit import errors
from fastapi_kit.auth import Argon2Profile, Key, KeySet, Login, PasswordHasher, TokenService, login_router

CHEAP = Argon2Profile(time_cost=1, memory_kib=8, parallelism=1)
tokens = TokenService(KeySet(Key.hmac(secrets.token_urlsafe(64))), issuer="i", audience="a")
OLD = bcrypt.hashpw(b"old", bcrypt.gensalt(4)).decode()


async def prefix() -> str:
    return "user-"


def make_client(passwords: PasswordHasher | None = None, **saved: Any) -> TestClient:
    async def save_later(new_hash: str) -> None:
        saved["store"]["async"] = new_hash

    def save_now(new_hash: str) -> None:
        saved["store"]["sync"] = new_hash

    async def find_login(name: str, before: Annotated[str, Depends(prefix)]) -> Login | None:
        known: dict[str, Callable[[], Login]] = {
            "ann": lambda: Login(before + "1", OLD, scopes=["read", "write"]),
            "off": lambda: Login(before + "2", OLD, is_active=False),
            "sync": lambda: Login(before + "3", OLD, save_hash=save_now),
            "async": lambda: Login(before + "4", OLD, save_hash=save_later),
        }
        return known[name]() if name in known else None

    app = FastAPI()
    errors.install(app)
    app.include_router(login_router(tokens, passwords or PasswordHasher(CHEAP), find_login))
    return TestClient(app)


def log_in(client: TestClient, username: str, password: str, **more: str) -> Any:
    return client.post("/auth/token", data={"username": username, "password": password, **more})


def test_a_log_in_gives_a_token_and_forbids_to_store_it() -> None:
    response = log_in(make_client(), "ann", "old", grant_type="password")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    claims = tokens.verify(body["access_token"])
    assert (claims.subject, set(claims.scopes)) == ("user-1", {"read", "write"})
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 900, "read write")


def test_a_client_may_ask_for_fewer_scopes_and_never_gets_more() -> None:
    assert log_in(make_client(), "ann", "old", scope="read admin").json()["scope"] == "read"
    assert log_in(make_client(), "ann", "old", scope="admin").json()["scope"] == ""
    assert log_in(make_client(), "ann", "old", scope="  ").json()["scope"] == "read write"


@pytest.mark.parametrize(
    ("username", "password"),
    [("ann", "wrong"), ("nobody", "old"), ("off", "old"), ("ann\0", "old"), ("ann", "x" * 5000)],
)
def test_every_failure_is_the_same_401(username: str, password: str) -> None:
    response = log_in(make_client(), username, password)
    body = response.json() | {"request_id": ""}
    assert response.status_code == 401
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["www-authenticate"] == "Bearer"
    assert body == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "The user name or the password is wrong",
        "code": "invalid_credentials",
        "request_id": "",
        "error": "invalid_grant",
    }


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_old_hash_is_replaced_at_log_in(kind: str) -> None:
    store: dict[str, str] = {}
    client = make_client(store=store)
    assert log_in(client, kind, "wrong").status_code == 401
    assert store == {}
    assert log_in(client, kind, "old").status_code == 200
    assert store[kind].startswith("$argon2id$")


@pytest.mark.parametrize("more", [{"grant_type": "client_credentials"}, {"scope": "x" * 3000}])
def test_another_grant_and_an_endless_scope_are_refused(more: dict[str, str]) -> None:
    response = log_in(make_client(), "ann", "s3cret", **more)
    assert response.status_code == 422
    assert "s3cret" not in response.text


def test_a_form_without_its_fields_names_them() -> None:
    response = make_client().post("/auth/token", data={"username": "ann"})
    assert [(error["in"], error["name"]) for error in response.json()["errors"]] == [("form", "password")]


def test_openapi_documents_its_answers() -> None:
    app: Any = make_client().app
    operation = app.openapi()["paths"]["/auth/token"]["post"]
    assert set(operation["responses"]) == {"200", "401", "422", "503", "default"}
    assert "security" not in operation


def test_a_string_of_scopes_is_told() -> None:
    with pytest.raises(TypeError, match=r"Login.scopes got the string 'read write' in place of a list"):
        Login("1", OLD, scopes="read write")


def test_neither_hash_nor_token_is_in_a_repr() -> None:
    assert OLD not in repr(Login("1", OLD))
