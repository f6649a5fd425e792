"""The `type` of each problem that an app really sends leads to a page, and the page says what clients need."""

import json
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import urljoin

import pytest
from fastapi import APIRouter, Body, FastAPI, HTTPException
from pydantic import BaseModel, Field
from starlette.testclient import TestClient

from fastapi_kit import errors
from fastapi_kit.errors import ConfigurationError, ConflictError, NotFoundError, Problem
from scripts import problems

if TYPE_CHECKING:
    from nowhere import Thing  # type: ignore[import-not-found]

BASE = "https://api.example.com/problems/"


class Offer(BaseModel):
    price: int


class CatalogueError(Problem):
    """Tell whoever writes a kind of problem for this service what to do."""


class SoldOutError(CatalogueError):
    """Answer 409: there is <nothing> left,
    and `available` says how much.

    Nobody but us reads this.
    """

    code = "catalogue_sold_out"
    status = 409
    title = "Sold <b>out</b>"
    response_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "Seconds & more."}
    available: Annotated[int, Field(description="How many pieces there are.", examples=[3])]
    sizes: list[str]
    offer: Offer | None = None
    reason: Literal["season", "<script>"] = "<script>"
    kind: Literal["piece"] = "piece"
    anything: Any = None


class HiddenError(Problem):
    """Answer 418: no route declares this."""

    code = "catalogue_hidden"
    status = 418
    title = "Hidden"


class OddError(Problem):
    code = "catalogue_odd"
    status = 400
    thing: "Thing"


class OpaqueError(Problem):
    code = "catalogue_opaque"
    status = 400
    thing: FastAPI


class MountedError(Problem):
    code = "catalogue_mounted"
    status = 409


def make_app(prefix: str = "/problems", **options: Any) -> FastAPI:
    app = FastAPI(max_body_size=100)
    errors.install(app, **options)
    app.include_router(errors.catalogue_router(prefix))

    @app.get("/sold-out")
    @errors.raises(SoldOutError, CatalogueError)
    async def sold_out() -> None:
        raise SoldOutError(available=0, sizes=[])

    @app.get("/raise/{code}")
    async def raise_(code: str) -> None:
        kinds = {kind.code: kind for kind in errors.catalogue() if kind.__module__ == __name__}
        extensions: dict[str, Any] = {"thing": 1} if "thing" in kinds[code].__annotations__ else {}
        raise kinds[code](**extensions)

    @app.get("/status/{status}")
    async def status(status: int) -> None:
        raise HTTPException(status)

    @app.post("/numbers")
    async def numbers(number: int, note: str | None = Body(None)) -> None:
        raise ZeroDivisionError

    inner = FastAPI()
    errors.install(inner, **options)

    @inner.get("/")
    @errors.raises(MountedError)
    async def mounted() -> None:
        raise MountedError

    app.mount("/inner", inner)
    return app


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


