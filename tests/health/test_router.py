"""Liveness looks at nothing; readiness is 200 only if every check passes in time."""

import math
import time
from typing import Any

import pytest
from fastapi import FastAPI
from openapi_spec_validator import validate
from starlette.testclient import TestClient

from fastapi_kit import errors
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.health import Check, health_router
from tests.health.support import bad, good, slow


def client(**options: Any) -> TestClient:
    app = FastAPI()
    errors.install(app)
    app.include_router(health_router(**{"timeout_seconds": 0.2, **options}))
    return TestClient(app)


def test_liveness_answers_whatever_the_checks_say() -> None:
    response = client(database=bad).get("/health/live")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("checks", [{}, {"database": good, "redis": good}])
def test_readiness_is_200_if_all_is_well(checks: dict[str, Check]) -> None:
    response = client(**checks).get("/health/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["cache-control"] == "no-store"


def test_a_failing_check_is_a_503_that_says_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    response = client(redis=good, database=bad).get("/health/ready")
    assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
    assert (response.headers["retry-after"], response.headers["cache-control"]) == ("5", "no-store")
    assert "database" not in response.text
    assert "s3cret" not in response.text
    assert "the readiness check 'database' failed" in caplog.text
    assert "ConnectionError" in caplog.text


def test_slow_checks_run_at_once_and_are_cut_off() -> None:
    start = time.monotonic()
    assert client(**dict.fromkeys("abcdefghijklmnopqrst", slow)).get("/health/ready").status_code == 503
    assert time.monotonic() - start < 2  # one after the other they take 4 s


def test_the_names_of_the_checks_are_shown_on_request_and_no_more() -> None:
    response = client(show_checks=True, database=good).get("/health/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ok", "checks": {"database": "ok"}})
    response = client(show_checks=True, redis=good, database=bad, queue=slow).get("/health/ready")
    body = response.json()
    assert (response.status_code, body["status"], body["code"]) == (503, 503, "not_ready")
    assert body["checks"] == {"redis": "ok", "database": "failed", "queue": "failed"}
    assert (response.headers["retry-after"], response.headers["cache-control"]) == ("5", "no-store")
    assert "s3cret" not in response.text


@pytest.mark.parametrize("show_checks", [False, True])
def test_what_it_answers_is_documented(show_checks: bool) -> None:
    document = client(show_checks=show_checks, database=good).get("/openapi.json").json()
    validate(document)
    assert {"200", "503"} <= document["paths"]["/health/ready"]["get"]["responses"].keys()
    assert ("NotReadyError" in document["components"]["schemas"]) == show_checks


@pytest.mark.parametrize("option", ["timeout_seconds", "drain_seconds"])
@pytest.mark.parametrize("value", [0, -1, True, math.nan, math.inf, "2"])
def test_a_time_that_is_none_is_told_at_start_up(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{option} is .*: choose a number of seconds above 0"):
        health_router(**{option: value})


def test_a_check_that_was_called_already_is_told_at_start_up() -> None:
    made = good()
    with pytest.raises(ConfigurationError, match=r"the check database is not callable: write database=db.ping"):
        health_router(database=made)  # type: ignore[arg-type]
    made.close()
