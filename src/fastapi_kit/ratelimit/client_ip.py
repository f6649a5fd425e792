"""Who is counted: the address of the client, also behind proxies."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Literal, get_args

from starlette.requests import HTTPConnection
from starlette.types import Scope

from fastapi_kit.errors import ConfigurationError

__all__ = ["ClientIP", "by_ip"]

ProxyHeader = Literal["X-Forwarded-For", "Forwarded"]

_IPV6_BITS = 128
_UNIX = "unix:"  # as nginx writes it
_MOST_HOPS = 50
_MOST_PAIRS = 200  # four to a hop: for, by, host, proto
_LONGEST_FIELD = 4096
_LONGEST_NODE = 100  # an IPv6 address with a zone and a port has room

_PORT = r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_NODE = re.compile(rf"(?:\[(?P<v6>[^\]]*)\]|(?P<v4>[0-9.]+)){_PORT}")
# RFC 9110 clauses 5.6.2 and 5.6.4. No two parts next to each other take the same text, so time is linear. Possessive
# parts would say so, but CPython before 3.11.5 matches them wrongly.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"
_PAIR = re.compile(rf'[ \t]*(?:({_TOKEN})=(?:({_TOKEN})|"({_QUOTED})")[ \t]*)?(,|;|\Z)')


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientIP:
    """Count by the address of the client: the one of the connection, or behind proxies the one they report.

    - `trusted_proxies`: the addresses and networks of your own proxies, such as `["10.0.0.0/8", "2001:db8::7"]`;
      `"unix:"` stands for a connection over a Unix socket. Name the proxies and nothing else: whoever connects from a
      trusted address is believed whatever it reports.
    - `header`: the one that your proxies write, `"X-Forwarded-For"` or `"Forwarded"` (RFC 7239). The other one is
      never read, since a proxy that writes one lets the client's other one through.
    - `ipv6_prefix`: IPv6 clients are counted by network, so many bits long (1 to 128), since a single household owns a
      whole /64. An IPv4-mapped address is the IPv4 address it stands for.

    If the connection comes from no trusted proxy, its address counts and the header is ignored. Otherwise the header is
    read from the right, where the nearest proxy wrote: the first address that is not trusted counts; if all are, the
    leftmost. What is no address (`unknown`, `_hidden`, nothing) ends the search, and the hop to its right counts,
    the one that reported it. At most 50 hops and 4 KiB are read.

    A connection without an address (a Unix socket) has the empty key: all of them share one bucket.

    Security: the proxy has to add the address it sees on the right (nginx: `$proxy_add_x_forwarded_for`), or to replace
    the header. Then nothing that a client writes gives it another client's key. A quote that a client leaves open in
    `Forwarded` makes the proxy's part unreadable too: a field with any error in its syntax, over 4 KiB or with over
    200 parameters is not read, the proxy counts, and all who send such fields share its bucket.

    The server may have read `X-Forwarded-For` before: uvicorn replaces the connection's address by what the header says
    if the connection comes from 127.0.0.1, by default. Set `--no-proxy-headers` where clients connect to it directly,
    and where your proxy writes `Forwarded`, or the client's own `X-Forwarded-For` is believed; otherwise
    `--forwarded-allow-ips` to your proxy's address and no other. Both together work: an address that uvicorn put there
    is taken as the connection's. Behind a proxy that neither trusts, all clients share one bucket.

    As the key of a limit it is called directly: `app.dependency_overrides` does not replace it there.

    Raises `ConfigurationError` for proxies, a header or a prefix that cannot work.
    """

    trusted_proxies: Sequence[str] = ()
    header: ProxyHeader = "X-Forwarded-For"
    ipv6_prefix: int = 64
    _networks: tuple[IPv4Network | IPv6Network, ...] = field(init=False, repr=False, compare=False)
    _field_name: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.ipv6_prefix <= _IPV6_BITS:
            raise ConfigurationError(
                f"ClientIP(ipv6_prefix={self.ipv6_prefix}): the prefix has 1 to 128 bits, for example 64"
            )
        if self.header not in get_args(ProxyHeader):
            raise ConfigurationError(f"ClientIP(header={self.header!r}): use one of {', '.join(get_args(ProxyHeader))}")
        if isinstance(self.trusted_proxies, str | bytes):
            raise ConfigurationError(f"ClientIP(trusted_proxies={self.trusted_proxies!r}): use a list, [...]")
        proxies = tuple(self.trusted_proxies)  # a list has no hash
        object.__setattr__(self, "trusted_proxies", proxies)
        object.__setattr__(self, "_networks", tuple(_network(proxy) for proxy in proxies if proxy != _UNIX))
        object.__setattr__(self, "_field_name", self.header.lower().encode())

    async def __call__(self, connection: HTTPConnection) -> str:
        """Return the key, as a dependency."""
        return self.key_of(connection)

    def key_of(self, connection: HTTPConnection) -> str:
        """Return the client's address in its one normal form; empty where there is none."""
        client = connection.scope.get("client")
        host: str = client[0] if client else ""
        if self.trusted_proxies:
            host = self._client(host, connection.scope)
        if ":" not in host:
            return host
        address = _address(host)
        if address is None:
            return host
        if isinstance(address, IPv4Address):
            return str(address)
        host_bits = _IPV6_BITS - self.ipv6_prefix
        return str(IPv6Address(int(address) >> host_bits << host_bits))

    def _client(self, peer: str, scope: Scope) -> str:
        """Return the host that counts: the peer, or a hop of the header."""
        counted = peer or _UNIX
        if self._trusts(counted):
            for hop in self._hops(scope):
                trusted = self._trusts(hop)
                if not trusted and _address(hop) is None:
                    break
                counted = hop
                if not trusted:
                    break
        return counted if counted != _UNIX else ""

    def _trusts(self, host: str) -> bool:
        if host == _UNIX:
            return _UNIX in self.trusted_proxies
        address = _address(host)
        return address is not None and any(address in network for network in self._networks)

    def _hops(self, scope: Scope) -> Iterable[str]:
        """Return what the header names, the last hop first; an empty text for what is no address."""
        # RFC 9110 clause 5.3: several lines are one list, in their order
        lines = [value for name, value in scope["headers"] if name == self._field_name]
        text = b",".join(lines).decode("latin-1")
        return _forwarded(text) if self.header == "Forwarded" else _x_forwarded_for(text)


