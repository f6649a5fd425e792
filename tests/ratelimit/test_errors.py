"""The 429, rendered by each of the handlers that an app may have."""

from typing import Any

import pytest
from fastapi import Depends, FastAPI, Request, Response
from slowapi import Limiter as SlowapiLimiter
from slowapi import _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from fastapi_kit import errors
from fastapi_kit.errors import Problem
from fastapi_kit.ratelimit import Limiter, RateLimitExceededError

from .conftest import Clock


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(Limiter()("1/minute"))])
    async def home() -> None: ...

    return app


def refused(app: FastAPI) -> Any:
    client = TestClient(app)
    assert client.get("/").status_code == 200
    response = client.get("/")
    assert response.status_code == 429
    return response


DETAIL = "The limit of 1 per minute is used up; try again in 60 s."


def test_it_is_a_problem_and_slowapis_exception() -> None:
    error = RateLimitExceededError("Slow down.", retry_after=3)
    assert isinstance(error, Problem)
    assert isinstance(error, RateLimitExceeded)
    assert (error.status_code, error.code, error.detail) == (429, "rate_limited", "Slow down.")
    assert error.extensions == {"retry_after": 3}


@pytest.mark.usefixtures("clock")
def test_with_fastapis_own_handler(app: FastAPI) -> None:
    response = refused(app)
    assert response.json() == {"detail": DETAIL}
    assert response.headers["Retry-After"] == "60"
    assert response.headers["RateLimit"] == '"1-per-minute";r=0;t=60'


@pytest.mark.usefixtures("clock")
def test_with_problem_details(app: FastAPI) -> None:
    errors.install(app)
    response = refused(app)
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert (body["code"], body["status"], body["detail"]) == ("rate_limited", 429, DETAIL)
    assert body["retry_after"] == 60
    assert response.headers["Retry-After"] == "60"
    assert response.headers["RateLimit-Policy"] == '"1-per-minute";q=1;w=60'


@pytest.mark.usefixtures("clock")
def test_with_slowapis_handler(app: FastAPI) -> None:
    app.state.limiter = SlowapiLimiter(get_remote_address, headers_enabled=True)
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type]
    assert refused(app).json() == {"error": f"Rate limit exceeded: {DETAIL}"}


def test_with_a_handler_of_ones_own_that_reads_the_limit(app: FastAPI) -> None:
    async def handler(_: Request, error: Exception) -> Response:
        assert isinstance(error, RateLimitExceeded)
        assert error.limit is not None
        return PlainTextResponse(str(error.limit.limit), 429)

    app.add_exception_handler(RateLimitExceeded, handler)
    assert refused(app).text == "1 per 1 minute"


def test_the_wait_is_at_least_one_second_and_that_of_the_slowest_limit(clock: Clock) -> None:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(Limiter()("1/second; 1/minute"))])
    async def home() -> None: ...

    response = refused(app)
    assert response.headers["Retry-After"] == "60"
    clock.advance(59.9999)
    assert TestClient(app).get("/").headers["Retry-After"] == "1"


def test_beside_a_slowapi_decorator_each_limit_holds() -> None:
    app = FastAPI()
    app.state.limiter = slowapi = SlowapiLimiter(get_remote_address)
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type]
    limiter = Limiter()

    @app.get("/tight", dependencies=[Depends(limiter("1/minute"))])
    @slowapi.limit("3/minute")
    async def tight(request: Request) -> None: ...

    @app.get("/loose", dependencies=[Depends(limiter("3/minute"))])
    @slowapi.limit("1/minute")
    async def loose(request: Request) -> None: ...

    client = TestClient(app)
    for path in ("/tight", "/loose"):
        assert [client.get(path).status_code for _ in range(2)] == [200, 429]
