"""Tokens in cookies: who is let in by them, and that no other site can make the browser act."""

import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Response, WebSocket
from starlette.testclient import TestClient, WebSocketDenialResponse

from fastapi_kit import errors
from fastapi_kit.auth import AccessClaims, Auth, Key, TokenCookies, TokenService
from fastapi_kit.errors import ConfigurationError

tokens = TokenService(Key.hmac(secrets.token_urlsafe(64)), issuer="i", audience="a")


async def load_user(claims: AccessClaims) -> str | None:
    return None if claims.subject == "gone" else claims.subject


def make_app(cookies: TokenCookies) -> FastAPI:
    auth = Auth([tokens, cookies], load_user)
    app = FastAPI()
    errors.install(app)

    @app.post("/login/{subject}")
    async def log_in(subject: str, response: Response) -> str:
        return cookies.set(response, tokens.issue(subject))

    @app.post("/logout")
    async def log_out(response: Response) -> None:
        cookies.clear(response)

    @app.post("/me")
    @app.api_route("/me", methods=["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"], include_in_schema=False)
    async def me(user: Annotated[str, Depends(auth.current_user)]) -> str:
        return user

    @app.websocket("/ws")
    async def ws(websocket: WebSocket, user: Annotated[str, Depends(auth.current_user)]) -> None:
        await websocket.accept()
        await websocket.send_text(user)
        await websocket.close()

    return app


@pytest.fixture
def client() -> Iterator[TestClient]:
    cookies = TokenCookies(tokens, trusted_origins=["https://app.example", "http://localhost:3000"])
    with TestClient(make_app(cookies), base_url="https://api.example") as client:
        yield client


def log_in(client: TestClient, subject: str = "1") -> str:
    csrf: str = client.post(f"/login/{subject}").json()
    return csrf


def test_the_cookies_are_host_only_and_the_token_is_hidden_from_scripts(client: TestClient) -> None:
    response = client.post("/login/1")
    access, csrf = response.headers.get_list("set-cookie")
    assert access.startswith("__Host-access=ey")
    assert access.split("; ", 1)[1] == "HttpOnly; Max-Age=900; Path=/; SameSite=lax; Secure"
    assert csrf == f"__Host-csrf={response.json()}; Max-Age=900; Path=/; SameSite=strict; Secure"


def test_the_cookie_is_the_current_user_for_safe_methods(client: TestClient) -> None:
    log_in(client)
    assert client.get("/me").json() == "1"
    for method in ("HEAD", "OPTIONS"):
        assert client.request(method, "/me").status_code == 200


def test_without_a_cookie_the_challenge_names_both_ways(client: TestClient) -> None:
    response = client.get("/me")
    assert (response.status_code, response.json()["code"]) == (401, "missing_credentials")
    assert response.headers["www-authenticate"] == "Bearer, Cookie"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_an_unsafe_method_needs_the_csrf_token(client: TestClient, method: str) -> None:
    csrf = log_in(client)
    for wrong in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": csrf[:-1]}, {"X-CSRF-Token": "\xe9" * 43}):
        headers = [(name.encode(), value.encode("latin-1")) for name, value in wrong.items()]
        response = client.request(method, "/me", headers=headers)
        assert (response.status_code, response.json()["code"]) == (403, "csrf_failed")
        assert "__Host-csrf" in response.json()["detail"]
    assert client.request(method, "/me", headers={"X-CSRF-Token": csrf}).json() == "1"


