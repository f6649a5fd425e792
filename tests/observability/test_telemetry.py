"""`Telemetry` in one process: what it refuses, what Prometheus reads, and what has no SDK."""

import functools
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from opentelemetry import _logs, metrics, trace
from starlette.testclient import TestClient

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.observability import Telemetry

from .serving import serving
from .telemetry_servers import Collector, Service

DURATIONS = "http_server_request_duration_seconds"


def app_of(telemetry: Telemetry, **options: Any) -> FastAPI:
    app = FastAPI(telemetry=telemetry.config, **options)
    app.include_router(telemetry.router)
    items = APIRouter()

    @items.get("/items/{item}")
    async def read(item: int) -> int:
        return item

    app.include_router(items, prefix="/shop")
    return app


def counted(text: str) -> dict[tuple[str, str, str], float]:
    """Give the requests by method, route and status."""
    counts: dict[tuple[str, str, str], float] = {}
    for labels, count in re.findall(rf"^{DURATIONS}_count{{(.*)}} (\S+)$", text, re.MULTILINE):
        told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        counts[told["http_request_method"], told["http_route"], told["http_response_status_code"]] = float(count)
    return counts


def test_metrics_count_by_the_whole_template_and_give_strangers_no_series_each() -> None:
    app = app_of(Telemetry("shop"))
    inner = FastAPI()

    @inner.get("/things/{thing}")
    async def thing(thing: str) -> str:
        return thing

    app.mount("/inner", inner)
    client = TestClient(app)
    for number in range(3):
        client.get(f"/shop/items/{number}")
        client.get(f"/inner/things/{number}")
        client.get(f"/nowhere/{number}")
        client.request(f"MADEUP{number}", "/shop/items/1")
    client.get("/shop/items/none")
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert counted(answer.text) == {
        ("GET", "/shop/items/{item}", "200"): 3,
        ("GET", "/shop/items/{item}", "422"): 1,
        ("GET", "/inner/things/{thing}", "200"): 3,
        ("GET", "", "404"): 3,
        ("_OTHER", "/shop/items/{item}", "405"): 3,
    }
    assert 'service_name="shop"' in answer.text


def test_a_client_that_makes_up_versions_of_http_makes_no_series() -> None:
    with serving(app_of(Telemetry("shop")), http="h11") as url:
        where = urlsplit(url)
        for version in ("0.0", "1.0", "1.1", "7.3", "9.9"):
            with socket.create_connection((where.hostname, where.port), timeout=60) as client:
                client.sendall(f"GET /shop/items/1 HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
                assert b" 200 " in client.makefile("rb").readline()
        page = httpx2.get(f"{url}/metrics", timeout=60).text
    assert counted(page) == {("GET", "/shop/items/{item}", "200"): 5}
    assert "network_protocol_version" not in page
    (series,) = re.findall(rf"^{DURATIONS}_count{{(.*)}} 5.0$", page, re.MULTILINE)
    assert 'url_scheme="http"' in series
    bounds = re.findall(rf'^{DURATIONS}_bucket{{.*le="([^"]+)".*}}', page, re.MULTILINE)
    assert " ".join(bounds) == "0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0 +Inf"


@pytest.mark.parametrize(
    "accept",
    ["application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1", "application/openmetrics-text; version=x"],
)
def test_metrics_are_openmetrics_where_that_is_accepted(accept: str) -> None:
    client = TestClient(app_of(Telemetry("shop")))
    client.get("/shop/items/1")
    answer = client.get("/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    lines = answer.text.splitlines()
    assert f"# TYPE {DURATIONS} histogram" in lines
    assert lines[-1] == "# EOF"


def test_scrapes_at_once_and_after_a_flush_have_each_series_once() -> None:
    telemetry = Telemetry("shop")
    app = app_of(telemetry)
    with TestClient(app) as client:
        client.get("/shop/items/1")
        telemetry.meter_provider.force_flush()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: client.get("/metrics").text, range(24)))
            answers += pool.map(lambda _: TestClient(app).get("/metrics").text, range(24))  # an event loop each
    for answer in answers:
        lines = answer.splitlines()
        assert sum(line.startswith(f"{DURATIONS}_count") for line in lines) == 1
        assert len(set(lines)) == len(lines)


def test_metrics_can_have_a_guard_and_are_not_in_the_openapi() -> None:
    def guard() -> None:
        raise HTTPException(403)

    telemetry = Telemetry("shop", metrics_path="/internal/metrics")
    app = FastAPI(telemetry=telemetry.config)
    app.include_router(telemetry.router, dependencies=[Depends(guard)])
    client = TestClient(app)
    assert client.get("/internal/metrics").status_code == 403
    assert app.openapi()["paths"] == {}