def _network(proxy: str) -> IPv4Network | IPv6Network:
    """Return what an entry of `trusted_proxies` stands for, IPv4-mapped ones as IPv4."""
    start = f"ClientIP(trusted_proxies=[{proxy!r}])"
    if not isinstance(proxy, str):
        raise ConfigurationError(f"{start}: write addresses and networks as text")
    try:
        network = ip_network(proxy)
    except ValueError as exc:
        raise ConfigurationError(
            f'{start}: {exc}; use an address, a network without host bits such as "10.0.0.0/8", or "unix:"'
        ) from exc
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped:
        network = IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    if network.prefixlen == 0:
        raise ConfigurationError(f"{start}: any client could write its own address; name your proxies' network")
    return network


@lru_cache(maxsize=1024)
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    node = _NODE.fullmatch(text)
    try:
        if node is not None and node["v4"]:
            return IPv4Address(node["v4"])
        address = IPv6Address(text if node is None else node["v6"])
    except ValueError:
        return None
    return address.ipv4_mapped or IPv6Address(int(address))  # without the zone


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address in a node of either header, with or without brackets, port or zone; None if it is none."""
    return _parsed(text) if len(text) <= _LONGEST_NODE else None  # long ones would fill the cache


def _x_forwarded_for(text: str) -> Iterable[str]:
    hops = text[-_LONGEST_FIELD:].rsplit(",", _MOST_HOPS)
    if len(text) > _LONGEST_FIELD or len(hops) > _MOST_HOPS:
        hops[0] = ""  # cut off, or more than one
    return (hop.strip(" \t") for hop in reversed(hops))


def _forwarded(text: str) -> Iterable[str]:
    """Parse RFC 7239 clause 4 from the left, since only there it is known what is inside of quotes.

    One error and nothing is read: after it no one can say which of the quotes are the client's.
    """
    if len(text) > _LONGEST_FIELD:
        return ()
    hops: list[str] = []
    named: list[str] = []
    position = 0
    for _ in range(_MOST_PAIRS):
        pair = _PAIR.match(text, position)
        if pair is None:
            break
        name, token, quoted, end = pair.groups()
        if name is not None and name.lower() == "for":
            named.append(token or quoted or "")
        if end != ";":
            hops.append(named[0] if len(named) == 1 else "")
            named = []
        if not end:
            return (re.sub(r"\\(.)", r"\1", hop) for hop in hops[: -_MOST_HOPS - 1 : -1])
        position = pair.end()
    return ()


by_ip: ClientIP = ClientIP()
"""Count by client address, IPv6 by /64: the key of a `Limiter` that is given no other; see `ClientIP`."""
