"""Issuing and verifying access tokens (RFC 7519, RFC 9068)."""

import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from fastapi_kit.auth.cache import CacheInfo, VerifiedCache
from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.errors import TokenError
from fastapi_kit.auth.jws import MAX_TOKEN_BYTES, encode_segment, read
from fastapi_kit.auth.keys import Key, KeySet
from fastapi_kit.errors import ConfigurationError

__all__ = ["IssuedToken", "TokenService"]

_REGISTERED = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "sid"})
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_PURPOSE = re.compile(r"[a-z][a-z0-9-]*")
_MIN_TTL, _MAX_TTL = timedelta(seconds=1), timedelta(hours=24)
_MAX_LEEWAY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token and what its client is told about it (RFC 6749, 5.1)."""

    token: str = field(repr=False)
    token_id: str
    expires_in: int
    """Seconds from now."""
    scopes: frozenset[str]


class TokenService:
    """Issue and verify the access tokens of one issuer for one audience.

    `keys` is a `KeySet`, or the one `Key` there is. `issuer` and `audience` name this service and the API (RFC
    8725, 3.8 and 3.9); a token of another issuer or for another audience is refused. `ttl` is how long a token
    lives: 1 second to 24 hours, 15 minutes by default. `leeway`, at most 5 minutes, forgives clocks that differ.
    `purpose` is the token's type: a service with another purpose ("reset", "verify-email") never accepts it.
    `client_id` is that claim of RFC 9068 for tokens issued here.

    Security: a token cannot be taken back before it expires. Its user is loaded at each request, so deleting or
    deactivating the user works at once; logging out, or a changed password, does not end it.

    Verified tokens are cached by their SHA-256, `cache_size` of them (0 for none), so that a token's signature is
    checked once. Each hit checks the times again; the user is loaded at each request in any case.

    Raises `ConfigurationError` for an empty issuer or audience, and for values out of these bounds.
    """

    def __init__(
        self,
        keys: KeySet | Key,
        *,
        issuer: str,
        audience: str,
        ttl: timedelta = timedelta(minutes=15),
        leeway: timedelta = timedelta(0),
        purpose: str = "at",
        client_id: str = "first-party",
        cache_size: int = 4096,
        clock: Callable[[], float] = time.time,
    ) -> None:
        names: tuple[object, object] = (issuer, audience)
        if not all(isinstance(name, str) and name for name in names):
            raise ConfigurationError(
                "TokenService needs an issuer and an audience, a str each: who issues, for which API"
            )
        given: object = keys
        if not isinstance(given, Key | KeySet):
            raise ConfigurationError(
                f"keys is a {type(given).__name__}: give a Key or a KeySet, as in Key.hmac(secret)"
            )
        if not _PURPOSE.fullmatch(purpose):
            raise ConfigurationError(f"purpose is {purpose!r}: use small letters, digits and hyphens, as in 'reset'")
        if not _MIN_TTL <= ttl <= _MAX_TTL:
            raise ConfigurationError(f"ttl is {ttl}: choose 1 second to 24 hours; a longer log-in needs refresh tokens")
        if not timedelta(0) <= leeway <= _MAX_LEEWAY:
            raise ConfigurationError(f"leeway is {leeway}: choose 0 to 5 minutes")
        if cache_size < 0:
            raise ConfigurationError(f"cache_size is {cache_size}: choose 0 for no cache, or the number of tokens")
        self._keys = KeySet(keys) if isinstance(keys, Key) else keys
        self.issuer = issuer
        self.ttl = ttl
        self._audience = audience
        self._leeway = leeway.total_seconds()
        self._client_id = client_id
        self._clock = clock
        self._cache = VerifiedCache[AccessClaims](cache_size)
        self._type = f"{purpose}+jwt"
        # RFC 9068, 4 and RFC 7515, 4.1.9: the prefix may be left out; types are case-insensitive.
        self._accepted_types = frozenset({self._type.lower(), f"application/{self._type}".lower()})

    def issue(
        self,
        subject: str,
        *,
        scopes: Iterable[str] = (),
        claims: Mapping[str, Any] | None = None,
        ttl: timedelta | None = None,
        session_id: str | None = None,
    ) -> IssuedToken:
        """Return a new signed token for a subject, with the claims of RFC 9068, 2.2 and your own.

        `session_id` is the log-in that it belongs to (`sid`); `Sessions` sets it.

        Security: a token is signed, not encrypted; who holds it can read its claims.

        Raises `ValueError` for an empty subject, a scope that RFC 6749, 3.3 forbids, a registered claim among
        `claims`, and a token that would be longer than verifying allows; `ConfigurationError` when the active key
        cannot sign.
        """
        key = self._keys.active
        if not key.can_sign:
            raise ConfigurationError("the active key is public, it can only verify: give KeySet a private key first")
        allowed = frozenset(scopes)
        if not subject:
            raise ValueError("a token needs a subject: the id of the user as a string")
        if wrong := [scope for scope in allowed if not _SCOPE.fullmatch(scope)]:
            raise ValueError(f"these are no scopes (RFC 6749, 3.3): {wrong}")
        if clash := _REGISTERED.intersection(claims or ()):
            raise ValueError(f"these claims are the service's own: {', '.join(sorted(clash))}")
        lifetime = self.ttl if ttl is None else ttl
        if not _MIN_TTL <= lifetime <= _MAX_TTL:
            raise ValueError(f"ttl is {lifetime}: choose 1 second to 24 hours")
        expires_in = int(lifetime.total_seconds())
        now = int(self._clock())
        token_id = uuid.uuid4().hex
        members: dict[str, Any] = {
            **(claims or {}),
            "iss": self.issuer,
            "sub": subject,
            "aud": self._audience,
            "exp": now + expires_in,
            "iat": now,
            "jti": token_id,
            "client_id": self._client_id,
        }
        if session_id is not None:
            members["sid"] = session_id
        if allowed:
            members["scope"] = " ".join(sorted(allowed))
        header = {"alg": key.algorithm, "typ": self._type} | ({"kid": key.kid} if key.kid else {})
        signed = f"{_json_segment(header)}.{_json_segment(members)}"
        token = f"{signed}.{encode_segment(key.sign(signed.encode()))}"
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError(f"the token would have {len(token)} bytes, {MAX_TOKEN_BYTES} are allowed: fewer claims")
        return IssuedToken(token, token_id, expires_in, allowed)

    def verify(self, token: str) -> AccessClaims:
        """Return what a token says, if it is genuine, of our type, for us, and valid now.

        Raises `TokenError` (401, `invalid_token`), and nothing else, for every other string.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._cache.get(digest)
        if claims is None:
            claims = self._claims(read(token, self._keys, self._accepted_types))
            self._check_times(claims)
            self._cache.put(digest, claims)
        else:
            self._check_times(claims)
        return claims

    def cache_info(self) -> CacheInfo:
        """Return how often the cache of verified tokens answered, and how full it is."""
        return self._cache.info()

    def _claims(self, members: dict[str, Any]) -> AccessClaims:
        audiences: Any = members.get("aud")
        subject, scope, token_id = members.get("sub"), members.get("scope", ""), members.get("jti")
        session_id = members.get("sid")
        if members.get("iss") != self.issuer:
            raise TokenError("issuer")
        if not isinstance(audiences, list):
            audiences = [audiences]
        if self._audience not in audiences or not all(isinstance(audience, str) for audience in audiences):
            raise TokenError("audience")
        if not isinstance(subject, str) or not subject:
            raise TokenError("subject")
        if not isinstance(scope, str) or not isinstance(token_id, str | None) or token_id == "":
            raise TokenError("claims")
        if not isinstance(session_id, str | None):
            raise TokenError("claims")
        expires_at, not_before = _date(members, "exp"), _date(members, "nbf")
        if expires_at is None:
            raise TokenError("claims")
        return AccessClaims(
            subject,
            self.issuer,
            frozenset(scope.split()),
            token_id,
            session_id,
            _date(members, "iat"),
            not_before or 0,
            expires_at,
            _frozen(members),
        )

    def _check_times(self, claims: AccessClaims) -> None:
        now = self._clock()
        if now - self._leeway >= claims.expires_at:
            raise TokenError("expired")
        if now + self._leeway < max(claims.not_before, claims.issued_at or 0):
            raise TokenError("not_yet_valid")


def _date(members: Mapping[str, Any], name: str) -> float | None:
    """Return a NumericDate (RFC 7519, 2), `None` where the claim is absent; an int stays one, however large."""
    value = members.get(name)
    if name in members and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TokenError("claims")
    return value


def _frozen(value: Any) -> Any:
    """Return claims that no request can change for the next one that the cache answers."""
    if isinstance(value, dict):
        members: dict[str, Any] = value
        return MappingProxyType({name: _frozen(member) for name, member in members.items()})
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _json_segment(members: Mapping[str, Any]) -> str:
    return encode_segment(json.dumps(members, separators=(",", ":"), allow_nan=False).encode())
