"""One record is one line, whatever is in it."""

import logging
import logging.handlers
import queue
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from starlette.testclient import TestClient

from fastapi_kit import errors
from fastapi_kit.observability import bind, configure_logging, install
from fastapi_kit.observability.logs import RequestContextFilter, structlog_to_logging

from .log_output import SECRET, Alone, Output, log, restored_logging


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with restored_logging():
        yield


@pytest.fixture
def output() -> Output:
    stream = Output()
    configure_logging(stream=stream)
    return stream


@pytest.fixture
def alone() -> Alone:
    return Alone()


def test_a_line_has_time_level_logger_message_and_what_extra_gives(output: Output) -> None:
    log.info("Paid %s of %d", "12", 20, extra={"order": 7, "money": {"of": "ann"}})
    line = output.line()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {"level": "INFO", "logger": "shop", "message": "Paid 12 of 20", "order": 7, "money": {"of": "ann"}}


class Hostile:
    def __str__(self) -> str:
        raise ValueError(SECRET)

    __repr__ = __str__


class Crashing(dict[str, Any]):
    def items(self) -> Any:
        raise KeyError(SECRET)


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value",
    [
        *("a\r\nb", "\u2028\u2029\x85", "\ud800", "\x1b[31m\x7f\x00", '"}\n{"', "%s%n{0}", float("nan"), float("-inf")),
        *(b"\xff\x00", 10**5000, 2**70, -(2**63), LOOP, Hostile(), Crashing(a=1), {Hostile(): Hostile()}, object),
        *(
            {"\ud800": ["\udfff", 1]},
            [("cookie", SECRET)],
            {"a" * 5_000: 1},
            {"x": {"password": SECRET}},
            ValueError("x"),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_makes_a_line(alone: Alone, value: Any) -> None:
    alone.log.info("Got %s", value)
    alone.log.info(value)
    alone.log.info("Got it", extra={"it": value, "of": [value]})
    alone.log.error("Failed", exc_info=ValueError(value))
    assert len(alone.lines()) == 4
    assert SECRET not in alone.getvalue()


def test_a_format_that_does_not_fit_is_said_as_it_is(alone: Alone, capsys: pytest.CaptureFixture[str]) -> None:
    alone.log.info("%d of %s", "x")  # noqa: PLE1206  # what this is about
    alone.log.info("%(a)s", {"b": 1})
    assert [line["message"] for line in alone.lines()] == ["%d of %s", "%(a)s"]
    assert capsys.readouterr() == ("", "")


def test_nobody_overwrites_what_a_line_has_by_itself(output: Output) -> None:
    fields = {"timestamp": 1, "level": 2, "logger": 3, "request_id": 4, "trace_id": 5, "exception": 6, "stack": 7}
    log.info("Said", extra={**fields, "color_message": "\x1b[1m", "mine": 8})
    line = output.line()
    assert (line["level"], line["logger"], line["message"], line["mine"]) == ("INFO", "shop", "Said", 8)
    assert line.keys() == {"timestamp", "level", "logger", "message", "mine"}


def test_an_exception_has_its_type_and_its_traceback_without_secrets(alone: Alone) -> None:
    class Lost(Exception):  # noqa: N818
        pass

    try:
        raise Lost(f"no answer of redis://:{SECRET}@cache")
    except Lost:
        alone.log.exception("Failed", stack_info=True)
    alone.log.error("Failed", exc_info=True)  # noqa: LOG014  # what this is about
    alone.log.error("Failed", exc_info=KeyError("x"))
    line, without, key = alone.lines()
    assert line["exception_type"].endswith("Lost")
    assert line["exception"].startswith("Traceback (most recent")
    assert line["exception"].endswith("redis://:[redacted]@cache")
    assert line["stack"].startswith("Stack (most recent")
    assert not {"exception", "exception_type"} & without.keys()
    assert key["exception_type"] == "KeyError"


def test_an_exception_that_cannot_be_shown_is_named(alone: Alone) -> None:
    class Odd(Exception):  # noqa: N818
        def __getattribute__(self, name: str) -> Any:
            if name == "__cause__":
                raise RuntimeError(SECRET)
            return super().__getattribute__(name)

    alone.log.error("Failed", exc_info=Odd())
    assert alone.line()["exception"].endswith("Odd, unreadable")


def test_long_texts_are_cut(output: Output) -> None:
    log.info("x" * 30_000, extra={f"f{n}": n for n in range(150)} | {"y" * 300: "z" * 20_000})
    log.error("Failed", exc_info=ValueError(f"password={SECRET} " + "x" * 90_000 + f" token={SECRET}"))
    long, failed = output.lines()
    assert long["message"] == "x" * 10_000 + "... [cut, 30000 characters]"
    assert (long["f99"], long["fields_left_out"]) == (99, 51)
    assert 50_000 < len(failed["exception"]) < 50_100
    assert failed["exception"].startswith("ValueError: password=[redacted] xxx")
    assert failed["exception"].endswith("xxx token=[redacted]")
    log.info("Said", extra={"y" * 300: "z" * 20_000})
    assert output.lines()[-1]["y" * 200 + "... [cut, 300 characters]"] == "z" * 10_000 + "... [cut, 20000 characters]"


def test_a_record_that_cannot_be_shown_at_all_is_still_a_line(alone: Alone) -> None:
    record = logging.makeLogRecord({"name": "shop", "levelno": 20, "levelname": "INFO", "created": "yesterday"})
    alone.log.handle(record)
    assert alone.line()["message"] == "[a record that could not be shown: ValueError]"
    text = Output()
    configure_logging(stream=text, format="text").handle(record)
    assert text.getvalue() == "INFO shop [a record that could not be shown: TypeError]\n"


def served(**options: Any) -> TestClient:
    app = FastAPI()
    errors.install(app)
    install(app, **options)

    @app.get("/items/{number}")
    def item(number: int) -> None:
        bind(user="ann", api_key=SECRET, status="mine", level="mine")
        log.info("Seen", extra={"user": "bob"} if number == 2 else {})

    @app.get("/spans")
    async def spans() -> str:
        with TracerProvider().get_tracer("shop").start_as_current_span("x") as span:
            log.info("Seen")
            return f"{span.get_span_context().trace_id:032x}{span.get_span_context().span_id:016x}"

    return TestClient(app)


def test_each_line_of_a_request_has_its_id_and_what_was_bound(output: Output) -> None:
    identity = served().get("/items/1", headers={"X-Request-ID": "abc"}).headers["x-request-id"]
    served().get("/items/2")
    seen, access, other, _ = [line for line in output.lines() if line["logger"] in {"shop", "fastapi_kit.access"}]
    assert identity == seen["request_id"] == access["request_id"] == "abc"
    assert (seen["user"], access["user"], other["user"]) == ("ann", "ann", "bob")
    assert seen["api_key"] == access["api_key"] == "[redacted]"
    assert (access["level"], access["status"], access["route"]) == ("INFO", 200, "/items/{number}")


def test_a_line_has_the_trace_that_is_current(output: Output) -> None:
    answer = served().get("/spans").json()
    [seen] = [line for line in output.lines() if line["logger"] == "shop"]
    assert seen["trace_id"] + seen["span_id"] == answer


def test_what_a_client_makes_up_as_a_method_or_a_path_is_redacted(output: Output) -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0." + SECRET
    served().request(token, f"/{token}/\u2028")
    assert SECRET not in output.getvalue()
    assert [line["path"] for line in output.lines() if line["logger"] == "fastapi_kit.access"] == ["/[redacted]/\u2028"]


def test_a_queue_keeps_the_request_of_each_record() -> None:
    output = Output()
    handler = configure_logging(stream=output)
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    before = logging.handlers.QueueHandler(waiting)
    before.addFilter(RequestContextFilter())
    logging.getLogger().removeHandler(handler)
    logging.getLogger().addHandler(before)
    listener = logging.handlers.QueueListener(waiting, handler)
    listener.start()
    served().get("/items/1", headers={"X-Request-ID": "abc"})
    log.error("Failed", exc_info=ValueError(f"token={SECRET}"))
    listener.stop()
    lines = [line for line in output.lines() if line["logger"] in {"shop", "fastapi_kit.access"}]
    assert [line.get("request_id") for line in lines] == ["abc", "abc", None]
    assert [line.get("user") for line in lines] == ["ann", "ann", None]
    assert "ValueError: token=[redacted]" in lines[2]["message"]


def test_the_text_of_a_traceback_that_another_formatter_left_is_used(alone: Alone) -> None:
    alone.log.handle(logging.makeLogRecord({"name": "shop", "levelno": 20, "exc_text": f"token={SECRET}"}))
    assert alone.line()["exception"] == "token=[redacted]"


@pytest.fixture
def slog() -> Iterator[Any]:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(),
            structlog_to_logging,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    yield structlog.get_logger("shop")
    structlog.reset_defaults()


def test_structlog_takes_the_same_way(output: Output, slog: Any) -> None:
    with structlog.contextvars.bound_contextvars(tenant="acme"):
        slog.bind(order=7).warning("Paid", password=SECRET, url=f"redis://:{SECRET}@x")
        try:
            raise ValueError(f"token={SECRET}")
        except ValueError:
            slog.exception("Failed")
    paid, failed = output.lines()
    told = {name: paid[name] for name in ("level", "logger", "message", "tenant", "order", "password", "url")}
    assert list(told.values()) == ["WARNING", "shop", "Paid", "acme", 7, "[redacted]", "redis://:[redacted]@x"]
    assert failed["exception"].endswith("ValueError: token=[redacted]")


def test_structlog_may_use_the_names_of_a_record(output: Output, slog: Any) -> None:
    slog.info("Paid", name="bob", args=1, message="m", asctime="a", name_="ann", color_message="c")
    line = output.line()
    assert (line["message"], line["logger"]) == ("Paid", "shop")
    told = [line[name] for name in ("name__", "name_", "args_", "message_", "asctime_", "color_message_")]
    assert told == ["bob", "ann", 1, "m", "a", "c"]


def test_structlog_fills_its_arguments_in(output: Output, slog: Any) -> None:
    slog.info("in %s of %d", "req", 2)
    slog.info("100 %")
    slog.info()
    assert [line["message"] for line in output.lines()] == ["in req of 2", "100 %", ""]


LONG_START = (
    "Traceback (most recent call last):\n" + "  File x, in y\n" * 2_000 + f"OSError: no redis://:{SECRET}@cache\n"
)
"""As Uvicorn logs a start-up that failed: as a message."""


def test_a_message_that_is_a_traceback_keeps_its_end(output: Output) -> None:
    log.error(LONG_START)
    log.error("Failed\n%s", LONG_START * 3)
    whole, cut = output.lines()
    assert whole["message"] == LONG_START.replace(SECRET, "[redacted]")
    assert 50_000 < len(cut["message"]) < 50_100
    assert cut["message"].startswith("Failed\nTraceback")
    assert cut["message"].endswith("OSError: no redis://:[redacted]@cache\n")


def test_a_message_that_is_a_traceback_is_text_of_several_lines() -> None:
    output = Output()
    configure_logging(stream=output, format="text")
    log.error("%sINFO forged \x1b[1m\n", LONG_START, extra={"order": 7})
    lines = output.getvalue().splitlines()
    assert lines[0].endswith("ERROR shop Traceback (most recent call last): order=7")
    assert len(lines) == 2_003
    assert lines[-2:] == ["    OSError: no redis://:[redacted]@cache", r"    INFO forged \x1b[1m"]


def test_text_is_a_line_for_a_person_and_below_it_the_traceback() -> None:
    output = Output()
    configure_logging(stream=output, format="text")
    served().get("/items/2", headers={"X-Request-ID": "abc"})
    served().get("/nowhere")
    log.info("Said\nINFO forged \x1b[1m\u202e", extra={"a": "b c", "n": 1, "l": ["x"], "none": None})
    try:
        raise ValueError(f"first\nsecond {SECRET}, password={SECRET}"[:6])
    except ValueError:
        log.exception("Failed", stack_info=True)
    seen, access, *rest = [line for line in output.getvalue().splitlines() if " httpx" not in line]
    clock = r"\d\d:\d\d:\d\d\.\d{3}"
    assert re.fullmatch(rf"{clock} INFO  shop Seen request_id=abc user=bob api_key=\[redacted\] status=mine", seen)
    line = rf"{clock} INFO  fastapi_kit.access GET /items/\{{number\}} 200 \d+\.\d ms request_id=abc user=ann .*"
    assert re.fullmatch(line, access)
    assert " path=/nowhere client=testclient" in rest[0]
    assert rest[1].endswith(r'shop Said\nINFO forged \x1b[1m\u202e a="b c" n=1 l=["x"]')
    assert rest[2].endswith("ERROR shop Failed")
    assert all(line.startswith("    ") for line in rest[3:])
    assert any("Stack (most" in line for line in rest)
