"""What a limited app answers: buckets, several limits, set-up errors, switches."""

import asyncio
from hashlib import sha256
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, WebSocket
from fastapi.responses import JSONResponse
from limits.aio.storage import MemoryStorage
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from fastapi_kit import errors
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.ratelimit import ClientIP, Limiter, RateLimit, RateLimitExceededError

from .conftest import Clock


async def answer() -> dict[str, bool]:
    return {"ok": True}


async def by_header(x_user: Annotated[str | None, Header()] = None) -> str | None:
    return x_user


def app_with(*limits: RateLimit) -> FastAPI:
    app = FastAPI()
    app.get("/items/{item_id}", dependencies=[Depends(limit) for limit in limits])(answer)
    return app


def statuses(client: TestClient, *paths: str, method: str = "GET") -> list[int]:
    return [client.request(method, path).status_code for path in paths]


def test_a_route_answers_429_beyond_its_quota_and_serves_again_in_the_next_window(clock: Clock) -> None:
    client = TestClient(app_with(Limiter()("2/minute")))
    assert statuses(client, "/items/1", "/items/2", "/items/3") == [200, 200, 429]
    clock.advance(59)
    assert statuses(client, "/items/1") == [429]
    clock.advance(1)
    assert statuses(client, "/items/1", "/items/1", "/items/1") == [200, 200, 429]


def test_no_parameter_of_the_limit_reaches_the_documented_request() -> None:
    operation = app_with(Limiter()("2/minute")).openapi()["paths"]["/items/{item_id}"]["get"]
    assert [parameter["name"] for parameter in operation.get("parameters", [])] == []


def test_a_limit_stands_in_the_signature_of_an_endpoint_too() -> None:
    app = FastAPI()
    limiter = Limiter()

    @app.get("/")
    async def home(_: Annotated[None, Depends(limiter("1/minute"))]) -> None: ...

    assert statuses(TestClient(app), "/", "/") == [200, 429]


def test_each_route_of_a_limited_router_has_its_own_bucket_in_each_place_it_is_included() -> None:
    limiter = Limiter()
    inner = APIRouter()
    inner.get("/a")(answer)
    inner.get("/b")(answer)
    inner.post("/a")(answer)  # the same handler, the same path
    outer = APIRouter(dependencies=[Depends(limiter("1/minute"))])
    outer.include_router(inner)
    app = FastAPI()
    app.include_router(outer, prefix="/v1")
    app.include_router(outer, prefix="/v2")
    client = TestClient(app)
    for path in ("/v1/a", "/v1/b", "/v2/a", "/v2/b"):
        assert statuses(client, path, path) == [200, 429]
    assert statuses(client, "/v1/a", "/v1/a", method="POST") == [200, 429]


def test_a_limit_on_the_app_holds_on_included_routers_and_mounted_apps_keep_their_own_buckets() -> None:
    limiter = Limiter()
    router = APIRouter()
    router.get("/items")(answer)
    app = FastAPI(dependencies=[Depends(limiter("1/minute"))])
    app.include_router(router)
    mounted = FastAPI(dependencies=[Depends(limiter("1/minute"))])
    mounted.get("/items")(answer)
    app.mount("/admin", mounted)
    client = TestClient(app)
    assert statuses(client, "/items", "/items", "/admin/items", "/admin/items") == [200, 429, 200, 429]


def test_a_scope_is_shared_by_the_routes_that_name_it() -> None:
    limiter = Limiter()
    app = FastAPI()
    app.get("/token", dependencies=[Depends(limiter("2/minute", scope="login"))])(answer)
    app.get("/session", dependencies=[Depends(limiter("2/minute", scope="login"))])(answer)
    app.get("/other", dependencies=[Depends(limiter("2/minute", scope="other"))])(answer)
    client = TestClient(app)
    assert statuses(client, "/token", "/session", "/token", "/session", "/other") == [200, 200, 429, 429, 200]


def test_two_limiters_share_nothing_in_memory() -> None:
    first, second = (TestClient(app_with(Limiter()("1/minute"))) for _ in range(2))
    assert statuses(first, "/items/1", "/items/1") == [200, 429]
    assert statuses(second, "/items/1", "/items/1") == [200, 429]


