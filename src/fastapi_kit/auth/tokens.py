"""Issuing and verifying access tokens (RFC 7519, RFC 9068)."""

import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from fastapi_kit.auth import base64url
from fastapi_kit.auth.cache import CacheInfo
from fastapi_kit.auth.checks import checked_duration, checked_subject
from fastapi_kit.auth.claims import AccessClaims, checked_scopes
from fastapi_kit.auth.jws import MAX_TOKEN_BYTES
from fastapi_kit.auth.keys import Key, KeySet
from fastapi_kit.auth.verification import TokenReader
from fastapi_kit.errors import ConfigurationError

__all__ = ["IssuedToken", "TokenService"]

_REGISTERED = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "sid"})
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
        checked_duration("ttl", ttl, _MIN_TTL, _MAX_TTL)  # a longer log-in is one of `Sessions`
        checked_duration("leeway", leeway, timedelta(0), _MAX_LEEWAY)
        if cache_size < 0:
            raise ConfigurationError(f"cache_size is {cache_size}: choose 0 for no cache, or the number of tokens")
        self._keys = KeySet(keys) if isinstance(keys, Key) else keys
        self.issuer = issuer
        self.ttl = ttl
        self.purpose = purpose
        self._audience = audience
        self._client_id = client_id
        self._clock = clock
        self._type = f"{purpose}+jwt"
        self._reader = TokenReader(
            self._keys,
            # RFC 9068, 4 and RFC 7515, 4.1.9: the prefix may be left out; types are case-insensitive.
            frozenset({self._type, f"application/{self._type}"}),
            issuer=issuer,
            audiences=[audience],
            leeway=leeway.total_seconds(),
            cache_size=cache_size,
            clock=clock,
        )

    @property
    def keys(self) -> KeySet:
        """The keys with which it signs and verifies."""
        return self._keys

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
        allowed = checked_scopes(scopes)
        checked_subject(subject)
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
        token = f"{signed}.{base64url.encode(key.sign(signed.encode()))}"
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError(f"the token would have {len(token)} bytes, {MAX_TOKEN_BYTES} are allowed: fewer claims")
        return IssuedToken(token, token_id, expires_in, allowed)

    def verify(self, token: str) -> AccessClaims:
        """Return what a token says, if it is genuine, of our type, for us, and valid now.

        Raises `TokenError` (401, `invalid_token`), and nothing else, for every other string.
        """
        return self._reader.verify(token)

    def cache_info(self) -> CacheInfo:
        """Return how often the cache of verified tokens answered, and how full it is."""
        return self._reader.cache_info()


def _json_segment(members: Mapping[str, Any]) -> str:
    return base64url.encode(json.dumps(members, separators=(",", ":"), allow_nan=False).encode())
