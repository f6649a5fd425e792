"""The examples of the standards: RFC 7515 A.1 to A.5, 7517 A, 7519 3.1 and 6.1, 7520 3 and 4, 7638 3.1, 8037 A."""

import json
from pathlib import Path
from typing import Any

import pytest

from fastapi_kit.auth import Key, KeySet, TokenError, TokenService, base64url
from fastapi_kit.auth.jwk import keys_of_jwks
from fastapi_kit.auth.jws import JwsReader
from fastapi_kit.errors import ConfigurationError

RFC: dict[str, Any] = json.loads(Path(__file__).with_name("rfc_vectors.json").read_text())
SIGNATURES: list[dict[str, Any]] = RFC["signatures"]
signatures = pytest.mark.parametrize("vector", SIGNATURES, ids=[vector["name"] for vector in SIGNATURES])


def key_of(vector: dict[str, Any]) -> Key:
    return Key.jwk(vector["key"], algorithm=vector["alg"])


def split(token: str) -> tuple[bytes, bytes]:
    message, _, signature = token.rpartition(".")
    return message.encode(), base64url.decode(signature.encode())


@signatures
def test_the_signature_verifies_and_no_other(vector: dict[str, Any]) -> None:
    message, signature = split(vector["token"])
    key = key_of(vector)
    assert key.verify(message, signature)
    assert not key.verify(message + b"x", signature)
    for at in range(len(signature)):
        assert not key.verify(message, signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :])


@signatures
def test_we_sign_alike_where_a_signature_is_not_random(vector: dict[str, Any]) -> None:
    message, signature = split(vector["token"])
    key = key_of(vector)
    ours = key.sign(message)
    assert key.verify(message, ours)
    assert len(ours) == len(signature)
    assert (ours == signature) is vector["deterministic"]


@signatures
def test_our_policy_takes_none_of_them_for_an_access_token(vector: dict[str, Any]) -> None:
    service = TokenService(key_of(vector), issuer="joe", audience="api", clock=lambda: 1_300_819_000)
    with pytest.raises(TokenError) as refused:
        service.verify(vector["token"])
    assert refused.value.reason == "type"  # RFC 7519 3.1 has the `typ` JWT, which any token may have; the others none


@pytest.mark.parametrize(
    ("name", "token_type"), [("RFC 7515 A.1, RFC 7519 3.1", "jwt"), ("RFC 7515 A.2", ""), ("RFC 7515 A.3", "")]
)
def test_the_claims_of_a_jwt_are_read_where_its_type_is_accepted(name: str, token_type: str) -> None:
    vector = next(vector for vector in SIGNATURES if vector["name"] == name)
    claims = JwsReader(KeySet(key_of(vector)), frozenset({token_type})).read(vector["token"])
    assert claims == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}


def test_a_payload_that_is_no_json_object_is_no_jwt() -> None:
    for vector in SIGNATURES[3:]:
        with pytest.raises(TokenError) as refused:
            JwsReader(KeySet(key_of(vector)), frozenset({""})).read(vector["token"])
        assert refused.value.reason == "json"


def test_the_unsecured_jwt_of_rfc_7519_is_refused() -> None:
    service = TokenService(key_of(SIGNATURES[0]), issuer="joe", audience="api", clock=lambda: 1_300_819_000)
    with pytest.raises(TokenError) as refused:
        service.verify(RFC["RFC 7519 6.1"])
    assert refused.value.reason == "form"


@pytest.mark.parametrize("name", ["RFC 7517 A.1", "RFC 7517 A.2"])
def test_the_keys_of_rfc_7517_serve_as_they_say(name: str) -> None:
    encryption, signing = RFC[name]["keys"]
    with pytest.raises(ConfigurationError, match="its use must be sig"):
        Key.jwk(encryption, algorithm="ES256")
    key = Key.jwk(signing)
    assert (key.algorithm, key.kid, key.can_sign) == ("RS256", "2011-04-29", name == "RFC 7517 A.2")
    private = Key.jwk(RFC["RFC 7517 A.2"]["keys"][1])
    assert key.verify(b"message", private.sign(b"message"))
    published = keys_of_jwks(RFC[name], ["RS256", "ES256"])
    found = [key.kid for key in published.candidates("RS256", None)]
    assert found == (["2011-04-29"] if name == "RFC 7517 A.1" else [])  # a private key is no longer one


def test_the_symmetric_keys_of_rfc_7517_serve_as_they_say() -> None:
    wrapping, signing = RFC["RFC 7517 A.3"]["keys"]
    with pytest.raises(ConfigurationError, match="its alg is another one than HS256"):
        Key.jwk(wrapping, algorithm="HS256")
    message, signature = split(SIGNATURES[0]["token"])
    assert Key.jwk(signing, algorithm="HS256").verify(message, signature)
    assert keys_of_jwks(RFC["RFC 7517 A.3"], ["HS256", "RS256"]).candidates("HS256", None) == []


@pytest.mark.parametrize(("name", "algorithm"), [("RFC 7520 3.1", "ES512"), ("RFC 7520 3.3", "RS256")])
def test_the_public_keys_of_rfc_7520_come_out_as_they_went_in(name: str, algorithm: str) -> None:
    key = Key.jwk(RFC[name], algorithm=algorithm)
    assert key.public_jwk() == RFC[name] | {"alg": algorithm}


def test_thumbprints_are_those_of_rfc_7638_and_rfc_8037() -> None:
    rsa, ed25519 = Key.jwk(RFC["RFC 7517 A.1"]["keys"][1]), key_of(SIGNATURES[-1])
    assert rsa.thumbprint() == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    assert ed25519.thumbprint() == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
