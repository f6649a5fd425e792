"""Who is counted by address."""

from typing import Any

import pytest
from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.ratelimit import ClientIP, Limiter, by_ip


def key_of(client: Any, key: ClientIP = by_ip) -> str:
    return key.key_of(HTTPConnection({"type": "http", "client": client, "headers": []}))


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:C000:0207", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:0DB8:0001:0002::1", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("testclient", "testclient"),
        ("no:address", "no:address"),
        ("", ""),
    ],
)
def test_an_address_has_one_form(host: str, key: str) -> None:
    assert key_of((host, 1234)) == key


def test_a_connection_without_an_address_has_the_empty_key() -> None:
    assert key_of(None) == ""


@pytest.mark.parametrize(("prefix", "key"), [(56, "2001:db8:1:200::"), (128, "2001:db8:1:2ff::1"), (1, "::")])
def test_the_network_is_as_wide_as_asked(prefix: int, key: str) -> None:
    assert key_of(("2001:db8:1:2ff::1", 1), ClientIP(ipv6_prefix=prefix)) == key


@pytest.mark.parametrize("prefix", [0, 129, -1])
def test_a_prefix_out_of_bounds_fails_at_once(prefix: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"ipv6_prefix={prefix}"):
        ClientIP(ipv6_prefix=prefix)


def test_it_serves_as_a_dependency_of_another_key() -> None:
    async def by_address_and_day(address: str = Depends(by_ip)) -> str:
        return f"{address} today"

    app = FastAPI()

    @app.get("/", dependencies=[Depends(Limiter()("1/minute", key=by_address_and_day))])
    async def home() -> None: ...

    first, second = TestClient(app, client=("192.0.2.1", 1)), TestClient(app, client=("192.0.2.2", 1))
    assert [client.get("/").status_code for client in (first, second, first)] == [200, 200, 429]


def test_clients_are_told_apart_and_what_they_say_of_themselves_is_ignored() -> None:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(Limiter()("1/minute"))])
    async def home() -> None: ...

    def call(host: str, forged: str) -> int:
        headers = {"X-Forwarded-For": forged, "Forwarded": f"for={forged}", "X-Real-IP": forged}
        return TestClient(app, client=(host, 1)).get("/", headers=headers).status_code

    assert [call("192.0.2.1", "10.0.0.1"), call("192.0.2.1", "10.0.0.2"), call("192.0.2.2", "10.0.0.1")] == [
        200,
        429,
        200,
    ]
    assert [call("2001:db8::1", "10.0.0.1"), call("2001:db8::2", "10.0.0.3")] == [200, 429]
