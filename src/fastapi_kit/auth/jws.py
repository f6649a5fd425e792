"""Reading a signed token strictly (RFC 7515, RFC 8725).

`jose.jwt.decode` and `jose.jws.verify` are not used: they accept duplicate members, trailing junk and any `crit`,
and some inputs raise past `JWTError`.
"""

import re
from collections.abc import Sequence
from typing import Any

from fastapi_kit.auth import base64url
from fastapi_kit.auth.errors import TokenError
from fastapi_kit.auth.keys import Key, VerificationKeys
from fastapi_kit.auth.strict_json import parse_object

__all__ = ["MAX_TOKEN_BYTES", "JwsReader"]

MAX_TOKEN_BYTES = 8192
"""A longer token is refused before anything of it is parsed."""

_MAX_HEADER_BRACKETS = 32
"""Anybody can send a header: one that nests deeper is not worth parsing."""

_MAX_KNOWN_HEADERS = 16

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


class JwsReader:
    """Read the compact JWS of one issuer, with one set of keys; `token_types` are the `typ` accepted, in small letters.

    An issuer's tokens all have the same few headers. Those of tokens that verified are remembered, with the keys that
    suit them, and need no parsing again. What does not verify is never remembered.
    """

    def __init__(self, keys: VerificationKeys, token_types: frozenset[str]) -> None:
        self._keys = keys
        self._token_types = token_types
        self._headers: dict[str, Sequence[Key]] = {}

    def read(self, token: str) -> dict[str, Any]:
        """Return the claims of a token whose signature, algorithm, `kid` and `typ` are right.

        Raises `TokenError`, and nothing else, for every other input.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenError("size")
        match = _COMPACT.fullmatch(token)
        if match is None:
            raise TokenError("form")
        header, claims, signature_segment = match.groups()
        keys = self._headers.get(header)
        candidates = self._candidates(header) if keys is None else keys
        signed, signature = token[: match.end(2)].encode(), _decode(signature_segment)
        for key in candidates:
            if key.verify(signed, signature):
                break
        else:
            raise TokenError("signature")
        if keys is None and len(self._headers) < _MAX_KNOWN_HEADERS:
            self._headers[header] = candidates
        return _object(_decode(claims))

    def _candidates(self, segment: str) -> Sequence[Key]:
        """Return the keys that may have signed a token with this header.

        It is untrusted: `alg` chooses among the algorithms of our own keys, `kid` among those keys; `jku`, `x5u`, `x5c`
        and `jwk` are never looked at; `crit` and `b64` name extensions that we do not have, so they are refused.
        """
        raw = _decode(segment)
        if raw.count(b"[") + raw.count(b"{") > _MAX_HEADER_BRACKETS:
            raise TokenError("json")
        header = _object(raw)
        kid = header.get("kid")
        if "crit" in header or "b64" in header or not isinstance(kid, str | None):
            raise TokenError("header")
        token_type, algorithm = header.get("typ", ""), header.get("alg")
        if not isinstance(token_type, str) or token_type.lower() not in self._token_types:
            raise TokenError("type")
        if not isinstance(algorithm, str):
            raise TokenError("algorithm")
        return self._keys.candidates(algorithm, kid)


def _decode(segment: str) -> bytes:
    try:
        return base64url.decode(segment.encode(), is_of_alphabet=True)
    except ValueError:
        raise TokenError("base64") from None


def _object(raw: bytes) -> dict[str, Any]:
    try:
        return parse_object(raw)
    except ValueError:
        raise TokenError("json") from None
