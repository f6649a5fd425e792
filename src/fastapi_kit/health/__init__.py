"""Liveness and readiness: is the process alive, and can it serve."""

from fastapi_kit.health.checks import Check
from fastapi_kit.health.router import NotReadyError, health_router

__all__ = ["Check", "NotReadyError", "health_router"]