@pytest.mark.parametrize("sample_ratio", [None, 0.0, 1.0])
def test_each_request_has_a_trace_id_recorded_or_not_and_that_of_its_client(sample_ratio: float | None) -> None:
    telemetry = Telemetry("shop", sample_ratio=sample_ratio)
    app = FastAPI(telemetry=telemetry.config)

    @app.get("/")
    async def read() -> tuple[str, bool]:
        span = trace.get_current_span()
        return trace.format_trace_id(span.get_span_context().trace_id), span.is_recording()

    client = TestClient(app)
    trace_id, recorded = client.get("/").json()
    assert int(trace_id, 16) > 0
    assert recorded is (sample_ratio == 1)
    sent = "4bf92f3577b34da6a3ce929d0e0e4736"
    for flag in (0, 1):
        headers = {"traceparent": f"00-{sent}-00f067aa0ba902b7-0{flag}"}
        assert client.get("/", headers=headers).json() == [sent, bool(flag)]


@pytest.mark.parametrize("root_path", ["", "/api"])
def test_what_is_excluded_is_so_behind_a_proxy_too(root_path: str) -> None:
    telemetry = Telemetry("shop", exclude_paths=["/shop/items/1"])
    client = TestClient(app_of(telemetry), root_path=root_path)
    for path in ("/shop/items/1", f"{root_path}/shop/items/1", "/metrics", "/shop/items/2"):
        assert client.get(path).status_code == 200
    assert list(counted(client.get("/metrics").text).values()) == [1]


def test_two_apps_in_one_process_do_not_meet() -> None:
    one, other = TestClient(app_of(Telemetry("one"))), TestClient(app_of(Telemetry("other")))
    one.get("/shop/items/1")
    assert counted(one.get("/metrics").text)
    assert not counted(other.get("/metrics").text)


def test_the_lifespan_of_the_app_stays_and_may_run_again() -> None:
    ran: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        ran.append("start")
        yield
        ran.append("stop")

    app = app_of(Telemetry("shop"), lifespan=lifespan)
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/metrics").status_code == 200
    assert ran == ["start", "stop"] * 2


def test_pools_and_others_may_take_the_providers() -> None:
    telemetry = Telemetry("shop")
    telemetry.meter_provider.get_meter("shop").create_counter("sold").add(3)
    telemetry.logger_provider.get_logger("shop").emit(body="sold")
    answer = TestClient(app_of(telemetry)).get("/metrics").text
    assert "sold_total 3.0" in answer


WORKERS = "Each worker of this server has its own metrics"


