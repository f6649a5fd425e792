"""An app that takes its own tokens and those of outside issuers, over HTTP."""

import asyncio
import json
import secrets
from datetime import timedelta
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI
from hypothesis import given
from hypothesis import strategies as st

from fastapi_kit import errors
from fastapi_kit.auth import AccessClaims, Auth, Key, Sessions, TokenError, TokenService, base64url
from fastapi_kit.auth.issuers import Issuers, IssuerUnavailableError, OutsideIssuer
from fastapi_kit.auth.sessions.memory import MemorySessionStore
from fastapi_kit.errors import ConfigurationError, UnavailableError
from fastapi_kit.errors.declaration import problems_of
from tests.auth.issuers.support import AuthorizationServer, Clock

own = TokenService(Key.hmac(secrets.token_urlsafe(64)), issuer="https://shop.example", audience="shop")


def outside(server: AuthorizationServer, clock: Clock | None = None, **settings: Any) -> OutsideIssuer:
    usual: dict[str, Any] = {"audience": "api", "subject_prefix": "id|", "http_client": server.authority.client}
    return OutsideIssuer(server.url, clock=clock or Clock(), **usual | settings)


def stranger(name: str = "https://id.example", prefix: str = "id|") -> OutsideIssuer:
    return OutsideIssuer(name, audience="api", subject_prefix=prefix)


def app_of(issuers: Issuers) -> FastAPI:
    async def load_user(claims: AccessClaims) -> str:
        return claims.subject

    auth = Auth(issuers, load_user)
    app = FastAPI()
    errors.install(app)

    @app.get("/me")
    async def me(user: Annotated[str, Depends(auth.current_user)]) -> str:
        return user

    return app


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop")