class Outline(HTMLParser):
    """Which elements are open at the end, and which attributes there were."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "meta":
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]
        assert {name for name, _ in attrs} <= {"href", "lang", "charset", "name", "content"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/numbers", 405, "method_not_allowed"),
        ("POST", "/numbers?number=many", 422, "validation_error"),
        ("POST", "/numbers?number=1", 500, "internal_server_error"),
        ("GET", "/sold-out", 409, "catalogue_sold_out"),
        ("GET", "/raise/catalogue_hidden", 418, "catalogue_hidden"),
        ("GET", "/raise/catalogue_odd", 400, "catalogue_odd"),
        ("GET", "/raise/catalogue_opaque", 400, "catalogue_opaque"),
        ("GET", "/inner/", 409, "catalogue_mounted"),
        ("GET", "/status/599", 599, "error"),
    ],
)
def test_the_type_of_a_real_error_leads_to_its_page(method: str, path: str, status: int, code: str) -> None:
    with TestClient(make_app(type_base=BASE), base_url="https://api.example.com") as client:
        body = client.request(method, path).json()
        assert (body["status"], body["code"], body["type"]) == (status, code, BASE + code)
        page = client.get(body["type"])
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert code in text_of(page.text)


def test_the_type_of_a_body_that_is_too_large_leads_to_its_page() -> None:
    client = TestClient(make_app(type_base=BASE), base_url="https://api.example.com")
    body = client.post("/numbers?number=1", content=b"x" * 101).json()
    assert body["code"] == "content_too_large"
    assert client.get(body["type"]).status_code == 200


def test_each_status_that_an_http_exception_may_have_leads_to_a_page() -> None:
    client = TestClient(make_app(type_base=BASE), base_url="https://api.example.com")
    codes = set()
    for status in range(400, 600):
        body = client.get(f"/status/{status}").json()
        if body["code"] not in codes:
            codes.add(body["code"])
            assert client.get(body["type"]).status_code == 200, body["code"]
    assert {"im_a_teapot", "gone", "non_authoritative_information"} & codes == {"im_a_teapot", "gone"}


@pytest.mark.parametrize("options", [{}, {"type_base": BASE}])
def test_the_example_is_what_the_app_writes(options: dict[str, Any]) -> None:
    client = TestClient(make_app(**options))
    page = client.get("/problems/catalogue_sold_out").text
    example = json.loads(unescape(page.partition("<pre><code>")[2].partition("</code></pre>")[0]))
    real = client.get("/sold-out").json()
    assert example.keys() == real.keys() - ({"anything"} if "anything" not in example else set())
    ours = {"type", "title", "status", "detail", "code", "reason", "kind", "offer"} & real.keys()
    assert {name: example[name] for name in ours} == {name: real[name] for name in ours}
    assert (example["available"], example["sizes"]) == (3, [])


def test_a_page_says_all_of_a_kind_and_nothing_that_is_not_for_clients() -> None:
    text = text_of(TestClient(make_app()).get("/problems/catalogue_sold_out").text)
    assert "Sold <b>out</b> Answer 409: there is <nothing> left, and available says how much. Code" in text
    assert "Status 409 Conflict" in text
    assert "available integer: How many pieces there are." in text
    assert "sizes array of string" in text
    assert "offer Offer or null" in text
    assert 'reason "season" or "<script>"' in text
    assert 'kind "piece"' in text
    assert "anything any" in text
    assert "Headers Retry-After Seconds & more. Example" in text
    assert "Nobody but us" not in text


@pytest.mark.parametrize("path", ["/problems", "/problems/catalogue_sold_out", "/problems/validation_error"])
def test_a_page_is_plain_html_that_loads_nothing(path: str) -> None:
    page = TestClient(make_app()).get(path)
    outline = Outline(page.text)
    assert outline.open == []
    assert outline.tags.isdisjoint({"script", "img", "link", "b"})
    style = re.findall(r"<style>(.*?)</style>", page.text)
    allowed = b64encode(sha256(style[0].encode()).digest()).decode()
    assert len(style) == 1
    policy = page.headers["content-security-policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{allowed}';")
    assert page.headers["x-content-type-options"] == "nosniff"


def test_the_list_has_what_the_app_declares_and_what_any_app_has_but_no_more() -> None:
    text = text_of(TestClient(make_app()).get("/problems").text)
    assert re.findall(r"(\w+_\w+) (?:.*? )??([45]\d\d) ", text.partition("The codes are:")[2]) == [
        ("bad_request", "400"),
        ("not_found", "404"),
        ("method_not_allowed", "405"),
        ("catalogue_mounted", "409"),
        ("catalogue_sold_out", "409"),
        ("content_too_large", "413"),
        ("validation_error", "422"),
        ("internal_server_error", "500"),
    ]


@pytest.mark.parametrize("prefix", ["/problems", "/help/errors"])
def test_the_links_hold_below_any_prefix_and_mount(prefix: str) -> None:
    app, outer, around = make_app(prefix), APIRouter(prefix="/v1"), FastAPI()
    outer.include_router(errors.catalogue_router(prefix))
    app.include_router(outer)
    around.mount("/shop", app)
    client = TestClient(around)
    for place in (f"/shop{prefix}", f"/shop/v1{prefix}"):
        links = Outline(client.get(place).text).links
        assert len(links) == 8
        for link in links:
            page = client.get(url := urljoin(f"http://test{place}", link))
            assert page.status_code == 200
            (back,) = Outline(page.text).links
            assert urljoin(url, back) == f"http://test{place}"


def test_a_code_that_nobody_has_is_a_404_that_does_not_repeat_it() -> None:
    client = TestClient(make_app())
    for code in ("catalogue_nonsense", "%3Cscript%3E", "non_authoritative_information"):
        answer = client.get(f"/problems/{code}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert "script" not in answer.text
        assert code not in answer.text


def test_a_base_class_without_a_code_stands_for_no_crash() -> None:
    page = TestClient(make_app()).get("/problems/internal_server_error").text
    assert "something went wrong in the service" in page
    assert CatalogueError.__doc__ is not None
    assert CatalogueError.__doc__ not in page + errors.catalogue_markdown([CatalogueError])


def test_without_install_the_pages_are_there_too() -> None:
    app = FastAPI()
    app.include_router(errors.catalogue_router())
    assert "about:blank" in TestClient(app).get("/problems/not_found").text


def test_the_pages_are_not_in_the_schema() -> None:
    assert not [path for path in make_app().openapi()["paths"] if path.startswith("/problems")]


@pytest.mark.parametrize("prefix", ["", "/", "problems", "/problems/", "/{tenant}", '/"x'])
def test_a_prefix_that_is_no_path_is_told_at_start_up(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="write a path without a slash at its end, as /problems"):
        errors.catalogue_router(prefix)


def test_markdown_has_a_place_for_each_code_once() -> None:
    page = errors.catalogue_markdown([SoldOutError, NotFoundError, ConflictError], type_base="https://docs.test/#")
    places = re.findall(r'^## `(\w+)`$|<a id="(\w+)">', page, re.MULTILINE)
    codes = [heading or anchor for heading, anchor in places]
    assert len(codes) == len(set(codes))
    everything = {
        "catalogue_sold_out",
        "conflict",
        "not_found",
        "validation_error",
        "gone",
        "error",
        "method_not_allowed",
    }
    assert everything <= set(codes)
    section = page.partition("## `catalogue_sold_out`")[2].partition("## ")[0]
    assert "**Sold <b>out</b>.** Answer 409: there is <nothing> left, and `available` says how much.\n" in section
    assert "- Status: 409 Conflict\n- Member `available`: integer: How many pieces there are.\n" in section
    assert "- Header `Retry-After`: Seconds & more.\n" in section
    assert '"type": "https://docs.test/#catalogue_sold_out"' in section


def test_the_reference_is_what_the_script_writes() -> None:
    written = problems.PAGE.read_text()
    # A process of its own: the kinds of all blocks, imported here, would be in the way of other tests.
    code = "from scripts import problems; print(problems.page(), end='')"
    made = subprocess.run([sys.executable, "-c", code], cwd=problems.PAGE.parents[2], capture_output=True, check=False)
    assert made.returncode == 0, made.stderr.decode()
    assert written == made.stdout.decode(), "run: python -m scripts.problems"
