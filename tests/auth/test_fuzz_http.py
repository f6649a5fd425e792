"""Whatever a request carries for credentials, the answer is a 400, a 401 or a 403, unless they are genuine.

Requests are made of genuine ones by seeded changes, and go to the app as ASGI messages, so that headers may hold what
no client library sends. `KIT_FUZZ=100000` asks for that many; a failure prints the seed and the request.
"""

import asyncio
import os
import random
import secrets
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, WebSocket
from starlette.requests import cookie_parser
from starlette.types import Message, Scope

from fastapi_kit import errors
from fastapi_kit.auth import (
    AccessClaims,
    ApiKeys,
    Auth,
    Key,
    KeySet,
    Login,
    PasswordHasher,
    Sessions,
    TokenCookies,
    TokenService,
    cookie_login_router,
    login_router,
)
from fastapi_kit.auth.api_keys.memory import MemoryApiKeyStore
from fastapi_kit.auth.cookies import csrf_token
from fastapi_kit.auth.sessions.memory import MemorySessionStore
from tests.auth.test_keys import CURVES, private_pem

REQUESTS = int(os.environ.get("KIT_FUZZ", "10000"))
Headers = list[tuple[bytes, bytes]]

keys = KeySet(Key.hmac(secrets.token_urlsafe(64), kid="h"), Key.pem(private_pem(CURVES["ES256"]), "ES256", kid="e"))
tokens = TokenService(keys, issuer="i", audience="a")
sessions = Sessions(tokens, MemorySessionStore(development=True))
cookies = TokenCookies(sessions)
api_keys = ApiKeys(MemoryApiKeyStore(development=True), secrets.token_urlsafe(64), prefix="kit")


async def load_user(claims: AccessClaims) -> str:
    return claims.subject


async def find_login(username: str) -> Login | None:
    return None


auth = Auth([sessions, cookies, api_keys], load_user)
app = FastAPI()
errors.install(app)
app.include_router(login_router(sessions, PasswordHasher(), find_login, auth=auth))
app.include_router(cookie_login_router(sessions, cookies, PasswordHasher(), find_login, auth=auth))


@app.api_route("/me", methods=["GET", "POST"])
async def me(user: Annotated[str, Depends(auth.current_user)]) -> str:
    return user


@app.websocket("/ws")
async def ws(websocket: WebSocket, user: Annotated[str, Depends(auth.current_user)]) -> None:
    await websocket.accept()
    await websocket.close()


ODD = (
    *(
        b"",
        b"\0",
        b" ",
        b"\t",
        b"\r\n",
        b"\xff",
        b"\xc3\xa9",
        b".",
        b"..",
        b"=",
        b";",
        b",",
        b'"',
        b"%00",
        b"_",
        b"-",
        b"{}",
    ),
    *(b"null", b"none", b"e30", b"eyJhbGciOiJub25lIn0", b"A" * 5000, b"[" * 300, b"__Host-access=", b"Bearer "),
)


def mutated(rng: random.Random, genuine: bytes) -> bytes:
    """Return a text that is not the genuine one, but may be very like it."""
    changed = bytearray(genuine)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        at = rng.randrange(len(changed) + 1)
        how = rng.randrange(7)
        if how == 0 and changed:
            changed[min(at, len(changed) - 1)] ^= 1 << rng.randrange(8)
        elif how == 1:
            changed[at:at] = rng.choice(ODD)
        elif how == 2:
            del changed[at : at + rng.randrange(1, 40)]
        elif how == 3:
            changed[at:at] = changed[: rng.randrange(1, 30)]
        elif how == 4:
            changed[at:at] = rng.randbytes(rng.randrange(1, 12))
        elif how == 5:
            parts = bytes(changed).split(b".")
            rng.shuffle(parts)
            changed = bytearray(b".".join(parts))
        else:
            changed = bytearray(bytes(changed).swapcase())
    # What a server strips around a header's value is no change.
    return bytes(changed) if bytes(changed).strip(b" \t") != genuine else b"x" + genuine


async def answer(scope: Scope, body: bytes = b"") -> int:
    """Return the status of an answer; of a WebSocket, that with which it was refused."""
    status = 0

    async def receive() -> Message:
        if scope["type"] == "websocket":
            return {"type": "websocket.connect"}
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            status = message["status"]
        elif message["type"] == "websocket.accept":
            status = 101

    await app(scope, receive, send)
    return status


def request(path: str, headers: Headers, method: str = "GET") -> Scope:
    kind = "websocket" if path == "/ws" else "http"
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"api.example"), *headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }


class Genuine:
    """Credentials that open the routes, and what of a request they make."""

    async def make(self) -> "Genuine":
        self.token = (await sessions.start("1", scopes=["read"])).access.token.encode()
        self.refresh_token = (await sessions.start("1")).refresh_token.encode()  # whose changes end its log-in
        self.csrf = csrf_token(self.token.decode()).encode()
        self.api_key = (await api_keys.create("1")).key.encode()
        return self

    def bearer(self, rng: random.Random) -> tuple[Scope, bytes]:
        schemes = [b"Bearer ", b"bearer ", b"Bearer  ", b"Bearer", b"Basic ", b"", b"Bearer\t"]
        sent = b"Bearer " + self.token
        while sent.strip(b" \t") == b"Bearer " + self.token:
            sent = rng.choice(schemes) + mutated(rng, self.token)  # a change may put the scheme that was left out
        headers = [(b"authorization", sent)]
        if rng.random() < 0.1:
            headers.append((b"authorization", b"Bearer " + self.token))
        return request(rng.choice(["/me", "/ws"]), headers, rng.choice(["GET", "POST"])), b""

    def cookie(self, rng: random.Random) -> tuple[Scope, bytes]:
        genuine = sent = b"__Host-access=" + self.token
        while cookie_parser(sent.decode("latin-1")).get("__Host-access", "").encode("latin-1") == self.token:
            sent = mutated(rng, genuine)  # among other cookies, or with spaces around it, it still is the genuine one
        headers: Headers = [(b"cookie", sent)]
        for name, value in ((b"x-csrf-token", self.csrf), (b"origin", b"https://api.example")):
            if rng.random() < 0.6:
                headers.append((name, rng.choice([value, mutated(rng, value)])))
        return request(rng.choice(["/me", "/ws"]), headers, rng.choice(["GET", "POST"])), b""

    def forged(self, rng: random.Random) -> tuple[Scope, bytes]:
        headers: Headers = [(b"cookie", b"__Host-access=" + self.token)]
        if rng.random() < 0.8:
            headers.append((b"x-csrf-token", mutated(rng, self.csrf)))
        return request("/me", headers, "POST"), b""

    def socket(self, rng: random.Random) -> tuple[Scope, bytes]:
        headers: Headers = [(b"cookie", b"__Host-access=" + self.token)]
        origin = mutated(rng, b"https://api.example")
        if origin.lower() not in (b"https://api.example", b"http://api.example"):
            headers.append((b"origin", origin))
        return request("/ws", headers), b""

    def key(self, rng: random.Random) -> tuple[Scope, bytes]:
        headers = [(b"x-api-key", mutated(rng, self.api_key))]
        if rng.random() < 0.1:
            headers.append((b"authorization", b"Bearer " + self.token))
        return request(rng.choice(["/me", "/ws"]), headers), b""

    def two(self, rng: random.Random) -> tuple[Scope, bytes]:
        ways = [
            (b"authorization", b"Bearer " + self.token),
            (b"cookie", b"__Host-access=" + self.token),
            (b"x-api-key", self.api_key),
        ]
        return request("/me", rng.sample(ways, rng.choice([2, 3]))), b""

    def refresh(self, rng: random.Random) -> tuple[Scope, bytes]:
        path = rng.choice(["/auth/refresh", "/auth/cookie/refresh"])
        changed = mutated(rng, self.refresh_token)
        form = (b"content-type", b"application/x-www-form-urlencoded")
        headers = [form, (b"cookie", b"__Host-refresh=" + changed)]
        return request(path, headers, "POST"), b"refresh_token=" + changed


async def fuzz(seed: int, count: int) -> dict[int, int]:
    rng = random.Random(seed)
    genuine = await Genuine().make()
    kinds: list[Callable[[random.Random], tuple[Scope, bytes]]] = [
        genuine.bearer,
        genuine.cookie,
        genuine.forged,
        genuine.socket,
        genuine.key,
        genuine.two,
        genuine.refresh,
    ]
    seen: dict[int, int] = {}
    for number in range(count):
        kind = kinds[number % len(kinds)]
        scope, body = kind(rng)
        status = await answer(scope, body)
        allowed = {400, 401, 403} | ({422} if kind == genuine.refresh else set())
        assert status in allowed, f"seed {seed}: {status} to {scope['path']} {scope['headers']} {body!r}"
        seen[status] = seen.get(status, 0) + 1
    opening: list[Any] = [
        request("/me", [(b"authorization", b"Bearer " + genuine.token)]),
        request("/me", [(b"cookie", b"__Host-access=" + genuine.token)]),
        request("/me", [(b"x-api-key", genuine.api_key)]),
    ]
    assert [await answer(scope) for scope in opening] == [200, 200, 200]
    return seen


def test_only_genuine_credentials_open_a_route() -> None:
    seed = random.SystemRandom().randrange(2**32)
    seen = asyncio.run(fuzz(seed, REQUESTS))
    assert sum(seen.values()) == REQUESTS
    assert {400, 401, 403} <= set(seen)