def test_the_csrf_token_of_another_log_in_is_no_use(client: TestClient) -> None:
    other = log_in(client, "2")
    log_in(client, "1")
    assert client.post("/me", headers={"X-CSRF-Token": other}).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://api.example"}, 200),
        ({"Origin": "HTTPS://API.example"}, 200),
        ({"Origin": "https://app.example"}, 200),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "https://api.example.evil.example"}, 403),
        ({"Origin": "https://api.example:8443"}, 403),
        ({"Origin": "http://localhost"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "ftp://api.example"}, 403),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_another_origin_is_refused_even_with_the_csrf_token(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    csrf = log_in(client)
    assert client.post("/me", headers={"X-CSRF-Token": csrf, **headers}).status_code == status


def test_an_empty_host_is_no_origin() -> None:
    app = make_app(TokenCookies(tokens))
    with TestClient(app, base_url="https://api.example") as client:
        csrf = log_in(client)
        headers = {"X-CSRF-Token": csrf, "Host": "", "Origin": "https://"}
        assert client.post("/me", headers=headers).status_code == 403


def test_a_bearer_token_needs_no_csrf_token(client: TestClient) -> None:
    bearer = {"Authorization": f"Bearer {tokens.issue('1').token}", "Origin": "https://evil.example"}
    assert client.post("/me", headers=bearer).json() == "1"


def test_a_cookie_and_a_bearer_token_at_once_are_a_400(client: TestClient) -> None:
    log_in(client)
    response = client.get("/me", headers={"Authorization": f"Bearer {tokens.issue('2').token}"})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert response.json()["detail"] == "Send one kind of credentials: Bearer or Cookie, not both."


@pytest.mark.parametrize("space", ["\xa0", "\x85", "\x1c", "\x1f", "\t", "_"])
def test_a_cookie_of_almost_the_name_is_another_one(client: TestClient, space: str) -> None:
    genuine, eve = tokens.issue("1").token, tokens.issue("eve").token
    for name in (f"{space}__Host-access", f"__Host-access{space}"):
        alone = client.get("/me", headers=[(b"Cookie", f"a=b; {name}={eve}".encode("latin-1"))])
        assert alone.json()["code"] == "missing_credentials"
        besides = f"__Host-access={genuine}; {name}={eve}".encode("latin-1")
        assert client.get("/me", headers=[(b"Cookie", besides)]).json() == "1"


@pytest.mark.parametrize("between", ["; ", None])
def test_two_cookies_of_the_name_are_a_400(client: TestClient, between: str | None) -> None:
    pairs = [f"__Host-access={tokens.issue(subject).token}" for subject in ("1", "eve")]
    values = [between.join(pairs)] if between else pairs
    response = client.get("/me", headers=[("Cookie", value) for value in values])
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")


def test_a_quoted_cookie_is_no_token(client: TestClient) -> None:
    response = client.get("/me", headers={"Cookie": f'__Host-access="{tokens.issue("1").token}"'})
    assert response.status_code == 401


def test_of_two_origins_each_has_to_be_ours(client: TestClient) -> None:
    csrf = log_in(client)
    headers = [("X-CSRF-Token", csrf), ("Origin", "https://api.example"), ("Origin", "https://evil.example")]
    assert client.post("/me", headers=headers).status_code == 403


@pytest.mark.parametrize("options", [{"same_site": "none"}, {"same_site": "Lax"}, {"insecure_http": "false"}])
def test_options_that_weaken_by_mistake_are_refused_at_start_up(options: Any) -> None:
    with pytest.raises(ConfigurationError, match='same_site is "lax" or "strict", and insecure_http True or False'):
        TokenCookies(tokens, **options)


@pytest.mark.parametrize("value", ["", "x", "a.b.c", "\xff", "x" * 9000])
def test_a_cookie_that_is_no_token_is_a_401(client: TestClient, value: str) -> None:
    response = client.get("/me", headers=[(b"Cookie", f"__Host-access={value}".encode("latin-1"))])
    assert (response.status_code, response.json()["code"]) == (401, "invalid_token")


def test_a_user_who_is_gone_is_a_401(client: TestClient) -> None:
    log_in(client, "gone")
    assert client.get("/me").status_code == 401


def test_a_websocket_needs_an_origin_of_ours(client: TestClient) -> None:
    log_in(client)
    for origin in ("https://api.example", "https://app.example"):
        with client.websocket_connect("wss://api.example/ws", headers={"Origin": origin}) as socket:
            assert socket.receive_text() == "1"
    for wrong in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {}, {"Sec-Fetch-Site": "same-origin"}):
        with (
            pytest.raises(WebSocketDenialResponse) as denied,
            client.websocket_connect("wss://api.example/ws", headers=wrong),
        ):
            pass
        assert (denied.value.status_code, denied.value.json()["code"]) == (403, "csrf_failed")


def test_clearing_makes_the_browser_forget(client: TestClient) -> None:
    log_in(client)
    client.post("/logout")
    assert dict(client.cookies) == {}
    assert client.get("/me").status_code == 401


def test_insecure_http_drops_the_prefix_and_secure() -> None:
    with TestClient(make_app(TokenCookies(tokens, insecure_http=True, same_site="strict"))) as client:
        response = client.post("/login/1")
        assert response.headers.get_list("set-cookie")[0].endswith("; HttpOnly; Max-Age=900; Path=/; SameSite=strict")
        assert client.get("/me").json() == "1"


def test_a_token_that_browsers_would_drop_is_refused() -> None:
    issued = tokens.issue("1", claims={"big": "x" * 4000})
    with pytest.raises(ValueError, match=r"the token has \d+ bytes: too many for a cookie"):
        TokenCookies(tokens).set(Response(), issued)


@pytest.mark.parametrize(
    "origin", ["app.example", "https://app.example/", "https://app.example/x", "ftp://app.example", "", "*", "https://"]
)
def test_an_origin_that_is_none_is_refused_at_start_up(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="is no origin: write scheme and host alone"):
        TokenCookies(tokens, trusted_origins=[origin])


def test_a_string_of_origins_is_refused_at_start_up() -> None:
    with pytest.raises(ConfigurationError, match="string in place of a list"):
        TokenCookies(tokens, trusted_origins="https://app.example")


def test_openapi_shows_the_cookie_beside_the_bearer_token(client: TestClient) -> None:
    app: Any = client.app
    schema = app.openapi()
    operation = schema["paths"]["/me"]["post"]
    assert operation["security"] == [{"Bearer": []}, {"Cookie": []}]
    assert schema["components"]["securitySchemes"]["Cookie"] == {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-access",
    }
    assert {"400", "401", "403"} <= set(operation["responses"])


def test_a_cookie_alone_opens_a_route_too() -> None:
    cookies = TokenCookies(
        TokenService(Key.hmac(secrets.token_urlsafe(64)), issuer="i", audience="a", ttl=timedelta(hours=1))
    )
    auth = Auth(cookies, load_user)
    assert auth.credentials == (cookies,)