@pytest.mark.parametrize(
    ("environment", "warns"),
    [
        ({}, False),
        ({"WEB_CONCURRENCY": "4"}, False),  # of a server that is not there
        ({"SERVER_SOFTWARE": "gunicorn/23.0.0", "WEB_CONCURRENCY": "4"}, True),
        ({"SERVER_SOFTWARE": "gunicorn/23.0.0", "WEB_CONCURRENCY": "1"}, False),
    ],
)
def test_several_workers_that_push_nowhere_are_warned_of(
    environment: Mapping[str, str], warns: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("WEB_CONCURRENCY", "SERVER_SOFTWARE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", ModuleType("gunicorn.arbiter"))
    monkeypatch.setattr(sys, "argv", ["gunicorn", "app:app"])
    with TestClient(app_of(Telemetry("shop"))):
        pass
    assert (WORKERS in caplog.text) is warns
    caplog.clear()
    with TestClient(app_of(Telemetry("shop", otlp_endpoint="http://127.0.0.1:9", flush_timeout_seconds=0.01))):
        pass
    assert WORKERS not in caplog.text


def test_workers_of_uvicorn_are_warned_of(tmp_path: Path) -> None:
    app = """
from fastapi import FastAPI
from fastapi_kit.observability import Telemetry

telemetry = Telemetry("shop")
app = FastAPI(telemetry=telemetry.config)
app.include_router(telemetry.router)
"""
    with Service(tmp_path, app, "--workers", "2") as service:
        service.stop()
        assert service.log().count(WORKERS) == 2
    with Service(tmp_path, app) as service:
        service.stop()
        assert WORKERS not in service.log()


@pytest.mark.parametrize(
    "settings",
    [
        {"service_name": " "},
        {"metrics_path": "metrics"},
        {"metrics_path": "/{name}"},
        {"exclude_paths": "/health/live"},
        {"exclude_paths": ["health"]},
        {"sample_ratio": 1.1},
        {"sample_ratio": -0.1},
        {"sample_ratio": float("nan")},
        {"flush_timeout_seconds": 0},
        {"flush_timeout_seconds": float("inf")},
        {"otlp_headers": {"x-api-key": "hunter2"}},
        {"otlp_endpoint": "hunter2:4318"},
        {"otlp_endpoint": ""},
        {"otlp_endpoint": "http://:4318"},
        {"otlp_endpoint": "http://[hunter2"},
        {"otlp_endpoint": "http://collector:hunter2"},
        {"otlp_endpoint": "http://collector:0"},
        {"otlp_endpoint": "http://collector:4318/ hunter2"},
        {"otlp_endpoint": "http://collector:4318/\nhunter2"},
        {"otlp_endpoint": "grpc://collector:4317"},
        {"otlp_endpoint": "http://user:hunter2@collector"},
        {"otlp_endpoint": "https://collector?key=hunter2"},
        {"otlp_endpoint": "https://collector#hunter2"},
        {"otlp_endpoint": "https://collector/v1/traces/"},
        {"otlp_endpoint": "http://collector", "otlp_headers": {"x-api-key": "hunter2\n"}},
        {"otlp_endpoint": "http://collector", "otlp_headers": {"x-api-key": ""}},
        {"otlp_endpoint": "http://collector", "otlp_headers": {"x-api-key": " hunter2"}},
        {"otlp_endpoint": "http://collector", "otlp_headers": {"x-api-key": "hunter2…"}},
        {"otlp_endpoint": "http://collector", "otlp_headers": {"hunter2: x": "y"}},
    ],
)
def test_what_cannot_work_is_refused_at_start_up_without_showing_a_secret(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Telemetry(**{"service_name": "shop"} | settings)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_good_settings_are_taken() -> None:
    headers = {"x-api-key": "a key with spaces", "authorization": "Basic aHVudGVyMg=="}
    for url in ("http://collector:4318", "https://[::1]/otlp/"):
        telemetry = Telemetry("shop", otlp_endpoint=url, otlp_headers=headers, sample_ratio=0, flush_timeout_seconds=60)
        telemetry.tracer_provider.shutdown()
        telemetry.logger_provider.shutdown()


@pytest.mark.parametrize(("port", "warns"), [(":4317", True), (":4318", False), ("", False)])
def test_the_port_for_grpc_is_a_warning(port: str, warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry("shop", otlp_endpoint=f"http://hunter2.example{port}/hunter2/")
    telemetry.tracer_provider.shutdown()
    telemetry.logger_provider.shutdown()
    assert ("which they take on port 4318" in caplog.text) is warns
    assert "hunter2" not in caplog.text


def test_a_flush_that_is_not_done_in_time_says_what_is_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Collector(tmp_path, "hangs") as collector:
        telemetry = Telemetry("shop", otlp_endpoint=collector.url, flush_timeout_seconds=0.1)
        telemetry.tracer_provider.get_tracer("test").start_span("work").end()
        assert telemetry.flush() is False
    assert "did not take the last spans, metrics and log records within 0.1 seconds: they are lost" in caplog.text


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_all_works_without_the_sdk_but_telemetry_which_names_the_extra() -> None:
    out = run("""
import sys
sys.modules["opentelemetry.sdk"] = sys.modules["opentelemetry.exporter"] = sys.modules["prometheus_client"] = None
from fastapi import FastAPI
from starlette.testclient import TestClient
from fastapi_kit import observability
from fastapi_kit.errors import ConfigurationError
app = FastAPI()
observability.install(app)
@app.get("/")
async def home() -> int:
    return 1
assert TestClient(app).get("/").json() == 1
try:
    observability.Telemetry("shop")
except ConfigurationError as error:
    print(error)
""")
    assert "pip install 'fastapi-service-kit[telemetry]'" in out


def test_no_global_is_set_until_it_is_asked_for_and_then_once() -> None:
    out = run("""
from opentelemetry import _logs, metrics, trace
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.observability import Telemetry
one, other = Telemetry("one"), Telemetry("other")
assert trace.get_tracer_provider() is not one.tracer_provider
one.make_global()
one.make_global()
assert trace.get_tracer_provider() is one.tracer_provider
assert metrics.get_meter_provider() is one.meter_provider
assert _logs.get_logger_provider() is one.logger_provider
try:
    other.make_global()
except ConfigurationError as error:
    print(error)
""")
    assert "has OpenTelemetry providers already" in out


def test_providers_become_global_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the real globals, which the other tests of this process would keep."""
    current: dict[str, object] = {}
    for module, kind in ((trace, "tracer"), (metrics, "meter"), (_logs, "logger")):
        monkeypatch.setattr(module, f"get_{kind}_provider", functools.partial(current.get, kind))
        monkeypatch.setattr(module, f"set_{kind}_provider", functools.partial(current.setdefault, kind))
    one = Telemetry("one")
    one.make_global()
    one.make_global()
    assert current == {"tracer": one.tracer_provider, "meter": one.meter_provider, "logger": one.logger_provider}
    with pytest.raises(ConfigurationError, match="has OpenTelemetry providers already"):
        Telemetry("other").make_global()


def test_settings_of_the_environment_add_no_exporter_that_does_not_redact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    assert Telemetry("shop").config["auto_configure"] is False
