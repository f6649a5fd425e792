"""Access tokens that somebody else issues (RFC 9068, RFC 7517, OpenID Connect Discovery 1.0)."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from fastapi_kit.auth.cache import CacheInfo
from fastapi_kit.auth.checks import checked_duration
from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.errors import TokenError
from fastapi_kit.auth.issuers.checks import algorithms_of, audiences_of, check_urls, types_of
from fastapi_kit.auth.issuers.errors import IssuerUnavailableError
from fastapi_kit.auth.issuers.fetching import FetchError, check_url, fetch_json
from fastapi_kit.auth.issuers.refreshing import Refreshed
from fastapi_kit.auth.jwk import keys_of_jwks
from fastapi_kit.auth.keys import Key, VerificationKeys
from fastapi_kit.auth.verification import TokenReader
from fastapi_kit.errors import ConfigurationError, needs_extra, raises

with needs_extra("oidc"):
    import httpx2

__all__ = ["OutsideIssuer"]

_log = logging.getLogger("fastapi_kit.auth.issuers")

_DISCOVERY = "/.well-known/openid-configuration"
_UNKNOWN_KEY = "unknown_key"
_ID_TOKEN_ONLY = frozenset({"at_hash", "c_hash"})
"""What binds an ID token to the other tokens issued with it (OpenID Connect Core, 3.1.3.6 and 3.3.2.11)."""


class OutsideIssuer:
    """Verify access tokens of an issuer that is not this service; a `TokenVerifier` for `Auth` or `Issuers`.

    `issuer` is its name, exactly as in `iss`. `audience` is what it calls this API, or several such names; a token for
    none of them is refused. Its keys are at `jwks_url`; without one, at the `jwks_uri` of its OpenID configuration,
    `{issuer}/.well-known/openid-configuration`. Nothing is fetched before the first token, or `refresh`.

    `algorithms` are asymmetric ones. `token_types` are the `typ` accepted: that of RFC 9068 by default; many providers
    send `JWT`. `accept_untyped` takes tokens without a `typ` besides. `subject_prefix` is put before each subject, so
    that the users of two issuers cannot be taken for each other (see `Issuers`). `scope_claim` holds the scopes, a
    string with spaces between them; under another name than `scope`, an array too. `leeway` (10 seconds; 0 to 5
    minutes) forgives clocks that differ.

    Keys older than `ttl` (10 minutes; 1 minute to 24 hours) are fetched anew while they go on serving, up to an age of
    `max_stale` (24 hours; at most 7 days) if the issuer does not answer. A token whose key is not among them has them
    fetched at once, but not within `cooldown` (30 seconds; 1 second to 1 minute) of the last fetch. `timeout` (5
    seconds; at most 30) is for all of a fetch. One fetch runs at a time, however many requests wait for it.

    `http_client` makes the client of a fetch, for a proxy or a private CA:
    `http_client=lambda: httpx2.AsyncClient(verify=context, trust_env=False)`. The default reads no proxy, certificate
    or .netrc from the environment. Verified tokens are cached, `cache_size` of them (0 for none), as long as the keys
    stay what they are.

    Security: `token_types=("JWT",)` and `accept_untyped` let other tokens of the issuer pass if they name the audience:
    let it be one under which no client signs in, or ID tokens pass. A token is good until it expires, or its key is
    gone: what else the issuer revokes is not known here. `insecure_http` lets who is on the network choose the keys:
    for development alone.

    Raises `ConfigurationError` for values out of these bounds.
    """

    def __init__(
        self,
        issuer: str,
        *,
        audience: str | Sequence[str],
        jwks_url: str | None = None,
        algorithms: Sequence[str] = ("RS256", "ES256", "EdDSA"),
        token_types: Sequence[str] = ("at+jwt",),
        accept_untyped: bool = False,
        subject_prefix: str = "",
        scope_claim: str = "scope",
        leeway: timedelta = timedelta(seconds=10),
        ttl: timedelta = timedelta(minutes=10),
        max_stale: timedelta = timedelta(hours=24),
        cooldown: timedelta = timedelta(seconds=30),
        timeout: timedelta = timedelta(seconds=5),
        insecure_http: bool = False,
        http_client: Callable[[], httpx2.AsyncClient] | None = None,
        cache_size: int = 4096,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_urls(issuer, jwks_url, insecure_http=insecure_http)
        checked_duration("leeway", leeway, timedelta(0), timedelta(minutes=5))
        checked_duration("ttl", ttl, timedelta(minutes=1), timedelta(hours=24))
        checked_duration("max_stale", max_stale, ttl, timedelta(days=7))
        checked_duration("cooldown", cooldown, timedelta(seconds=1), timedelta(minutes=1))
        checked_duration("timeout", timeout, timedelta(milliseconds=100), timedelta(seconds=30))
        if http_client is not None and not callable(http_client):
            raise ConfigurationError(
                "http_client must make a client, since each event loop needs its own: lambda: httpx2.AsyncClient(...)"
            )
        if cache_size < 0:
            raise ConfigurationError(f"cache_size is {cache_size}: choose 0 for no cache, or the number of tokens")
        self.issuer = issuer
        self.subject_prefix = subject_prefix
        self._jwks_url = jwks_url
        self._algorithms = algorithms_of(algorithms)
        self._timeout = timeout.total_seconds()
        self._insecure_http = insecure_http
        self._http_client = http_client or partial(httpx2.AsyncClient, trust_env=False)
        self._reader_of = partial(
            TokenReader,
            token_types=types_of(token_types, accept_untyped=accept_untyped),
            issuer=issuer,
            audiences=audiences_of(audience),
            subject_prefix=subject_prefix,
            scope_claim=scope_claim,
            is_own=False,
            leeway=leeway.total_seconds(),
            cache_size=cache_size,
            clock=clock,
        )
        self._jwks: dict[str, Any] | None = None
        self._reader: TokenReader = self._reader_of(VerificationKeys([]))
        self._readers: Refreshed[TokenReader] = Refreshed(
            self._fetch_reader,
            issuer=issuer,
            ttl=ttl.total_seconds(),
            max_stale=max_stale.total_seconds(),
            cooldown=cooldown.total_seconds(),
            clock=clock,
        )

    @raises(IssuerUnavailableError)
    async def verify(self, token: str, /) -> AccessClaims:
        """Return what a token says, if it is genuine, of an accepted type, for us, and valid now.

        Raises `TokenError` (401) for every other string, and `IssuerUnavailableError` (503) when the keys are not known
        and cannot be fetched.
        """
        reader = await self._readers.get()
        try:
            claims = reader.verify(token)
        except TokenError as error:
            newer = await self._readers.newer_than(reader) if error.reason == _UNKNOWN_KEY else None
            if newer is None:
                raise
            claims = newer.verify(token)
        if not _ID_TOKEN_ONLY.isdisjoint(claims.members):
            raise TokenError("type")
        return claims

    async def refresh(self) -> None:
        """Fetch the keys now; at start-up, to learn at once that they can be fetched.

        Raises `IssuerUnavailableError`; its `__cause__` says why.
        """
        await self._readers.refresh()

    async def aclose(self) -> None:
        """End a fetch that is under way; call it when the app shuts down."""
        await self._readers.aclose()

    def cache_info(self) -> CacheInfo:
        """Return how often the cache of verified tokens answered since the keys changed, and how full it is."""
        return self._reader.cache_info()

    async def _fetch_reader(self) -> TokenReader:
        """Return a reader with the keys of now: the old one, with its cache, if they are what they were."""
        try:
            async with asyncio.timeout(self._timeout):
                jwks = await self._fetch_jwks()
                if jwks == self._jwks:
                    return self._reader
                # Not on the event loop: to try a hundred keys takes some milliseconds.
                keys = await asyncio.to_thread(keys_of_jwks, jwks, self._algorithms)
        except TimeoutError:
            raise FetchError(f"no answer within {self._timeout:g} seconds") from None
        except ValueError as error:
            raise FetchError(str(error)) from error
        if not any(keys.candidates(algorithm, None) for algorithm in self._algorithms):
            _log.warning("%s publishes no key for %s", self.issuer, ", ".join(sorted(self._algorithms)))
        self._jwks = jwks
        self._reader = self._reader_of(_OutsideKeys(keys, self._algorithms))
        return self._reader

    async def _fetch_jwks(self) -> dict[str, Any]:
        # Making a client reads the certificates of the machine from disk.
        async with await asyncio.to_thread(self._http_client) as client:
            url = self._jwks_url
            if url is None:
                url = self._jwks_uri(await fetch_json(client, self.issuer.removesuffix("/") + _DISCOVERY))
            return await fetch_json(client, url)

    def _jwks_uri(self, configuration: dict[str, Any]) -> str:
        if configuration.get("issuer") != self.issuer:  # OpenID Connect Discovery, 4.3
            raise FetchError(f"the OpenID configuration is of the issuer {configuration.get('issuer')!r:.200}")
        url: object = configuration.get("jwks_uri")
        try:
            if not isinstance(url, str):
                raise ValueError("it is absent")
            check_url(url, insecure_http=self._insecure_http)
        except ValueError as error:
            raise FetchError(f"the jwks_uri of the OpenID configuration cannot be used, {error}") from None
        return url


class _OutsideKeys(VerificationKeys):
    """Keys that tell that none of them can have signed a token, so that newer ones are asked for."""

    def __init__(self, keys: VerificationKeys, algorithms: frozenset[str]) -> None:
        self._known = keys
        self._algorithms = algorithms

    def candidates(self, algorithm: str, kid: str | None) -> Sequence[Key]:
        found = self._known.candidates(algorithm, kid)
        if not found and algorithm in self._algorithms:
            raise TokenError(_UNKNOWN_KEY)
        return found
