"""A real uvicorn pushes to a real collector, each in its own process."""

import base64
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from .telemetry_servers import Collector, Service, attributes

SECRET = f"hunter2{uuid4().hex}"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Give what a collector got from a service that crashed, refused, and was stopped by SIGTERM."""
    folder = tmp_path_factory.mktemp("pushed")
    with Collector(folder) as collector:
        with Service(folder, COLLECTOR=collector.url, SECRET=SECRET) as service:
            get = service.client.get
            traceparent = f"00-{TRACE}-00f067aa0ba902b7-01"
            headers = {"Authorization": f"Bearer {SECRET}", "Cookie": f"session={SECRET}", "traceparent": traceparent}
            assert get(f"/v1/shop/items/7?token={SECRET}&{SECRET}&page=", headers=headers).status_code == 200
            assert service.client.post("/v1/shop/orders", json={"pieces": SECRET}).status_code == 422
            assert get("/crash").status_code == 500
            assert get("/refused").status_code == 403
            assert get("/nowhere").status_code == 404
            assert get("/mounted/items/5").status_code == 200
            assert get("/health/live").status_code == 200
            metrics = get("/metrics")
            assert metrics.status_code == 200
            assert SECRET not in metrics.text
            service.stop()
            assert "key-of-the-collector" not in service.log()
        yield collector


def test_all_that_was_queued_arrives_when_the_service_is_stopped(collector: Collector) -> None:
    names = {span["name"] for span in collector.spans()}
    assert {
        "GET /v1/shop/items/{item}",
        "POST /v1/shop/orders",
        "GET /crash",
        "GET /refused",
        "GET",
        "GET /mounted/items/{item}",
        "work",
        "fastapi.endpoint",
    } <= names
    events = {record["eventName"] for record in collector.logs()}
    assert events == {"http.server.request.exception", "fastapi.validation.failed"}
    assert "http.server.request.duration" in collector.metrics()


def test_no_byte_of_a_secret_is_pushed(collector: Collector) -> None:
    assert len(collector.pushes()) >= 3
    assert SECRET.encode() not in collector.raw()
    assert SECRET[-16:].encode() not in collector.raw()


def test_each_push_has_the_key_of_the_collector_and_the_name_of_the_service(collector: Collector) -> None:
    for push in collector.pushes():
        assert push["headers"]["x-api-key"] == "key-of-the-collector"
    (push, *_) = collector.pushes("/v1/traces")
    resource = attributes(push["message"]["resourceSpans"][0]["resource"])
    assert resource["service.name"] == "shop"
    assert resource["deployment.environment.name"] == "trial"
    assert resource["service.instance.id"]


def test_a_trace_goes_on_where_the_client_began_it(collector: Collector) -> None:
    (span,) = [span for span in collector.spans() if span["name"] == "GET /v1/shop/items/{item}"]
    assert base64.b64decode(span["traceId"]).hex() == TRACE
    assert base64.b64decode(span["parentSpanId"]).hex() == "00f067aa0ba902b7"


def test_a_query_keeps_the_names_of_its_parameters(collector: Collector) -> None:
    (span,) = [span for span in collector.spans() if span["name"] == "GET /v1/shop/items/{item}"]
    assert attributes(span)["url.query"] == "token=REDACTED&REDACTED&REDACTED"


def test_a_crash_is_told_by_its_types_and_its_frames(collector: Collector) -> None:
    (record,) = [record for record in collector.logs() if record["eventName"] == "http.server.request.exception"]
    told = attributes(record)
    assert told["exception.type"] == "LookupError"
    assert "exception.message" not in told
    stack = told["exception.stacktrace"].splitlines()
    assert "ValueError" in stack
    assert "LookupError" in stack
    assert [line for line in stack if line.endswith(", in crash") and "shop.py" in line]
    assert "  | ExceptionGroup" in stack
    assert "    | KeyError" in stack
    assert "The above exception was the direct cause of the following exception:" in stack
    (request,) = [span for span in collector.spans() if span["name"] == "GET /crash"]
    assert record["traceId"] == request["traceId"]


def test_spans_of_other_instrumentation_are_redacted_too(collector: Collector) -> None:
    (span,) = [span for span in collector.spans() if span["name"] == "work"]
    assert span["status"] == {"code": "STATUS_CODE_ERROR"}
    told = attributes(span)
    assert told["http.request.header.authorization"] == "REDACTED"
    assert told["db.query.parameter.0"] == "REDACTED"
    assert told["db.query.text"] == "SELECT 1 FROM users WHERE token = $1"
    (event,) = span["events"]
    assert attributes(event)["exception.type"] == "LookupError"
    assert "exception.message" not in attributes(event)
    assert "in crash" in attributes(event)["exception.stacktrace"]


def test_probes_and_scrapes_leave_no_telemetry(collector: Collector) -> None:
    paths = {attributes(span).get("url.path") for span in collector.spans()}
    assert "/crash" in paths
    assert not paths & {"/health/live", "/metrics"}


def test_a_validation_error_is_told_by_how_many_there_are(collector: Collector) -> None:
    (record,) = [record for record in collector.logs() if record["eventName"] == "fastapi.validation.failed"]
    assert attributes(record) == {"fastapi.validation.error_count": "1", "http.route": "/v1/shop/orders"}


@pytest.fixture
def nobody() -> Iterator[str]:
    """Give the URL of a port at which nobody listens, and nobody else will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def serve(folder: Path, url: str) -> tuple[float, str]:
    """Serve 700 requests, more than a batch of spans, with this collector; give the time to stop, and the log."""
    with Service(folder, COLLECTOR=url, SECRET=SECRET, FLUSH="1") as service:
        for number in range(700):
            assert service.client.get(f"/v1/shop/items/{number}").json() == number
        return service.stop(), service.log()


def test_without_a_collector_requests_are_served_and_the_shutdown_is_bounded(tmp_path: Path, nobody: str) -> None:
    took, log = serve(tmp_path, nobody)
    assert took < 20
    assert "they are lost" in log
    assert "key-of-the-collector" not in log


def test_a_collector_that_hangs_delays_no_request_and_no_shutdown(tmp_path: Path) -> None:
    with Collector(tmp_path, "hangs") as collector:
        took, log = serve(tmp_path, collector.url)
        assert collector.pushes("/v1/traces")
    assert took < 20
    assert "did not take the last spans, metrics and log records within 1.0 seconds" in log


def test_a_collector_that_refuses_disturbs_no_request_and_is_logged(tmp_path: Path) -> None:
    with Collector(tmp_path, "refuses") as collector:
        _, log = serve(tmp_path, collector.url)
    assert "Failed to export spans batch code: 500" in log
    assert "key-of-the-collector" not in log
