"""The two routes that an orchestrator asks."""

import asyncio
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from fastapi_kit.errors import ConfigurationError, Problem, UnavailableError, raises
from fastapi_kit.health.checks import Check, ReadinessCheck
from fastapi_kit.health.drain import Drain

__all__ = ["NotReadyError", "health_router"]

_NO_STORE = {"Cache-Control": "no-store"}
_NOT_NOW = {"Retry-After": "5", **_NO_STORE}


class Ready(BaseModel):
    """What readiness says with `show_checks`."""

    status: Literal["ok"] = "ok"
    checks: dict[str, Literal["ok"]]


class NotReadyError(Problem):
    """Answer 503: a readiness check failed, and `show_checks` lets anybody see which one."""

    code = "not_ready"
    status = 503
    title = "Not ready"
    response_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "Seconds to wait before the next probe."}
    checks: dict[str, Literal["ok", "failed"]]


def health_router(
    *,
    timeout_seconds: float = 2.0,
    drain_seconds: float | None = None,
    show_checks: bool = False,
    **checks: Check,
) -> APIRouter:
    """Return a router with `GET /health/live` and `GET /health/ready`, for an orchestrator's probes.

    Liveness looks at nothing: it answers 200 as long as the event loop turns, so that a database that is down restarts
    no process. Readiness runs all checks at once, each for at most `timeout_seconds`: 200 when all are well, else
    `UnavailableError` (503). Which one failed is logged with its traceback and not told, since anybody may ask. It is
    logged when it begins to fail, and when it passes again. Probes at the same time share one run of each check; one
    that goes on after it was cancelled has failed, and is not started again before it has ended.

        app.include_router(health_router(database=db.ping, drain_seconds=10))

    `drain_seconds`: on SIGTERM readiness is 503 at once, requests are still taken for so long, and only then does the
    server learn of it. A second SIGTERM, or SIGINT, ends it at once. The process must be given more time than this and
    the longest request together before it is killed. Needs the lifespan of the app and a server that takes SIGTERM by
    `signal.signal`, as uvicorn and its gunicorn worker do: with another one a warning is logged. Not under `--reload`.
    None, the default, touches no signal.

    `show_checks`: put the name of each check into the answers, with "ok" or "failed": `{"checks": {"database": "ok"}}`.
    The 503 is then `NotReadyError`. No answer ever has the text of an exception.

    Raises `ConfigurationError` for a time that is no finite number above 0, and for a check that is not callable.

    Security: both routes are public, and `show_checks` tells everybody what the service stands on.
    """
    _above_0("timeout_seconds", timeout_seconds, "2")
    if drain_seconds is not None:
        _above_0("drain_seconds", drain_seconds, "10")
    drain = None if drain_seconds is None else Drain(drain_seconds)
    runs = {name: ReadinessCheck(name, check, timeout_seconds) for name, check in checks.items()}
    router = APIRouter(prefix="/health", tags=["health"], lifespan=None if drain is None else drain.lifespan)

    @router.get("/live", summary="Is the process alive?")
    async def live(response: Response) -> dict[str, str]:
        response.headers.update(_NO_STORE)
        return {"status": "ok"}

    @router.get("/ready", summary="Can it serve?", response_model=Ready if show_checks else dict[str, str])
    @raises(UnavailableError, *([NotReadyError] if show_checks else []))
    async def ready(response: Response) -> dict[str, Any]:
        if drain is not None:
            drain.say_if_off()
            if drain.is_begun:
                raise UnavailableError("Shutting down.", headers=_NOT_NOW)
        passed = await asyncio.gather(*(run.passes() for run in runs.values()))
        shown: dict[str, Literal["ok", "failed"]] = {
            name: "ok" if well else "failed" for name, well in zip(runs, passed, strict=True)
        }
        if not all(passed) and show_checks:
            raise NotReadyError(headers=_NOT_NOW, checks=shown)
        if not all(passed):
            raise UnavailableError("Not ready.", headers=_NOT_NOW)
        response.headers.update(_NO_STORE)
        return {"status": "ok", "checks": shown} if show_checks else {"status": "ok"}

    return router


def _above_0(name: str, given: object, common: str) -> None:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
        raise ConfigurationError(f"{name} is {given!r}: choose a number of seconds above 0, {common} is common")
