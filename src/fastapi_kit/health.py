"""Liveness and readiness: is the process alive, and can it serve."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Response

from fastapi_kit.errors import ConfigurationError, UnavailableError, raises

__all__ = ["Check", "health_router"]

Check = Callable[[], Awaitable[object]]
"""Raises, or takes too long, when what it looks at does not work; `db.ping` is one."""

_log = logging.getLogger("fastapi_kit.health")


def health_router(*, timeout_seconds: float = 2.0, **checks: Check) -> APIRouter:
    """Return a router with `GET /health/live` and `GET /health/ready`, for an orchestrator's probes.

    Liveness looks at nothing: it answers 200 as long as the event loop turns, so that a database that is down restarts
    no process. Readiness runs all checks at once, each for at most `timeout_seconds`: 200 when all are well, else
    `UnavailableError` (503). Which one failed is logged with its traceback and not told, since anybody may ask.

        app.include_router(health_router(database=db.ping))

    Raises `ConfigurationError` for a time-out that is not above 0.
    """
    if timeout_seconds <= 0:
        raise ConfigurationError(f"timeout_seconds is {timeout_seconds}: choose more than 0, 2 is common")
    router = APIRouter(prefix="/health", tags=["health"])

    async def passes(name: str, check: Check) -> bool:
        try:
            async with asyncio.timeout(timeout_seconds):
                await check()
        except Exception:  # noqa: BLE001  # whatever a check raises, the answer is no
            _log.exception("the readiness check %r failed", name)
            return False
        return True

    @router.get("/live", summary="Is the process alive?")
    async def live(response: Response) -> dict[str, str]:
        response.headers["Cache-Control"] = "no-store"
        return {"status": "ok"}

    @router.get("/ready", summary="Can it serve?")
    @raises(UnavailableError)
    async def ready(response: Response) -> dict[str, str]:
        if not all(await asyncio.gather(*(passes(name, check) for name, check in checks.items()))):
            raise UnavailableError("Not ready.", headers={"Retry-After": "5", "Cache-Control": "no-store"})
        response.headers["Cache-Control"] = "no-store"
        return {"status": "ok"}

    return router
