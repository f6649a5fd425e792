"""What type checkers make of rate limits in an app's own code; checked and never run."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from typing import assert_type

from fastapi import Depends, FastAPI
from slowapi import Limiter as SlowapiLimiter
from slowapi.util import get_remote_address

from fastapi_kit.ratelimit import Attempts, ClientIP, Limiter, RateLimit, RateLimitExceededError, by_ip, install


def plan() -> str:
    return "free"


async def size() -> int:
    return 1


app = FastAPI()
install(app)
limiter = Limiter("redis://localhost", key=ClientIP(trusted_proxies=["10.0.0.0/8"], header="Forwarded"))
assert_type(limiter("5/minute"), RateLimit)
assert_type(limiter({"free": "60/minute", "staff": None}, plan=plan, cost=size, exempt=lambda: False), RateLimit)
assert_type(limiter("5/minute", key=by_ip, scope="login", only={401, 403}), RateLimit)
assert_type(limiter.attempts("5/hour", by="account", address=ClientIP()), Attempts)
assert_type(Limiter.from_slowapi(SlowapiLimiter(get_remote_address), on_failure="deny"), Limiter)
assert_type(RateLimitExceededError(retry_after=1).retry_after, int)
app.get("/", dependencies=[Depends(limiter("5/minute"))])(plan)

Limiter(strategy="leaky-bucket")  # type: ignore[arg-type]
Limiter(on_failure="panic")  # type: ignore[arg-type]
limiter.attempts("5/hour", by="name")  # type: ignore[arg-type]
ClientIP(header="X-Real-IP")  # type: ignore[arg-type]
limiter(5)  # type: ignore[arg-type]