def test_the_same_limit_on_router_and_route_counts_once() -> None:
    limiter = Limiter()
    router = APIRouter(dependencies=[Depends(limiter("2/minute"))])
    router.get("/items", dependencies=[Depends(limiter("2/minute"))])(answer)
    app = FastAPI()
    app.include_router(router)
    assert statuses(TestClient(app), "/items", "/items", "/items") == [200, 200, 429]
    assert limiter("2/minute") is limiter("2 per minute; 2/minute")
    assert limiter("2/minute") is not limiter("2/minute", cost=2)


def test_a_refused_request_consumes_nothing_of_any_limit(clock: Clock) -> None:
    client = TestClient(app_with(Limiter()("1/second; 3/hour")))
    assert statuses(client, *["/items/1"] * 10) == [200] + [429] * 9
    clock.advance(1)
    assert statuses(client, "/items/1", "/items/1") == [200, 429]
    clock.advance(1)
    assert statuses(client, "/items/1") == [200]
    clock.advance(1)
    last = client.get("/items/1")
    assert last.status_code == 429
    assert last.headers["Retry-After"] == str(3600 - 3)
    assert last.headers["RateLimit"] == '"1-per-second";r=1;t=0, "3-per-hour";r=0;t=3597'


def test_a_cost_counts_that_much_and_is_refused_whole() -> None:
    limiter = Limiter()
    app = FastAPI()
    app.get("/search", dependencies=[Depends(limiter("5/minute", scope="api", cost=3))])(answer)
    app.get("/item", dependencies=[Depends(limiter("5/minute", scope="api"))])(answer)
    client = TestClient(app)
    assert statuses(client, "/search", "/search", "/item", "/item", "/item") == [200, 429, 200, 200, 429]


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", ["fixed-window", "moving-window", "sliding-window-counter"])
async def test_of_200_requests_at_once_exactly_the_quota_passes(strategy: Any) -> None:
    app = app_with(Limiter(strategy=strategy)("50/hour; 60/day"))
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        responses = await asyncio.gather(*[client.get(f"/items/{n}") for n in range(200)])
    codes = [response.status_code for response in responses]
    assert (codes.count(200), codes.count(429)) == (50, 150)


def test_users_are_counted_one_by_one_and_all_without_a_key_together() -> None:
    client = TestClient(app_with(Limiter(key=by_header)("1/minute")))

    def call(user: str | None) -> int:
        return client.get("/items/1", headers={} if user is None else {"X-User": user}).status_code

    assert [call("ann"), call("bob"), call("ann"), call("bob")] == [200, 200, 429, 429]
    assert [call(None), call(""), call(None)] == [200, 429, 429]


def test_a_key_may_be_sync_have_dependencies_and_refuse_by_itself() -> None:
    async def current_user(x_user: Annotated[str | None, Header()] = None) -> str:
        if x_user is None:
            raise HTTPException(401)
        return x_user

    def by_user(user: Annotated[str, Depends(current_user)]) -> str:
        return f"user:{user}"

    client = TestClient(app_with(Limiter()("1/minute", key=by_user)))
    ann = {"X-User": "ann"}
    assert client.get("/items/1").status_code == 401
    assert [client.get("/items/1", headers=ann).status_code for _ in range(2)] == [200, 429]


def test_a_key_that_is_no_text_is_a_crash_rather_than_a_bucket_for_each_request() -> None:
    async def by_object() -> object:
        return object()

    with pytest.raises(TypeError, match=r"by_object.* must return a str, an int or a UUID, not object"):
        TestClient(app_with(Limiter()("1/minute", key=by_object))).get("/items/1")


def test_a_key_cannot_pose_as_another_bucket() -> None:
    limiter = Limiter(key=by_header)
    app = FastAPI()
    app.get("/a", dependencies=[Depends(limiter("1/minute", scope="x/y"))])(answer)
    app.get("/b", dependencies=[Depends(limiter("1/minute", scope="y"))])(answer)
    client = TestClient(app)
    calls = [("/a", "victim"), ("/b", "victim/x"), ("/b", "victim%2Fx")]
    assert [client.get(path, headers={"X-User": key}).status_code for path, key in calls] == [200, 200, 200]


