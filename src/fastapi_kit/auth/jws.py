"""Reading a signed token strictly (RFC 7515, RFC 8725).

`jose.jwt.decode` and `jose.jws.verify` are not used: they accept duplicate members, trailing junk and any `crit`,
and some inputs raise past `JWTError`.
"""

import json
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from fastapi_kit.auth.errors import TokenError
from fastapi_kit.auth.keys import KeySet

__all__ = ["MAX_TOKEN_BYTES", "encode_segment", "read"]

MAX_TOKEN_BYTES = 8192
"""A longer token is refused unread."""

_MAX_HEADER_BRACKETS = 32
"""Anybody can send a header: one that nests deeper is not worth parsing."""

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


def read(token: str, keys: KeySet, token_types: frozenset[str]) -> dict[str, Any]:
    """Return the claims of a compact JWS whose signature, algorithm, `kid` and `typ` are right.

    The header is untrusted: `alg` chooses among the algorithms of our own keys, `kid` among those keys; `jku`, `x5u`,
    `x5c` and `jwk` are never looked at; `crit` and `b64` name extensions that we do not have, so they are refused.

    Raises `TokenError`, and nothing else, for every other input.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenError("size")
    match = _COMPACT.fullmatch(token)
    if match is None:
        raise TokenError("form")
    header_segment, claims_segment, signature_segment = match.groups()
    raw_header = _decode(header_segment)
    if raw_header.count(b"[") + raw_header.count(b"{") > _MAX_HEADER_BRACKETS:
        raise TokenError("json")
    header = _object(raw_header)
    kid = header.get("kid")
    if "crit" in header or "b64" in header or not isinstance(kid, str | None):
        raise TokenError("header")
    token_type, algorithm = header.get("typ"), header.get("alg")
    if not isinstance(token_type, str) or token_type.lower() not in token_types:
        raise TokenError("type")
    if not isinstance(algorithm, str):
        raise TokenError("algorithm")
    signed = token[: match.end(2)].encode()
    signature = _decode(signature_segment)
    if not any(key.verify(signed, signature) for key in keys.candidates(algorithm, kid)):
        raise TokenError("signature")
    return _object(_decode(claims_segment))


def encode_segment(raw: bytes) -> str:
    """Return the unpadded base64url form (RFC 7515, 2)."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(segment: str) -> bytes:
    raw = urlsafe_b64decode(segment + "===" if len(segment) % 4 != 1 else "")
    if encode_segment(raw) != segment:  # a length or trailing bits that no encoder makes
        raise TokenError("base64")
    return raw


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("duplicate member")  # RFC 7515, 4 and RFC 7519, 4
    return members


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a number that JSON has")
    return number


_decoder = json.JSONDecoder(object_pairs_hook=_members, parse_float=_number, parse_constant=_number)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value: Any = _decoder.decode(raw.decode())
        if b"\\u" in raw:
            json.dumps(value, ensure_ascii=False).encode()  # raises for a lone surrogate
    except (ValueError, RecursionError):
        raise TokenError("json") from None
    if not isinstance(value, dict):
        raise TokenError("json")
    members: dict[str, Any] = value
    return members
