"""The headers that tell a browser to be careful with what an API answers."""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html
from starlette.types import Scope

from fastapi_kit.errors import ConfigurationError

__all__ = ["SecurityHeaders"]

_Headers = tuple[tuple[bytes, bytes], ...]

_CDN = "https://cdn.jsdelivr.net"
_ICON = "https://fastapi.tiangolo.com"
_CSP, _COOP = b"content-security-policy", b"cross-origin-opener-policy"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_QUIET_PREFIX = re.compile(r"[A-Za-z0-9._~/%-]*")
"""Of prefixes that end no string in a script and no attribute."""
_ORIGIN = re.compile(r"(https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?)(?:[/?#]|$)")


@dataclass(frozen=True, kw_only=True)
class SecurityHeaders:
    """Say which security headers each response of an app carries, in a profile for APIs.

    It follows the OWASP REST Security Cheat Sheet: nothing sniffs, frames, caches or runs what an API answers. The
    headers are `X-Content-Type-Options`, `X-Frame-Options`, `Referrer-Policy`, `Content-Security-Policy`,
    `Cross-Origin-Resource-Policy`, `Cross-Origin-Opener-Policy`, `Cache-Control` and, over https alone,
    `Strict-Transport-Security`. What an endpoint or a middleware sets wins. There is no `Permissions-Policy`: a page
    that may run no script asks for no permission. WebSockets get none of them, since a handshake is shown to nobody.

    `hsts_seconds`: how long a browser comes back over https only, 0 to leave the header out; `hsts_subdomains`: whether
    that holds for all names below this one too. Behind a proxy that ends TLS the server must know that the client came
    over https: uvicorn's `--proxy-headers` with `--forwarded-allow-ips`. `content_security_policy` and `cache_control`:
    None to leave one out, for an app that serves pages of its own. `extra`: more headers, or other values for these;
    None leaves one out.

    `docs`: whether the documentation pages of FastAPI get a policy under which they work, for what they load and what
    they ask: the app itself, the `servers` of its schema, the token URLs of its security schemes. Pages that you write
    yourself set their own.

    Raises `ConfigurationError` for negative seconds and for what cannot stand in a header.

    Security: it makes no page safe that puts what users wrote into HTML. With `docs` two hosts of others are trusted to
    serve the scripts and the icon of `/docs`: turn the pages off in production (`docs_url=None`), or serve them
    yourself.
    """

    hsts_seconds: int = 31_536_000
    hsts_subdomains: bool = False
    content_security_policy: str | None = "default-src 'none'; frame-ancestors 'none'"
    cache_control: str | None = "no-store"
    docs: bool = True
    extra: Mapping[str, str | None] = field(default_factory=dict[str, str | None], hash=False)
    _plain: _Headers = field(init=False, repr=False, compare=False)
    _secure: _Headers = field(init=False, repr=False, compare=False)
    _names: frozenset[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.hsts_seconds < 0:
            raise ConfigurationError(f"hsts_seconds is {self.hsts_seconds}: choose 0 for none, a year is 31536000")
        values: dict[str, str | None] = {
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "referrer-policy": "no-referrer",
            "content-security-policy": self.content_security_policy,
            "cross-origin-resource-policy": "same-origin",
            "cross-origin-opener-policy": "same-origin",
            "cache-control": self.cache_control,
        }
        hsts = f"max-age={self.hsts_seconds}" + ("; includeSubDomains" if self.hsts_subdomains else "")
        secure = {"strict-transport-security": hsts} if self.hsts_seconds else {}
        extra = {name.lower(): value for name, value in self.extra.items()}
        object.__setattr__(self, "_plain", _encoded(values | extra))
        object.__setattr__(self, "_secure", _encoded(values | secure | extra))
        object.__setattr__(self, "_names", frozenset(name for name, _ in self._secure))

    def add(self, scope: Scope, headers: list[tuple[bytes, bytes]]) -> None:
        """Add to the headers of a response those that it lacks, in place; nothing to those of a WebSocket."""
        if scope["type"] != "http":
            return
        ours = self._secure if scope.get("scheme") == "https" else self._plain
        theirs = dict(headers)
        if self.docs and theirs.get(b"content-type", b"").startswith(b"text/html"):
            ours = _for_documentation(scope, ours)
        if self._names.isdisjoint(theirs):  # nearly always
            headers += ours
        else:
            headers += [header for header in ours if header[0] not in theirs]


def _encoded(values: Mapping[str, str | None]) -> _Headers:
    for name, value in values.items():
        if _TOKEN.fullmatch(name) is None:
            raise ConfigurationError(f"{name!r} is no name of a header: letters, digits and `-` are")
        if value is not None and _VALUE.fullmatch(value) is None:
            raise ConfigurationError(f"the value of the header {name!r} has line breaks or letters beyond latin-1")
    return tuple((name.encode(), value.encode("latin-1")) for name, value in values.items() if value is not None)


def _for_documentation(scope: Scope, ours: _Headers) -> _Headers:
    """Return the headers of a documentation page of FastAPI; `ours` for any other page."""
    app = scope.get("app")
    if not isinstance(app, FastAPI) or app.openapi_url is None:
        return ours
    root: str = scope.get("root_path", "").rstrip("/")
    if _QUIET_PREFIX.fullmatch(root) is None:
        # FastAPI writes the prefix into the script as it is, and below `mount("/{name}", app)` it is the client's: the
        # hash would allow what the client wrote.
        return ours
    path: str = scope["path"]
    path = path.removeprefix(root) if path.startswith(f"{root}/") else path
    if path == app.docs_url:
        policy = _policy_of_swagger_ui(app, root)
    elif path == app.redoc_url:
        policy = _policy_of_redoc()
    elif path == app.swagger_ui_oauth2_redirect_url:
        policy = _policy_of_redirect()
    else:
        return ours
    # The window of a login must be able to hand its result to the page that opened it.
    opener = b"unsafe-none" if path == app.swagger_ui_oauth2_redirect_url else b"same-origin-allow-popups"
    special = {_CSP: policy.encode(), _COOP: opener}
    return tuple((name, special.get(name, value)) for name, value in ours)


def _policy_of_swagger_ui(app: FastAPI, root: str) -> str:
    # The page is made here a second time, as `FastAPI.setup` makes it, since a header goes before the body. Were the
    # two to differ, the browser would not run the page's script.
    redirect = app.swagger_ui_oauth2_redirect_url
    page = get_swagger_ui_html(
        openapi_url=f"{root}{app.openapi_url}",
        title="",
        oauth2_redirect_url=f"{root}{redirect}" if redirect else redirect,
        init_oauth=app.swagger_ui_init_oauth,
        swagger_ui_parameters=app.swagger_ui_parameters,
    )
    asked = " ".join(["'self'", *_asked_by(app)])
    return (
        f"default-src 'none'; script-src {_CDN} {_hashes(page.body)}; style-src {_CDN} 'unsafe-inline'; "
        f"img-src 'self' data: {_ICON}; connect-src {asked}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _policy_of_redoc() -> str:
    return (
        f"default-src 'none'; script-src {_CDN}; style-src 'unsafe-inline' https://fonts.googleapis.com; "
        f"font-src https://fonts.gstatic.com; img-src 'self' data: {_ICON} https://cdn.redoc.ly; connect-src 'self'; "
        "worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _policy_of_redirect() -> str:
    hashes = _hashes(get_swagger_ui_oauth2_redirect_html().body)
    return f"default-src 'none'; script-src {hashes}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _hashes(page: bytes | memoryview) -> str:
    """Return the sources that allow the inline scripts of a page and no others (CSP 3, 2.3.1)."""
    scripts = _INLINE_SCRIPT.findall(bytes(page).decode())
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def _asked_by(app: FastAPI) -> list[str]:
    """Return the origins that "Try it out" and "Authorize" ask: the servers of the schema, and where its tokens are."""
    try:
        document = app.openapi()
    except Exception:  # noqa: BLE001  # the page will show that its schema fails
        return []
    urls = [
        *_urls_in(document.get("servers", [])),
        *_urls_in(document.get("components", {}).get("securitySchemes", {})),
    ]
    return list(dict.fromkeys(match[1] for url in urls if (match := _ORIGIN.match(url))))


def _urls_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            if isinstance(member, str) and name in {"url", "tokenUrl", "refreshUrl", "openIdConnectUrl"}:
                yield member
            else:
                yield from _urls_in(member)
    elif isinstance(value, list):
        for member in value:
            yield from _urls_in(member)