def test_a_websocket_is_counted_and_refused_before_it_is_accepted() -> None:
    limiter = Limiter()
    app = FastAPI()

    @app.websocket("/ws/{room}", dependencies=[Depends(limiter("1/minute"))])
    async def chat(socket: WebSocket, room: str) -> None:
        await socket.accept()
        await socket.send_text(room)
        await socket.close()

    client = TestClient(app)
    with client.websocket_connect("/ws/a") as socket:
        assert socket.receive_text() == "a"
    with (
        pytest.raises((WebSocketDenialResponse, WebSocketDisconnect)) as refused,
        client.websocket_connect("/ws/b"),
    ):
        raise AssertionError("accepted")
    assert isinstance(refused.value, WebSocketDenialResponse)
    assert refused.value.status_code == 429
    assert int(refused.value.headers["Retry-After"]) in range(1, 61)


def test_switched_off_it_neither_counts_nor_writes_fields() -> None:
    limiter = Limiter(enabled=False)
    client = TestClient(app_with(limiter("1/minute")))
    responses = [client.get("/items/1") for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 200]
    assert "RateLimit" not in responses[0].headers
    limiter.enabled = True
    assert statuses(client, "/items/1", "/items/1") == [200, 429]


@pytest.mark.anyio
async def test_reset_forgets_all_counts_and_close_is_harmless_in_memory() -> None:
    limiter = Limiter()
    transport = httpx2.ASGITransport(app_with(limiter("1/minute")))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        assert [(await client.get("/items/1")).status_code for _ in range(2)] == [200, 429]
        await limiter.reset()
        assert [(await client.get("/items/1")).status_code for _ in range(2)] == [200, 429]
        await limiter.aclose()
        assert (await client.get("/items/1")).status_code == 429


def test_fields_are_on_answers_and_on_the_refusal(clock: Clock) -> None:
    client = TestClient(app_with(Limiter()("2/minute; 100/hour")))
    clock.advance(0.5)
    first, _, third = (client.get("/items/1") for _ in range(3))
    policy = '"2-per-minute";q=2;w=60, "100-per-hour";q=100;w=3600'
    assert first.headers["RateLimit-Policy"] == third.headers["RateLimit-Policy"] == policy
    assert first.headers["RateLimit"] == '"2-per-minute";r=1;t=60, "100-per-hour";r=99;t=3600'
    assert third.headers["RateLimit"] == '"2-per-minute";r=0;t=60, "100-per-hour";r=98;t=3600'
    assert third.headers["Retry-After"] == "60"
    assert "Retry-After" not in first.headers
    assert "X-RateLimit-Limit" not in first.headers


def test_legacy_fields_come_when_asked_and_the_standard_ones_go_when_not(clock: Clock) -> None:
    client = TestClient(app_with(Limiter(headers=False, legacy_headers=True)("100/hour; 1/minute")))
    for response in (client.get("/items/1"), client.get("/items/1")):
        assert response.headers["X-RateLimit-Limit"] == "1"
        assert response.headers["X-RateLimit-Remaining"] == "0"
        assert response.headers["X-RateLimit-Reset"] == str(int(clock.now) + 60)
        assert "RateLimit" not in response.headers
        assert "RateLimit-Policy" not in response.headers


def test_two_limits_of_a_route_both_show_and_the_last_has_the_legacy_fields() -> None:
    limiter = Limiter(legacy_headers=True)
    response = TestClient(app_with(limiter("9/hour"), limiter("5/minute", scope="all"))).get("/items/1")
    policies = response.headers.get_list("RateLimit-Policy")
    assert policies == ['"9-per-hour";q=9;w=3600', '"5-per-minute";q=5;w=60']
    assert response.headers.get_list("X-RateLimit-Limit") == ["5"]


def test_an_endpoint_that_builds_its_own_response_is_limited_though_without_fields() -> None:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(Limiter()("1/minute"))])
    async def own() -> JSONResponse:
        return JSONResponse({})

    client = TestClient(app)
    assert "RateLimit" not in client.get("/").headers
    assert client.get("/").status_code == 429


