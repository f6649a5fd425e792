"""What is taken over from a slowapi limiter."""

from pathlib import Path
from typing import Any

import pytest
import redis
import slowapi
from fastapi import Depends, FastAPI, Request, WebSocket
from slowapi.util import get_remote_address
from starlette.testclient import TestClient

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.ratelimit import Limiter
from fastapi_kit.ratelimit.slowapi import settings_of

REDIS = "redis://:s%40cret@localhost:6399/2"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where slowapi looks for its settings: nothing is there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(**arguments: Any) -> dict[str, object]:
    taken: dict[str, object] = {**settings_of(slowapi.Limiter(get_remote_address, **arguments))}
    del taken["key"]
    return taken


DEFAULTS: dict[str, object] = {
    "storage": "memory://",
    "strategy": "fixed-window",
    "prefix": "",
    "legacy_headers": False,
    "enabled": True,
}


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [
        ({}, {}),
        ({"storage_uri": REDIS}, {"storage": REDIS}),
        ({"key_prefix": "shop"}, {"prefix": "shop"}),
        ({"strategy": "fixed-window"}, {"strategy": "fixed-window"}),
        ({"strategy": "moving-window"}, {"strategy": "moving-window"}),
        ({"strategy": "sliding-window-counter"}, {"strategy": "sliding-window-counter"}),
        ({"headers_enabled": True}, {"legacy_headers": True}),
        ({"enabled": False}, {"enabled": False}),
    ],
)
def test_its_arguments_are_taken_over(arguments: dict[str, Any], taken: dict[str, object]) -> None:
    assert settings(**arguments) == DEFAULTS | taken


CONFIGURED = {
    "RATELIMIT_STORAGE_URL": REDIS,
    "RATELIMIT_STRATEGY": "moving-window",
    "RATELIMIT_KEY_PREFIX": "shop",
    "RATELIMIT_HEADERS_ENABLED": "true",
    "RATELIMIT_ENABLED": "false",
}
TAKEN: dict[str, object] = {
    "storage": REDIS,
    "strategy": "moving-window",
    "prefix": "shop",
    "legacy_headers": True,
    "enabled": False,
}


def test_its_settings_in_the_environment_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CONFIGURED.items():
        monkeypatch.setenv(name, value)
    assert settings() == TAKEN
    arguments = {"storage_uri": "memory://", "strategy": "fixed-window", "key_prefix": "mine"}
    assert settings(**arguments) == TAKEN | {"storage": "memory://", "strategy": "fixed-window", "prefix": "mine"}


@pytest.mark.parametrize("name", [".env", "other.env"])
def test_its_settings_in_a_file_are_taken_over(name: str, folder: Path) -> None:
    (folder / name).write_text("\n".join(f"{variable}='{value}'" for variable, value in CONFIGURED.items()))
    assert settings(config_filename=None if name == ".env" else name) == TAKEN


def test_a_switch_changed_later_is_taken_over() -> None:
    limiter = slowapi.Limiter(get_remote_address)
    limiter.enabled = False
    assert settings_of(limiter)["enabled"] is False


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (REDIS, {"socket_timeout": 1.5, "socket_connect_timeout": 2}),
        (REDIS + "?socket_timeout=3", {"socket_timeout": 1.5, "health_check_interval": 30}),
        (REDIS + "?socket_timeout=3", {"socket_timeout": 1.5, "db": 5, "password": "other"}),
        ("redis://localhost:6399", {"db": 4, "username": "me", "password": "a&b=c d", "client_name": "shop"}),
        ("redis://localhost:6399", {"max_connections": 7, "retry_on_timeout": True, "socket_keepalive": False}),
        ("redis://localhost:6399", {"password": None, "wrap_exceptions": True, "key_prefix": "LIMITS"}),
        ("rediss://localhost:6399", {"ssl_cert_reqs": "none", "ssl_check_hostname": False}),
        ("redis+unix:///run/redis.sock", {"db": 4}),
    ],
)
def test_storage_options_of_redis_go_into_the_url(url: str, options: dict[str, Any]) -> None:
    storage = str(settings(storage_uri=url, storage_options=dict(options))["storage"])
    ours = {name: value for name, value in options.items() if name not in {"wrap_exceptions", "key_prefix"}}
    assert storage.partition("?")[0] == url.partition("?")[0]
    pools: Any = redis.ConnectionPool
    read = pools.from_url(storage.removeprefix("redis+"))
    expected = pools.from_url(url.removeprefix("redis+"), **ours)
    assert read.max_connections == expected.max_connections
    for name in ["db", "username", "host", *ours]:
        assert read.connection_kwargs.get(name) == expected.connection_kwargs.get(name)


