"""Rate limits as dependencies, `Depends(limiter("5/minute"))`, on slowapi's engine and without blocking."""

from fastapi_kit.ratelimit.attempts import Attempts, CountedBy
from fastapi_kit.ratelimit.counters import Strategy
from fastapi_kit.ratelimit.errors import RateLimitExceededError
from fastapi_kit.ratelimit.keys import ClientIP, by_ip
from fastapi_kit.ratelimit.limiter import Limiter, RateLimit

__all__ = ["Attempts", "ClientIP", "CountedBy", "Limiter", "RateLimit", "RateLimitExceededError", "Strategy", "by_ip"]