async def me(client: httpx2.AsyncClient, token: str) -> tuple[int, Any]:
    answer = await client.get("/me", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code, answer.json() if answer.status_code == 200 else answer.json()["code"]


@pytest.mark.anyio
async def test_each_token_goes_to_its_issuer(server: AuthorizationServer) -> None:
    async with client_of(app_of(Issuers(own, outside(server)))) as client:
        assert await me(client, own.issue("7").token) == (200, "7")
        assert await me(client, await server.token({"sub": "7"})) == (200, "id|7")
        assert await me(client, await server.token({"iss": "https://shop.example"})) == (401, "invalid_token")
        assert await me(client, await server.token({"iss": "https://nobody.example"})) == (401, "invalid_token")
        assert await me(client, await server.forged_token()) == (401, "invalid_token")


@pytest.mark.anyio
async def test_an_own_token_needs_no_outside_issuer(server: AuthorizationServer) -> None:
    await server.behave(jwks="fail")
    async with client_of(app_of(Issuers(own, outside(server)))) as client:
        assert await me(client, await server.token()) == (503, "issuer_unavailable")
        assert await me(client, own.issue("7").token) == (200, "7")


@pytest.mark.anyio
async def test_no_request_fails_while_the_issuer_rotates_its_keys(server: AuthorizationServer) -> None:
    clock = Clock()
    async with client_of(app_of(Issuers(own, outside(server, clock)))) as client:
        tokens = [await server.token()]
        oldest = tokens[0]
        answers: list[tuple[int, Any]] = []
        rotating = True

        async def send() -> None:
            while rotating:
                answers.append(await me(client, tokens[len(answers) % len(tokens)]))
                await asyncio.sleep(0)  # an app in the same process never waits for the network

        senders = [asyncio.create_task(send()) for _ in range(8)]
        for _ in range(5):
            assert await me(client, tokens[-1]) == (200, "id|1")
            clock.now += 31
            await server.rotate(published=2)
            tokens = [tokens[-1], await server.token()]
        assert await me(client, tokens[-1]) == (200, "id|1")
        rotating = False
        await asyncio.gather(*senders)
        assert set(answers) == {(200, "id|1")}
        assert len(answers) > 100
        assert await me(client, oldest) == (401, "invalid_token")


@pytest.mark.anyio
async def test_requests_are_answered_while_the_issuer_hangs(server: AuthorizationServer) -> None:
    asked = await server.count("jwks")
    await server.behave(jwks="hang")
    issuers = Issuers(own, outside(server, timeout=timedelta(seconds=1)))
    async with client_of(app_of(issuers)) as client:
        waiting = asyncio.create_task(me(client, await server.token()))
        await server.count("jwks", at_least=asked + 1)
        assert [await me(client, own.issue("7").token) for _ in range(50)] == [(200, "7")] * 50
        assert not waiting.done()
        assert await waiting == (503, "issuer_unavailable")


@pytest.mark.anyio
async def test_own_tokens_may_be_those_of_sessions(server: AuthorizationServer) -> None:
    sessions = Sessions(own, MemorySessionStore(development=True))
    issuers = Issuers(sessions, outside(server))
    pair = await sessions.start("7")
    assert (await issuers.verify(pair.access.token)).subject == "7"
    assert (await issuers.verify(await server.token())).subject == "id|1"
    await sessions.end_all("7")
    with pytest.raises(TokenError):
        await issuers.verify(pair.access.token)


def test_what_the_issuers_raise_is_documented() -> None:
    sessions = Sessions(own, MemorySessionStore(development=True))
    assert problems_of(Issuers(own, stranger()).verify) == (IssuerUnavailableError,)
    assert problems_of(Issuers(sessions, stranger()).verify) == (UnavailableError, IssuerUnavailableError)
    assert problems_of(Issuers(own).verify) == ()
    answers = app_of(Issuers(own, stranger())).openapi()["paths"]["/me"]["get"]["responses"]
    assert {"400", "401", "503"} <= set(answers)
    assert answers["503"]["description"] == IssuerUnavailableError.title
    assert "Retry-After" in answers["503"]["headers"]


@pytest.mark.parametrize(
    "others",
    [
        [stranger(prefix="")],
        [stranger(), stranger("https://other.example")],
        [stranger(prefix="id|"), stranger("https://other.example", prefix="id|other|")],
        [stranger(prefix="id|other|"), stranger("https://other.example", prefix="id|")],
    ],
)
def test_two_users_can_never_have_one_subject(others: list[OutsideIssuer]) -> None:
    with pytest.raises(ConfigurationError, match=r"somebody else here. Give each .* as in subject_prefix='google\|'"):
        Issuers(own, *others)


@pytest.mark.parametrize(
    "others", [[stranger("https://shop.example")], [stranger(), stranger("https://id.example", prefix="other|")]]
)
def test_an_issuer_is_given_once(others: list[OutsideIssuer]) -> None:
    with pytest.raises(ConfigurationError, match="two of the issuers have one name"):
        Issuers(own, *others)


def segment(value: Any) -> str:
    return base64url.encode(value if isinstance(value, bytes) else json.dumps(value).encode())


CLAIMED: list[Any] = [
    {},
    [],
    7,
    None,
    {"iss": None},
    {"iss": 7},
    {"iss": ["https://shop.example"]},
    {"iss": {"https://shop.example": 1}},
    {"iss": "https://SHOP.example"},
    {"iss": "https://shop.example/"},
    b'{"iss": "https://nobody.example", "iss": "https://shop.example"}',
    b'{"iss": NaN}',
    b"[" * 6_000,
    b"\xff",
    {"iss": "https://shop.example", "more": "x" * 8192},
]


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "e30.e30",
        "e30.e30.e30.e30",
        "e30.!.e30",
        "\ud800.\ud800.\ud800",
        "." * 100_000,
        *(f"e30.{segment(claims)}.e30" for claims in CLAIMED),
    ],
)
def test_what_names_no_issuer_of_ours_is_a_token_error(token: str) -> None:
    with pytest.raises(TokenError) as caught:
        asyncio.run(_verify(token))
    assert caught.value.reason == "issuer"


def test_an_own_issuer_that_is_only_named_is_not_believed() -> None:
    with pytest.raises(TokenError):
        asyncio.run(_verify(f"e30.{segment({'iss': 'https://shop.example'})}.e30"))


@given(
    token=st.text()
    | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}", fullmatch=True)
    | st.dictionaries(st.sampled_from(["iss", "sub"]), st.text() | st.just("https://shop.example")).map(
        lambda claims: f"e30.{segment(claims)}.e30"
    )
)
def test_no_text_makes_anything_but_a_token_error(token: str) -> None:
    with pytest.raises(TokenError):
        asyncio.run(_verify(token))


async def _verify(token: str) -> AccessClaims:
    return await Issuers(own, stranger()).verify(token)
