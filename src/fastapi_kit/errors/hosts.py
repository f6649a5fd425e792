"""Refusing, at start-up, origins and hosts that would never match what a browser sends."""

import re
from collections.abc import Collection
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from fastapi_kit.errors.configuration import ConfigurationError

__all__ = ["check_host", "check_hosts", "check_origin", "check_origins", "is_host_header"]

_DEFAULT_PORTS = {"http": "80", "https": "443"}
_SCHEMES = frozenset(
    {"http", "https", "capacitor", "ionic", "tauri", "app"}
    | {"chrome-extension", "moz-extension", "safari-web-extension"}
)
"""Of the web, of apps in a web view (Electron's is `app`), and of extensions of browsers: they send these as origins.
Pages of `javascript:`, `data:`, `file:` and the like send `null`."""
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^:]+|\[[^\]]+\])(?::([1-9][0-9]{0,4}))?")
_HEADER = re.compile(r"([^:]+|\[[^\]]+\])(?::([0-9]{1,5}))?")
_NAME = re.compile(r"(?!-)[a-z0-9_-]+(?:\.[a-z0-9_-]+)*(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def check_origin(origin: str) -> str:
    """Return an origin as RFC 6454 writes it, `scheme://host[:port]`, or `*` for all of them.

    Browsers compare it letter by letter with the `Origin` that they send: in lower case, without a path, a slash at
    the end or the port that the scheme has anyway. One that is written otherwise would match nothing, in silence.

    Raises `ConfigurationError`, which does not show it.
    """
    if origin == "*":
        return origin
    if origin == "null":
        raise ConfigurationError(
            "the origin `null` is what any sandboxed page sends, so that it trusts everybody: leave it out"
        )
    match = _ORIGIN.fullmatch(origin)
    if match is None or not _is_host(match[2]) or int(match[3] or 1) > 65_535:
        raise ConfigurationError(
            "an origin is scheme://host or scheme://host:port, in lower case, without a path or a slash at its end:"
            " https://shop.example"
        )
    scheme, _, port = match.groups()
    if scheme not in _SCHEMES:
        raise ConfigurationError(f"pages send origins with these schemes: {', '.join(sorted(_SCHEMES))}")
    if port is not None and port == _DEFAULT_PORTS.get(scheme):
        raise ConfigurationError(f"browsers leave port {port} out of an origin of {scheme}: leave it out too")
    return origin


def check_origins(origins: Collection[str], *, allow_credentials: bool) -> None:
    """Check all origins of one policy.

    Raises `ConfigurationError` for none, for one alone in place of a collection, for one that is not right, and for
    `*` where a browser may send cookies: any page could then act for whoever looks at it (Fetch standard, 3.3.5).
    """
    if isinstance(origins, str) or not origins:
        raise ConfigurationError('CORS needs at least one origin, in a list: ["https://shop.example"]')
    for origin in origins:
        check_origin(origin)
    if allow_credentials and "*" in origins:
        raise ConfigurationError(
            "the origin `*` with credentials lets any page act for whoever looks at it: name the origins"
        )


def check_host(host: str) -> str:
    """Return a name that a `Host` header may have, or a pattern for all below one: `*.shop.example`.

    Raises `ConfigurationError`, which does not show it, for one with a scheme, a port, a path or capitals,
    and for `*`, which checks nothing.
    """
    if host == "*":
        raise ConfigurationError("the trusted host `*` allows all: leave it out to allow all")
    if not (_is_name(host[2:]) if host.startswith("*.") else _is_host(host)):
        raise ConfigurationError(
            "a trusted host is a name in lower case, without scheme, port or path: shop.example, or *.shop.example"
            " for all names below it"
        )
    return host


def check_hosts(hosts: Collection[str]) -> None:
    """Check all trusted hosts; raises `ConfigurationError` for none, and for one alone in place of a collection."""
    if isinstance(hosts, str) or not hosts:
        raise ConfigurationError('trusted_hosts needs at least one host, in a list: ["shop.example"]')
    for host in hosts:
        check_host(host)


def is_host_header(value: str) -> bool:
    """Tell whether the value of a `Host` header is a name or an address, with a port or without (RFC 9110, 7.2).

    RFC 3986 allows more, `%00.shop.example` or port 99999999, which can only
    confuse what makes a link of it.
    """
    match = _HEADER.fullmatch(value.lower())
    return match is not None and _is_host(match[1]) and int(match[2] or 0) <= 65_535


def _is_host(host: str) -> bool:
    """Tell whether this is a name, an IPv4 address or an IPv6 address in brackets, in lower case."""
    try:
        if host.startswith("["):
            IPv6Address(host[1:-1])
            return "%" not in host and host.endswith("]") and host == host.lower()
        if _ends_in_number(host):
            IPv4Address(host)
            return True
    except AddressValueError:
        return False
    return _is_name(host)


def _is_name(host: str) -> bool:
    return _NAME.fullmatch(host) is not None and not _ends_in_number(host)


def _ends_in_number(host: str) -> bool:
    """Tell whether browsers read this as an IPv4 address (URL standard, 3.5)."""
    return _NUMBER.fullmatch(host.rpartition(".")[2]) is not None
