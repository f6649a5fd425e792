"""Settings of an outside issuer that are refused when it is built, without a request to anybody."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from fastapi_kit.auth.issuers import OutsideIssuer
from fastapi_kit.errors import ConfigurationError

ISSUER = "https://id.example"


def build(issuer: Any = ISSUER, **settings: Any) -> OutsideIssuer:
    usual: dict[str, Any] = {"audience": "api"}
    return OutsideIssuer(issuer, **usual | settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"issuer": ""}, "needs its name"),
        ({"issuer": None}, "needs its name"),
        ({"issuer": "accounts.example"}, "issuer cannot be used to fetch keys, it must begin with https://"),
        ({"issuer": "http://id.example"}, "it must begin with https://"),
        ({"issuer": "https://id.example?x=1"}, "it must have no query"),
        ({"issuer": "https://id.example#x"}, "no fragment"),
        ({"jwks_url": "http://id.example/jwks"}, "jwks_url cannot be used to fetch keys, it must begin with https://"),
        ({"jwks_url": "https://me:hunter2@id.example/jwks"}, "no user"),
        ({"jwks_url": "https://"}, "it must have a host"),
        ({"jwks_url": "https://id.example:x"}, "it is no URL"),
        ({"jwks_url": 7}, "it is no URL"),
        ({"jwks_url": "ftp://id.example/jwks", "insecure_http": True}, "it must begin with https://"),
        ({"audience": ""}, "audience is .*: give names"),
        ({"audience": []}, "audience is .*: give names"),
        ({"audience": [7]}, "audience is .*: give names"),
        ({"algorithms": []}, "algorithms is .*: give names"),
        ({"algorithms": "RS256"}, "algorithms is 'RS256': give names"),
        ({"algorithms": ["RS256", "HS256"]}, "algorithms has HS256: what an issuer publishes are public keys"),
        ({"algorithms": ["none"]}, "algorithms has none"),
        ({"token_types": "JWT"}, "token_types is 'JWT': give names"),
        ({"token_types": []}, "token_types is .*: give names"),
        ({"token_types": [""]}, "token_types is .*: give names"),
        ({"token_types": ["a b"]}, "token_types has"),
        ({"token_types": ["application/"]}, "token_types has"),
        ({"leeway": timedelta(minutes=6)}, "leeway is 0:06:00: choose 0 to 5 minutes"),
        ({"leeway": timedelta(seconds=-1)}, "leeway is"),
        ({"ttl": timedelta(seconds=59)}, "ttl is"),
        ({"ttl": timedelta(days=2)}, "ttl is"),
        ({"max_stale": timedelta(minutes=9)}, "max_stale is"),
        ({"max_stale": timedelta(days=8)}, "max_stale is"),
        ({"cooldown": timedelta(0)}, "cooldown is"),
        ({"cooldown": timedelta(minutes=2)}, "cooldown is"),
        ({"timeout": timedelta(0)}, "timeout is"),
        ({"timeout": timedelta(minutes=1)}, "timeout is"),
        ({"cache_size": -1}, "cache_size is -1"),
        ({"http_client": httpx2.AsyncClient(trust_env=False)}, "http_client must make a client"),
    ],
)
def test_a_setting_that_cannot_work_or_is_not_safe_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        build(**settings)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"issuer": "https://id.example/realms/shop/"},
        {"issuer": "accounts.example", "jwks_url": "https://keys.example/jwks?app=1"},
        {"issuer": "http://127.0.0.1:8080", "insecure_http": True},
        {"audience": ["a", "b"], "algorithms": ["PS512"], "token_types": ["JWT", "application/example+jwt"]},
        {"leeway": timedelta(minutes=5), "ttl": timedelta(hours=24), "max_stale": timedelta(hours=24), "cache_size": 0},
    ],
)
def test_other_settings_are_taken(settings: dict[str, Any]) -> None:
    assert build(**settings).issuer == settings.get("issuer", ISSUER)
