"""API keys over HTTP and WebSocket, beside tokens: the same user, the same guards."""

import random
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, Security, WebSocket
from starlette.testclient import TestClient, WebSocketDenialResponse

from fastapi_kit import errors
from fastapi_kit.auth import AccessClaims, ApiKeys, Auth, Key, Principal, TokenService
from fastapi_kit.auth.api_keys import MemoryApiKeyStore, form
from fastapi_kit.auth.api_keys.form import KeyForm
from fastapi_kit.errors import UnavailableError
from tests.auth.api_keys.conftest import Clock

pytestmark = pytest.mark.anyio


@dataclass
class User:
    id: str
    role: str = "viewer"
    is_active: bool = True


USERS = {"1": User("1", "admin"), "2": User("2"), "3": User("3", is_active=False)}


class Service:
    """An app whose routes take tokens and API keys, and that counts the users it loaded."""

    def __init__(self, clock: Clock) -> None:
        self.loaded = 0
        self.store = MemoryApiKeyStore(development=True)
        self.keys = ApiKeys(self.store, secrets.token_bytes(32), prefix="kit", clock=clock)
        self.tokens = TokenService(Key.hmac(secrets.token_bytes(32)), issuer="https://x.example", audience="api")

        async def load_user(claims: AccessClaims) -> User | None:
            self.loaded += 1
            return USERS.get(claims.subject)

        self.auth = auth = Auth(
            [self.tokens, self.keys],
            load_user,
            is_active=lambda user: user.is_active,
            roles=lambda user: [user.role],
        )
        self.app = app = FastAPI()
        errors.install(app)

        @app.get("/me")
        async def me(user: Annotated[User, Depends(auth.current_user)]) -> User:
            return user

        @app.get("/maybe")
        async def maybe(user: Annotated[User | None, Depends(auth.optional_user)]) -> User | None:
            return user

        @app.get("/principal")
        async def principal(principal: Annotated[Principal[User], Depends(auth.principal)]) -> str:
            return f"{type(principal).__name__} {principal.subject} {sorted(principal.scopes)}"

        @app.get("/reports", dependencies=[Security(auth.current_user, scopes=["reports:read"])])
        async def reports() -> None: ...

        @app.get("/admin", dependencies=[Depends(auth.require_any_role("admin"))])
        async def admin() -> None: ...

        @app.websocket("/socket")
        async def socket(websocket: WebSocket, user: Annotated[User, Depends(auth.current_user)]) -> None:
            await websocket.accept()
            await websocket.send_text(user.id)
            await websocket.close()

    async def get(self, path: str, *headers: tuple[str, str]) -> httpx2.Response:
        transport = httpx2.ASGITransport(self.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers=[*headers])


@pytest.fixture
def service(clock: Clock) -> Service:
    return Service(clock)


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


async def test_a_token_and_a_key_are_the_same_user(service: Service) -> None:
    new = await service.keys.create("1", scopes=["reports:read"])
    bearer = ("Authorization", f"Bearer {service.tokens.issue('1', scopes=['reports:read']).token}")
    for header in [("X-API-Key", new.key), ("x-api-key", new.key), bearer]:
        assert (await service.get("/me", header)).json()["id"] == "1"
        assert (await service.get("/maybe", header)).json()["id"] == "1"
        assert (await service.get("/principal", header)).json() == "Principal 1 ['reports:read']"
        assert (await service.get("/reports", header)).status_code == 200
        assert (await service.get("/admin", header)).status_code == 200


async def test_scopes_and_roles_hold_for_keys_too(service: Service) -> None:
    header = ("X-API-Key", (await service.keys.create("2", scopes=["other"])).key)
    assert code_of(await service.get("/reports", header)) == (403, "insufficient_scope")
    assert code_of(await service.get("/admin", header)) == (403, "forbidden")


async def test_a_user_who_is_gone_or_inactive_gets_in_by_no_key(service: Service) -> None:
    for subject in ["3", "4"]:
        header = ("X-API-Key", (await service.keys.create(subject)).key)
        assert (await service.get("/me", header)).status_code == 401


