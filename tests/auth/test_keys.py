"""A key is checked when it is built; what is wrong is said without showing it."""

import secrets
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fastapi_kit.auth import Key, KeySet
from fastapi_kit.errors import ConfigurationError

SECRET = secrets.token_urlsafe(64)


def short(value: object) -> str:
    """Name a parameter without the random ones, so that each worker of pytest-xdist finds the same tests."""
    return value if isinstance(value, str) and " " in value else ""


def private_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


RSA = rsa.generate_private_key(65537, 2048)
CURVES = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
}


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_signs_and_verifies(algorithm: str) -> None:
    key = Key.hmac(SECRET, algorithm)
    assert key.verify(b"message", key.sign(b"message"))
    assert not key.verify(b"other", key.sign(b"message"))
    assert not key.verify(b"message", b"")
    assert key.can_sign


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"])
def test_a_private_key_signs_and_its_public_half_verifies(algorithm: str) -> None:
    pair = CURVES.get(algorithm, RSA)
    private, public = Key.pem(private_pem(pair), algorithm), Key.pem(public_pem(pair).decode(), algorithm)
    signature = private.sign(b"message")
    assert private.verify(b"message", signature)
    assert public.verify(b"message", signature)
    assert not public.verify(b"other", signature)
    assert not public.verify(b"message", signature[:-1])
    assert (private.can_sign, public.can_sign) == (True, False)


@pytest.mark.parametrize(
    ("secret", "algorithm", "message"),
    [
        ("short", "HS256", r"the secret has 5 bytes, HS256 needs 32; make one with: python -c"),
        (SECRET[:47], "HS384", "has 47 bytes, HS384 needs 48"),
        (SECRET[:63], "HS512", "has 63 bytes, HS512 needs 64"),
        ("", "HS256", "has 0 bytes"),
        ("changeme" * 8, "HS256", "is like those of tutorials"),
        ("Secret" + "x" * 40, "HS256", "is like those of tutorials"),
        ("09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7", "HS256", "is like those of tutorials"),
        ("super-se-cret-key-for_production-please", "HS256", "is like those of tutorials"),
        ("12345678901234567890123456789012", "HS256", "is like those of tutorials"),
        (" 'change me change me change me change me'", "HS256", "is like those of tutorials"),
        ("ab" * 32, "HS256", "repeats a few characters"),
        (None, "HS256", "must be a str in UTF-8, or bytes, not NoneType"),
        ("\ud800" * 40, "HS256", "must be a str in UTF-8, or bytes, not str"),
        (public_pem(RSA), "HS256", "a key file, not a secret"),
        (b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ", "HS256", "a key file, not a secret"),
        (SECRET, "RS256", "'RS256' takes no secret: use one of HS256, HS384, HS512"),
        (SECRET, "none", "'none' takes no secret"),
    ],
    ids=short,
)
def test_an_unfit_secret_is_refused_and_not_shown(secret: Any, algorithm: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        Key.hmac(secret, algorithm)
    shown = secret.decode() if isinstance(secret, bytes) else str(secret)
    assert len(shown) < 8 or shown not in str(refused.value)


def test_the_error_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"^APP_SECRET has 5 bytes"):
        Key.hmac("short", setting="APP_SECRET")


@pytest.mark.parametrize(
    ("pem", "algorithm", "message"),
    [
        (private_pem(rsa.generate_private_key(65537, 1024)), "RS256", "an RSA key of at least 2048 bits"),
        (private_pem(CURVES["ES384"]), "ES256", "a key on the curve secp256r1"),
        (private_pem(CURVES["ES256"]), "RS256", "needs an RSA key"),
        (private_pem(RSA), "ES256", "a key on the curve"),
        (private_pem(ed25519.Ed25519PrivateKey.generate()), "RS256", "needs an RSA key"),
        (b"no pem", "RS256", "the PEM cannot be read"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "RS256", "the PEM cannot be read"),
        (
            RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
            "RS256",
            "give an unencrypted private or a public key",
        ),
        (private_pem(RSA), "HS256", "'HS256' takes no PEM: use one of ES256, ES384"),
        (private_pem(RSA), "none", "'none' takes no PEM"),
    ],
    ids=short,
)
def test_an_unfit_pem_is_refused(pem: bytes, algorithm: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Key.pem(pem, algorithm)


@pytest.mark.parametrize("kid", ["", "x" * 129, "é", "a\nb"])
def test_a_kid_is_short_printable_ascii(kid: str) -> None:
    with pytest.raises(ConfigurationError, match="use 1 to 128 printable ASCII"):
        Key.hmac(SECRET, kid=kid)


def test_a_key_never_shows_its_secret() -> None:
    assert repr(Key.hmac(SECRET, kid="a")) == "<Key HS256 kid='a'>"


def test_several_keys_need_a_kid_each() -> None:
    named, unnamed = Key.hmac(SECRET, kid="a"), Key.hmac(SECRET)
    for keys in [(named, unnamed), (named, named), (unnamed, named)]:
        with pytest.raises(ConfigurationError, match="a kid each, and no two the same"):
            KeySet(*keys)
    assert KeySet(unnamed).candidates("HS256", None) == [unnamed]


def test_candidates_are_of_the_algorithm_and_of_the_kid_if_there_is_one() -> None:
    a, b, c = Key.hmac(SECRET, kid="a"), Key.hmac(SECRET, kid="b"), Key.hmac(SECRET, "HS512", kid="c")
    keys = KeySet(a, b, c)
    assert keys.active is a
    assert keys.candidates("HS256", None) == [a, b]
    assert keys.candidates("HS256", "b") == [b]
    assert keys.candidates("HS256", "c") == []
    assert keys.candidates("none", None) == []
