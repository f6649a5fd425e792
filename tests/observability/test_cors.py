"""CORS around a whole app, and trusted hosts before it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI, Response, WebSocket
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.testclient import TestClient, WebSocketDenialResponse

from fastapi_kit import errors
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.observability.cors import Cors, install_cors, install_trusted_hosts
from fastapi_kit.observability.installation import install
from tests.browser.test_docs import browser
from tests.observability.serving import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["browser"]

ORIGIN = "https://shop.example"
FROM_SHOP = {"Origin": ORIGIN}
PREFLIGHT = {**FROM_SHOP, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}


def make_app(cors: Cors | None = None, *, with_errors: bool = True, late: bool = False) -> FastAPI:
    app = FastAPI(max_body_size=100)
    if with_errors and not late:
        errors.install(app)
    install_cors(app, cors or Cors(origins=[ORIGIN]))
    install(app)
    if with_errors and late:
        errors.install(app)

    @app.get("/plain")
    async def plain() -> str:
        return "ok"

    @app.put("/plain")
    async def put(body: dict[str, str]) -> None: ...

    @app.get("/varied")
    async def varied(response: Response) -> None:
        response.headers["Vary"] = "Accept, Origin"

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    return app


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/plain", 200),
        ("GET", "/broken", 500),
        ("PUT", "/plain", 413),
        ("GET", "/no", 404),
        ("OPTIONS", "/no", 404),
    ],
)
def test_each_response_can_be_read(method: str, path: str, status: int, late: bool) -> None:
    content = b"x" * 200 if method == "PUT" else None
    answer = TestClient(make_app(late=late)).request(method, path, headers=FROM_SHOP, content=content)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers.get_list("vary") == ["Origin"]
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"X-Request-ID", "RateLimit", "RateLimit-Policy", "Retry-After", "Link", "ETag", "Location"} <= set(exposed)
    assert "access-control-allow-credentials" not in answer.headers
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"


def test_other_origins_are_told_nothing_and_caches_are_warned() -> None:
    client = TestClient(make_app())
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {}):
        answer = client.get("/plain", headers=headers)
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin"


def test_vary_names_the_origin_once() -> None:
    assert TestClient(make_app()).get("/varied", headers=FROM_SHOP).headers["vary"] == "accept, origin"


def test_a_preflight_is_answered() -> None:
    answer = TestClient(make_app()).options("/plain", headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "PUT" in answer.headers["access-control-allow-methods"]
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert answer.headers["access-control-max-age"] == "600"
    assert answer.headers["x-request-id"]
    assert answer.headers["vary"].startswith("Origin, ")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"Origin": "https://evil.example"}, "origin"),
        ({"Access-Control-Request-Method": "TRACE"}, "method"),
        ({"Access-Control-Request-Headers": "Authorization, X-Other,x-b"}, "headers: x-other is not in allow_headers"),
        ({"Access-Control-Request-Headers": "authorization,<b>"}, "headers"),
        ({"Access-Control-Request-Headers": "x" * 65}, "headers"),
    ],
)
def test_a_refused_preflight_is_a_problem(changed: dict[str, str], reason: str) -> None:
    answer = TestClient(make_app()).options("/plain", headers=PREFLIGHT | changed)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == f"Disallowed CORS {reason}"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["vary"].count("Origin") == 1


def test_no_middleware_of_the_app_sees_a_preflight() -> None:
    app = make_app()

    async def refuse(request: Any, call_next: Any) -> Response:
        return Response(status_code=401)

    app.add_middleware(BaseHTTPMiddleware, dispatch=refuse)
    client = TestClient(app)
    assert client.options("/plain", headers=PREFLIGHT).status_code == 200
    assert client.get("/plain", headers=FROM_SHOP).headers["access-control-allow-origin"] == ORIGIN


def test_all_origins_may_be_allowed_and_credentials_for_some() -> None:
    answer = TestClient(make_app(Cors(origins=["*"], allow_headers=["*"]))).get("/plain", headers=FROM_SHOP)
    assert answer.headers["access-control-allow-origin"] == "*"
    answer = TestClient(make_app(Cors(origins=[ORIGIN], allow_credentials=True))).get("/plain", headers=FROM_SHOP)
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-allow-origin"] == ORIGIN


def test_the_policy_of_the_outer_app_goes_before_that_of_a_mounted_one() -> None:
    app = make_app()
    app.mount("/inner", make_app(Cors(origins=["*"])))
    client = TestClient(app)
    answer = client.get("/inner/plain", headers=FROM_SHOP)
    assert answer.headers.get_list("access-control-allow-origin") == [ORIGIN]
    assert answer.headers["vary"] == "Origin"
    assert (
        client.get("/inner/plain", headers={"Origin": "https://b.example"}).headers.get("access-control-allow-origin")
        is None
    )
    alone = FastAPI()
    alone.mount("/inner", make_app())
    assert TestClient(alone).options("/inner/plain", headers=PREFLIGHT).status_code == 200


def test_a_websocket_is_passed_on() -> None:
    with TestClient(make_app()).websocket_connect("/socket", headers={"Origin": "https://evil.example"}):
        pass


def test_scripts_may_send_what_traces_need_and_any_header_where_all_are_allowed() -> None:
    asked = PREFLIGHT | {"Access-Control-Request-Headers": "traceparent, tracestate"}
    assert TestClient(make_app()).options("/plain", headers=asked).status_code == 200
    everybody = TestClient(make_app(Cors(origins=[ORIGIN], allow_headers=["*"])))
    asked["Access-Control-Request-Headers"] = "x-other"
    assert everybody.options("/plain", headers=asked).status_code == 200
    refused = everybody.options("/plain", headers=asked | {"Origin": "https://evil.example"})
    assert refused.json()["detail"] == "Disallowed CORS origin"


@pytest.mark.parametrize("wrong", [[ORIGIN], ORIGIN, Cors])
def test_origins_in_place_of_a_policy_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"write cors=observability\.Cors\(origins="):
        install(FastAPI(), cors=wrong)


def example() -> str:
    """The app in the how-to, as a newcomer copies it into a file."""
    page = (Path(__file__).parents[2] / "docs/howto/security-headers.md").read_text()
    blocks: list[str] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (block,) = (block for block in blocks if "HttpSettings" in block)
    return block


@pytest.mark.parametrize(
    "variables",
    [{}, {"SHOP_CORS_ORIGINS": ORIGIN}, {"SHOP_TRUSTED_HOSTS": "testserver"}, {"SHOP_CORS_ORIGINS": ""}],
)
def test_the_example_starts_in_any_environment(variables: dict[str, str], tmp_path: Path) -> None:
    served = "\nfrom starlette.testclient import TestClient\nprint(TestClient(api).get('/').status_code)\n"
    (tmp_path / "shop.py").write_text(example() + served)
    ran = subprocess.run(
        [sys.executable, "shop.py"], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("404\n", "")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"origins": []}, "at least one origin.*cors=None"),
        ({"origins": ORIGIN}, "at least one origin"),
        ({"origins": ["https://shop.example/"]}, "an origin is"),
        ({"origins": ["*"], "allow_credentials": True}, "name the origins"),
        ({"origins": [ORIGIN], "max_age_seconds": -1}, "max_age_seconds is -1"),
        ({"origins": [ORIGIN], "max_age_seconds": 86_401}, "max_age_seconds is 86401"),
        ({"origins": [ORIGIN], "allow_methods": "GET"}, "`allow_methods` of Cors is one text"),
        ({"origins": [ORIGIN], "allow_credentials": True, "expose_headers": ["*"]}, "which no browser heeds"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Cors(**options)


def test_installing_twice_is_refused() -> None:
    app = make_app()
    with pytest.raises(ConfigurationError, match="CORS was installed twice"):
        install_cors(app, Cors(origins=["*"]))
    install_trusted_hosts(app, ["a.example"])
    with pytest.raises(ConfigurationError, match="trusted hosts were installed twice"):
        install_trusted_hosts(app, ["a.example"])


def test_a_script_reads_the_crash(browser: "Browser") -> None:
    page_app = FastAPI()

    @page_app.get("/")
    async def page() -> Response:
        return Response("<title>shop</title>", media_type="text/html")

    with serving(page_app) as shop:
        with serving(make_app(Cors(origins=[shop]))) as api, browser.new_context() as context:
            page_ = context.new_page()
            page_.goto(shop)
            read = (
                "async ([url, init]) => { const a = await fetch(url, init);"
                " return [a.status, await a.json(), a.headers.get('x-request-id')] }"
            )
            for path, init, status in (
                ("/broken", {"headers": {"authorization": "Bearer x"}}, 500),
                ("/plain", {"method": "PUT", "body": "x" * 200}, 413),
                ("/no", {}, 404),
            ):
                answered, problem, request_id = page_.evaluate(read, [api + path, init])
                assert answered == problem["status"] == status
                assert problem["request_id"] == request_id
        with serving(make_app(Cors(origins=["https://other.example"]))) as api, browser.new_context() as context:
            page_ = context.new_page()
            page_.goto(shop)
            caught = page_.evaluate("url => fetch(url).then(() => 'read', error => error.message)", f"{api}/plain")
            assert caught == "Failed to fetch"


def make_hosts_app(*, with_errors: bool = True) -> FastAPI:
    app = make_app(with_errors=with_errors)
    install_trusted_hosts(app, ["shop.example", "*.api.example", "[::1]"])
    return app


@pytest.mark.parametrize("host", ["shop.example", "SHOP.example:8443", "a.b.api.example", "[::1]:8000"])
def test_a_trusted_host_is_served(host: str) -> None:
    assert TestClient(make_hosts_app()).get("/plain", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "shop.example.evil",
        "api.example",
        "www.shop.example",
        "a b",
        "",
        "shop.example:99999999",
        ".api.example",
        "%00.api.example",
        "a..api.example",
    ],
)
@pytest.mark.parametrize("with_errors", [True, False])
def test_any_other_host_is_refused(host: str, with_errors: bool) -> None:
    answer = TestClient(make_hosts_app(with_errors=with_errors)).get("/plain", headers={"Host": host})
    assert answer.status_code == 400
    if with_errors:
        assert answer.json()["detail"] == "Invalid host header"
        assert answer.headers["content-type"] == "application/problem+json"
    else:
        assert answer.text == "Invalid host header"
    assert answer.headers["x-request-id"]


def test_a_preflight_and_a_websocket_need_a_trusted_host_too() -> None:
    client = TestClient(make_hosts_app(), base_url="http://evil.example")
    assert client.options("/plain", headers=PREFLIGHT).status_code == 400
    with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/socket"):
        pass


def test_no_hosts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"at least one host.*trusted_hosts=None"):
        install_trusted_hosts(FastAPI(), [])
