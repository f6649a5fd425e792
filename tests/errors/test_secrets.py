"""Secrets of tutorials are refused, random ones never, and no error shows one."""

import base64
import os
import secrets
import uuid

import pytest

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.errors.secrets import secret_bytes

FAMOUS = [
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",  # FastAPI's documentation
    "django-insecure-4#k2n!c0w&8x5j7^q1z3v9b6m+l@h*r$t(y)e-u_i=o",  # startproject
    "your-256-bit-secret-your-256-bit-secret",  # jwt.io, before
    "a-string-secret-at-least-256-bits-long",  # jwt.io
    "SuperSecretKeyForTheShop2024Version2",
    "keyboard cat keyboard cat, says Express 4",
    "this is a secret that is long enough for 32 bytes",
    "MySecretThatIsLong1Enough4HS256Keys!",
    "SecretForTheShopOfMineThatIsLongEnough",
    "secret2024forshop2025and2026and2027x",
    "CHANGEME_CHANGEME_CHANGEME_CHANGEME_x1",
    "please-replace-me-in-production-0123",
    "qwertyuiopasdfghjklzxcvbnm1029384756",
    "QwertyAndSomeMoreOfTheSameKeyboardRow",
    "x12345678xabcdefg-zyxwvuts-kjihgf-mm",
    "0123456789abcdef0123456789abcdef0123456789abcdef",
    "00" * 32,
    str(uuid.UUID(int=0)),
    "f3Kq9ZtR" * 5,
    "deadbeef" * 8,
    "TODO: replace this with a real key!",
    "<your key here, 32 characters or more>",
    "GENERATE_ME_WITH_OPENSSL_RAND_HEX_32",
    "p4ssw0rd-Of-The-Shop-2024-and-2025-Zq",
    "a" * 25 + "bdfhjlnp",
    "11112222333344445555666677778888",
    "0123456789abcdef" * 2 + "0",
    "abcdefg1" * 4 + "x",
    "z9K!pQ4m" * 4 + "z9K",
    "aaaabaaacaaadaaaeaaafaaagaaahaaai",
    "Xb7aaaaaKaaaaaQ2aaaaa9aaaaaaTaaaa",
]


@pytest.mark.parametrize("secret", FAMOUS)
def test_what_anybody_can_try_is_refused(secret: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^the key (is like those|repeats)") as caught:
        secret_bytes(secret, "the key")
    assert secret not in str(caught.value)


@pytest.mark.parametrize("secret", [b" " * 32 + b"kqzwmvxt", b"\x00" * 24 + b"kqzwmvxt", bytes(range(48, 56)) * 5])
def test_bytes_that_repeat_are_refused(secret: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"^the key repeats a few characters"):
        secret_bytes(secret, "the key")


@pytest.mark.parametrize("form", ["{}\n", " {}", "{}\r\n", "\t{}", "{}\u00a0", " " * 32 + "{}"])
def test_a_text_with_white_space_around_it_is_refused(form: str) -> None:
    secret = secrets.token_urlsafe(32)
    with pytest.raises(ConfigurationError, match=r"^the key begins or ends with white space: take it away") as caught:
        secret_bytes(form.format(secret), "the key")
    assert secret not in str(caught.value)


def test_bytes_may_begin_and_end_with_any() -> None:
    secret = b"\n" + secrets.token_bytes(32) + b" "
    assert secret_bytes(secret, "the key") == secret


@pytest.mark.parametrize("secret", ["dev", "", "supersecret", b"\x01" * 31])
def test_what_is_short_is_refused(secret: str | bytes) -> None:
    with pytest.raises(ConfigurationError, match=f"the key has {len(secret)} bytes, HS256 needs 32; make one with"):
        secret_bytes(secret, "the key", user="HS256")


@pytest.mark.parametrize("secret", [None, 5, "\ud800" * 40])
def test_what_is_no_text_is_refused_without_a_cause(secret: object) -> None:
    with pytest.raises(ConfigurationError, match="must be a str in UTF-8, or bytes") as caught:
        secret_bytes(secret, "the key")  # type: ignore[arg-type]
    assert caught.value.__suppress_context__


def test_no_random_secret_is_refused() -> None:
    for _ in range(5_000):
        for secret in (
            secrets.token_urlsafe(32),
            secrets.token_urlsafe(64),
            secrets.token_hex(32),
            secrets.token_hex(16),
            base64.b64encode(os.urandom(64)).decode(),
            os.urandom(32),
        ):
            assert secret_bytes(secret, "the key") == (secret if isinstance(secret, bytes) else secret.encode())
        assert secret_bytes(short := os.urandom(16), "the key", least=16) == short
