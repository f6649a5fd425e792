"""The keys of an outside issuer: what its JWKS holds that we can use (RFC 7517, 5)."""

from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

from fastapi_kit.auth.algorithms import ASYMMETRIC
from fastapi_kit.auth.keys import Key, VerificationKeys
from fastapi_kit.errors import ConfigurationError

__all__ = ["MAX_KEYS", "keys_of_jwks"]

MAX_KEYS = 20
"""How many keys of a JWKS are used: a token without a `kid` is tried with each of its algorithm."""

_MAX_ENTRIES = 100
"""How many are looked at: to try a key that is none takes time too."""


def keys_of_jwks(document: Mapping[str, Any], algorithms: Collection[str]) -> VerificationKeys:
    """Return the keys of a JWKS that verify with one of these algorithms; what it does not understand is skipped.

    Skipped are (RFC 7517, 5) keys of an unknown type or for encryption, weak ones, those of another algorithm, shared
    secrets, and private keys: who publishes those has no secret left. A key that names no `alg` is used with each
    algorithm that suits it. Two keys may have one `kid`, and a key may have none. Of the first 100 keys, the first 20
    that are usable are used.

    `algorithms` are asymmetric; others find no key. Returns a set without keys where there is no usable one.

    Raises `ValueError` for a document that is no JWKS.
    """
    entries: object = document.get("keys")
    if not isinstance(entries, list):
        raise ValueError("no JWKS: it has no array `keys` (RFC 7517, 5)")
    allowed = sorted(ASYMMETRIC.intersection(algorithms))
    found = (_keys_of(entry, allowed) for entry in entries[:_MAX_ENTRIES] if isinstance(entry, dict))
    return VerificationKeys([key for keys in islice(filter(None, found), MAX_KEYS) for key in keys])


def _keys_of(entry: Mapping[str, Any], allowed: Collection[str]) -> list[Key]:
    keys: list[Key] = []
    if "d" in entry or "k" in entry:
        return keys
    for algorithm in allowed:
        try:
            keys.append(Key.jwk(entry, algorithm=algorithm))
        except ConfigurationError:
            continue
    return keys
