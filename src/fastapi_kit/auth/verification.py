"""Verifying the access tokens of one issuer: its signature, its claims (RFC 7519, RFC 9068, 4), and the time."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

from fastapi_kit.auth.cache import CacheInfo, VerifiedCache
from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.errors import TokenError
from fastapi_kit.auth.jws import JwsReader
from fastapi_kit.auth.keys import VerificationKeys

__all__ = ["TokenReader"]

_MAX_DEPTH = 64
"""How deep arrays and objects may nest in a claim: far from what the interpreter's stack can take."""


class TokenReader:
    """Say what tokens of one issuer claim, after checking all of it, with one set of keys.

    `token_types` are the `typ` accepted, in small letters. A token is for us when its `aud` names one of `audiences`.
    `subject_prefix` is put before the `sub`. `scope_claim` is the claim that holds the scopes: a string with spaces
    between them (RFC 8693, 4.2), or, where it is not named `scope`, an array of strings too. `is_own` tells that `sid`
    names a log-in of ours. `leeway` is in seconds.

    Verified tokens are cached by their SHA-256, `cache_size` of them; a hit checks the times again. The cache goes with
    the keys: whoever changes them makes a new reader.
    """

    def __init__(
        self,
        keys: VerificationKeys,
        token_types: frozenset[str],
        *,
        issuer: str,
        audiences: Collection[str],
        subject_prefix: str = "",
        scope_claim: str = "scope",
        is_own: bool = True,
        leeway: float,
        cache_size: int,
        clock: Callable[[], float],
    ) -> None:
        self._read = JwsReader(keys, token_types).read
        self._issuer = issuer
        self._audiences = frozenset(audiences)
        self._subject_prefix = subject_prefix
        self._scope_claim = scope_claim
        self._is_own = is_own
        self._leeway = leeway
        self._clock = clock
        self._cache = VerifiedCache[AccessClaims](cache_size)

    def verify(self, token: str) -> AccessClaims:
        """Return what a token says; raise `TokenError`, and nothing else, for every other string."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._cache.get(digest)
        if claims is None:
            claims = self._claims(self._read(token))
            self._check_times(claims)
            self._cache.put(digest, claims)
        else:
            self._check_times(claims)
        return claims

    def cache_info(self) -> CacheInfo:
        """Return how often the cache of verified tokens answered, and how full it is."""
        return self._cache.info()

    def _claims(self, members: dict[str, Any]) -> AccessClaims:
        subject, token_id, session_id = members.get("sub"), members.get("jti"), members.get("sid")
        if members.get("iss") != self._issuer:
            raise TokenError("issuer")
        if not self._is_for_us(members.get("aud")):
            raise TokenError("audience")
        if not isinstance(subject, str) or not subject:
            raise TokenError("subject")
        for name in (token_id, session_id):
            if name is not None and (not isinstance(name, str) or not name):
                raise TokenError("claims")
        expires_at, not_before = _date(members, "exp"), _date(members, "nbf")
        if expires_at is None:
            raise TokenError("claims")
        return AccessClaims(
            self._subject_prefix + subject,
            self._issuer,
            self._scopes(members.get(self._scope_claim, "")),
            token_id,
            session_id if self._is_own else None,
            _date(members, "iat"),
            not_before or 0,
            expires_at,
            _frozen(members),
        )

    def _is_for_us(self, audiences: object) -> bool:
        if isinstance(audiences, list):
            return all(isinstance(name, str) for name in audiences) and not self._audiences.isdisjoint(audiences)
        return isinstance(audiences, str) and audiences in self._audiences

    def _scopes(self, value: object) -> frozenset[str]:
        if isinstance(value, str):
            return frozenset(value.split())
        names: list[object] = value if isinstance(value, list) and self._scope_claim != "scope" else [value]
        if not all(isinstance(name, str) for name in names):
            raise TokenError("claims")
        return frozenset(str(name) for name in names)

    def _check_times(self, claims: AccessClaims) -> None:
        now = self._clock()
        if now - self._leeway >= claims.expires_at:
            raise TokenError("expired")
        if now + self._leeway < max(claims.not_before, claims.issued_at or 0):
            raise TokenError("not_yet_valid")


def _date(members: Mapping[str, Any], name: str) -> float | None:
    """Return a NumericDate (RFC 7519, 2), `None` where the claim is absent; an int stays one, however large."""
    value = members.get(name)
    if type(value) in (int, float):  # not a bool, which is an int to isinstance
        return value
    if name in members:
        raise TokenError("claims")
    return None


def _frozen(members: dict[str, Any]) -> Mapping[str, Any]:
    """Return claims that no request can change for the next one that the cache answers."""
    for name, member in members.items():
        if isinstance(member, (dict, list)):
            members[name] = _frozen_value(member, _MAX_DEPTH)
    return MappingProxyType(members)


def _frozen_value(value: Any, depth: int) -> Any:
    if depth == 0:
        raise TokenError("json")
    if isinstance(value, dict):
        return MappingProxyType({name: _frozen_value(member, depth - 1) for name, member in value.items()})
    return tuple(_frozen_value(item, depth - 1) for item in value) if isinstance(value, list) else value
