"""The documentation pages under the security headers, in Chromium: nothing is refused, and they work.

The browser is given the files of the CDN from a package, under their own URLs, so that the policy is the real one. Of
ReDoc no package has them: a script stands in that does what ReDoc does (styles, a worker, images, fetches).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import RedirectResponse
from fastapi.security import OAuth2AuthorizationCodeBearer

from fastapi_kit import errors
from fastapi_kit.observability.headers import SecurityHeaders
from fastapi_kit.observability.installation import install
from tests.browser.test_docs import SWAGGER_UI, assets, browser, screenshots
from tests.observability.serving import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Route

__all__ = ["assets", "browser", "screenshots"]

LIKE_REDOC = """
const style = document.createElement("style");
style.textContent = "redoc { color: rgb(1, 2, 3) }";
document.head.append(style);
const root = document.querySelector("redoc");
const done = [];
const say = (what) => { done.push(what); root.textContent = done.sort().join(" "); };
fetch(root.getAttribute("spec-url")).then(answer => answer.json()).then(() => say("schema"));
const code = new Blob(["postMessage('worker')"], { type: "application/javascript" });
new Worker(URL.createObjectURL(code)).onmessage = (message) => say(message.data);
const logo = new Image();
logo.onload = () => say("logo");
logo.src = "https://cdn.redoc.ly/redoc/logo-mini.svg";
"""
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


def make_app(**options: Any) -> FastAPI:
    app = FastAPI(title='Shop "& more', **options)
    errors.install(app)
    install(app)

    @app.get("/items/{item_id}", summary="Read one")
    async def read(item_id: int) -> dict[str, int]:
        """Of **one** item: <b style="color: red">all</b>."""
        return {"id": item_id}

    return app


@contextmanager
def window(
    browser: "Browser", assets: Path, *, redoc: str = LIKE_REDOC
) -> "Iterator[tuple[BrowserContext, list[str]]]":
    """A browser window, and what went wrong in it: errors, refusals of a policy, requests to unknown hosts."""
    complaints: list[str] = []

    def answer(route: "Route") -> None:
        url = route.request.url
        if asset := SWAGGER_UI.get(url):
            route.fulfill(path=assets / asset)
        elif url.startswith("http://127.0.0.1:"):
            route.continue_(url=url.replace("/proxied/", "/", 1))  # as a proxy does that strips the prefix
        elif url == "https://cdn.jsdelivr.net/npm/redoc@2/bundles/redoc.standalone.js":
            route.fulfill(body=redoc, content_type="text/javascript")
        elif url.startswith("https://fonts.googleapis.com/"):
            route.fulfill(body="", content_type="text/css")
        elif url == "https://cdn.redoc.ly/redoc/logo-mini.svg":
            route.fulfill(body=SVG, content_type="image/svg+xml")
        else:
            complaints.append(f"unknown host: {url}")
            route.abort()

    with browser.new_context(viewport={"width": 1200, "height": 1000}) as context:
        context.route("**/*", answer)
        context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        yield context, complaints


def try_out(page: "Page") -> tuple[str, str]:
    route = page.locator(".opblock-get").first
    route.locator(".opblock-summary-control").click()
    route.get_by_role("button", name="Try it out").click()
    route.get_by_placeholder("item_id").fill("7")
    route.get_by_role("button", name="Execute", exact=True).click()
    shown = route.locator(".live-responses-table tr.response")
    return shown.locator(".response-col_status").inner_text(), shown.locator(".highlight-code pre").inner_text()


@pytest.mark.parametrize("prefix", ["", "/proxied", "/mounted"])
def test_swagger_ui_works_under_its_policy(browser: "Browser", assets: Path, screenshots: Path, prefix: str) -> None:
    app = make_app(docs_url="/manual", swagger_ui_parameters={"filter": True, "note": "</script>"})
    options = {"root_path": prefix} if prefix == "/proxied" else {}
    if prefix == "/mounted":
        outer = FastAPI()
        install(outer)
        outer.mount("/mounted", app)
        app = outer
    with serving(app, **options) as url, window(browser, assets) as (context, complaints):
        page = context.new_page()
        answered = page.goto(f"{url}{prefix}/manual")
        assert answered is not None
        assert "'sha256-" in answered.headers["content-security-policy"]
        page.locator(".opblock-get").wait_for()
        status, body = try_out(page)
        assert status == "200"
        assert '"id": 7' in body
        page.screenshot(path=screenshots / f"policy{prefix.replace('/', '_')}.png")
    assert complaints == []


def test_a_script_that_somebody_puts_into_the_page_does_not_run(browser: "Browser", assets: Path) -> None:
    with serving(make_app()) as url, window(browser, assets) as (context, complaints):
        page = context.new_page()
        page.goto(f"{url}/docs")
        page.locator(".opblock-get").wait_for()
        page.evaluate(
            "const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s)"
        )
        assert page.evaluate("window.hacked") is None
    assert len(complaints) == 1
    assert "Content Security Policy" in complaints[0]


def test_redoc_may_do_what_it_does(browser: "Browser", assets: Path, screenshots: Path) -> None:
    with serving(make_app()) as url, window(browser, assets) as (context, complaints):
        page = context.new_page()
        page.goto(f"{url}/redoc")
        page.get_by_text("logo schema worker").wait_for()
        assert page.evaluate("getComputedStyle(document.querySelector('redoc')).color") == "rgb(1, 2, 3)"
    assert complaints == []


def make_authorization_server() -> FastAPI:
    server = FastAPI()
    install(server, security_headers=None)

    @server.get("/authorize")
    async def authorize(redirect_uri: str, state: str) -> RedirectResponse:
        return RedirectResponse(f"{redirect_uri}?{urlencode({'code': 'c', 'state': state})}")

    @server.api_route("/token", methods=["POST", "OPTIONS"])
    async def token() -> dict[str, str]:
        return {"access_token": "t", "token_type": "bearer"}

    return server


def test_a_login_at_an_outside_server_comes_back_to_the_page(browser: "Browser", assets: Path) -> None:
    from fastapi_kit.observability.cors import Cors, install_cors

    outside = make_authorization_server()
    install_cors(outside, Cors(origins=["*"], allow_headers=["*"]))
    with serving(outside) as elsewhere:
        app = FastAPI()
        install(app)
        scheme = OAuth2AuthorizationCodeBearer(f"{elsewhere}/authorize", f"{elsewhere}/token")

        @app.get("/me")
        async def me(token: Annotated[str, Depends(scheme)]) -> str:
            return token

        with serving(app) as url, window(browser, assets) as (context, complaints):
            page = context.new_page()
            page.goto(f"{url}/docs")
            page.locator(".scheme-container").get_by_role("button", name="Authorize").click()
            dialog = page.locator(".modal-ux")
            dialog.get_by_label("client_id:").fill("docs")
            dialog.locator(".auth-btn-wrapper").get_by_text("Authorize", exact=True).click()
            dialog.get_by_role("heading", name="Authorized", exact=True).wait_for()
    assert complaints == []


def test_the_policy_names_the_servers_that_the_page_asks() -> None:
    from starlette.testclient import TestClient

    servers = [{"url": "https://eu.shop.example/v1"}, {"url": "https://{region}.shop.example"}, {"url": "/v2"}]
    policy = TestClient(make_app(servers=servers)).get("/docs").headers["content-security-policy"]
    assert "connect-src 'self' https://eu.shop.example;" in policy


def test_a_schema_that_cannot_be_made_leaves_the_page_its_policy() -> None:
    from starlette.testclient import TestClient

    app = make_app()

    def openapi() -> dict[str, Any]:
        raise RuntimeError("no schema")

    app.openapi = openapi  # type: ignore[method-assign]
    assert "connect-src 'self';" in TestClient(app).get("/docs").headers["content-security-policy"]


def test_without_docs_the_pages_have_the_policy_of_all() -> None:
    from starlette.testclient import TestClient

    app = FastAPI()
    install(app, security_headers=SecurityHeaders(docs=False))
    policy = TestClient(app).get("/docs").headers["content-security-policy"]
    assert policy == "default-src 'none'; frame-ancestors 'none'"
