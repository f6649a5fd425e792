"""The feed as a person uses it: Chromium scrolls to its end while others write.

The server is a process of its own, in a folder of its own, on a socket. With KIT_SCREENSHOTS=folder a screenshot is
kept there.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.browser.test_docs import FLAGS, give_up, wait_for_url

if TYPE_CHECKING:  # a machine without Chromium need not have it
    from playwright.sync_api import Page

SOURCE = Path(__file__).parents[2] / "examples" / "feed.py"
CHECKED = """
import feed
from fastapi_kit.testing import Contract
app = Contract(feed.app)  # a response that is not in the OpenAPI document is a crash in the log
"""
SEEDED = [f"Post {number}" for number in reversed(range(200))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feed")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """Where uvicorn serves the example, on a new database and without a secret; a crash in it fails the tests."""
    shutil.copy(SOURCE, folder)
    (folder / "checked.py").write_text(CHECKED)
    log = folder / "uvicorn.log"
    environment = {name: value for name, value in os.environ.items() if name not in {"CURSOR_SECRET", "DATABASE_URL"}}
    command = [sys.executable, "-m", "uvicorn", "checked:app", "--port", "0"]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT) as server,
    ):
        try:
            yield wait_for_url(server, log)
        finally:
            server.terminate()
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def page(url: str) -> "Iterator[Page]":
    """The open feed, its first posts shown; a script's error or a breach of its policy fails the test."""
    path = Path(os.environ.get("KIT_TEST_CHROMIUM", "/usr/bin/chromium"))
    if not path.exists():
        give_up(f"no browser at {path} (Debian: apt-get install chromium); KIT_TEST_CHROMIUM names another")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        give_up(f"{error}: pip install --group test")
    complaints: list[str] = []
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=FLAGS) as browser,
        browser.new_context(viewport={"width": 800, "height": 600}) as context,
    ):
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: complaints.append(message.text) if "Security Policy" in message.text else None,
        )
        page.goto(url)
        page.locator("li").nth(19).wait_for()
        yield page
    assert complaints == []


def shown(page: "Page") -> list[str]:
    return page.locator("li").all_inner_texts()


def post(url: str, text: str) -> None:
    response = httpx2.post(f"{url}/posts", params={"text": text}, timeout=30)
    assert response.status_code == 201, response.text


def scroll_to_the_end(page: "Page", url: str, *, write: str) -> int:
    """Scroll until all is shown, write a post before each step, and return how many were written."""
    written, deadline = 0, time.monotonic() + 60
    while page.get_by_text("That is all.").count() == 0:
        assert time.monotonic() < deadline, page.locator("#end").inner_text()
        post(url, f"{write} {written}")
        written += 1
        page.mouse.wheel(0, 100_000)
        page.wait_for_timeout(50)
    return written


def test_each_post_is_shown_once_while_others_write(page: "Page", url: str) -> None:
    assert len(shown(page)) < len(SEEDED)
    assert scroll_to_the_end(page, url, write="Meanwhile") > 3
    assert shown(page) == SEEDED
    if folder := os.environ.get("KIT_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "feed.png")


def test_what_others_wrote_is_text_and_no_markup(page: "Page") -> None:
    text = "<img src=x onerror=alert(1)><b>bold</b>"
    page.get_by_label("Text").fill(text)
    with page.expect_response(lambda response: response.request.method == "POST") as answer:
        page.get_by_role("button", name="Post").click()
    assert answer.value.status == 201
    page.reload()
    page.locator("li").nth(19).wait_for()
    assert shown(page)[0] == text
    assert page.locator("li b, li img").count() == 0


def test_a_cursor_of_another_secret_starts_the_feed_again(page: "Page", url: str) -> None:
    answers: list[int] = []
    page.on("response", lambda response: answers.append(response.status))
    page.route("**/posts?cursor=*", lambda route: route.continue_(url=f"{url}/posts?cursor=of-another-secret"), times=1)
    scroll_to_the_end(page, url, write="Later")
    texts = shown(page)
    assert answers.count(400) == 1
    assert (texts[-len(SEEDED) :], len(set(texts))) == (SEEDED, len(texts))