async def test_without_credentials_both_ways_are_named(service: Service) -> None:
    response = await service.get("/me")
    assert code_of(response) == (401, "missing_credentials")
    assert response.headers["WWW-Authenticate"] == "Bearer, ApiKey"
    assert (await service.get("/maybe")).json() is None


async def test_a_wrong_key_is_a_401_also_where_it_is_optional(service: Service) -> None:
    for path in ["/me", "/maybe"]:
        for value in ["", "nonsense", "kit_" + "0" * 24 + "_" + "0" * 49]:
            response = await service.get(path, ("X-API-Key", value))
            assert code_of(response) == (401, "invalid_api_key")
            assert response.headers["WWW-Authenticate"] == 'ApiKey error="invalid_api_key"'
            assert "detail" not in response.json() or "expired" not in response.json()["detail"]
    assert service.loaded == 0


async def test_two_kinds_or_two_keys_at_once_are_a_400(service: Service) -> None:
    new = await service.keys.create("1")
    key = ("X-API-Key", new.key)
    bearer = ("Authorization", f"Bearer {service.tokens.issue('1').token}")
    for headers in [(key, bearer), (key, key), (key, ("X-API-Key", "other"))]:
        assert code_of(await service.get("/me", *headers)) == (400, "invalid_request")
    assert (await service.get("/me", key, ("Authorization", "Basic eDp5"))).status_code == 200


async def test_a_key_is_read_in_its_header_alone(service: Service) -> None:
    new = await service.keys.create("1")
    for path in [f"/me?api_key={new.key}", f"/me?X-API-Key={new.key}", f"/me?key={new.key}"]:
        assert code_of(await service.get(path)) == (401, "missing_credentials")
    for header in [("Cookie", f"X-API-Key={new.key}"), ("X_API_KEY", new.key), ("Authorization", f"ApiKey {new.key}")]:
        assert code_of(await service.get("/me", header)) == (401, "missing_credentials")
    assert code_of(await service.get("/me", ("Authorization", f"Bearer {new.key}"))) == (401, "invalid_token")


async def test_a_token_is_no_key(service: Service) -> None:
    response = await service.get("/me", ("X-API-Key", service.tokens.issue("1").token))
    assert code_of(response) == (401, "invalid_api_key")


async def test_a_revoked_key_ends_with_the_next_request(service: Service) -> None:
    new = await service.keys.create("1")
    header = ("X-API-Key", new.key)
    assert (await service.get("/me", header)).status_code == 200
    await service.keys.revoke(new.id, subject="1")
    assert code_of(await service.get("/me", header)) == (401, "invalid_api_key")


async def test_an_expired_key_is_told_so(service: Service, clock: Clock) -> None:
    new = await service.keys.create("1", expires_in=timedelta(hours=1))
    clock.advance(3600)
    response = await service.get("/me", ("X-API-Key", new.key))
    assert response.json()["detail"] == "The API key has expired."


async def test_during_a_rotation_both_keys_are_good(service: Service, clock: Clock) -> None:
    old = await service.keys.create("1")
    new = await service.keys.rotate(old.id, subject="1", overlap=timedelta(hours=1))
    headers = [("X-API-Key", key.key) for key in (old, new)]
    assert [(await service.get("/me", header)).status_code for header in headers] == [200, 200]
    clock.advance(3600)
    assert [(await service.get("/me", header)).status_code for header in headers] == [401, 200]