def test_openapi_documents_429_on_exactly_the_limited_routes() -> None:
    app = app_with(Limiter()("2/minute"))
    app.get("/free")(answer)
    errors.install(app)
    paths = app.openapi()["paths"]
    refusal = paths["/items/{item_id}"]["get"]["responses"]["429"]
    assert set(refusal["headers"]) == {"Retry-After", "RateLimit", "RateLimit-Policy"}
    assert "429" not in paths["/free"]["get"]["responses"]
    assert errors.problems_of(Limiter()("2/minute")) == (RateLimitExceededError,)


@pytest.mark.parametrize(
    "rates", ["", "5", "5/fortnight", "minute/5", "5/minute;", "five per minute", f"{'9' * 5000}/day"]
)
def test_a_bad_rate_fails_where_it_is_written(rates: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Limiter()(rates)
    assert repr(rates) in str(error.value)
    assert '"5/minute"' in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cost": 0}, "cost=0 does not fit '5/minute; 3/hour'"),
        ({"cost": -1}, "cost=-1 does not fit"),
        ({"cost": 4}, "cost=4 does not fit"),
        ({"scope": ""}, 'scope="login"'),
        ({"scope": 5}, "scope=5 is no text"),
        ({"cost": "1"}, "cost='1' does not fit"),
        ({"key": ClientIP}, "key=ClientIP is a class: write ClientIP()"),
        ({"key": "ip"}, "key='ip' is no dependency"),
    ],
)
def test_a_limit_that_cannot_work_fails_where_it_is_written(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Limiter()("5/minute; 3/hour", **arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ("0/minute", "lets nothing pass"),
        ("5/minute; 0/hour", "lets nothing pass"),
        ("5/0 minute", "window of no length"),
        ("5 per 00 minutes", "window of no length"),
        ("5/minute; 9/hour, 5PER0day", "window of no length"),
        ("5/367 days", "more than 366 days"),
        ("1000000001/day", "more than a billion"),
        ("5/9999999999999 year", "more than 366 days"),
    ],
)
def test_a_rate_out_of_bounds_fails_where_it_is_written(rates: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Limiter()(rates)
    assert f"{rates!r} " in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize("rates", ["5/year", "5/366 days", "5/10 minutes", "100/hour"])
def test_a_rate_within_bounds_works(rates: str) -> None:
    assert statuses(TestClient(app_with(Limiter()(rates))), "/items/1") == [200]


def test_a_long_key_is_counted_by_its_hash() -> None:
    storage = MemoryStorage()
    client = TestClient(app_with(Limiter(storage)("1/minute", key=by_header)))
    for key in ("k" * 1_000_000 + "a", "k" * 1_000_000 + "b", "k" * 65, "k" * 64, "/" * 64):
        assert [client.get("/items/1", headers={"X-User": key}).status_code for _ in range(2)] == [200, 429]
    assert max(map(len, storage.storage)) < 320


def test_a_key_need_be_no_valid_text() -> None:
    async def by_odd_text() -> str:
        return "\udc80" * 65

    client = TestClient(app_with(Limiter()("1/minute", key=by_odd_text)))
    assert statuses(client, "/items/1", "/items/1") == [200, 429]


def test_nobody_takes_the_place_of_a_long_key_by_naming_its_hash() -> None:
    client = TestClient(app_with(Limiter()("1/minute", key=by_header)))
    victim = "k" * 100
    digest = sha256(victim.encode()).hexdigest()
    for attacker in (digest, f"sha256:{digest}"):
        assert client.get("/items/1", headers={"X-User": attacker}).status_code == 200
    assert client.get("/items/1", headers={"X-User": victim}).status_code == 200


def test_a_limiter_that_was_not_called_is_no_dependency() -> None:
    limiter, app = Limiter(), FastAPI()
    with pytest.raises(ConfigurationError, match=r'would limit nothing: write Depends\(limiter\("5/minute"\)\)'):
        app.get("/", dependencies=[Depends(limiter)])(lambda: None)
