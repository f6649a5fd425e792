"""Guesses at passwords: how many reach the check, whom a success sets free, and whom not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, cast, get_args
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI, Form, Request
from redis.asyncio import Redis
from slowapi import Limiter as SlowapiLimiter
from slowapi import _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address

from fastapi_kit import errors
from fastapi_kit.auth.attempts import AttemptLimit
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.ratelimit import ClientIP, CountedBy, Limiter

pytestmark = pytest.mark.anyio

STRATEGIES = ["fixed-window", "moving-window", "sliding-window-counter"]
PATIENT = "?timeout=60&socket_timeout=30&socket_connect_timeout=30"
HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid4().hex}"


@pytest.fixture(params=[(storage, strategy) for storage in ["memory", "redis"] for strategy in STRATEGIES], ids=str)
async def limiter(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Limiter]:
    storage, strategy = request.param
    url = "memory://" if storage == "memory" else request.getfixturevalue("redis_url") + PATIENT
    limiter = Limiter(url, strategy=strategy, prefix=prefix)
    yield limiter
    await limiter.aclose()


class Service:
    """A log-in whose right password is "right", and that notes each password it looked at."""

    def __init__(self, *limits: AttemptLimit) -> None:
        self.looked_at: list[str] = []
        self.app = FastAPI()

        @self.app.post("/login")
        async def log_in(request: Request, account: Annotated[str, Form()], password: Annotated[str, Form()]) -> bool:
            for limit in limits:
                await limit.begin(request, account)
            self.looked_at.append(password)
            await asyncio.sleep(0)
            if password == "right":
                for limit in limits:
                    await limit.succeeded(request, account)
            return password == "right"

    async def attempts(
        self, account: str, passwords: Sequence[str], address: str = HERE, *, at_once: bool = False
    ) -> list[int]:
        """Return the status of each."""
        transport = httpx2.ASGITransport(self.app, client=(address, 50000))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            calls = [client.post("/login", data={"account": account, "password": one}) for one in passwords]
            if at_once:
                return [response.status_code for response in await asyncio.gather(*calls)]
            return [(await call).status_code for call in calls]


@pytest.mark.parametrize("by", ["account_and_address", "account", "address"])
async def test_of_50_guesses_at_once_exactly_5_reach_the_password(limiter: Limiter, by: CountedBy) -> None:
    service = Service(limiter.attempts("5/15 minutes", by=by))
    statuses = await service.attempts("ada", ["wrong"] * 50, at_once=True)
    assert (statuses.count(200), statuses.count(429)) == (5, 45)
    assert len(service.looked_at) == 5


async def test_who_logs_in_often_is_not_locked_out(limiter: Limiter) -> None:
    service = Service(
        limiter.attempts("2/15 minutes; 3/hour", by="account_and_address"), limiter.attempts("3/day", by="account")
    )
    assert await service.attempts("ada", ["wrong", "right"] * 6) == [200] * 12


async def test_log_ins_to_an_account_of_ones_own_buy_no_guesses(limiter: Limiter) -> None:
    service = Service(
        limiter.attempts("3/hour", by="account_and_address"),
        limiter.attempts("9/hour", by="account"),
        limiter.attempts("10/hour", by="address"),
    )
    guesses = [await service.attempts("ada", ["wrong"]) + await service.attempts("eve", ["right"]) for _ in range(4)]
    assert guesses == [[200, 200]] * 3 + [[429, 200]]
    assert await service.attempts("bob", ["wrong"] * 3) == [200, 200, 200]
    assert await service.attempts("eve", ["right"]) == [429]  # by now the address itself has had ten


async def test_guesses_from_elsewhere_lock_nobody_out_of_an_account_counted_with_its_address(limiter: Limiter) -> None:
    service = Service(limiter.attempts("2/hour", by="account_and_address"))
    assert await service.attempts("ada", ["wrong"] * 3, THERE) == [200, 200, 429]
    assert await service.attempts("ada", ["right"]) == [200]
    assert await service.attempts("ada", ["wrong"], THERE) == [429]


async def test_a_botnet_shares_the_count_of_an_account(limiter: Limiter) -> None:
    service = Service(limiter.attempts("3/hour", by="account"))
    statuses = [await service.attempts("ada", ["wrong"], f"198.51.100.{n}") for n in range(4)]
    assert statuses == [[200], [200], [200], [429]]
    assert await service.attempts("bob", ["wrong"]) == [200]


async def test_many_accounts_from_one_address_share_its_count(limiter: Limiter) -> None:
    service = Service(limiter.attempts("3/hour", by="address"))
    assert [await service.attempts(f"user{n}", ["wrong"]) for n in range(4)] == [[200], [200], [200], [429]]
    assert await service.attempts("user4", ["wrong"], THERE) == [200]


async def test_limits_of_two_scopes_count_apart_and_of_one_together(limiter: Limiter) -> None:
    login, again = (Service(limiter.attempts("1/hour", by="account")) for _ in range(2))
    reset = Service(limiter.attempts("1/hour", by="account", scope="reset"))
    assert await login.attempts("ada", ["wrong"]) == [200]
    assert await again.attempts("ada", ["wrong"]) == [429]
    assert await reset.attempts("ada", ["wrong"]) == [200]


@pytest.mark.parametrize(
    "spelling", ["ADA@x.example", " ada@x.example ", "\uff21da@x.example", "a\u0301da@x.example", "ada\u200b@x.example"]
)
async def test_spellings_that_a_database_may_take_for_one_share_a_count(spelling: str) -> None:
    service = Service(Limiter().attempts("1/hour", by="account"))
    assert await service.attempts("ada@x.example", ["wrong"]) == [200]
    assert await service.attempts(spelling, ["wrong"]) == [429]
    assert await service.attempts("ad@ax.example", ["wrong"]) == [200]


async def test_the_client_is_told_when_to_try_again() -> None:
    service = Service(Limiter().attempts("1/15 minutes", by="account"))
    errors.install(service.app)
    await service.attempts("ada", ["wrong"])
    transport = httpx2.ASGITransport(service.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        refused = await client.post("/login", data={"account": "ada", "password": "wrong"})
    assert refused.json()["code"] == "rate_limited"
    assert 890 <= int(refused.headers["Retry-After"]) <= 900
    assert "ada" not in refused.text


async def test_slowapis_handler_answers_it_too() -> None:
    service = Service(Limiter().attempts("1/15 minutes", by="account"))
    service.app.state.limiter = SlowapiLimiter(get_remote_address, headers_enabled=True)
    service.app.add_exception_handler(RateLimitExceeded, cast(Any, _rate_limit_exceeded_handler))
    assert await service.attempts("ada", ["wrong", "wrong"]) == [200, 429]


async def test_redis_holds_no_account_in_plain(redis_url: str, prefix: str) -> None:
    limiter = Limiter(redis_url, prefix=prefix)
    service = Service(limiter.attempts("5/hour", by="account"), limiter.attempts("5/hour", by="account_and_address"))
    assert await service.attempts("ada@x.example", ["wrong"]) == [200]
    await limiter.aclose()
    async with cast(Any, Redis).from_url(redis_url) as redis:
        keys = [key.decode() async for key in redis.scan_iter(f"*{prefix}*")]
    assert len(keys) == 2
    assert not any("ada" in key for key in keys)


async def test_a_limiter_that_is_off_counts_nothing() -> None:
    limiter = Limiter(enabled=False)
    service = Service(limiter.attempts("1/hour", by="account"))
    assert await service.attempts("ada", ["wrong", "right", "wrong"]) == [200] * 3
    limiter.enabled = True
    assert await service.attempts("ada", ["wrong", "wrong"]) == [200, 429]


async def test_addresses_are_those_of_the_limiter() -> None:
    by_house = Service(Limiter(key=ClientIP(ipv6_prefix=48)).attempts("1/hour", by="address"))
    by_default = Service(Limiter(key=lambda: "tenant").attempts("1/hour", by="address"))
    for service, last in [(by_house, 429), (by_default, 200)]:
        assert await service.attempts("ada", ["wrong"], "2001:db8:1:1::1") == [200]
        assert await service.attempts("ada", ["wrong"], "2001:db8:1:2::1") == [last]
        assert await service.attempts("ada", ["wrong"], "2001:db8:2::1") == [200]


async def test_equal_rates_count_apart_where_there_is_no_address() -> None:
    limiter = Limiter()
    service = Service(*[limiter.attempts("2/hour", by=by) for by in get_args(CountedBy)])
    assert await service.attempts("ada", ["wrong"] * 3, "") == [200, 200, 429]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"rates": "5/fortnight", "by": "account"}, "no rate limit"),
        ({"rates": "5/hour", "by": "ip"}, "by='ip': use one of account_and_address, account, address"),
        ({"rates": "5/hour", "by": "account", "scope": ""}, "names nothing"),
    ],
)
def test_what_cannot_limit_is_refused_when_it_is_made(arguments: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        Limiter().attempts(**arguments)