async def test_a_store_that_does_not_answer_lets_nobody_pass(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    new = await service.keys.create("1")

    async def fails(_: str) -> None:
        raise UnavailableError(headers={"Retry-After": "1"})

    monkeypatch.setattr(service.store, "find", fails)
    for path in ["/me", "/maybe"]:
        response = await service.get(path, ("X-API-Key", new.key))
        assert code_of(response) == (503, "service_unavailable")
        assert response.headers["Retry-After"] == "1"
    assert service.loaded == 0


async def test_another_header_can_have_the_key(clock: Clock) -> None:
    keys = ApiKeys(MemoryApiKeyStore(development=True), secrets.token_bytes(32), prefix="kit", header="Shop-Key")

    async def load_user(claims: AccessClaims) -> User | None:
        return User(claims.subject)

    auth = Auth(keys, load_user)
    app = FastAPI()

    @app.get("/me")
    async def me(user: Annotated[User, Depends(auth.current_user)]) -> str:
        return user.id

    new = await keys.create("9")
    client = TestClient(app)
    assert client.get("/me", headers={"shop-key": new.key}).json() == "9"
    assert client.get("/me", headers={"X-API-Key": new.key}).headers["WWW-Authenticate"] == "ApiKey"
    assert app.openapi()["components"]["securitySchemes"]["ApiKey"]["name"] == "Shop-Key"


async def test_a_web_socket_takes_a_key(service: Service) -> None:
    new = await service.keys.create("2")
    client = TestClient(service.app)
    with client.websocket_connect("/socket", headers={"X-API-Key": new.key}) as socket:
        assert socket.receive_text() == "2"
    await service.keys.revoke(new.id, subject="2")
    with pytest.raises(WebSocketDenialResponse) as denied:
        with client.websocket_connect("/socket", headers={"X-API-Key": new.key}):
            pass
    assert denied.value.status_code == 401


def test_openapi_lists_both_ways_and_what_each_can_answer(service: Service) -> None:
    schema = service.app.openapi()
    assert schema["components"]["securitySchemes"] == {
        "Bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    me = schema["paths"]["/me"]["get"]
    assert sorted(next(iter(way)) for way in me["security"]) == ["ApiKey", "Bearer"]
    assert {"400", "401", "503"} <= set(me["responses"])
    assert "invalid_api_key" in str(me["responses"]["401"])
    assert "invalid_api_key" not in str(me["responses"]["400"])


async def test_of_5000_hostile_headers_none_gets_in_and_none_breaks_the_service(service: Service) -> None:
    genuine = (await service.keys.create("1")).key.encode()
    rng = random.Random(18)
    seen: dict[int, int] = {}
    for _ in range(5000):
        headers = [(b"x-api-key", mutated(genuine, rng))]
        if rng.random() < 0.05:
            headers.append((b"x-api-key", mutated(genuine, rng)))
        status = await status_of(service.app, headers)
        seen[status] = seen.get(status, 0) + 1
    assert set(seen) == {400, 401}
    assert service.loaded == 0
    assert await status_of(service.app, [(b"x-api-key", genuine)]) == 200


def mutated(key: bytes, rng: random.Random) -> bytes:
    """Return something that is not the key, most often close to it."""
    text = bytearray(key)
    at = rng.randrange(len(text))
    match rng.randrange(11):
        case 0:
            text[at] = rng.choice([byte for byte in range(256) if byte != text[at]])
        case 1:
            del text[at : at + rng.randint(1, 5)]
        case 2:
            text[at:at] = rng.randbytes(rng.randint(1, 5))
        case 3:
            text = bytearray(key.swapcase())
        case 4:
            text *= rng.randint(2, 90)
        case 5:
            text[at:at] = rng.choice([b"\0", b"\r\n", b"\n", b"_", b"%00", "é".encode(), b"\xff\xfe", b"' OR 1=1 --"])
        case 6:
            text = bytearray(rng.randbytes(rng.randint(0, 200)))
        case 7:
            text += rng.choice([b"\n", b" ", b"\t", b",", b"=", b"\0", b"0"])
        case 9:
            parts = key.split(b"_")
            rng.shuffle(parts)
            text = bytearray(b"_".join(parts) if parts != key.split(b"_") else b"__")
        case 8:
            text = bytearray(KeyForm("kit").new()[1].encode())
        case _:  # its id with another secret and the right checksum
            body = key[:29] + KeyForm("kit").new()[1].encode()[29:-6]
            text = bytearray(body + form._checksum(body.decode()).encode())
    return bytes(text)


async def status_of(app: FastAPI, headers: list[tuple[bytes, bytes]]) -> int:
    """Call the app with header bytes that no client library would send."""
    statuses: list[int] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/me",
        "raw_path": b"/me",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    assert len(statuses) == 1
    return statuses[0]
