"""JWKs in and out: what is published can be used, and what comes from others is used with care."""

import base64
import json
import secrets
from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi import FastAPI
from starlette.testclient import TestClient

from fastapi_kit.auth import Key, KeySet, TokenError, TokenService, jwks_router
from fastapi_kit.auth.jwk import keys_of_jwks
from fastapi_kit.auth.jws import JwsReader
from fastapi_kit.errors import ConfigurationError
from tests.auth.test_keys import ASYMMETRIC, ROCA_MODULUS, pair_of, private_key, public_key

SECRET = secrets.token_bytes(64)
CLAIMS = {"issuer": "https://issuer.example", "audience": "api"}


def text(raw: bytes | int) -> str:
    if isinstance(raw, int):
        raw = raw.to_bytes((raw.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def private_jwk(algorithm: str) -> dict[str, Any]:
    """Return a JWK as another library writes it."""
    writer = jwt.get_algorithm_by_name("EdDSA" if algorithm == "Ed25519" else algorithm)
    return {**json.loads(writer.to_jwk(pair_of(algorithm))), "key_ops": ["sign"]}


OCT = {"kty": "oct", "k": text(SECRET)}
EC = public_key("ES256").public_jwk()
EC_PRIVATE = private_jwk("ES256")
OKP = public_key("EdDSA").public_jwk()
OKP_PRIVATE = private_jwk("EdDSA")
RSA_PUBLIC = public_key("RS256").public_jwk()
RSA_PRIVATE = private_jwk("RS256")


def without(jwk: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name not in names}


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_a_key_comes_out_as_the_jwk_it_went_in_as(algorithm: str) -> None:
    key = Key.jwk(private_jwk(algorithm), algorithm=algorithm, kid="a")
    published = key.public_jwk()
    assert set(published) <= {"kty", "crv", "x", "y", "n", "e", "alg", "use", "kid"}
    assert (published["alg"], published["use"], published["kid"]) == (algorithm, "sig", "a")
    public = Key.jwk(json.dumps(published))
    assert (key.can_sign, public.can_sign, public.kid) == (True, False, "a")
    assert public.verify(b"message", key.sign(b"message"))
    assert public.public_jwk() == published == public_key(algorithm, "a").public_jwk()
    assert public.thumbprint() == key.thumbprint()


def test_a_secret_may_be_a_jwk_and_is_never_published() -> None:
    key = Key.jwk(json.dumps(OCT | {"alg": "HS512", "kid": "a", "key_ops": ["verify", "sign"]}).encode())
    assert (key.algorithm, key.kid) == ("HS512", "a")
    assert key.verify(b"message", Key.hmac(SECRET, "HS512").sign(b"message"))
    for derive in (key.public_jwk, key.thumbprint):
        with pytest.raises(ConfigurationError, match="a key for HS512 is a secret: it has no public half"):
            derive()


def test_a_private_rsa_key_may_leave_out_what_can_be_derived() -> None:
    key = Key.jwk(without(RSA_PRIVATE, "p", "q", "dp", "dq", "qi"), algorithm="PS256")
    assert public_key("PS256").verify(b"message", key.sign(b"message"))


WEAK = rsa.generate_private_key(65537, 1024).public_key().public_numbers().n
OTHER = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()


@pytest.mark.parametrize(
    ("jwk", "message"),
    [
        ({}, "must be one of"),
        ([], "it must be a mapping, or JSON"),
        (None, "it must be a mapping, or JSON"),
        ("{", "Expecting property name"),
        ("[]", "no JSON object"),
        ("\ud800", "surrogates not allowed"),
        (b"\xff", "can't decode byte"),
        ('{"kty":"EC","kty":"OKP"}', "duplicate member"),
        (EC | {"alg": "none"}, "must be one of"),
        (EC | {"alg": "ES521"}, "must be one of"),
        (EC | {"alg": ["ES256"]}, "must be one of"),
        (EC | {"alg": "ES384"}, "ES384 needs a key on the curve secp384r1"),
        (EC | {"alg": "HS256"}, "which needs kty oct"),
        (OCT | {"alg": "ES256"}, "kty must be RSA, EC or OKP"),
        (OCT | {"alg": "A256KW"}, "must be one of"),
        (EC | {"kty": ["EC"]}, "kty must be RSA, EC or OKP"),
        (EC | {"kty": "ec"}, "kty must be RSA, EC or OKP"),
        (without(EC, "kty"), "kty must be RSA, EC or OKP"),
        (EC | {"use": "enc"}, "its use must be sig"),
        (EC | {"use": None}, "its use must be sig"),
        (EC | {"key_ops": ["sign"]}, "its key_ops must have verify"),
        (EC | {"key_ops": "verify"}, "its key_ops must have verify"),
        (EC | {"key_ops": []}, "its key_ops must have verify"),
        (EC_PRIVATE | {"alg": "ES256", "key_ops": ["verify"]}, "its key_ops must have sign"),
        (OCT | {"alg": "HS256", "key_ops": ["sign"]}, "its key_ops must have sign and verify"),
        (EC | {"kid": 7}, "kid must be a string"),
        (EC | {"kid": ""}, "1 to 128 printable ASCII"),
        (EC | {"crv": "P-384"}, "x must have 48 bytes"),
        (EC | {"crv": "secp256k1"}, "crv must be P-256, P-384 or P-521"),
        (EC | {"crv": {}}, "crv must be P-256, P-384 or P-521"),
        (EC | {"x": EC["x"] + "="}, "x must be canonical"),
        (EC | {"x": EC["x"] + "\n"}, "x must be canonical"),
        (EC | {"x": "+" + EC["x"][1:]}, "x must be canonical"),
        (EC | {"x": "é"}, "x must be canonical"),
        (EC | {"x": 7}, "x must be canonical"),
        (EC | {"x": ""}, "x must be canonical"),
        (EC | {"x": "A" * 10_000}, "x must be canonical"),
        (without(EC, "y"), "y must be canonical"),
        (EC | {"x": text(b"\0" + b"x" * 32)}, "x must have 32 bytes"),
        (EC | {"y": text(OTHER.y.to_bytes(32, "big"))}, "no valid key"),
        (EC | {"x": text(b"\0" * 32), "y": text(b"\0" * 32)}, "no valid key"),
        (EC_PRIVATE | {"alg": "ES256", "d": text(b"\1" * 32)}, "no valid key"),
        (EC_PRIVATE | {"alg": "ES256", "d": text(b"\0" * 32)}, "no valid key"),
        (EC_PRIVATE | {"alg": "ES256", "d": "AQ"}, "d must have 32 bytes"),
        (EC_PRIVATE | {"alg": "ES256", "d": None}, "d must be canonical"),
        (OKP | {"crv": "Ed448"}, "crv must be Ed25519"),
        (OKP | {"crv": "X25519"}, "crv must be Ed25519"),
        (OKP | {"x": text(b"x" * 31)}, "no valid key"),
        (OKP_PRIVATE | {"alg": "EdDSA", "d": text(b"x" * 32)}, "d and x must be of one key"),
        (OKP_PRIVATE | {"alg": "EdDSA", "d": text(b"x" * 33)}, "no valid key"),
        (RSA_PUBLIC | {"n": text(WEAK)}, "2048 to 16384 bits"),
        (RSA_PUBLIC | {"n": text(ROCA_MODULUS)}, "CVE-2017-15361"),
        (RSA_PUBLIC | {"n": "AAA" + RSA_PUBLIC["n"]}, "n must be canonical"),
        (RSA_PUBLIC | {"n": text(b"\0" + b"x" * 256)}, "n must be an integer without leading zeros"),
        (RSA_PUBLIC | {"e": "AA"}, "e must be an integer without leading zeros"),
        (RSA_PUBLIC | {"e": "AQ"}, "no valid key"),
        (RSA_PUBLIC | {"e": "AQAC"}, "no valid key"),
        (RSA_PUBLIC | {"e": text((1 << 64) + 1)}, "at most 64 bits"),
        (without(RSA_PUBLIC, "e"), "e must be canonical"),
        (RSA_PRIVATE | {"alg": "RS256", "oth": []}, "more than two primes"),
        (without(RSA_PRIVATE | {"alg": "RS256"}, "qi"), "qi must be canonical"),
        (RSA_PRIVATE | {"alg": "RS256", "d": text(3)}, "no valid key"),
        (without(RSA_PRIVATE | {"alg": "RS256", "d": text(3)}, "p", "q", "dp", "dq", "qi"), "no valid key"),
        ({"kty": "oct", "k": text(b"short"), "alg": "HS256"}, "k of the JWK has 5 bytes, HS256 needs 32"),
        ({"kty": "oct", "k": text(SECRET) + "=", "alg": "HS256"}, "k must be canonical"),
        ({"kty": "oct", "alg": "HS256"}, "k must be canonical"),
    ],
)
def test_an_unfit_jwk_is_refused_and_not_shown(jwk: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        Key.jwk(jwk)
    told = str(refused.value)
    for secret in (OCT["k"], EC_PRIVATE["d"], OKP_PRIVATE["d"], RSA_PRIVATE["d"], RSA_PRIVATE["p"]):
        assert secret not in told
    assert refused.value.__context__ is None or refused.value.__suppress_context__


def test_what_a_jwk_names_and_what_is_given_must_agree() -> None:
    with pytest.raises(ConfigurationError, match="its alg is another one than ES384"):
        Key.jwk(EC, algorithm="ES384")
    key = Key.jwk(EC | {"kid": "theirs", "x5u": "http://127.0.0.1:1/", "unknown": [1]}, algorithm="ES256", kid="ours")
    assert key.kid == "ours"


def test_a_key_set_publishes_its_public_keys_alone() -> None:
    keys = KeySet(private_key("RS256", "a"), Key.hmac(SECRET, kid="b"), public_key("EdDSA", "c"))
    published = keys.jwks()["keys"]
    assert [(jwk["kid"], jwk["kty"]) for jwk in published] == [("a", "RSA"), ("c", "OKP")]
    assert not any("d" in jwk for jwk in published)
    assert KeySet(Key.hmac(SECRET)).jwks() == {"keys": []}


def found(document: dict[str, Any], algorithms: list[str], algorithm: str, kid: str | None = None) -> int:
    return len(keys_of_jwks(document, algorithms).candidates(algorithm, kid))


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_a_jwk_without_an_alg_serves_for_each_algorithm_that_suits_it(algorithm: str) -> None:
    document = {"keys": [without(public_key(algorithm, "a").public_jwk(), "alg")]}
    keys = keys_of_jwks(document, ASYMMETRIC)
    assert keys.candidates(algorithm, "a")[0].verify(b"message", private_key(algorithm).sign(b"message"))
    suiting = {"RS": 6, "PS": 6, "ES": 1, "Ed": 2}[algorithm[:2]]
    assert sum(len(keys.candidates(name, "a")) for name in ASYMMETRIC) == suiting
    assert found(document, [], algorithm) == 0


def test_a_jwk_with_an_alg_serves_for_that_alone() -> None:
    document = {"keys": [RSA_PUBLIC]}
    assert found(document, ["RS256", "PS256"], "RS256") == 1
    assert found(document, ["RS256", "PS256"], "PS256") == 0
    assert found(document, ["PS256"], "PS256") == 0


@pytest.mark.parametrize(
    "entry",
    [
        None,
        7,
        "key",
        [EC],
        {},
        OCT | {"alg": "HS256"},
        OCT | {"alg": "ES256"},
        EC | {"k": "AA"},
        EC | {"use": "enc"},
        EC | {"key_ops": ["encrypt"]},
        EC | {"alg": "ECDH-ES"},
        EC | {"alg": 7},
        EC | {"kty": "AKP"},
        EC | {"crv": "P-999"},
        EC | {"kid": 7},
        EC | {"y": EC["x"]},
        RSA_PUBLIC | {"n": text(WEAK)},
        EC_PRIVATE | {"alg": "ES256"},
        {"kty": {"a": 1}, "crv": [], "alg": None},
    ],
)
def test_what_is_not_understood_is_skipped(entry: Any) -> None:
    algorithms = ["HS256", "none", *ASYMMETRIC]
    assert found({"keys": [entry]}, algorithms, "ES256") == 0
    keys = keys_of_jwks({"keys": [entry, OKP, entry]}, algorithms)
    assert len(keys.candidates("EdDSA", None)) == 1
    assert sum(len(keys.candidates(algorithm, None)) for algorithm in algorithms) == 1


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": EC}, {"keys": "EC"}])
def test_a_document_that_is_no_jwks_is_told(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no JWKS"):
        keys_of_jwks(document, ["ES256"])


def test_kids_may_be_missing_or_equal() -> None:
    other = Key.jwk(EC | {"x": text(OTHER.x.to_bytes(32, "big")), "y": text(OTHER.y.to_bytes(32, "big"))})
    document = {"keys": [EC, EC | {"kid": "a"}, other.public_jwk() | {"kid": "a"}, EC | {"kid": "b"}]}
    assert [found(document, ["ES256"], "ES256", kid) for kid in (None, "a", "b", "c")] == [4, 2, 1, 0]


def test_twenty_keys_are_used_of_a_hundred_that_are_looked_at() -> None:
    many = [EC | {"kid": str(number)} for number in range(30)]
    assert found({"keys": many}, ["ES256"], "ES256") == 20
    assert found({"keys": [{}] * 99 + many}, ["ES256"], "ES256") == 1
    assert found({"keys": [{}] * 100 + many}, ["ES256"], "ES256") == 0


def client(keys: TokenService | KeySet | Key, *arguments: Any, **options: Any) -> TestClient:
    app = FastAPI()
    app.include_router(jwks_router(keys, *arguments, **options))
    return TestClient(app)


@pytest.mark.parametrize("algorithm", [algorithm for algorithm in ASYMMETRIC if algorithm != "Ed25519"])
def test_another_library_verifies_our_tokens_with_what_the_route_gives(algorithm: str) -> None:
    service = TokenService(private_key(algorithm, "a"), **CLAIMS)  # type: ignore[arg-type]
    answer = client(service).get("/.well-known/jwks.json")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert answer.headers["cache-control"] == "public, max-age=300"
    published = jwt.PyJWKSet.from_dict(answer.json())["a"]
    claims = jwt.decode(service.issue("7").token, published, audience="api", issuer="https://issuer.example")
    assert claims["sub"] == "7"


def test_the_route_can_be_moved_and_its_age_be_set() -> None:
    moved = client(private_key("ES256"), "/keys", max_age=timedelta(hours=1))
    assert moved.get("/keys").headers["cache-control"] == "public, max-age=3600"
    assert moved.get("/.well-known/jwks.json").status_code == 404


def test_the_route_is_in_openapi() -> None:
    app = client(KeySet(private_key("ES256"))).app
    assert isinstance(app, FastAPI)
    (operation,) = app.openapi()["paths"]["/.well-known/jwks.json"].values()
    answer = operation["responses"]["200"]
    assert list(answer["content"]) == ["application/jwk-set+json"]
    assert answer["content"]["application/jwk-set+json"]["schema"] == {"$ref": "#/components/schemas/JwkSet"}
    assert "Cache-Control" in answer["headers"]


def test_there_must_be_a_key_to_publish_and_an_age_that_allows_a_change() -> None:
    with pytest.raises(ConfigurationError, match="no public key to publish"):
        jwks_router(KeySet(Key.hmac(SECRET)))
    for age in (timedelta(seconds=-1), timedelta(days=2)):
        with pytest.raises(ConfigurationError, match="choose 0 to 24 hours"):
            jwks_router(private_key("ES256"), max_age=age)


def test_keys_are_changed_without_a_token_that_fails() -> None:
    old, new = private_key("ES256", "2026-01"), private_key("EdDSA", "2026-07")

    def published(keys: KeySet) -> Any:
        return keys_of_jwks(client(keys).get("/.well-known/jwks.json").json(), ["ES256", "EdDSA"])

    def service(keys: Any) -> TokenService:
        return TokenService(keys, **CLAIMS)  # type: ignore[arg-type]

    steps = [KeySet(old), KeySet(old, new), KeySet(new, old), KeySet(new)]  # announce, sign, forget
    for now, then in pairwise(steps):
        token = service(now).issue("7").token
        assert service(then).verify(token).subject == "7"
        # Who fetched the keys before the step verifies what is signed after it, while max_age lasts.
        reader = JwsReader(published(now), frozenset({"at+jwt"}))
        assert reader.read(service(then).issue("7").token)["sub"] == "7"
    with pytest.raises(TokenError):
        service(KeySet(new)).verify(service(KeySet(old)).issue("7").token)
