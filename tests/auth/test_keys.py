"""A key is checked when it is built; what is wrong is said without showing it."""

import base64
import hashlib
import secrets
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, x25519
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


Pair = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def private_pem(key: Any) -> bytes:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def public_pem(key: Pair) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


RSA = rsa.generate_private_key(65537, 2048)
CURVES = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
}
ED25519 = ed25519.Ed25519PrivateKey.generate()
ASYMMETRIC = [
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
]


def pair_of(algorithm: str) -> Pair:
    return ED25519 if algorithm.startswith("Ed") else CURVES.get(algorithm, RSA)


def private_key(algorithm: str, kid: str | None = None) -> Key:
    return Key.pem(private_pem(pair_of(algorithm)), algorithm, kid=kid)


def public_key(algorithm: str, kid: str | None = None) -> Key:
    return Key.pem(public_pem(pair_of(algorithm)), algorithm, kid=kid)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_signs_and_verifies(algorithm: str) -> None:
    key = Key.hmac(SECRET, algorithm)
    assert key.verify(b"message", key.sign(b"message"))
    assert not key.verify(b"other", key.sign(b"message"))
    assert not key.verify(b"message", b"")
    assert key.can_sign


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_a_private_key_signs_and_its_public_half_verifies(algorithm: str) -> None:
    private, public = private_key(algorithm), Key.pem(public_pem(pair_of(algorithm)).decode(), algorithm)
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
        (b"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY", "HS256", "a key file, not a secret"),
        (b"x-cert-v01@openssh.com AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY", "HS256", "a key file, not a secret"),
        (b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAAE2VjZHNhLXNoYTItbmlzdHAyNTY", "HS256", "a key file, not a secret"),
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


def der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = (
        bytes([size]) if size < 128 else b"\x81" + bytes([size]) if size < 256 else b"\x82" + size.to_bytes(2, "big")
    )
    return bytes([tag]) + length + content


def spki_pem(algorithm: bytes, key: bytes) -> bytes:
    raw = der(0x30, der(0x30, algorithm) + der(0x03, b"\x00" + key))
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(raw) + b"-----END PUBLIC KEY-----\n"


def rsa_pem(exponent: int, modulus: int = RSA.public_key().public_numbers().n) -> bytes:
    """Return the PEM of a public key that `cryptography` may not want to make."""
    values = [value.to_bytes(value.bit_length() // 8 + 1, "big") for value in (modulus, exponent)]
    key = der(0x30, b"".join(der(0x02, value) for value in values))
    return spki_pem(bytes.fromhex("06092a864886f70d0101010500"), key)


def pss_pem(hash_number: int | None) -> bytes:
    """Return the PEM of an RSA key that its object identifier binds to PSS, and to a hash if one is given."""
    parameters = b""
    if hash_number is not None:
        hash_ = der(0x30, bytes.fromhex(f"06096086480165030402{hash_number:02x}0500"))
        mgf = der(0x30, bytes.fromhex("06092a864886f70d010108") + hash_)
        parameters = der(0x30, der(0xA0, hash_) + der(0xA1, mgf))
    key = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return spki_pem(bytes.fromhex("06092a864886f70d01010a") + parameters, key)


ROCA_MODULUS = 2 * 3 * 5 * 7 * 11 * 13 * 17 * 19 * 37 * 53 * 61 * 71 * 73 * 79 * 97 * 103 * 107 * 109 * 127 * 151 * 157
ROCA_MODULUS = ROCA_MODULUS * (1 << (2048 - ROCA_MODULUS.bit_length())) + 1
"""It is 1 modulo the primes that tell, and so a power of 65537."""


@pytest.mark.parametrize(
    ("pem", "algorithm", "message"),
    [
        (private_pem(rsa.generate_private_key(65537, 1024)), "RS256", "an RSA key has 2048 to 16384 bits"),
        (private_pem(CURVES["ES384"]), "ES256", "a key on the curve secp256r1"),
        (private_pem(CURVES["ES256"]), "RS256", "needs an RSA key"),
        (private_pem(CURVES["ES256"]), "PS256", "needs an RSA key"),
        (private_pem(RSA), "EdDSA", "needs an Ed25519 key"),
        (private_pem(ED25519), "ES256", "a key on the curve"),
        (private_pem(ec.generate_private_key(ec.SECP256K1())), "ES256", "a key on the curve secp256r1"),
        (private_pem(ed448.Ed448PrivateKey.generate()), "EdDSA", "no RSA, EC or Ed25519 key"),
        (private_pem(x25519.X25519PrivateKey.generate()), "EdDSA", "no RSA, EC or Ed25519 key"),
        (private_pem(dsa.generate_private_key(2048)), "RS256", "no RSA, EC or Ed25519 key"),
        (rsa_pem(65537, (1 << 16384) + 1), "RS256", "2048 to 16384 bits"),
        (rsa_pem((1 << 64) + 1), "RS256", "exponent of an RSA key is odd, 3 or more, and has at most 64 bits"),
        (rsa_pem(1), "RS256", "it cannot be read|exponent"),
        (rsa_pem(65538), "RS256", "it cannot be read|exponent"),
        (rsa_pem(65537, ROCA_MODULUS), "PS256", r"CVE-2017-15361"),
        (None, "RS256", "it cannot be read"),
        ("\ud800", "RS256", "it cannot be read"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "RS256", "it cannot be read"),
        (private_pem(RSA), "ES256", "a key on the curve"),
        (private_pem(ed25519.Ed25519PrivateKey.generate()), "RS256", "needs an RSA key"),
        (b"no pem", "RS256", "it cannot be read"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "RS256", "it cannot be read"),
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


@pytest.mark.parametrize(("hash_number", "fits"), [(None, "PS256"), (1, "PS256"), (2, "PS384"), (3, "PS512")])
def test_a_key_that_is_bound_to_pss_serves_for_pss_with_its_hash_alone(hash_number: int | None, fits: str) -> None:
    signature = private_key(fits).sign(b"message")
    assert Key.pem(pss_pem(hash_number), fits).verify(b"message", signature)
    others = {"RS256", "RS384", "RS512"} | (set() if hash_number is None else {"PS256", "PS384", "PS512"} - {fits})
    for other in others:
        with pytest.raises(ConfigurationError, match=f"bound to RSASSA-PSS, and not for {other}"):
            Key.pem(pss_pem(hash_number), other)


def test_an_exponent_of_3_is_sound_where_the_padding_is_checked() -> None:
    pair = rsa.generate_private_key(3, 2048)
    private = Key.pem(private_pem(pair), "RS256")
    assert private.verify(b"message", private.sign(b"message"))
    # Bleichenbacher, 2006: with loose padding the cube root of a block with the right beginning passes.
    prefix = bytes.fromhex("0001ff003031300d060960864801650304020105000420") + hashlib.sha256(b"message").digest()
    root = _cube_root(int.from_bytes(prefix.ljust(256, b"\xff"), "big"))
    assert root**3 >> (2048 - 8 * len(prefix)) == int.from_bytes(prefix, "big")
    assert not private.verify(b"message", root.to_bytes(256, "big"))


def _cube_root(value: int) -> int:
    low, high = 0, 1 << (value.bit_length() // 3 + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= value else (low, middle - 1)
    return low


@pytest.mark.parametrize("salt_length", [0, 20, 31, 33, padding.PSS.MAX_LENGTH])
def test_the_salt_of_pss_is_as_long_as_the_hash_and_no_other_passes(salt_length: Any) -> None:
    hash_ = hashes.SHA256()
    scheme = padding.PSS(padding.MGF1(hash_), salt_length)
    assert not public_key("PS256").verify(b"message", RSA.sign(b"message", scheme, hash_))
    exact = padding.PSS(padding.MGF1(hash_), 32)
    assert public_key("PS256").verify(b"message", RSA.sign(b"message", exact, hash_))
    RSA.public_key().verify(private_key("PS256").sign(b"message"), b"message", exact, hash_)


def test_a_public_key_does_not_sign() -> None:
    for algorithm in ASYMMETRIC:
        with pytest.raises(ConfigurationError, match="it is public, so it can only verify"):
            public_key(algorithm).sign(b"message")


def test_one_key_has_one_algorithm() -> None:
    signature = private_key("EdDSA").sign(b"message")
    assert private_key("Ed25519").sign(b"message") == signature
    keys = KeySet(private_key("Ed25519"))
    assert keys.candidates("EdDSA", None) == []
    assert len(keys.candidates("Ed25519", None)) == 1


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
