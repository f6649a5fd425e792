"""The quickstart's /docs as a person uses it: Chromium, the Authorize button, a protected route.

The server is a process of its own, on a socket. FastAPI's page takes Swagger UI from a CDN; here the browser is given
the same files from the PyPI package fastapi-swagger (which is not imported), so that the app is the one that users
run, and no test needs the internet. With KIT_SCREENSHOTS=folder the screenshots are kept there.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import httpx2
import pytest

if TYPE_CHECKING:  # a machine without Chromium need not have it
    from playwright.sync_api import Browser, Locator, Page, Route

ROOT = Path(__file__).parents[2]
PASSWORD = secrets.token_urlsafe(16)
SWAGGER_UI = {
    "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui-bundle.js": "swagger-ui-bundle.js",
    "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui.css": "swagger-ui.css",
    "https://fastapi.tiangolo.com/img/favicon.png": "favicon-32x32.png",
}
FLAGS = [
    "--no-sandbox",  # root, as in most CI, has none
    "--disable-gpu",
    "--disable-background-networking",  # this and the next two: ask nothing of Google's hosts
    "--disable-component-update",
    "--disable-sync",
]


def give_up(reason: str) -> NoReturn:
    """Skip; but fail in CI, where all must be there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    path = Path(os.environ.get("KIT_TEST_CHROMIUM", "/usr/bin/chromium"))
    if not path.exists():
        give_up(f"no browser at {path} (Debian: apt-get install chromium); KIT_TEST_CHROMIUM names another")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        give_up(f"{error}: pip install --group test")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=FLAGS) as browser,
    ):
        yield browser


@pytest.fixture(scope="module")
def assets(browser: "Browser") -> Path:
    try:
        package = distribution("fastapi-swagger")
    except PackageNotFoundError as error:
        give_up(f"{error}: pip install --group test")
    return Path(str(package.locate_file("fastapi_swagger/resources")))


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("KIT_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def wait_for_url(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        if running := re.search(r"running on (http://\S+)", log.read_text()):
            return running[1]
        time.sleep(0.02)
    raise AssertionError(f"the server did not start: {log.read_text()}")


@pytest.fixture(scope="module")
def url(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where uvicorn serves the quickstart, on a new database; a crash in it fails the tests.

    It needs the assets only in time: what cannot be looked at is not started.
    """
    folder = tmp_path_factory.mktemp("quickstart")
    log = folder / "uvicorn.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "examples.quickstart:app", "--port", "0"],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": f"sqlite+aiosqlite:///{folder}/quickstart.db"},
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as server,
    ):
        try:
            yield wait_for_url(server, log)
        finally:
            server.terminate()
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture(scope="module")
def username(url: str) -> str:
    response = httpx2.post(f"{url}/users", json={"username": "ada", "password": PASSWORD}, timeout=30)
    assert response.status_code == 201, response.text
    return "ada"


@pytest.fixture
def page(
    browser: "Browser", url: str, assets: Path, screenshots: Path, request: pytest.FixtureRequest
) -> "Iterator[Page]":
    """An open /docs, nobody logged in; a script's error or a request to an unknown host fails the test."""
    complaints: list[str] = []

    def answer(route: "Route") -> None:
        if asset := SWAGGER_UI.get(route.request.url):
            route.fulfill(path=assets / asset)
        elif route.request.url.startswith(f"{url}/"):
            route.continue_()
        else:
            complaints.append(f"unknown host: {route.request.url}")
            route.abort()

    with browser.new_context(viewport={"width": 1200, "height": 1000}) as context:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.route("**/*", answer)
        page.goto(f"{url}/docs")
        yield page
        picture = screenshots / f"{request.node.name}.png"
        page.screenshot(path=picture)
        print(f"screenshot: {picture}")
    assert complaints == []


def submit_login(page: "Page", username: str, password: str) -> "Locator":
    """Fill in the dialog behind the Authorize button, press its own, and return the dialog."""
    page.locator(".scheme-container").get_by_role("button", name="Authorize").click()
    dialog = page.locator(".modal-ux")
    dialog.get_by_label("username:").fill(username)
    dialog.get_by_label("password:", exact=True).fill(password)
    dialog.locator(".auth-btn-wrapper").get_by_text("Authorize", exact=True).click()
    return dialog


def close(dialog: "Locator") -> None:
    dialog.get_by_text("Close", exact=True).click()
    dialog.wait_for(state="detached")


def execute(page: "Page", path: str) -> tuple[int, dict[str, Any]]:
    """Try a GET route out by hand; return the status and the body that the page shows."""
    route = page.locator(".opblock-get").filter(has=page.locator(f'[data-path="{path}"]'))
    route.locator(".opblock-summary-control").click()
    route.get_by_role("button", name="Try it out").click()
    route.get_by_role("button", name="Execute", exact=True).click()
    shown = route.locator(".live-responses-table tr.response")
    shown.scroll_into_view_if_needed()
    body = json.loads(shown.locator(".highlight-code pre").inner_text())
    return int(shown.locator(".response-col_status").inner_text()), body


def test_authorized_the_protected_route_shows_the_user(page: "Page", username: str, screenshots: Path) -> None:
    dialog = submit_login(page, username, PASSWORD)
    dialog.get_by_role("heading", name="Authorized", exact=True).wait_for()
    page.screenshot(path=screenshots / "authorized.png")
    close(dialog)
    assert execute(page, "/users/me") == (200, {"id": 1, "username": username, "role": "user"})


def test_without_authorizing_it_shows_a_problem(page: "Page") -> None:
    status, problem = execute(page, "/users/me")
    assert status == 401
    assert problem.pop("request_id")
    assert problem == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "Authentication is required",
        "code": "missing_credentials",
    }


def test_a_wrong_password_is_told_and_does_not_authorize(page: "Page", username: str, screenshots: Path) -> None:
    dialog = submit_login(page, username, f"not {PASSWORD}")
    dialog.get_by_text("Error: Unauthorized, error: invalid_grant").wait_for()
    page.screenshot(path=screenshots / "wrong_password.png")
    close(dialog)
    assert execute(page, "/users/me")[0] == 401
