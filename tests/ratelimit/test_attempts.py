"""Guesses at passwords: how many reach the check, and who shares a count with whom."""

import asyncio
from typing import Any, cast, get_args
from unittest import mock

import httpx2
import pytest
from fastapi import FastAPI
from slowapi import Limiter as SlowapiLimiter
from slowapi import _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address

from fastapi_kit import errors
from fastapi_kit.auth import Key, Login, PasswordHasher, TokenService, login_router
from fastapi_kit.auth.passwords import Argon2Profile
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.ratelimit import ClientIP, CountedBy, Limiter

from .support import THERE, Service

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("by", ["account_and_address", "account", "address"])
async def test_of_50_guesses_at_once_exactly_5_reach_the_password(limiter: Limiter, by: CountedBy) -> None:
    service = Service(limiter.attempts("5/15 minutes", by=by))
    statuses = await service.attempts("ada", ["wrong"] * 50, at_once=True)
    assert (statuses.count(200), statuses.count(429)) == (5, 45)
    assert len(service.looked_at) == 5


async def test_log_ins_to_an_account_of_ones_own_buy_no_guesses(limiter: Limiter) -> None:
    service = Service(
        limiter.attempts("3/hour", by="account_and_address"),
        limiter.attempts("9/hour", by="account"),
        limiter.attempts("10/hour", by="address"),
    )
    guesses = [await service.attempts("ada", ["wrong"]) + await service.attempts("eve", ["right"]) for _ in range(4)]
    assert guesses == [[200, 200]] * 3 + [[429, 200]]
    for name in ["bob", "cyd"]:
        assert await service.attempts(name, ["wrong"] * 3) == [200, 200, 200]
    assert await service.attempts("dan", ["wrong", "wrong"]) == [
        200,
        429,
    ]  # by now the address itself has failed ten times
    assert await service.attempts("eve", ["right"]) == [429]


@pytest.mark.parametrize("by", get_args(CountedBy))
@pytest.mark.parametrize("lookalike", ["ADA", "ad\u00e1", "a d a"])
async def test_the_owner_of_a_lookalike_account_wins_no_guess(limiter: Limiter, by: CountedBy, lookalike: str) -> None:
    service = Service(limiter.attempts("5/15 minutes", by=by))
    for _ in range(4):
        await service.attempts("ada", ["wrong"] * 2)
        await service.attempts(lookalike, ["right"] * 3)
    assert service.looked_at.count("wrong") == 5


@pytest.mark.parametrize("by", ["account_and_address", "account"])
async def test_of_50_spellings_of_one_account_at_once_exactly_5_reach_the_password(
    limiter: Limiter, by: CountedBy
) -> None:
    service = Service(limiter.attempts("5/15 minutes", by=by), find=lambda _: "1")
    attempts = [service.attempts(f"ada{n}", ["wrong"]) for n in range(50)]
    assert await asyncio.gather(*attempts) == [[200]] * 50  # no 429, which would tell that they are one account
    assert len(service.looked_at) == 5
    assert await service.attempts("ada50", ["right", "right"]) == [200, 200]
    assert len(service.looked_at) == 5


async def test_a_limit_by_address_counts_no_subject(limiter: Limiter) -> None:
    service = Service(limiter.attempts("2/hour", by="address"), find=lambda _: "1")
    assert await service.attempts("ada", ["wrong"], THERE) == [200]
    assert await service.attempts("bob", ["wrong", "wrong", "wrong"]) == [200, 200, 429]
    assert len(service.looked_at) == 3


async def test_known_and_unknown_names_answer_alike() -> None:
    passwords = PasswordHasher(Argon2Profile(1, 8, 1))
    right = Login("1", await passwords.hash("right"))

    def find_login(name: str) -> Login | None:
        return right if name.startswith("ada") else None

    async def answers(*names: str) -> list[tuple[int, str]]:
        app = FastAPI()
        errors.install(app)
        limit = Limiter().attempts("3/hour", by="account")
        tokens = TokenService(
            Key.hmac("cW5zMHlrNGJmN2x6dHhkMWdoajhwMnZ3"), issuer="https://shop.example", audience="shop"
        )
        app.include_router(login_router(tokens, passwords, find_login, limit=limit))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            posts = [client.post("/auth/token", data={"username": name, "password": "wrong"}) for name in names]
            responses = [await post for post in posts]
        return [(response.status_code, response.json()["code"]) for response in responses]

    spellings = ["", "+", "-", "+", "=", "", "", "", ""]
    known = await answers(*[f"ada{spelling}" for spelling in spellings])
    assert known == await answers(*[f"bob{spelling}" for spelling in spellings])
    assert [status for status, _ in known] == [401] * 7 + [429] * 2


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
    await service.attempts("ravi", ["wrong"])
    transport = httpx2.ASGITransport(service.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        refused = await client.post("/login", data={"account": "ravi", "password": "wrong"})
    assert refused.json()["code"] == "rate_limited"
    assert 890 <= int(refused.headers["Retry-After"]) <= 900
    assert "ravi" not in refused.text


async def test_slowapis_handler_answers_it_too() -> None:
    service = Service(Limiter().attempts("1/15 minutes", by="account"))
    service.app.state.limiter = SlowapiLimiter(get_remote_address, headers_enabled=True)
    service.app.add_exception_handler(RateLimitExceeded, cast(Any, _rate_limit_exceeded_handler))
    assert await service.attempts("ada", ["wrong", "wrong"]) == [200, 429]


async def test_a_limiter_that_is_off_counts_nothing() -> None:
    limiter = Limiter(enabled=False)
    service = Service(limiter.attempts("1/hour", by="account"))
    assert await service.attempts("ada", ["wrong", "right", "wrong"]) == [200] * 3
    limiter.enabled = True
    assert await service.attempts("ada", ["wrong", "wrong"]) == [200, 429]
    limiter.enabled = False
    assert await service.attempts("ada", ["right"]) == [200]
    limiter.enabled = True
    assert await service.attempts("ada", ["wrong"]) == [429]


async def test_a_name_longer_than_any_is_counted_without_looking_at_each_mark(limiter: Limiter) -> None:
    service = Service(limiter.attempts("1/hour", by="account"))
    name = "\u0300\u0316" * 50_000
    with mock.patch("unicodedata.normalize", side_effect=AssertionError("it takes the square of the length")):
        assert await service.attempts(name, ["wrong", "wrong"]) == [200, 429]


async def test_addresses_are_those_of_the_limiter() -> None:
    by_house = Service(Limiter(key=ClientIP(ipv6_prefix=48)).attempts("1/hour", by="address"))
    by_default = Service(Limiter(key=lambda: "tenant").attempts("1/hour", by="address"))
    named = Limiter(key=lambda: "tenant").attempts("1/hour", by="address", address=ClientIP(ipv6_prefix=48))
    for service, last in [(by_house, 429), (by_default, 200), (Service(named), 429)]:
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
