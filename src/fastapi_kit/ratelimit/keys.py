"""Who is counted: the client's address here; for a user or a tenant, any dependency that returns a `str`."""

from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv6Address

from starlette.requests import HTTPConnection

from fastapi_kit.errors import ConfigurationError

__all__ = ["ClientIP", "bounded", "by_ip"]

_IPV6_BITS = 128
_LONGEST_KEY = 64


@dataclass(frozen=True, slots=True)
class ClientIP:
    """Count by the address that the server reports for the connection.

    IPv6 clients are counted by network, `ipv6_prefix` bits long (1 to 128), since a single
    household owns a whole /64; an IPv4-mapped address is the IPv4 address it stands for.
    A connection without an address (a Unix socket) has the empty key: all of them share one bucket.

    Security: `X-Forwarded-For` and `Forwarded` are not read here, since any client can write them; the server
    may. uvicorn takes the address from `X-Forwarded-For` if the connection comes from 127.0.0.1, by default: set
    `--no-proxy-headers` where clients connect to it directly, or `--forwarded-allow-ips` to your proxy's address
    and no other. Behind a proxy that the server does not trust, all clients share one bucket.

    As the key of a limit it is called directly: `app.dependency_overrides` does not replace it there.

    Raises `ConfigurationError` for a prefix out of bounds.
    """

    ipv6_prefix: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.ipv6_prefix <= _IPV6_BITS:
            raise ConfigurationError(
                f"ClientIP(ipv6_prefix={self.ipv6_prefix}): the prefix has 1 to 128 bits, for example 64"
            )

    async def __call__(self, connection: HTTPConnection) -> str:
        """Return the key, as a dependency."""
        return self.key_of(connection)

    def key_of(self, connection: HTTPConnection) -> str:
        """Return the client's address in its one normal form; empty where there is none."""
        client = connection.scope.get("client")
        host: str = client[0] if client else ""
        if ":" not in host:
            return host
        try:
            address = IPv6Address(host)
        except ValueError:
            return host
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        host_bits = _IPV6_BITS - self.ipv6_prefix
        return str(IPv6Address(int(address) >> host_bits << host_bits))


by_ip: ClientIP = ClientIP()
"""Count by client address, IPv6 by /64: the key of a `Limiter` that is given no other; see `ClientIP`."""


def bounded(who: str) -> str:
    """Return a key that costs little to store, and that a client's own text in it cannot make that of another."""
    if len(who) > _LONGEST_KEY:  # the prefix makes it longer than any key that is stored as it is
        return "sha256:" + sha256(who.encode(errors="surrogatepass")).hexdigest()
    return who.replace("%", "%25").replace("/", "%2F")
