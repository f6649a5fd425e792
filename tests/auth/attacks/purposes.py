"""Other tokens of the same key, and weak keys (RFC 8725, 2.2, 2.8 and 3.11)."""

from typing import Any

from fastapi_kit.auth import Key, KeySet
from tests.auth.attacks.forging import Attacks, forged, header, mac
from tests.auth.test_tokens import CLAIMS, NOW, SECRET, service, signed

__all__ = ["PURPOSES"]

PURPOSES = Attacks()
add = PURPOSES.add
value: Any


for value in (
    None,
    "",
    "JWT",
    "jwt",
    "JOSE",
    "id+jwt",
    "refresh+jwt",
    "reset+jwt",
    "verify-email+jwt",
    "logout+jwt",
    "secevent+jwt",
    "dpop+jwt",
    "at",
    "at+JW",
    "at+jwt ",
    " at+jwt",
    "at+jwt\0",
    "at+jwt;a=b",
    "xat+jwt",
    "application/",
    "application/reset+jwt",
    "application/jwt",
    "application/application/at+jwt",
    "text/at+jwt",
    "/at+jwt",
    "\uff41t+jwt",
    "at\u212awt",
    0,
    True,
    [],
    ["at+jwt"],
    {"at+jwt": 1},
):
    shown = ascii(value)
    add(f"typ is {shown}", signed({"alg": "HS256", "typ": value}), "type")
add("typ is missing", signed({"alg": "HS256"}), "type")
add(
    "an ID token for the same audience",
    signed({"alg": "HS256", "typ": "JWT"}, CLAIMS | {"nonce": "n", "at_hash": "x", "auth_time": NOW}),
    "type",
)


def issued(**options: Any) -> str:
    return service(**options).issue("7").token


add("a token of the same key for another audience", issued(audience="billing"), "audience")
add("a token of the same key by another issuer", issued(issuer="https://other.example"), "issuer")
add("a token of the same key for another purpose", issued(purpose="reset"), "type")
add("a token of another key", service(KeySet(Key.hmac(SECRET[::-1]))).issue("7").token, "signature")
for secret in (
    "",
    "secret",
    "password",
    "changeme",
    "your-256-bit-secret",
    "your-384-bit-secret",
    "jwt",
    "key",
    "0",
    "null",
    "undefined",
):
    add(f"signed with the well-known secret {secret!r}", forged(header(), mac(secret)), "signature")
