"""Tokens in cookies, for browsers, and the defence against forged requests that this takes."""

import hmac
import logging
from collections.abc import Awaitable, Iterable
from typing import Literal
from urllib.parse import urlsplit

from fastapi.openapi.models import APIKey, APIKeyIn
from fastapi.openapi.models import SecurityBase as SchemeModel
from starlette.requests import HTTPConnection
from starlette.responses import Response

from fastapi_kit.auth import base64url
from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.credentials import TokenVerifier
from fastapi_kit.auth.errors import CsrfError, MalformedCredentialsError, TokenError
from fastapi_kit.auth.sessions import TokenPair
from fastapi_kit.auth.sessions._token import RefreshToken
from fastapi_kit.auth.tokens import IssuedToken
from fastapi_kit.errors import ConfigurationError, Problem
from fastapi_kit.errors.declaration import problems_of

__all__ = ["TokenCookies"]

_log = logging.getLogger("fastapi_kit.auth")

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
_CSRF_HEADER = "x-csrf-token"
_MAX_COOKIE_BYTES = 4096  # what browsers keep: RFC 6265, 6.1
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class TokenCookies:
    """Access tokens in a cookie: give it to `Auth` beside, or in place of, what verifies bearer tokens.

    The cookies are `__Host-access` and `__Host-refresh`, which scripts cannot read, and `__Host-csrf`, which they can.
    All are `Secure`, so browsers send them over https alone (and to localhost), and bound to this host. `same_site` is
    `"lax"` by default: a link from another site finds the user logged in; with `"strict"` it does not.

    Browsers send cookies along with requests that another site forged. So a request that is not GET, HEAD, OPTIONS,
    TRACE or QUERY needs the value of `__Host-csrf` in the header `X-CSRF-Token`; it is derived from the tokens, so it
    is good for that log-in alone, and stays the same when it is refreshed. And where the browser says which origin a
    request is from, it must be this host, or one of `trusted_origins`, such as `https://app.example`. A WebSocket
    handshake cannot carry the header and must have such an origin. Others get `CsrfError` (403). Keep GET routes free
    of side effects.

    `insecure_http=True` leaves out `Secure` and the prefix, for development where localhost does not do. Any host of
    the same site, and whoever reads the network, can then set or read these cookies.

    Raises `ConfigurationError` for an origin that is none, such as one with a path.
    """

    challenge = "Cookie"
    scheme_name = "Cookie"

    def __init__(
        self,
        verifier: TokenVerifier,
        *,
        trusted_origins: Iterable[str] = (),
        same_site: Literal["lax", "strict"] = "lax",
        insecure_http: bool = False,
    ) -> None:
        if same_site not in ("lax", "strict") or not isinstance(insecure_http, bool):
            raise ConfigurationError('same_site is "lax" or "strict", and insecure_http True or False')
        if isinstance(trusted_origins, str):
            raise ConfigurationError(f"trusted_origins is a string in place of a list: write [{trusted_origins!r}]")
        self._trusted = frozenset(_checked_origin(origin) for origin in trusted_origins)
        prefix = "" if insecure_http else "__Host-"
        self._access, self._refresh, self._csrf = f"{prefix}access", f"{prefix}refresh", f"{prefix}csrf"
        self._same_site: Literal["lax", "strict"] = same_site
        self._secure = not insecure_http
        self._verifier = verifier
        self.model: SchemeModel = APIKey.model_validate({"in": APIKeyIn.cookie, "name": self._access})
        verifying = problems_of(verifier.verify)
        self.problems: tuple[type[Problem], ...] = (MalformedCredentialsError, TokenError, CsrfError, *verifying)

    def find(self, connection: HTTPConnection) -> str | None:
        """Return the access token of the cookie, `None` where there is none.

        Raises `MalformedCredentialsError` (400) for two of them.
        """
        return _cookie(connection, self._access)

    def verify(self, value: str, connection: HTTPConnection) -> AccessClaims | Awaitable[AccessClaims]:
        """Return what the token says, if the request is not forged.

        Raises `CsrfError` (403), and what verifying the token raises.
        """
        self.check_origin(connection)
        if connection.scope["type"] == "http" and connection.scope["method"] not in _SAFE_METHODS:
            sent = connection.headers.get(_CSRF_HEADER, "").encode("latin-1")
            accepted = csrf_token(value), csrf_token(value, self.refresh_token(connection))
            if True not in [hmac.compare_digest(sent, one.encode()) for one in accepted]:
                raise CsrfError(f"Send what the cookie {self._csrf} holds now in the header X-CSRF-Token.")
        return self._verifier.verify(value)

    def check_origin(self, connection: HTTPConnection) -> None:
        """Refuse an unsafe request that the browser says comes from elsewhere, and a WebSocket that does not say.

        For routes that cookies change and that take no access token: a log-in, a refresh, a log-out.

        Raises `CsrfError` (403).
        """
        is_websocket = connection.scope["type"] == "websocket"
        if not is_websocket and connection.scope["method"] in _SAFE_METHODS:
            return
        origins, host = connection.headers.getlist("origin"), connection.headers.get("host", "")
        if not all(_is_at(origin, host) or origin.lower() in self._trusted for origin in origins):
            _log.info("A request to %r with cookies is from %r: not in trusted_origins", host, origins)
            raise CsrfError("The request comes from an origin that may not use these cookies.")
        # Browsers name the origin of every WebSocket and of every unsafe request to another origin.
        if not origins and is_websocket:
            raise CsrfError("A WebSocket that is opened with cookies has to name its origin, as browsers do.")
        if not origins and connection.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise CsrfError("The request comes from another site.")

    def set(self, response: Response, tokens: TokenPair | IssuedToken) -> str:
        """Set the cookies of a log-in, and return what the client has to send in `X-CSRF-Token`.

        Raises `ValueError` for a token that is too long for a cookie of 4,096 bytes.
        """
        access = tokens.access if isinstance(tokens, TokenPair) else tokens
        refresh_token, lives_for = None, access.expires_in
        self._set(response, self._access, access.token, access.expires_in, self._same_site)
        if isinstance(tokens, TokenPair):
            refresh_token, lives_for = tokens.refresh_token, tokens.refresh_expires_in
            self._set(response, self._refresh, refresh_token, lives_for, "strict")
        csrf = csrf_token(access.token, refresh_token)
        self._set(response, self._csrf, csrf, lives_for, "strict", readable=True)
        return csrf

    def clear(self, response: Response) -> None:
        """Have the browser forget all three cookies."""
        for name in (self._access, self._refresh, self._csrf):
            response.delete_cookie(name, secure=self._secure, httponly=name != self._csrf)

    def refresh_token(self, connection: HTTPConnection) -> str | None:
        """Return the refresh token of the cookie, `None` where there is none.

        Raises `MalformedCredentialsError` (400) for two of them.
        """
        return _cookie(connection, self._refresh)

    def _set(
        self,
        response: Response,
        name: str,
        value: str,
        max_age_seconds: int,
        same_site: Literal["lax", "strict"],
        *,
        readable: bool = False,
    ) -> None:
        if len(name) + len(value) > _MAX_COOKIE_BYTES:
            raise ValueError(f"the token has {len(value)} bytes: too many for a cookie, so put fewer claims into it")
        response.set_cookie(
            name,
            value,
            max_age=max_age_seconds,
            secure=self._secure,
            httponly=not readable,
            samesite=same_site,
        )


