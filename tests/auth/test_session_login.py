"""Log-ins that last, over HTTP: token, refresh, logout and logout-all, with bearer tokens and with cookies."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from fastapi_kit import errors
from fastapi_kit.auth import (
    AccessClaims,
    Argon2Profile,
    Auth,
    Key,
    Login,
    PasswordHasher,
    Sessions,
    TokenCookies,
    TokenService,
    cookie_login_router,
    login_router,
)
from fastapi_kit.auth.sessions.memory import MemorySessionStore
from fastapi_kit.errors import ConfigurationError, ConflictError, UnavailableError, raises
from tests.auth.test_login import OLD

passwords = PasswordHasher(Argon2Profile(time_cost=1, memory_kib=8, parallelism=1))


class Store(MemorySessionStore):
    """A store that can be switched off."""

    is_down = False

    async def check(self, *given: Any) -> Any:
        if self.is_down:
            raise UnavailableError
        return await super().check(*given)


@dataclass
class Service:
    """One service and what happened in it."""

    active: set[str] = field(default_factory=lambda: {"1", "2"})
    asked: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=lambda: {"1": OLD, "2": OLD})
    is_locked: bool = False
    is_down: bool = False
    now: float = 2e9
    store: Store = field(default_factory=lambda: Store(development=True))

    def __post_init__(self) -> None:
        tokens = TokenService(Key.hmac(secrets.token_urlsafe(64)), issuer="i", audience="a", clock=lambda: self.now)
        self.sessions = Sessions(tokens, self.store, clock=lambda: self.now)
        self.cookies = TokenCookies(self.sessions)
        self.auth = Auth([self.sessions, self.cookies], self.load_user, token_url="/auth/token")
        self.app = FastAPI()
        errors.install(self.app)
        routers = {"auth": self.auth, "limit": self}
        self.app.include_router(login_router(self.sessions, passwords, self.find_login, **routers))  # type: ignore[arg-type]
        self.app.include_router(
            cookie_login_router(self.sessions, self.cookies, passwords, self.find_login, **routers)  # type: ignore[arg-type]
        )

        @self.app.post("/me", include_in_schema=False)
        @self.app.get("/me")
        async def me(user: Annotated[str, Depends(self.auth.current_user)]) -> str:
            return user

    async def load_user(self, claims: AccessClaims) -> str | None:
        if self.is_down:
            raise UnavailableError
        return claims.subject if claims.subject in self.active else None

    async def find_login(self, username: str) -> Login | None:
        known = {"ann": "1", "bob": "2"}
        subject = known.get(username)
        return Login(subject, self.hashes[subject], scopes=["read", "write"]) if subject is not None else None

    @raises(ConflictError)
    async def begin(self, connection: HTTPConnection, account: str) -> None:
        self.asked.append(f"begin {account}")
        if self.asked.count(f"begin {account}") > 3:
            raise ConflictError("locked")

    async def admits(self, connection: HTTPConnection, subject: str) -> bool:
        self.asked.append(f"admits {subject}")
        return not self.is_locked

    async def succeeded(self, connection: HTTPConnection, account: str, subject: str) -> None:
        self.asked.append(f"succeeded {account} {subject}")


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(service.app, base_url="https://api.example") as client:
        yield client


def log_in(client: TestClient, username: str = "ann", **more: str) -> dict[str, Any]:
    response = client.post("/auth/token", data={"username": username, "password": "old", **more})
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    body: dict[str, Any] = response.json()
    return body


def me(client: TestClient, body: dict[str, Any]) -> int:
    return client.get("/me", headers={"Authorization": f"Bearer {body['access_token']}"}).status_code


def refresh(client: TestClient, body: dict[str, Any], **more: str) -> Any:
    return client.post("/auth/refresh", data={"refresh_token": body["refresh_token"], **more})


def test_a_log_in_gives_a_pair_and_a_refresh_the_next_one(client: TestClient) -> None:
    first = log_in(client)
    assert (first["token_type"], first["expires_in"], first["refresh_expires_in"]) == ("Bearer", 900, 14 * 86400)
    second = refresh(client, first, grant_type="refresh_token")
    assert (second.status_code, second.headers["cache-control"]) == (200, "no-store")
    assert second.json()["scope"] == "read write"
    assert second.json()["refresh_token"] != first["refresh_token"]
    assert me(client, first) == me(client, second.json()) == 200


def test_a_replay_ends_the_log_in_and_its_access_tokens(client: TestClient) -> None:
    first = log_in(client)
    second = refresh(client, first).json()
    third = refresh(client, second).json()
    replayed = refresh(client, first)
    assert (replayed.status_code, replayed.json()["code"], replayed.json()["error"]) == (400, *["invalid_grant"] * 2)
    assert refresh(client, third).status_code == 400
    assert me(client, third) == 401
    assert me(client, log_in(client)) == 200


def test_a_refresh_may_ask_for_fewer_scopes_and_never_gets_more(client: TestClient) -> None:
    first = log_in(client, scope="read")
    wider = refresh(client, first, scope="read write")
    assert (wider.status_code, wider.json()["code"]) == (400, "invalid_scope")
    assert refresh(client, first, scope="read").json()["scope"] == "read"


@pytest.mark.parametrize("token", ["", "x", "\0", "A" * 64, "é" * 64, "x" * 600])
def test_a_refresh_token_that_is_none_is_refused(client: TestClient, token: str) -> None:
    response = refresh(client, {"refresh_token": token})
    assert response.status_code in (400, 422)
    assert response.json()["code"] in ("invalid_grant", "validation_error")


def test_a_log_out_ends_this_log_in_alone(client: TestClient) -> None:
    here, there = log_in(client), log_in(client)
    for _ in range(2):  # the second time it is known no more, which is no error
        response = client.post("/auth/logout", data={"refresh_token": here["refresh_token"]})
        assert (response.status_code, response.content) == (204, b"")
    assert (me(client, here), refresh(client, here).status_code) == (401, 400)
    assert (me(client, there), refresh(client, there).status_code) == (200, 200)


def test_a_log_out_everywhere_ends_all_of_the_caller_and_none_of_others(client: TestClient) -> None:
    here, there, other = log_in(client), log_in(client), log_in(client, "bob")
    bearer = {"Authorization": f"Bearer {here['access_token']}"}
    assert client.post("/auth/logout-all", headers=bearer).status_code == 204
    assert [me(client, body) for body in (here, there, other)] == [401, 401, 200]
    assert [refresh(client, body).status_code for body in (here, there, other)] == [400, 400, 200]
    assert client.post("/auth/logout-all", headers=bearer).status_code == 401
    assert me(client, log_in(client)) == 200


def test_a_user_who_was_deactivated_cannot_refresh(client: TestClient, service: Service) -> None:
    pair = log_in(client)
    service.active.remove("1")
    assert refresh(client, pair).json()["code"] == "invalid_grant"
    assert refresh(client, pair).status_code == 400


def test_a_user_database_that_is_down_costs_nobody_the_log_in(client: TestClient, service: Service) -> None:
    first = log_in(client)
    service.is_down = True
    assert refresh(client, first).status_code == 503
    service.now += 3600  # long after the grace
    assert refresh(client, first).status_code == 503
    service.is_down = False
    second = refresh(client, first).json()
    assert refresh(client, second).status_code == 200
    assert refresh(client, first).status_code == 400  # a replay is one as before


def test_a_retry_whose_check_fails_undoes_nothing(client: TestClient, service: Service) -> None:
    first = log_in(client)
    second = refresh(client, first).json()
    service.is_down = True
    assert refresh(client, first).status_code == 503
    service.is_down = False
    assert refresh(client, second).status_code == 200


def test_a_store_that_is_down_lets_nobody_pass(client: TestClient, service: Service) -> None:
    pair = log_in(client)
    service.store.is_down = True
    assert me(client, pair) == 503


def test_every_limit_is_asked_before_the_password_and_told_of_success(client: TestClient, service: Service) -> None:
    log_in(client)
    assert service.asked == ["begin ann", "admits 1", "succeeded ann 1"]
    wrong = {"username": "bob", "password": "wrong"}
    statuses = [client.post(path, data=wrong).status_code for path in ("/auth/token", "/auth/cookie/login") * 2]
    assert statuses == [401, 401, 401, 409]
    assert client.post("/auth/token", data={"username": "bob", "password": "old"}).status_code == 409


def test_an_account_without_attempts_left_answers_as_to_a_wrong_password(client: TestClient, service: Service) -> None:
    service.is_locked = True
    locked = client.post("/auth/token", data={"username": "ann", "password": "old"})
    service.is_locked = False
    wrong = client.post("/auth/token", data={"username": "ann", "password": "wrong"})
    assert (locked.status_code, locked.json() | {"request_id": ""}) == (401, wrong.json() | {"request_id": ""})


@pytest.mark.parametrize("path", ["/auth/token", "/auth/cookie/login"])
def test_a_log_in_that_a_change_of_the_password_overtook_is_refused_and_ended(
    client: TestClient, service: Service, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[str] = []

    async def add(record: Any) -> None:  # the change commits after the password was looked at
        started.append(record.id)
        service.hashes["1"] = "another"
        await MemorySessionStore.add(service.store, record)

    service.store.add = add  # type: ignore[method-assign]
    response = client.post(path, data={"username": "ann", "password": "old"})
    assert (response.status_code, response.json()["code"]) == (401, "invalid_credentials")
    assert "set-cookie" not in response.headers
    found = client.portal.call(service.store.find, started[0]) if client.portal is not None else None
    assert found is not None
    assert found[0].ended_at


def cookie_log_in(client: TestClient, **headers: str) -> Any:
    return client.post("/auth/cookie/login", data={"username": "ann", "password": "old"}, headers=headers)


def test_a_log_in_with_cookies_shows_no_token_to_scripts(client: TestClient) -> None:
    response = cookie_log_in(client)
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    assert set(response.json()) == {"expires_in", "refresh_expires_in", "scope", "csrf_token"}
    access, refresh_cookie, csrf = response.headers.get_list("set-cookie")
    assert access.startswith("__Host-access=")
    assert csrf.startswith(f"__Host-csrf={response.json()['csrf_token']};")
    assert refresh_cookie.startswith("__Host-refresh=")
    assert refresh_cookie.endswith("; HttpOnly; Max-Age=1209600; Path=/; SameSite=strict; Secure")
    assert client.get("/me").json() == "1"


def test_cookies_are_refreshed_and_the_access_token_need_not_live(client: TestClient) -> None:
    csrf = cookie_log_in(client).json()["csrf_token"]
    old = client.cookies["__Host-refresh"]
    client.cookies.delete("__Host-access")
    assert client.post("/auth/cookie/refresh").json()["csrf_token"] == csrf
    assert client.cookies["__Host-refresh"] != old
    assert client.post("/me", headers={"X-CSRF-Token": csrf}).json() == "1"


def test_the_csrf_token_is_that_of_the_log_in(client: TestClient) -> None:
    other = cookie_log_in(client).json()["csrf_token"]
    cookie_log_in(client)
    assert client.post("/me", headers={"X-CSRF-Token": other}).status_code == 403


def test_a_refresh_without_its_cookie_is_a_401(client: TestClient) -> None:
    response = client.post("/auth/cookie/refresh")
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Cookie")


def test_a_log_out_ends_the_log_in_of_the_cookies_and_clears_them(client: TestClient) -> None:
    cookie_log_in(client)
    kept = dict(client.cookies)
    for _ in range(2):
        assert client.post("/auth/cookie/logout").status_code == 204
    assert dict(client.cookies) == {}
    client.cookies.update(kept)
    assert client.get("/me").status_code == 401
    assert client.post("/auth/cookie/refresh").status_code == 400


def test_a_log_out_everywhere_needs_the_csrf_token(client: TestClient) -> None:
    csrf = cookie_log_in(client).json()["csrf_token"]
    assert client.post("/auth/cookie/logout-all").json()["code"] == "csrf_failed"
    kept = dict(client.cookies)
    assert client.post("/auth/cookie/logout-all", headers={"X-CSRF-Token": csrf}).status_code == 204
    assert dict(client.cookies) == {}
    client.cookies.update(kept)
    assert client.get("/me").status_code == 401


@pytest.mark.parametrize("path", ["login", "refresh", "logout"])
def test_another_origin_can_neither_log_in_nor_refresh_nor_log_out(client: TestClient, path: str) -> None:
    cookie_log_in(client)
    form = {"username": "ann", "password": "old"}
    response = client.post(f"/auth/cookie/{path}", data=form, headers={"Origin": "https://evil.example"})
    assert (response.status_code, response.json()["code"]) == (403, "csrf_failed")
    assert "set-cookie" not in response.headers
    assert client.get("/me").status_code == 200


def test_openapi_documents_every_answer(service: Service) -> None:
    paths = service.app.openapi()["paths"]
    answers = {path: set(operation["post"]["responses"]) for path, operation in paths.items() if path != "/me"}
    assert answers == {
        "/auth/token": {"200", "401", "409", "422", "503", "default"},
        "/auth/refresh": {"200", "400", "422", "503", "default"},
        "/auth/logout": {"204", "422", "503", "default"},
        "/auth/logout-all": {"204", "400", "401", "403", "503", "default"},
        "/auth/cookie/login": {"200", "401", "403", "409", "422", "503", "default"},
        "/auth/cookie/refresh": {"200", "400", "401", "403", "503", "default"},
        "/auth/cookie/logout": {"204", "400", "403", "503", "default"},
        "/auth/cookie/logout-all": {"204", "400", "401", "403", "503", "default"},
    }
    assert paths["/auth/logout-all"]["post"]["security"] == [{"Login": []}, {"Cookie": []}]
    assert "security" not in paths["/auth/refresh"]["post"]


def test_sessions_without_auth_are_refused_at_start_up(service: Service) -> None:
    with pytest.raises(ConfigurationError, match="Sessions need auth=Auth"):
        login_router(service.sessions, passwords, service.find_login)


def test_an_auth_that_takes_no_tokens_is_refused_at_start_up(service: Service) -> None:
    class Other:
        scheme_name, challenge, problems, model = "Other", "", (), service.cookies.model

        def find(self, connection: HTTPConnection) -> str | None: ...

        async def verify(self, value: str, connection: HTTPConnection) -> AccessClaims:
            raise NotImplementedError

    auth = Auth(Other(), service.load_user)
    with pytest.raises(ConfigurationError, match="auth takes no tokens"):
        login_router(service.sessions, passwords, service.find_login, auth=auth)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: login_router(wrong(passwords), passwords, s.find_login), "the issuer is a PasswordHasher"),
        (lambda s: login_router(s.sessions, wrong(None), s.find_login, auth=s.auth), "passwords is a NoneType"),
        (lambda s: login_router(reset_tokens(), passwords, s.find_login), "is for 'reset': log-ins need one"),
        (
            lambda s: login_router(s.sessions.tokens, passwords, s.find_login, limit=wrong("5/minute")),
            "limit is '5/minute'",
        ),
        (lambda s: login_router(s.sessions.tokens, passwords, s.find_login, limit=wrong("")), "limit is ''"),
        (lambda s: login_router(s.sessions.tokens, passwords, s.find_login, limit=wrong([5])), r"limit is \[5\]"),
        (
            lambda s: cookie_login_router(s.cookies, s.sessions, passwords, s.find_login, auth=s.auth),
            "sessions is a TokenCookies: give the Sessions first",
        ),
        (
            lambda s: cookie_login_router(s.sessions, TokenCookies(s.sessions), passwords, s.find_login, auth=s.auth),
            "these cookies are not among auth's",
        ),
        (lambda s: Auth(reset_tokens(), s.load_user), "its tokens must open no route"),
    ],
)
def test_what_is_joined_wrongly_is_told_at_start_up(make: Any, message: str, service: Service) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(service)


def wrong(value: object) -> Any:
    return value


def reset_tokens() -> TokenService:
    return TokenService(Key.hmac(secrets.token_urlsafe(64)), issuer="i", audience="a", purpose="reset")
