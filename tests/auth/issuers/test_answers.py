"""Whatever an issuer answers, and whatever token comes: a `TokenError`, or an `IssuerUnavailableError`."""

import asyncio
import contextlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from fastapi_kit.auth import AccessClaims, TokenError, base64url
from fastapi_kit.auth.issuers import IssuerUnavailableError, OutsideIssuer

ISSUER = "https://id.example"
ELLIPTIC, RSA, EDWARDS = ECKey.generate_key("P-256"), RSAKey.generate_key(2048), OKPKey.generate_key("Ed25519")
CLAIMS = {"iss": ISSUER, "sub": "1", "aud": "api", "exp": 2**40}
TOKEN = jws.serialize_compact({"alg": "ES256", "typ": "at+jwt", "kid": "a"}, json.dumps(CLAIMS), ELLIPTIC)

Handler = Callable[[httpx2.Request], httpx2.Response]


def public(key: Any, **members: Any) -> dict[str, Any]:
    return {"kid": "a", **key.as_dict(private=False), **members}


def verify(handler: Handler, token: str = TOKEN, **settings: Any) -> AccessClaims:
    def client() -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(handler))

    usual: dict[str, Any] = {"audience": "api", "jwks_url": f"{ISSUER}/jwks", "http_client": client}
    return asyncio.run(_verify(OutsideIssuer(ISSUER, **usual | settings), token))


async def _verify(issuer: OutsideIssuer, token: str) -> AccessClaims:
    return await issuer.verify(token)


def jwks(*keys: Any) -> Handler:
    return lambda _: httpx2.Response(200, json={"keys": list(keys)})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
members = st.sampled_from(
    ["kty", "crv", "x", "y", "n", "e", "d", "k", "p", "alg", "use", "key_ops", "kid", "x5c", "x5u", "oth"]
)
values = json_values | st.sampled_from(
    ["RSA", "EC", "OKP", "oct", "P-256", "P-521", "Ed25519", "Ed448", "AQAB", "AA", "sig", "enc", "HS256", "none", "a"]
)
entries = st.builds(
    lambda key, changes: public(key) | changes,
    st.sampled_from([ELLIPTIC, RSA, EDWARDS]),
    st.dictionaries(members, values, max_size=3),
)


@given(keys=st.lists(entries | json_values, max_size=5), more=st.dictionaries(st.text(), json_values, max_size=2))
def test_no_key_set_makes_anything_but_claims_or_the_two_errors(keys: list[Any], more: dict[str, Any]) -> None:
    with contextlib.suppress(TokenError, IssuerUnavailableError):
        assert verify(lambda _: httpx2.Response(200, json=more | {"keys": keys})).subject == "1"


@given(raw=st.binary() | json_values.map(lambda value: json.dumps(value).encode()), status=st.integers(200, 599))
def test_no_answer_makes_anything_but_the_two_errors(raw: bytes, status: int) -> None:
    with pytest.raises((TokenError, IssuerUnavailableError)):
        verify(lambda _: httpx2.Response(status, content=raw))


@given(configuration=st.dictionaries(st.sampled_from(["issuer", "jwks_uri"]), json_values | st.just(ISSUER)))
def test_no_configuration_makes_anything_but_the_two_errors(configuration: dict[str, Any]) -> None:
    with pytest.raises((TokenError, IssuerUnavailableError)):
        verify(lambda _: httpx2.Response(200, json=configuration), jwks_url=None)


def refused(handler: Handler, token: str = TOKEN) -> str:
    with pytest.raises(TokenError) as caught:
        verify(handler, token)
    return caught.value.reason


def test_keys_that_are_not_understood_are_skipped() -> None:
    strange = [7, {}, {"kty": "AKP", "kid": "a"}, public(ELLIPTIC, use="enc"), public(EDWARDS, crv="Ed448")]
    assert verify(jwks(*strange, public(ELLIPTIC))).subject == "1"
    assert refused(jwks(*strange)) == "unknown_key"


def test_a_published_secret_signs_nothing() -> None:
    secret = OctKey.generate_key(512)
    token = jws.serialize_compact({"alg": "HS256", "typ": "at+jwt", "kid": "a"}, json.dumps(CLAIMS), secret)
    handler = jwks({**secret.as_dict(private=True), "kid": "a"}, public(ELLIPTIC))
    assert refused(handler, token) == "signature"


def test_a_public_key_is_no_secret() -> None:
    header = {"alg": "HS256", "typ": "at+jwt", "kid": "a"}
    signed = ".".join(base64url.encode(json.dumps(part).encode()) for part in (header, CLAIMS))
    signature = hmac.digest(RSA.as_pem(private=False), signed.encode(), "sha256")
    assert refused(jwks(public(RSA)), f"{signed}.{base64url.encode(signature)}") == "signature"


def test_a_key_that_the_token_brings_along_is_not_used() -> None:
    stranger = ECKey.generate_key("P-256")
    header = {"alg": "ES256", "typ": "at+jwt", "kid": "b", "jwk": public(stranger), "jku": "https://evil.example/jwks"}
    token = jws.serialize_compact(header, json.dumps(CLAIMS), stranger)
    assert refused(jwks(public(ELLIPTIC)), token) == "unknown_key"


def test_a_key_without_a_name_verifies_a_token_that_names_none() -> None:
    token = jws.serialize_compact({"alg": "ES256", "typ": "at+jwt"}, json.dumps(CLAIMS), ELLIPTIC)
    assert verify(jwks(ELLIPTIC.as_dict(private=False)), token).subject == "1"
    assert refused(jwks(public(EDWARDS)), token) == "unknown_key"


def test_the_issuer_may_end_in_a_slash() -> None:
    asked: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        return httpx2.Response(404)

    with pytest.raises(IssuerUnavailableError):
        asyncio.run(
            OutsideIssuer(
                f"{ISSUER}/realm/",
                audience="api",
                http_client=lambda: httpx2.AsyncClient(transport=httpx2.MockTransport(handler)),
            ).refresh()
        )
    assert asked == ["/realm/.well-known/openid-configuration"]


def test_plain_http_serves_development_when_it_is_asked_for() -> None:
    issuer = OutsideIssuer(
        "http://127.0.0.1:8080",
        audience="api",
        insecure_http=True,
        http_client=lambda: httpx2.AsyncClient(transport=httpx2.MockTransport(serve)),
    )

    def serve(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/jwks":
            return httpx2.Response(200, json={"keys": [public(ELLIPTIC)]})
        return httpx2.Response(200, json={"issuer": "http://127.0.0.1:8080", "jwks_uri": "http://127.0.0.1:8080/jwks"})

    claims = CLAIMS | {"iss": "http://127.0.0.1:8080"}
    token = jws.serialize_compact({"alg": "ES256", "typ": "at+jwt", "kid": "a"}, json.dumps(claims), ELLIPTIC)
    assert asyncio.run(_verify(issuer, token)).issuer == "http://127.0.0.1:8080"
