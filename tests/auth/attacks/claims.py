"""Claims that are wrong, or of a wrong type (RFC 8725, 3.8 and 3.9; RFC 7519, 4.1)."""

from typing import Any

from tests.auth.attacks.forging import Attacks
from tests.auth.test_tokens import CLAIMS, NOW, signed

__all__ = ["CLAIMS_ATTACKS"]

CLAIMS_ATTACKS = Attacks()
add = CLAIMS_ATTACKS.add
value: Any


def claim(name: str, value: Any, reason: str) -> None:
    shown = ascii(value)[:30]
    add(f"{name} is {shown}", signed(claims=CLAIMS | {name: value}), reason)


def missing(name: str, reason: str) -> None:
    add(f"{name} is missing", signed(claims={key: value for key, value in CLAIMS.items() if key != name}), reason)


for value in (None, "", "9999999999", str(NOW + 60), "2099-01-01", True, False, [], [NOW + 60], {}, {"$gt": 0}):
    claim("exp", value, "claims")
for value in (NOW, NOW - 1, NOW - 0.5, 0, -1, -(10**18), -1e300, 1e-300):
    claim("exp", value, "expired")
for name in ("nbf", "iat"):
    for value in (NOW + 1, NOW + 0.001, 2**63, 10**300, 1e300):
        claim(name, value, "not_yet_valid")
    for value in (None, "0", True, [], {}):
        claim(name, value, "claims")
for value in (
    None,
    "",
    "https://issuer.example/",
    "HTTPS://issuer.example",
    "https://issuer.example.evil",
    "https://issuer.examplE",
    "issuer.example",
    "http://issuer.example",
    "https://issuer.example\0",
    " https://issuer.example",
    ["https://issuer.example"],
    {},
    1,
    True,
):
    claim("iss", value, "issuer")
for value in (
    None,
    "",
    "API",
    "api ",
    "apis",
    "ap",
    "*",
    "other",
    0,
    True,
    {},
    {"api": True},
    [],
    [""],
    ["other"],
    ["API"],
    ["api", 1],
    ["api", None],
    ["api", ["x"]],
    [["api"]],
    [{"a": 1}],
    "api other",
    "api,other",
):
    claim("aud", value, "audience")
for value in (None, "", 0, 7, True, 7.0, [], ["7"], {}, {"$ne": None}):
    claim("sub", value, "subject")
for name, values in {
    "jti": (0, "", True, ["a"], {}),
    "sid": (0, "", ["a"]),
    "scope": (None, 1, ["admin"], {"a": 1}),
}.items():
    for value in values:
        claim(name, value, "claims")
for name, reason in (("exp", "claims"), ("iss", "issuer"), ("aud", "audience"), ("sub", "subject")):
    missing(name, reason)
