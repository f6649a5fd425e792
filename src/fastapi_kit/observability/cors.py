"""Which pages of other origins may read the responses of an app, and under which names the app answers."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_kit._layers import Layer, add_layer
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.errors.hosts import check_hosts, check_origins, is_host_header

__all__ = ["Cors", "install_cors", "install_trusted_hosts"]

_GOVERNED = "fastapi_kit.cors"
_HEADER_NAME = re.compile(r"[a-z0-9-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Cors:
    """Say which pages of other origins may call the app by script (Fetch standard, CORS protocol).

        observability.install(app, cors=Cors(origins=["https://shop.example"]))

    Each response carries the headers, the 500 of a crash and the 413 of a body that is too large too: without them a
    script learns of a network error only. A preflight is answered before any middleware of the app, so that none asks
    it for a token, which it never has; one that is refused is a 400, whose `detail` names
    the first header that may not be sent.

    `origins`: as browsers send them, `https://shop.example`, `http://localhost:5173`; `["*"]` for all.
    `allow_credentials`: whether the browser sends its cookies along; a bearer token that a script sends needs it not.
    `allow_headers`: what scripts may send beyond the few that are always allowed; `["*"]` for all. `expose_headers`:
    what they may read. `max_age_seconds`: how long a browser keeps the answer to a preflight, 0 to 86400.

    Raises `ConfigurationError` for no origin, for one that no browser sends (a path, a slash at the end, capitals), for
    `null`, and for `*` with credentials.

    Security: CORS protects nobody from programs, and does not apply to WebSockets: a browser opens one to any server,
    with its cookies. Compare `websocket.headers["origin"]` yourself where cookies tell who asks.
    """

    origins: Collection[str]
    allow_credentials: bool = False
    allow_methods: Collection[str] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    allow_headers: Collection[str] = (
        "Authorization",
        "Content-Type",
        "Idempotency-Key",
        "If-Match",
        "If-None-Match",
        "X-API-Key",
        "X-CSRF-Token",
        "X-Request-ID",
        "traceparent",
        "tracestate",
    )
    expose_headers: Collection[str] = (
        "ETag",
        "Link",
        "Location",
        "RateLimit",
        "RateLimit-Policy",
        "Retry-After",
        "X-Request-ID",
    )
    max_age_seconds: int = 600

    def __post_init__(self) -> None:
        if not self.origins:
            raise ConfigurationError(
                'CORS needs at least one origin, in a list: ["https://shop.example"]; to allow none leave it out: '
                "cors=None"
            )
        check_origins(self.origins, allow_credentials=self.allow_credentials)
        if not 0 <= self.max_age_seconds <= 86_400:
            raise ConfigurationError(f"max_age_seconds is {self.max_age_seconds}: choose 0 to 86400")
        for name in ("allow_methods", "allow_headers", "expose_headers"):
            if isinstance(getattr(self, name), str):
                raise ConfigurationError(f"`{name}` of Cors is one text: give a list of names")
        if self.allow_credentials and "*" in self.expose_headers:
            raise ConfigurationError(
                "`expose_headers` of Cors is * with credentials, which no browser heeds: name them"
            )


def install_cors(app: FastAPI, cors: Cors) -> None:
    """Put the policy around a whole app; that of an app that this one is mounted on goes before it.

    Raises `ConfigurationError` when it was called on this app before.
    """
    options: dict[str, Any] = {
        "allow_origins": tuple(cors.origins),
        "allow_methods": tuple(cors.allow_methods),
        "allow_headers": tuple(cors.allow_headers),
        "allow_credentials": cors.allow_credentials,
        "expose_headers": tuple(cors.expose_headers),
        "max_age": cors.max_age_seconds,
    }
    if not add_layer(app, Layer.CORS, partial(_Responses, **options)):
        raise ConfigurationError("CORS was installed twice on this app: install it once")
    add_layer(app, Layer.PREFLIGHTS, partial(_Preflights, **options))


class _Responses(CORSMiddleware):
    """Put the headers on what is no answer to a preflight."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI 3)."""
        if scope["type"] != "http" or _GOVERNED in scope or _is_preflight(scope):
            await self.app(scope, receive, send)
            return
        scope[_GOVERNED] = True

        async def pass_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                _name_origin_once(message["headers"])
            await send(message)

        await self.simple_response(scope, receive, pass_on, Headers(scope=scope))


class _Preflights(CORSMiddleware):
    """Answer preflights, inside of what makes problems of errors."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI 3)."""
        if scope["type"] == "http" and _is_preflight(scope):
            await self.preflight_response(Headers(scope=scope))(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight; name the header that is refused, since browsers say less of a 400 than of a 200."""
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200 or self.allow_all_headers:
            return answer
        asked = request_headers.get("access-control-request-headers", "").lower().split(",")
        refused = next((name.strip() for name in asked if name.strip() not in self.allow_headers), "")
        if not _HEADER_NAME.fullmatch(refused):  # it is the client's: nothing else than a plain name is said again
            return answer
        reason = f"{bytes(answer.body).decode()}: {refused} is not in allow_headers"
        return PlainTextResponse(reason, status_code=400, headers=_without_length(answer.headers))


def _without_length(headers: Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in {"content-length", "content-type"}}


def _is_preflight(scope: Scope) -> bool:
    if scope["method"] != "OPTIONS":
        return False
    headers = Headers(scope=scope)
    return "origin" in headers and "access-control-request-method" in headers


def _name_origin_once(headers: list[tuple[bytes, bytes]]) -> None:
    """Leave one `Origin` in the `Vary` of a response whose endpoint has named it too."""
    for index, (name, value) in enumerate(headers):
        if name == b"vary" and b"," in value:
            members = dict.fromkeys(member.strip().lower() for member in value.split(b","))
            headers[index] = (name, b", ".join(members))


def install_trusted_hosts(app: FastAPI, hosts: Collection[str]) -> None:
    """Answer 400 to each request, WebSockets included, whose `Host` header is none of these.

    Links and cookies that are made from the name the client used can then not lead to a name of its choice. It goes
    before all middleware of the app. The 400 is a problem with `errors.install`, plain text without.

    `hosts`: names in lower case, `shop.example`, or `*.shop.example` for all names below one, but not for
    `shop.example`. Ports are not compared; one above 65535 is refused. A probe of Kubernetes asks by the address of its
    pod: give it a `Host`.

    Raises `ConfigurationError` for none, for one with a scheme, port or path, or when it was called on this app before.
    """
    if not hosts:
        raise ConfigurationError(
            'trusted_hosts needs at least one host, in a list: ["shop.example"]; to allow all leave it out: '
            "trusted_hosts=None"
        )
    check_hosts(hosts)
    allowed = tuple(hosts)

    def wrap(stack: ASGIApp) -> ASGIApp:
        return _TrustedHosts(stack, allowed_hosts=allowed, www_redirect=False)

    if not add_layer(app, Layer.HOSTS, wrap):
        raise ConfigurationError("trusted hosts were installed twice on this app: install them once")


class _TrustedHosts(TrustedHostMiddleware):
    """Refuse what is no host too, such as `%00.shop.example`, which the pattern `*.shop.example` would let through."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI 3)."""
        if scope["type"] != "lifespan" and not is_host_header(Headers(scope=scope).get("host", "")):
            scope = {**scope, "headers": []}  # without a `Host` it is refused
        await super().__call__(scope, receive, send)
