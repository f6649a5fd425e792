"""Where lines go, and whose lines they are."""

import io
import json
import logging
import logging.handlers
import secrets
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from starlette.testclient import TestClient

from fastapi_kit import errors
from fastapi_kit.auth import AccessClaims, Auth, Key, TokenService
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.errors.exchange import ResponseCutError
from fastapi_kit.observability import Redactor, configure_logging

from .log_output import SECRET, SERVERS, Output, log, restored_logging


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with restored_logging():
        yield


@pytest.fixture
def output() -> Output:
    stream = Output()
    configure_logging(stream=stream)
    return stream


def test_a_terminal_without_the_characters_gets_them_escaped() -> None:
    raw = io.BytesIO()
    configure_logging(stream=io.TextIOWrapper(raw, "ascii"), format="text")
    log.info("caf\xe9 \u20ac")  # no lone surrogate, which pytest-xdist cannot report
    assert rb"shop caf\xe9 \u20ac" in raw.getvalue()


def test_a_stream_that_fails_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    configure_logging(stream=Gone())
    log.info("Said")
    assert capsys.readouterr() == ("", "")


def test_it_goes_to_the_standard_output_of_the_moment(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    log.info("Said")
    assert json.loads(capsys.readouterr().out)["message"] == "Said"


def test_it_takes_the_place_of_consoles_and_its_own_and_of_no_other_handler(caplog: pytest.LogCaptureFixture) -> None:
    root = logging.getLogger()
    others = root.handlers[:]
    console, file = logging.StreamHandler(sys.stderr), logging.StreamHandler(io.StringIO())
    root.addHandler(console)
    root.addHandler(file)
    first, second = Output(), Output()
    configure_logging(stream=first)
    last = configure_logging(stream=second)
    assert root.handlers == [*others, file, last]
    with caplog.at_level("INFO"):
        log.info("Said")
    assert (first.writes, second.writes) == (0, 1)
    assert "Said" in caplog.messages


@pytest.mark.parametrize("name", SERVERS[1:])
def test_servers_that_configure_their_logging_later_are_claimed_again(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Output()
    configure_logging(stream=output)
    configure_logging(stream=output)
    server = logging.getLogger(name)
    kept = logging.StreamHandler(io.StringIO())
    server.handlers = [logging.StreamHandler(sys.stderr), kept]
    server.propagate = False
    server.setLevel("INFO")
    server.info("Said")
    assert capsys.readouterr() == ("", "")
    assert output.writes == (not name.endswith("access"))
    assert (kept in server.handlers, len(server.filters)) == (True, 1)


def test_a_cut_response_has_no_second_traceback(output: Output) -> None:
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=ResponseCutError())
    assert output.writes == 0


def test_levels_are_set_by_name(output: Output) -> None:
    stream = Output()
    configure_logging(level="warning", levels={"shop": logging.DEBUG}, stream=stream)
    logging.getLogger("other").info("Not said")
    log.debug("Said")
    assert stream.line()["message"] == "Said"
    assert output.writes == 0


def test_warnings_of_python_are_lines(output: Output) -> None:
    warnings.resetwarnings()
    warnings.warn("Mind token=" + SECRET, UserWarning, stacklevel=1)
    assert "UserWarning: Mind token=[redacted]" in output.line()["message"]


def test_a_warning_of_python_as_text_has_its_line_of_source_below() -> None:
    stream = Output()
    configure_logging(stream=stream, format="text")
    warnings.resetwarnings()
    warnings.warn("Mind it", UserWarning, stacklevel=1)
    first, second = stream.getvalue().splitlines()
    assert first.endswith("UserWarning: Mind it")
    assert second.startswith("      warnings.warn(")


@pytest.fixture
def foreign() -> Iterator[logging.Logger]:
    logger = logging.getLogger("test_logs_configured.foreign")
    yield logger
    logger.handlers.clear()
    logger.propagate = True


@pytest.mark.parametrize("propagates", [True, False])
def test_a_logger_that_writes_to_the_console_by_itself_is_named(foreign: logging.Logger, *, propagates: bool) -> None:
    logging.getLogger("test_logs_configured.foreign.child.of")  # makes a placeholder too
    foreign.handlers[:] = [logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)]
    foreign.propagate = propagates
    stream = Output()
    configure_logging(stream=stream)
    line = stream.line()
    assert (line["level"], line["logger"]) == ("WARNING", "fastapi_kit.observability")
    assert "The logger 'test_logs_configured.foreign' writes to the console by itself" in line["message"]


def test_a_logger_that_writes_elsewhere_is_not_named(foreign: logging.Logger) -> None:
    class Silent(logging.StreamHandler[Any]):
        def emit(self, record: logging.LogRecord) -> None:  # as slowapi's
            return

    foreign.handlers[:] = [logging.StreamHandler(io.StringIO()), logging.NullHandler(), Silent(sys.stderr)]
    foreign.propagate = False
    logging.getLogger("uvicorn.error").addHandler(logging.StreamHandler(sys.stderr))
    stream = Output()
    configure_logging(stream=stream)
    assert stream.writes == 0


def test_why_a_caller_was_refused_is_not_taken_for_a_secret(output: Output) -> None:
    tokens, other = (TokenService(Key.hmac(secrets.token_urlsafe(64)), issuer="i", audience="a") for _ in "ab")
    app = FastAPI()
    errors.install(app)

    async def load_user(claims: AccessClaims) -> str:
        return claims.subject

    auth = Auth(tokens, load_user)

    @app.get("/me")
    async def me(user: Annotated[str, Depends(auth.current_user)]) -> str:
        return user

    refused = other.issue("1").token
    TestClient(app).get("/me", headers={"Authorization": f"Bearer {refused}"})
    [line] = [line for line in output.lines() if line["logger"] == "fastapi_kit.auth"]
    assert line["message"] == "A caller was refused (signature), code invalid_token"


def test_lines_of_threads_do_not_mix(output: Output) -> None:
    def say() -> None:
        for _ in range(50):
            log.info("x" * 9_000)

    threads = [threading.Thread(target=say) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(output.lines()) == 400


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"level": "LOUD"}, "level is 'LOUD'"),
        ({"level": True}, "level is True"),
        ({"levels": {"shop": "LOUD"}}, r"levels\['shop'\] is 'LOUD'"),
        ({"format": "xml"}, "format is 'xml'"),
    ],
)
def test_a_setting_that_cannot_work_changes_nothing(settings: dict[str, Any], said: str) -> None:
    before = logging.getLogger().handlers[:]
    with pytest.raises(ConfigurationError, match=said):
        configure_logging(**settings)
    assert logging.getLogger().handlers == before


def test_a_redactor_of_the_app_is_used() -> None:
    output = Output()
    configure_logging(stream=output, redactor=Redactor(names=["iban"]))
    log.info("Paid", extra={"iban": SECRET})
    assert output.line()["iban"] == "[redacted]"
