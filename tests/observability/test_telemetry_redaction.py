"""What a collector gets of spans and log records that hold secrets, whoever made them."""

import logging
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.trace import Link, StatusCode

from fastapi_kit.observability import Telemetry
from fastapi_kit.observability._redacting_export import RedactingLogExporter

from .telemetry_servers import Collector, attributes

SECRET = "hunter2secret"


class NotFoundByUsError(Exception):
    class InsideError(Exception):
        pass


@pytest.fixture
def collector(tmp_path: Any) -> Iterator[Collector]:
    with Collector(tmp_path) as collector:
        yield collector


@pytest.fixture
def telemetry(collector: Collector) -> Iterator[Telemetry]:
    telemetry = Telemetry("shop", otlp_endpoint=f"{collector.url}/", flush_timeout_seconds=30)
    yield telemetry
    telemetry.tracer_provider.shutdown()
    telemetry.logger_provider.shutdown()


def exported(telemetry: Telemetry, collector: Collector, **given: Any) -> dict[str, Any]:
    """Give the attributes of a span as they arrive."""
    telemetry.tracer_provider.get_tracer("test").start_span("work", attributes=given).end()
    assert telemetry.flush()
    return attributes(collector.spans()[-1])


@pytest.mark.parametrize(
    ("name", "value", "arrives"),
    [
        ("url.query", f"token={SECRET}&page=2", "token=REDACTED&page=REDACTED"),
        ("url.query", f"{SECRET}&{SECRET}=&a=b={SECRET}", "REDACTED&REDACTED&a=REDACTED"),
        ("url.query", 5, "REDACTED"),
        ("url.full", f"https://u:{SECRET}@host:1/p?q={SECRET}#{SECRET}", "https://host:1/p?q=REDACTED"),
        ("url.full", "https://host/p", "https://host/p"),
        ("url.full", f"https://[{SECRET}", "REDACTED"),
        ("url.full", 5, "REDACTED"),
        ("http.url", f"http://host/?q={SECRET}", "http://host/?q=REDACTED"),
        ("http.target", f"/p?q={SECRET}", "/p?q=REDACTED"),
        ("http.request.header.authorization", [SECRET], "REDACTED"),
        ("HTTP.Request.Header.Authorization", [SECRET], "REDACTED"),
        ("http.request.header.Content-Type", "text/plain", "text/plain"),
        ("URL.Full", f"https://host/?q={SECRET}", "https://host/?q=REDACTED"),
        ("url.fragment", SECRET, "REDACTED"),
        ("http.request.header.x_our_own", [SECRET], "REDACTED"),
        ("http.response.header.set-cookie", [SECRET], "REDACTED"),
        ("http.response.header.content_type", "text/plain", "text/plain"),
        ("rpc.grpc.request.metadata.key", SECRET, "REDACTED"),
        ("db.query.parameter.0", SECRET, "REDACTED"),
        ("db.statement.parameters", SECRET, "REDACTED"),
        ("db.connection_string", SECRET, "REDACTED"),
        ("db.query.text", "SELECT $1", "SELECT $1"),
        ("exception.stacktrace", 5, "REDACTED"),
        ("shop.name", "Zoë's", "Zoë's"),
        ("shop.name", "\ud800!", "?!"),
    ],
)
def test_an_attribute_arrives_without_its_secret(
    name: str, value: Any, arrives: Any, telemetry: Telemetry, collector: Collector
) -> None:
    assert exported(telemetry, collector, **{name: value}) == {name: arrives}
    assert SECRET.encode() not in collector.raw()


@pytest.mark.parametrize("name", ["exception.message", "error.message", "Exception.Message"])
def test_the_text_of_an_error_does_not_arrive(name: str, telemetry: Telemetry, collector: Collector) -> None:
    assert exported(telemetry, collector, **{name: SECRET, "error.type": "ValueError"}) == {"error.type": "ValueError"}


def stack_of(telemetry: Telemetry, collector: Collector, error: BaseException) -> list[str]:
    stack = "".join(traceback.format_exception(error))
    return str(exported(telemetry, collector, **{"exception.stacktrace": stack})["exception.stacktrace"]).splitlines()


def test_a_stack_keeps_loaded_classes_and_no_word_that_looks_like_one(
    telemetry: Telemetry, collector: Collector
) -> None:
    class LocalError(Exception):
        pass

    notes = f"{SECRET}: x\nos.path: x\n{SECRET}.Error: x\nPATH: x\nlogging.{SECRET}: x\n{'a.' * 400}: x"
    here = NotFoundByUsError.__module__
    assert stack_of(telemetry, collector, NotFoundByUsError(notes)) == [f"{here}.NotFoundByUsError"]
    assert stack_of(telemetry, collector, NotFoundByUsError.InsideError()) == [f"{here}.NotFoundByUsError.InsideError"]
    assert stack_of(telemetry, collector, LocalError(SECRET)) == []
    assert SECRET.encode() not in collector.raw()


def test_a_stack_that_repeats_itself_and_a_syntax_error_keep_no_source(
    telemetry: Telemetry, collector: Collector
) -> None:
    def forever(depth: int) -> int:
        return forever(depth + 1)

    with pytest.raises(RecursionError) as deep:
        forever(0)
    stack = stack_of(telemetry, collector, deep.value)
    assert stack[0] == "Traceback (most recent call last):"
    assert any("[Previous line repeated" in line for line in stack)
    assert stack[-1] == "RecursionError"
    with pytest.raises(SyntaxError) as wrong:
        compile(f"{SECRET} {SECRET}", "<string>", "exec")
    assert stack_of(telemetry, collector, wrong.value)[-1] == "SyntaxError"
    assert SECRET.encode() not in collector.raw()


