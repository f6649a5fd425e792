"""Liveness looks at nothing; readiness is 200 only if every check passes in time."""

import asyncio
import time

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from fastapi_kit import errors
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.health import Check, health_router


async def good() -> None: ...


async def bad() -> None:
    raise ConnectionError("postgres://user:s3cret@host is down")


async def slow() -> None:
    await asyncio.sleep(30)


def client(**checks: Check) -> TestClient:
    app = FastAPI()
    errors.install(app)
    app.include_router(health_router(timeout_seconds=0.2, **checks))
    return TestClient(app)


def test_liveness_answers_whatever_the_checks_say() -> None:
    response = client(database=bad).get("/health/live")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["cache-control"] == "no-store"


def test_readiness_is_200_if_all_is_well() -> None:
    for checks in ({}, {"database": good, "redis": good}):
        response = client(**checks).get("/health/ready")
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_a_failing_check_is_a_503_that_says_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    response = client(redis=good, database=bad).get("/health/ready")
    assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
    assert (response.headers["retry-after"], response.headers["cache-control"]) == ("5", "no-store")
    assert "database" not in response.text
    assert "s3cret" not in response.text
    assert "the readiness check 'database' failed" in caplog.text


def test_slow_checks_run_at_once_and_are_cut_off() -> None:
    start = time.monotonic()
    assert client(**dict.fromkeys("abcdefghijklmnopqrst", slow)).get("/health/ready").status_code == 503
    assert time.monotonic() - start < 2  # one after the other they take 4 s


def test_a_time_out_of_nothing_is_told_at_start_up() -> None:
    with pytest.raises(ConfigurationError, match="timeout_seconds is 0: choose more than 0"):
        health_router(timeout_seconds=0)