@pytest.mark.parametrize(
    ("url", "options", "names"),
    [
        (REDIS, {"key_prefix": "MINE"}, "key_prefix"),
        (REDIS, {"connection_pool": redis.ConnectionPool()}, "connection_pool"),
        (REDIS, {"socket_timeout": 1, "retry_on_error": [TimeoutError]}, "socket_timeout, retry_on_error"),
        (REDIS, {"health_check_interval": "often"}, "health_check_interval"),
        (REDIS, {"decode_responses": True}, "decode_responses"),
        ("redis+sentinel://localhost:6399/master", {"socket_timeout": 1}, "socket_timeout"),
    ],
)
def test_storage_options_that_no_url_can_carry_are_refused_without_showing_a_password(
    url: str, options: dict[str, Any], names: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"cannot carry, among {names}: write the limiter out") as error:
        settings(storage_uri=url, storage_options=options)
    assert "cret" not in str(error.value)


def test_memory_takes_any_option() -> None:
    assert settings(storage_options={"key_prefix": "MINE"})["storage"] == "memory://"


def test_an_unknown_strategy_is_refused() -> None:
    limiter = slowapi.Limiter(get_remote_address)
    other: Any = type("TokenBucket", (), {})()
    limiter._limiter = other
    with pytest.raises(ConfigurationError, match=r"the strategy TokenBucket .* unknown here: write the limiter out"):
        settings_of(limiter)


def by_name(request: Request) -> str:
    return request.headers.get("name", "")


async def by_name_later(request: Request) -> str:
    return by_name(request)


def everybody() -> str:
    return "all"


def nobody(request: Request) -> None: ...


def by_number(request: Request) -> int:
    return len(by_name(request))


def by_bytes(request: Request) -> bytes:
    return by_name(request).encode()


@pytest.mark.parametrize(
    ("key_func", "key"),
    [
        (get_remote_address, "192.0.2.1"),
        (by_name, "Ada"),
        (by_name_later, "Ada"),
        (everybody, "all"),
        (nobody, ""),
        (by_number, "3"),
        (by_bytes, "Ada"),
    ],
)
def test_its_key_function_becomes_a_dependency_of_requests_and_web_sockets(key_func: Any, key: str) -> None:
    dependency = settings_of(slowapi.Limiter(key_func))["key"]
    app = FastAPI()

    @app.get("/")
    async def home(who: str = Depends(dependency)) -> str:
        return who

    @app.websocket("/")
    async def talk(socket: WebSocket, who: str = Depends(dependency)) -> None:
        await socket.accept()
        await socket.send_text(who)

    client = TestClient(app, client=("192.0.2.1", 1), headers={"name": "Ada"})
    assert client.get("/").json() == key
    with client.websocket_connect("/") as socket:
        assert socket.receive_text() == key


def test_a_limiter_made_of_it_limits_by_its_key() -> None:
    limiter = Limiter(**settings_of(slowapi.Limiter(by_name, headers_enabled=True)))
    app = FastAPI()

    @app.get("/", dependencies=[Depends(limiter("1/minute"))])
    async def home() -> None: ...

    client = TestClient(app)
    answers = [client.get("/", headers={"name": name}) for name in ("Ada", "Bob", "Ada")]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["X-RateLimit-Limit"] == "1"