def test_a_hostile_text_of_a_megabyte_costs_no_more_than_its_length(telemetry: Telemetry, collector: Collector) -> None:
    hostile = ['  File "' + "a.py" * 250_000, "+-" * 500_000 + "x", "[ |" * 300_000, " " * 1_000_000, "a." * 500_000]
    assert stack_of(telemetry, collector, ValueError("\n".join(hostile))) == ["ValueError"]


def test_events_links_and_the_status_of_a_span_are_redacted(telemetry: Telemetry, collector: Collector) -> None:
    tracer = telemetry.tracer_provider.get_tracer("test")
    before = tracer.start_span("before")
    span = tracer.start_span("work", links=[Link(before.get_span_context(), {"url.query": f"a={SECRET}"})])
    span.add_event("called", {"url.full": f"http://host/?a={SECRET}"})
    for number in range(200):  # above the limit of the SDK
        span.set_attribute(f"number.{number}", number)
        span.add_event(f"event {number}")
    span.set_status(StatusCode.ERROR, SECRET)
    span.end()
    with pytest.raises(ValueError, match=SECRET), tracer.start_as_current_span("another"):
        raise ValueError(SECRET)
    telemetry.flush()
    work, another = collector.spans()
    assert attributes(work["links"][0]) == {"url.query": "a=REDACTED"}
    assert work["links"][0]["traceId"]
    assert (work["droppedAttributesCount"], work["droppedEventsCount"]) == (72, 73)
    assert work["status"] == another["status"] == {"code": "STATUS_CODE_ERROR"}
    assert attributes(another["events"][0])["exception.type"] == "ValueError"
    assert SECRET.encode() not in collector.raw()


def emit(telemetry: Telemetry, **record: Any) -> None:
    telemetry.logger_provider.get_logger("test").emit(severity_number=SeverityNumber.ERROR, **record)


def body_of(record: dict[str, Any]) -> Any:
    return next(iter(record["body"].values()))


def test_the_body_of_a_log_record_has_no_traceback_and_no_message(telemetry: Telemetry, collector: Collector) -> None:
    formatter = logging.Formatter("%(levelname)s %(message)s")
    try:
        raise ExceptionGroup(SECRET, [KeyError(SECRET)])
    except ExceptionGroup as error:
        whole = logging.LogRecord("shop", logging.ERROR, "", 1, "it failed", None, (type(error), error, None))
        emit(telemetry, body=formatter.format(whole), exception=error)
        grouped = "it failed\n" + "".join(traceback.format_exception(error))
        emit(telemetry, body=grouped, exception=error)
    emit(telemetry, body=f"could not read {SECRET}: gone", exception=ValueError(SECRET))
    emit(telemetry, body=f"could not read: {SECRET}", attributes={"exception.message": 5})
    emit(telemetry, body={"a": ["\ud800", 1, b"raw"]})
    telemetry.flush()
    first, second, third, fourth, fifth = collector.logs()
    assert SECRET not in body_of(first)
    assert body_of(first).startswith("ERROR it failed\n")
    assert body_of(second).startswith("it failed\n  + Exception Group Traceback (most recent call last):\n")
    assert ", in test_the_body_of_a_log_record" in body_of(second)
    assert body_of(third) == "could not read REDACTED: gone"
    assert body_of(fourth) == f"could not read: {SECRET}"  # what the app says itself is its own business
    assert str(body_of(fifth)).count("?") == 1
    for record in (first, second, third):
        assert attributes(record).keys() == {"exception.type", "exception.stacktrace"}
        assert SECRET not in str(record)


def test_text_of_exceptions_is_exported_where_that_is_asked_for_and_nothing_else(collector: Collector) -> None:
    telemetry = Telemetry(
        "shop", otlp_endpoint=collector.url, flush_timeout_seconds=30, unsafe_export_exception_text=True
    )
    span = telemetry.tracer_provider.get_tracer("test").start_span("work", attributes={"url.query": f"a={SECRET}"})
    span.record_exception(ValueError("why it failed"))
    span.set_status(StatusCode.ERROR, "why it failed")
    span.end()
    emit(telemetry, body="why it failed", exception=ValueError("why it failed"))
    telemetry.flush()
    (sent,) = collector.spans()
    assert attributes(sent) == {"url.query": "a=REDACTED"}
    assert sent["status"]["message"] == "why it failed"
    assert attributes(sent["events"][0])["exception.message"] == "why it failed"
    assert attributes(sent["events"][0])["exception.stacktrace"].rstrip().endswith("ValueError: why it failed")
    (record,) = collector.logs()
    assert (body_of(record), attributes(record)["exception.message"]) == ("why it failed", "why it failed")


def test_samples_follow_the_ratio(collector: Collector) -> None:
    telemetry = Telemetry("shop", otlp_endpoint=collector.url, sample_ratio=0.0)
    telemetry.tracer_provider.get_tracer("test").start_span("work").end()
    assert telemetry.flush()
    assert collector.spans() == []


def test_an_exporter_of_logs_flushes_the_one_that_it_wraps() -> None:
    class Fails(InMemoryLogRecordExporter):
        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return timeout_millis > 7

    exporter = RedactingLogExporter(Fails(), exception_text=False)  # type: ignore[no-untyped-call]
    assert exporter.force_flush(8)
    assert not exporter.force_flush(7)


def test_providers_that_are_shut_down_shut_their_exporters_down(telemetry: Telemetry, collector: Collector) -> None:
    telemetry.tracer_provider.get_tracer("test").start_span("work").end()
    emit(telemetry, body="at the end")
    telemetry.tracer_provider.shutdown()
    telemetry.logger_provider.shutdown()
    assert (len(collector.spans()), len(collector.logs())) == (1, 1)
    assert telemetry.flush()
