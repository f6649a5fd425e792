"""The example as its users meet it: copied out, served over TLS, with a provider in another process."""

import base64
import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from fastapi_kit.errors import ConfigurationError
from tests.auth.issuers.support import (
    CLIENT_ID,
    CLIENT_SECRET,
    Authority,
    AuthorizationServer,
    free_port,
    wait_for_port,
)

SOURCE = Path(__file__).parents[2] / "examples" / "outside_login.py"
CHECKED = """
import outside_login
from fastapi_kit.testing import Contract
app = Contract(outside_login.app)  # a response that is not in the OpenAPI document is a crash in the log
"""
SETTINGS = {
    "OIDC_ISSUER": "https://id.example",
    "OIDC_CLIENT_ID": CLIENT_ID,
    "OIDC_CLIENT_SECRET": CLIENT_SECRET,
    "PUBLIC_URL": "https://shop.example",
    "SECRET_KEY": secrets.token_urlsafe(64),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def running_provider(authority: Authority) -> Iterator[AuthorizationServer]:
    with AuthorizationServer(authority).running() as server:
        yield server


@pytest.fixture
async def provider(running_provider: AuthorizationServer) -> AuthorizationServer:
    await running_provider.behave()
    return running_provider


@pytest.fixture(scope="module")
def shop(running_provider: AuthorizationServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the example, which runs in a folder of its own; a crash in it fails the tests."""
    folder, port = tmp_path_factory.mktemp("shop"), free_port()
    log = folder / "uvicorn.log"
    shutil.copy(SOURCE, folder)
    (folder / "checked.py").write_text(CHECKED)
    authority = running_provider.authority
    url = f"https://localhost:{port}"
    environment = os.environ | SETTINGS | {"OIDC_ISSUER": running_provider.url, "PUBLIC_URL": url}
    command = [sys.executable, "-m", "uvicorn", "checked:app", "--port", str(port), "--log-level", "warning"]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*command, "--ssl-certfile", str(authority.certificate)],
            cwd=folder,
            env=environment | {"SSL_CERT_FILE": str(authority.root)},
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            wait_for_port(port, process)
            yield url
        finally:
            process.kill()
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
async def browser(authority: Authority, shop: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with browser_of(authority, shop) as client:
        yield client


def browser_of(authority: Authority, shop: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=shop, verify=authority.trust, trust_env=False, follow_redirects=True)


def test_it_is_a_file_that_a_person_reads_at_one_sitting() -> None:
    assert len(SOURCE.read_text().splitlines()) <= 120


@pytest.mark.anyio
async def test_who_signs_in_is_the_same_user_each_time(
    provider: AuthorizationServer, authority: Authority, shop: str
) -> None:
    async def sign_in(**claims: Any) -> Any:
        await provider.behave(id_token={"email": "ada@example.com", "name": "Ada"} | claims)
        async with browser_of(authority, shop) as browser:
            answer = await browser.get("/login")
            assert (answer.status_code, answer.url.path) == (200, "/users/me")
            return answer.json()

    first = await sign_in(sub="7")
    assert first["name"] == "Ada"
    assert await sign_in(sub="7", email="ada@example.org") == first
    assert (await sign_in(sub="8"))["id"] != first["id"]  # the same address makes nobody the same


@pytest.mark.anyio
async def test_the_token_is_the_services_own(
    provider: AuthorizationServer, browser: httpx2.AsyncClient, shop: str
) -> None:
    await browser.get("/login")
    token = browser.cookies["__Host-access"]
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert (claims["iss"], claims["aud"]) == (shop, shop)
    bearer = {"Authorization": f"Bearer {token}"}
    browser.cookies.clear()
    assert (await browser.get("/users/me", headers=bearer)).status_code == 200
    bearer = {"Authorization": f"Bearer {await provider.token()}"}
    assert (await browser.get("/users/me", headers=bearer)).status_code == 401


@pytest.mark.anyio
async def test_the_request_is_bound_to_the_browser_and_to_the_public_url(
    provider: AuthorizationServer, browser: httpx2.AsyncClient, shop: str
) -> None:
    answer = await browser.get("/login", headers={"Host": "evil.example"}, follow_redirects=False)
    query = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
    assert query["redirect_uri"] == f"{shop}/callback"
    assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
    assert all(len(query[name]) >= 20 for name in ("state", "nonce", "code_challenge"))
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith("__host-sign-in=")
    assert {"httponly", "secure", "samesite=lax", "path=/", "max-age=600"} <= set(cookie.split("; "))


async def refused(browser: httpx2.AsyncClient, url: Any) -> None:
    answer = await browser.get(url)
    assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_failed")
    assert "__Host-access" not in browser.cookies


@pytest.mark.anyio
@pytest.mark.parametrize(
    "behaviour",
    [
        {"id_token": {"nonce": "another"}},
        {"id_token": {"nonce": None}},
        {"id_token": {"iss": "https://other.example"}},
        {"id_token": {"aud": "another-client"}},
        {"id_token": {"aud": "another-client", "azp": CLIENT_ID}},
        {"id_token": {"aud": None}},
        {"id_token": {"sub": None}},
        {"id_token": {"exp": 1}},
        {"id_token": {"exp": None}},
        {"id_token": {"at_hash": "of-another-token"}},
        {"omit": ["id_token"]},
    ],
)
async def test_a_wrong_id_token_signs_nobody_in(
    provider: AuthorizationServer, browser: httpx2.AsyncClient, behaviour: dict[str, Any]
) -> None:
    await provider.behave(**behaviour)
    await refused(browser, "/login")


@pytest.mark.anyio
@pytest.mark.parametrize("query", ["", "?code=x", "?code=x&state=x", "?error=access_denied&state=x"])
async def test_a_callback_that_nobody_began_signs_nobody_in(browser: httpx2.AsyncClient, query: str) -> None:
    await refused(browser, f"/callback{query}")


@pytest.mark.anyio
async def test_a_callback_is_good_once_and_in_the_browser_that_began_it(
    provider: AuthorizationServer, authority: Authority, shop: str
) -> None:
    async with browser_of(authority, shop) as ada, browser_of(authority, shop) as mallory:
        authorize = (await ada.get("/login", follow_redirects=False)).headers["location"]
        callback = (await ada.get(authorize, follow_redirects=False)).headers["location"]
        await refused(mallory, callback)
        assert (await ada.get(callback)).status_code == 200
    async with browser_of(authority, shop) as ada:
        await refused(ada, callback)


@pytest.mark.anyio
async def test_a_provider_that_fails_is_a_503(provider: AuthorizationServer, authority: Authority, shop: str) -> None:
    async with browser_of(authority, shop) as browser:
        callback = (await browser.get("/login", follow_redirects=False)).headers["location"]
        await provider.rotate(published=1)
        await provider.behave(jwks="fail")
        answer = await browser.get(callback)
        assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "") for name in SETTINGS),
        ("OIDC_ISSUER", "http://id.example"),
        ("PUBLIC_URL", "http://shop.example"),
        ("SECRET_KEY", "changeme"),
    ],
)
def test_it_does_not_start_without_its_settings(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    for setting, usual in (SETTINGS | {name: value}).items():
        monkeypatch.setenv(setting, usual)
    spec = importlib.util.spec_from_file_location("outside_login_under_test", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ConfigurationError, match=name):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
