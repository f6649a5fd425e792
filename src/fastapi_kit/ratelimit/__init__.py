"""Rate limits as dependencies, `Depends(limiter("5/minute"))`, on slowapi's engine and without blocking."""

from fastapi_kit.ratelimit.attempts import Attempts, CountedBy
from fastapi_kit.ratelimit.client_ip import ClientIP, by_ip
from fastapi_kit.ratelimit.counters import Strategy
from fastapi_kit.ratelimit.dependency import RateLimit
from fastapi_kit.ratelimit.errors import RateLimitExceededError
from fastapi_kit.ratelimit.installation import install
from fastapi_kit.ratelimit.limiter import Limiter
from fastapi_kit.ratelimit.outages import OnFailure

__all__ = [
    "Attempts",
    "ClientIP",
    "CountedBy",
    "Limiter",
    "OnFailure",
    "RateLimit",
    "RateLimitExceededError",
    "Strategy",
    "by_ip",
    "install",
]
