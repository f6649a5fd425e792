"""Plans, costs, exemptions, and several limits on one request."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Security
from starlette.testclient import TestClient

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.ratelimit import Limiter

from .conftest import Clock


async def user(x_user: Annotated[str, Header()] = "") -> str:
    return x_user


def plan(of: Annotated[str, Depends(user)]) -> str:
    return of.partition("-")[0]


async def size(n: Annotated[int, Query()] = 1) -> int:
    return n


def is_probe(x_probe: Annotated[bool, Header()] = False) -> bool:
    return x_probe


def client_of(*limits: Any) -> TestClient:
    app = FastAPI()
    app.add_api_route("/", lambda: 1, dependencies=[Depends(limit) for limit in limits])
    return TestClient(app)


def statuses(client: TestClient, *calls: Mapping[str, str], path: str = "/") -> list[int]:
    return [client.get(path, headers=dict(headers)).status_code for headers in calls]


def test_each_plan_has_its_rates_and_none_is_no_limit() -> None:
    rates = {"free": "1/minute", "pro": "2/minute; 3/hour", "staff": None}
    client = client_of(Limiter()(rates, key=user, plan=plan))
    for name, allowed in (("free-1", 1), ("free-2", 1), ("pro-1", 2)):
        assert statuses(client, *[{"X-User": name}] * 4) == [200] * allowed + [429] * (4 - allowed)
    assert statuses(client, *[{"X-User": "staff-1"}] * 9) == [200] * 9
    assert "RateLimit" not in client.get("/", headers={"X-User": "staff-1"}).headers
    assert client.get("/", headers={"X-User": "pro-2"}).headers["RateLimit"].count(",") == 1


def test_a_plan_that_has_no_rates_is_a_crash_and_no_free_pass() -> None:
    client = client_of(Limiter()({"free": "1/minute"}, key=user, plan=plan))
    for name in ("gold-1", ""):
        with pytest.raises(LookupError, match=r"no rate limit for the plan '.*': add it"):
            client.get("/", headers={"X-User": name})

    def odd() -> list[str]:
        return []

    with pytest.raises(LookupError):
        client_of(Limiter()({"free": "1/minute"}, plan=odd)).get("/")


@pytest.mark.parametrize(
    ("rates", "options", "message"),
    [
        ({"free": "1/minute"}, {}, "belong together"),
        ("1/minute", {"plan": plan}, "belong together"),
        ({"free": None}, {"plan": plan}, "limits no plan"),
        ({}, {"plan": plan}, "limits no plan"),
        ({"free": "often"}, {"plan": plan}, "'often' is no rate limit"),
        ({"free": "3/minute", "pro": "9/minute"}, {"plan": plan, "cost": 4}, "cost=4 does not fit"),
        ("1/minute", {"exempt": True}, "exempt=True is no dependency"),
        ({"free": "1/minute"}, {"plan": "free"}, "plan='free' is no dependency"),
        (5, {}, "5 is no rate limit"),
    ],
)
def test_what_cannot_work_is_told_where_it_is_written(rates: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        Limiter()(rates, **options)
    assert message in str(told.value)


def test_a_cost_may_come_from_the_request() -> None:
    client = client_of(Limiter()("10/minute", cost=size))
    assert statuses(client, {}, path="/?n=4") == [200]
    refused = client.get("/?n=7")
    assert (refused.status_code, refused.headers["RateLimit"]) == (429, '"10-per-minute";r=6;t=60')
    assert statuses(client, {}, {}, path="/?n=6") == [200, 429]
    assert statuses(client, {}, {}, path="/?n=0") == [200, 200]
    too_much = client.get("/?n=11")
    assert too_much.status_code == 429
    assert (
        too_much.json()["detail"] == "This request counts as 11, more than the limit of 10 per minute ever lets pass."
    )
    assert too_much.headers["Retry-After"] == "60"


@pytest.mark.parametrize("cost", [-1, True, 1.5, "3", None])
def test_a_cost_that_is_none_is_a_crash(cost: object) -> None:
    with pytest.raises(TypeError, match="must be a whole number of 0 or more"):
        client_of(Limiter()("10/minute", cost=lambda: cost)).get("/")


def test_an_exempt_request_passes_uncounted() -> None:
    client = client_of(Limiter()("1/minute", exempt=is_probe))
    probe = {"X-Probe": "true"}
    assert statuses(client, probe, probe, {}, {}, probe) == [200, 200, 200, 429, 200]
    assert "RateLimit" not in client.get("/", headers=probe).headers


@pytest.mark.parametrize("answer", ["no", 1, None])
def test_an_exemption_that_is_no_bool_is_a_crash(answer: object) -> None:
    with pytest.raises(TypeError, match="`exempt` of a rate limit must return a bool"):
        client_of(Limiter()("10/minute", exempt=lambda: answer)).get("/")


@pytest.mark.parametrize("who", [7, UUID(int=7)])
def test_a_key_may_be_a_number_or_a_uuid(who: object) -> None:
    client = client_of(Limiter()("1/minute", key=lambda: who))
    assert statuses(client, {}, {}) == [200, 429]
    with pytest.raises(TypeError, match="must return a str, an int or a UUID, not bool"):
        client_of(Limiter()("1/minute", key=lambda: True)).get("/")


def test_what_fastapi_asks_twice_is_counted_once() -> None:
    limiter = Limiter()
    limit = limiter("5/minute")

    async def guard(_: Annotated[None, Security(limit, scopes=["read"])]) -> None: ...

    app = FastAPI(dependencies=[Depends(limit)])
    calls = [Depends(limit, use_cache=False), Depends(limit, scope="function"), Security(limit, scopes=["a"])]
    app.add_api_route("/", lambda: 1, dependencies=[*calls, Depends(guard)])
    assert TestClient(app).get("/").headers.get_list("RateLimit") == ['"5-per-minute";r=4;t=60']


def test_a_limit_by_itself_is_no_dependency() -> None:
    limit: Any = Limiter()("1/minute")
    with pytest.raises(ConfigurationError, match=r"write Depends\(limiter\(...\)\)"):
        FastAPI().get("/", dependencies=[limit])(lambda: 1)


def test_equal_choices_are_one_dependency_and_others_are_not() -> None:
    limiter = Limiter()
    rates = {"free": "1/minute", "pro": "2/minute"}
    assert limiter(rates, plan=plan) is limiter(dict(reversed(rates.items())), plan=plan)
    assert limiter("1/minute", cost=size) is limiter("1/minute", cost=size)
    different = [
        limiter("1/minute", **options) for options in ({}, {"cost": size}, {"exempt": is_probe}, {"only": {401}})
    ]
    assert len(set(different)) == 4


@pytest.mark.parametrize("strategy", ["fixed-window", "moving-window", "sliding-window-counter"])
def test_a_request_that_one_dependency_refuses_consumes_nothing_of_the_others(strategy: Any) -> None:
    limiter = Limiter(strategy=strategy)
    router = APIRouter(dependencies=[Depends(limiter("5/hour", scope="router"))])
    router.add_api_route("/tight", lambda: 1, dependencies=[Depends(limiter("1/hour"))])
    router.add_api_route("/loose", lambda: 1)
    app = FastAPI(dependencies=[Depends(limiter("9/day", scope="app", cost=2))])
    app.include_router(router)
    client = TestClient(app)
    assert statuses(client, *[{}] * 9, path="/tight") == [200] + [429] * 8
    assert statuses(client, *[{}] * 4, path="/loose") == [200] * 3 + [429]
    assert "app" not in client.get("/loose").text


def test_a_refusal_shows_the_limit_that_refuses(clock: Clock) -> None:
    limiter = Limiter()
    client = client_of(limiter("9/hour"), limiter("1/minute"))
    assert client.get("/").headers.get_list("RateLimit") == ['"9-per-hour";r=8;t=3600', '"1-per-minute";r=0;t=60']
    assert client.get("/").headers.get_list("RateLimit") == ['"1-per-minute";r=0;t=60']
    clock.advance(60)
    assert client.get("/").headers.get_list("RateLimit")[0] == '"9-per-hour";r=7;t=3540'