def _cookie(connection: HTTPConnection, name: str) -> str | None:
    """Return a cookie whose name is exactly this.

    Starlette strips more than spaces from a name, so that a cookie which is not protected by its prefix would pass for
    one that is, and takes the last of two.
    """
    wanted = name.encode() + b"="
    headers = [value for header, value in connection.scope["headers"] if header == b"cookie"]
    pairs = [pair.strip(b" ") for value in headers for pair in value.split(b";")]
    found = [pair[len(wanted) :] for pair in pairs if pair.startswith(wanted)]
    if len(found) > 1:
        raise MalformedCredentialsError(f"Send one cookie {name}.")
    value: str | None = found[0].decode("latin-1") if found else None
    return value


def csrf_token(access_token: str, refresh_token: str | None = None) -> str:
    """Return what only those can send who could read our cookies, or know the tokens.

    It is made of what all refresh tokens of a log-in have, so that requests and refreshes at once do not meet; where
    there is none, of the access token.
    """
    refresh = RefreshToken.parse(refresh_token or "")
    key = access_token.encode() if refresh is None else refresh.handle
    return base64url.encode(hmac.digest(key, b"csrf", "sha256"))


def _is_at(origin: str, host: str) -> bool:
    """Tell whether an origin is at the host of the request; the scheme is not compared, a proxy may change it."""
    scheme, _, netloc = origin.lower().partition("://")
    default_port = _DEFAULT_PORTS.get(scheme)
    return default_port is not None and netloc == host.lower().removesuffix(default_port) != ""


def _checked_origin(origin: str) -> str:
    parts = urlsplit(origin)
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc or f"{parts.scheme}://{parts.netloc}" != origin:
        raise ConfigurationError(f"{origin!r} is no origin: write scheme and host alone, as in 'https://app.example'")
    return origin.lower()
