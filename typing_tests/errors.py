"""What type checkers make of errors, schemas and limits in an app's own code; checked and never run."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from typing import Annotated, Any, assert_type

from fastapi import Depends, FastAPI
from pydantic import SecretStr

from fastapi_kit import errors
from fastapi_kit.ratelimit import Limiter, RateLimit, RateLimitExceededError
from fastapi_kit.schemas import Omittable, StrongPassword, UpdateModel, Username


class InsufficientStockError(errors.Problem):
    code = "insufficient_stock"
    status = 409
    title = "Not enough stock"
    available: int
    unit: str = "piece"


class NothingLeftError(InsufficientStockError):
    code = "nothing_left"


stock = InsufficientStockError("Only 3 left.", available=3, headers={"Retry-After": "60"})
assert_type(stock, InsufficientStockError)
assert_type(stock.available, int)
assert_type(stock.unit, str)
assert_type(stock.extensions, dict[str, Any])
InsufficientStockError(available=3, unit="kg")
NothingLeftError("Sold out.", available=0)
errors.NotFoundError()
errors.NotFoundError("There is no item 3.", headers={"Cache-Control": "no-store"})

InsufficientStockError("Only 3 left.")  # type: ignore[call-arg]
InsufficientStockError(available="3")  # type: ignore[arg-type]
InsufficientStockError(available=3, colour="red")  # type: ignore[call-arg]
InsufficientStockError("Only 3 left.", 3)  # type: ignore[arg-type, call-arg]
errors.NotFoundError(item=3)  # type: ignore[call-arg]

app = FastAPI()
errors.install(app)
assert_type(errors.request_id(), str | None)


@app.get("/orders")
@errors.raises(InsufficientStockError)
async def orders(quantity: int) -> str:
    return str(quantity)


async def call() -> None:
    assert_type(await orders(3), str)
    assert_type(await orders("3"), str)  # type: ignore[arg-type]


class UserUpdate(UpdateModel):
    username: Omittable[Username] = None
    password: Omittable[StrongPassword] = None


@app.patch("/users/me")
async def update(changed: UserUpdate) -> None:
    assert_type(changed.username, str | None)
    assert_type(changed.password, SecretStr | None)
    assert_type(changed.changes(), dict[str, Any])


limiter = Limiter("memory://", strategy="moving-window")
Limiter("memory://", strategy="moving")  # type: ignore[arg-type]
assert_type(limiter("5/minute"), RateLimit)
Limited = Annotated[None, Depends(limiter("5/minute"))]


def seconds(exc: RateLimitExceededError) -> int:
    return assert_type(exc.retry_after, int)
