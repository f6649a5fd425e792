"""Tokens that were tampered with, endlessly and reproducibly: what is fuzzed here, and over ASGI elsewhere.

`KIT_FUZZ` is how many a test takes, 20,000 by default.
"""

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fastapi_kit.auth import Key, KeySet, TokenService
from tests.auth.test_keys import private_key
from tests.auth.test_tokens import CLAIMS, KEY, segment, service, signed

__all__ = ["COUNT", "GENUINE", "SERVICES", "Mutant", "mutants"]

COUNT = int(os.environ.get("KIT_FUZZ", "20000"))

_KEYS: dict[str, Key] = {
    "HS256": KEY,
    **{algorithm: private_key(algorithm) for algorithm in ("RS256", "PS256", "ES256", "EdDSA")},
}
_WEIGHTS = (16, 1, 1, 1, 1)  # what a MAC costs is next to nothing
SERVICES: dict[str, TokenService] = {algorithm: service(KeySet(key)) for algorithm, key in _KEYS.items()}
GENUINE: dict[str, list[str]] = {
    algorithm: [
        signed({"alg": algorithm, "typ": typ}, CLAIMS | more, key)
        for typ in ("at+jwt", "application/at+jwt")
        for more in (
            {},
            {"scope": "a b", "nbf": 0},
            {"aud": ["api", "x"], "groups": [{"a": [1]}]},
            {"name": "é\u2028\U0001f600"},
        )
    ]
    for algorithm, key in _KEYS.items()
}

_CHARACTERS = [
    *'ABCabc019-_=+/. \t\r\n\0\x7f"{}[],:%&;',
    "é",
    "\u00ad",
    "\u200b",
    "\u2028",
    "\ufeff",
    "\uff0e",
    "\ud800",
    "\U0001f600",
]
_NUMBERS = [0, -1, 1.5, 2**31, 2**53, 2**64, -(2**64), 10**30, 1e300, -1e300, 5e-324, 10**400]
_VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        "",
        "none",
        "HS256",
        "RS256",
        "at+jwt",
        "api",
        "https://issuer.example",
        "7",
        "\0",
        "\ud800",
        "x" * 500,
    ),
    *([], [None], ["api"], ["api", 1], [[]], {}, {"a": 1}, {"alg": "none"}, [[[[[[]]]]]], [{}] * 20),
    *_NUMBERS,
]
_NAMES = [
    "alg",
    "typ",
    "kid",
    "crit",
    "b64",
    "zip",
    "cty",
    "jwk",
    "jku",
    "x5c",
    "iss",
    "aud",
    "sub",
    "exp",
    "nbf",
    "iat",
    "jti",
    "sid",
    "scope",
    "",
    "__proto__",
    "\ud800",
]
_RAW = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "01",
    "1" * 5000,
    "'x'",
    '"\\ud800"',
    "[" * 900,
    "[" * 80 + "]" * 80,
    '{"a":' * 300,
    "//",
    "\\u0000",
    "{}",
    "\x00",
]


@dataclass(frozen=True)
class Mutant:
    token: str
    on: str
    """The algorithm of the service that it is meant for."""
    is_signed: bool
    """Whether our own key signed it: then it may be right."""


def mutants(seed: int) -> Iterator[Mutant]:
    """Yield tampered tokens, the same ones for the same seed and keys."""
    rng = random.Random(seed)
    ways: list[Callable[[random.Random, str], str]] = [_in_characters, _in_segments, _in_json, _spliced]
    while True:
        on = rng.choices(list(_KEYS), _WEIGHTS)[0]
        if rng.random() < 0.3:
            yield Mutant(_signed(rng, _KEYS[on], on), on, is_signed=True)
            continue
        token = rng.choice(GENUINE[on])
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            token = rng.choice(ways)(rng, token)
        yield Mutant(token, on, is_signed=False)


def _in_characters(rng: random.Random, token: str) -> str:
    at = rng.randrange(len(token) + 1)
    until = min(len(token), at + rng.choice((1, 1, 1, 2, 4, 30)))
    new = "".join(rng.choices(_CHARACTERS, k=rng.choice((0, 1, 1, 2))))
    return rng.choice(
        (
            lambda: token[:at] + new + token[until:],
            lambda: token[:at] + new + token[at:],
            lambda: token[:at] + token[at:until] * 2 + token[until:],
            lambda: token[:at],
            lambda: token[at:],
            lambda: token[:at] + token[at:until].swapcase() + token[until:],
            lambda: token[:at] + token[at:until][::-1] + token[until:],
            lambda: token + new,
        )
    )()


def _in_segments(rng: random.Random, token: str) -> str:
    segments = token.split(".")
    at = rng.randrange(len(segments))
    match rng.randrange(6):
        case 0:
            segments.pop(at)
        case 1:
            segments.insert(at, rng.choice(segments))
        case 2:
            rng.shuffle(segments)
        case 3:
            segments[at] = ""
        case 4:
            segments[at] = segment(rng.randbytes(rng.choice((0, 1, 16, 32, 64, 256))))
        case _:
            segments[at] += "=" * rng.choice((1, 2, 3))
    return ".".join(segments)


def _spliced(rng: random.Random, token: str) -> str:
    segments, others = token.split("."), rng.choice(GENUINE[rng.choice(list(GENUINE))]).split(".")
    return ".".join(rng.choice(pair) for pair in zip(segments, others, strict=False))


def _in_json(rng: random.Random, token: str) -> str:
    """Return the token with another header or other claims, and its old signature."""
    head, body = _json(rng, {"alg": rng.choice(list(_KEYS)), "typ": "at+jwt"}), _json(rng, CLAIMS)
    segments = token.split(".")
    which = rng.randrange(3)
    new = [head if which != 1 else None, body if which != 0 else None]
    return ".".join(
        [segment(raw) if raw is not None else old for raw, old in zip(new, segments, strict=False)] + segments[2:]
    )


def _signed(rng: random.Random, key: Key, algorithm: str) -> str:
    header: dict[str, Any] = {"alg": algorithm, "typ": "at+jwt"}
    which = rng.randrange(3)
    return signed(_json(rng, header) if which != 1 else header, _json(rng, CLAIMS) if which != 0 else CLAIMS, key)


def _json(rng: random.Random, members: dict[str, Any]) -> bytes:
    """Return the members as JSON, some of them changed, and now and then the text itself."""
    members = dict(members)
    for _ in range(rng.choice((0, 1, 1, 2))):
        name = rng.choice(list(members) or ["x"]) if rng.random() < 0.6 else rng.choice(_NAMES)
        if rng.random() < 0.15:
            members.pop(name, None)
        else:
            members[name] = rng.choice(_VALUES)
    text = json.dumps(members, ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, None, 1)))
    if rng.random() < 0.3:
        text = text.removesuffix("}") + f', "{rng.choice(_NAMES)}": {rng.choice(_RAW)}' + "}" * (rng.random() < 0.8)
    raw = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        at = rng.randrange(len(raw))
        raw = raw[:at] + rng.randbytes(1) + raw[at + 1 :]
    return raw
