"""Who is counted by address, with and without proxies."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Literal

import pytest
from fastapi import Depends, FastAPI, WebSocket
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.ratelimit import ClientIP, Limiter, by_ip

NEAR, FAR = "10.0.0.1", "10.0.0.2"  # proxies
CLIENT = "203.0.113.9"
TRUSTED = ["10.0.0.0/8", "2001:db8:aaaa::/48"]
Header = Literal["X-Forwarded-For", "Forwarded"]


def key_of(client: Any, key: ClientIP = by_ip, headers: Sequence[tuple[str, str]] = ()) -> str:
    lines = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return key.key_of(HTTPConnection({"type": "http", "client": client, "headers": lines}))


def behind(peer: str, *lines: str, trusted: Sequence[str] = TRUSTED, header: Header = "X-Forwarded-For") -> str:
    """Return the key of a connection from this peer, with these lines of the header."""
    key = ClientIP(trusted_proxies=trusted, header=header)
    return key_of((peer, 1234), key, [("Host", "test"), *((header, line) for line in lines)])


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:C000:0207", "192.0.2.7"),
        ("::ffff:192.0.2.7%eth0", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:0DB8:0001:0002::1", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("testclient", "testclient"),
        ("no:address", "no:address"),
        ("", ""),
    ],
)
def test_an_address_has_one_form_from_the_connection_and_from_a_header(host: str, key: str) -> None:
    assert key_of((host, 1234)) == key
    assert behind(host) == key
    if key not in {"testclient", "no:address", ""}:
        assert behind(NEAR, host) == key
        assert behind(NEAR, f'for="[{host}]"' if ":" in host else f"for={host}", header="Forwarded") == key


def test_a_connection_without_an_address_has_the_empty_key() -> None:
    assert key_of(None) == ""


@pytest.mark.parametrize(("prefix", "key"), [(56, "2001:db8:1:200::"), (128, "2001:db8:1:2ff::1"), (1, "::")])
def test_the_network_is_as_wide_as_asked(prefix: int, key: str) -> None:
    assert key_of(("2001:db8:1:2ff::1", 1), ClientIP(ipv6_prefix=prefix)) == key
    behind_proxy = ClientIP(ipv6_prefix=prefix, trusted_proxies=[NEAR])
    assert key_of((NEAR, 1), behind_proxy, [("X-Forwarded-For", "2001:db8:1:2ff::1")]) == key


@pytest.mark.parametrize("prefix", [0, 129, -1])
def test_a_prefix_out_of_bounds_fails_at_once(prefix: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"ipv6_prefix={prefix}"):
        ClientIP(ipv6_prefix=prefix)


@pytest.mark.parametrize(
    ("proxies", "message"),
    [
        (["proxy.example"], r"\['proxy.example'\].* use an address, a network"),
        (["10.0.0.0/33"], r"10.0.0.0/33.*use an address"),
        (["10.0.0.1/8"], r"10.0.0.1/8 has host bits set; use .* without host bits"),
        (["10.0.0.1", "2001:db8::1/32"], r"\['2001:db8::1/32'\].*without host bits"),
        (["010.0.0.1"], "010.0.0.1.*use an address"),
        ([" 10.0.0.1"], "use an address"),
        ([""], "use an address"),
        (["*"], "use an address"),
        (["unix:/run/nginx.sock"], '"unix:"'),
        (["0.0.0.0/0"], r"0.0.0.0/0.*any client could write its own address"),
        (["0.0.0.0/0.0.0.0"], "any client could write"),
        (["::/0"], "any client could write"),
        (["::ffff:0:0/96"], "any client could write"),
        ([167772161], "167772161.*as text"),
        ("10.0.0.0/8", r"'10.0.0.0/8'\): use a list"),
        (b"10.0.0.0/8", "use a list"),
    ],
)
def test_proxies_that_cannot_work_fail_at_once_and_say_what_to_do(proxies: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ClientIP(trusted_proxies=proxies)


def test_a_header_that_no_one_writes_fails_at_once() -> None:
    unknown: Any = "X-Real-IP"
    with pytest.raises(ConfigurationError, match=r"'X-Real-IP'.*X-Forwarded-For, Forwarded"):
        ClientIP(header=unknown)


def test_equal_settings_are_one_key() -> None:
    assert ClientIP(trusted_proxies=[NEAR]) == ClientIP(trusted_proxies=(NEAR,))
    assert len({ClientIP(trusted_proxies=[NEAR]), ClientIP(trusted_proxies=(NEAR,)), by_ip, ClientIP()}) == 2


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_what_an_untrusted_peer_says_is_ignored(header: Header) -> None:
    for value in ("192.0.2.1", "for=192.0.2.1", NEAR, f"for={NEAR}", "unix:", ""):
        assert behind(CLIENT, value, header=header) == CLIENT
        assert behind(CLIENT, value, header=header, trusted=[]) == CLIENT
        assert behind("2001:db8:1:2::3", value, header=header) == "2001:db8:1:2::"
        assert behind("testclient", value, header=header) == "testclient"
        assert behind("", value, header=header) == ""


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ([CLIENT], CLIENT),
        ([f"{CLIENT}, {FAR}"], CLIENT),
        ([f"{CLIENT},{FAR},10.9.9.9"], CLIENT),
        ([CLIENT, FAR], CLIENT),
        ([f"192.0.2.1, {CLIENT}"], CLIENT),
        ([f"192.0.2.1, {CLIENT}, {FAR}"], CLIENT),
        (["192.0.2.1", f"{CLIENT}, {FAR}"], CLIENT),
        ([f"{FAR}, {CLIENT}"], CLIENT),
        ([f"\t {CLIENT} \t,  {FAR} "], CLIENT),
        ([f"{CLIENT}:5678, {FAR}:80"], CLIENT),
        ([f"{CLIENT}:_hidden"], CLIENT),
        (["2001:db8:1:2::3, 2001:db8:aaaa::1"], "2001:db8:1:2::"),
        (["[2001:db8:1:2::3]:80, [2001:db8:aaaa::1]:80"], "2001:db8:1:2::"),
        (["[2001:db8:1:2::3], 2001:db8:aaaa::1%eth0"], "2001:db8:1:2::"),
        ([f"::ffff:{CLIENT}, ::ffff:{FAR}"], CLIENT),
        ([f"10.1.1.1, {FAR}"], "10.1.1.1"),
        ([f"10.1.1.1:5, {FAR}"], "10.1.1.1"),
        ([], NEAR),
        ([""], NEAR),
        ([f"{CLIENT},"], NEAR),
        ([f"{CLIENT}, unknown"], NEAR),
        ([f"{CLIENT}, unknown, {FAR}"], FAR),
        ([f"{CLIENT}, _hidden, {FAR}"], FAR),
        ([f"{CLIENT}, , {FAR}"], FAR),
        ([f"{CLIENT}, unix:, {FAR}"], FAR),
        ([f"{CLIENT}, 010.0.0.3, {FAR}"], FAR),
        ([f"{CLIENT}, 10.0.0.300"], NEAR),
        ([f"{CLIENT}, [{FAR}]"], NEAR),
        ([f"{CLIENT}, {FAR}:"], NEAR),
        ([f"{CLIENT}, {FAR}:123456"], NEAR),
        ([f"{CLIENT}, {FAR}:\xb2"], NEAR),
        ([f"{CLIENT}, [2001:db8:aaaa::1"], NEAR),
        ([f"{CLIENT}, [2001:db8:aaaa::1]x"], NEAR),
        ([f"{CLIENT}, \xa0{FAR}"], NEAR),
        ([f'{CLIENT}, "{FAR}"'], NEAR),
        ([f"{CLIENT}, for={FAR}"], NEAR),
        ([f"{CLIENT}, 2001:db8:aaaa::1%{'z' * 200}"], NEAR),
    ],
)
def test_the_rightmost_untrusted_hop_of_x_forwarded_for_counts(lines: list[str], key: str) -> None:
    assert behind(NEAR, *lines) == key
    assert behind(f"::ffff:{NEAR}", *lines) == key


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ([f"for={CLIENT}"], CLIENT),
        ([f"For={CLIENT};proto=https, FOR={FAR};by={NEAR}"], CLIENT),
        ([f"for={CLIENT}", f"for={FAR}"], CLIENT),
        ([f"for=192.0.2.1, for={CLIENT},for={FAR}"], CLIENT),
        ([f'for="{CLIENT}:5678"'], CLIENT),
        ([f'for="{CLIENT}:_port";proto=https'], CLIENT),
        ([r'for="203.0.\1\13.9"'], CLIENT),
        (['for="[2001:db8:1:2::3]"'], "2001:db8:1:2::"),
        (['for="[2001:db8:1:2::3]:4711", for="[2001:db8:aaaa::1]"'], "2001:db8:1:2::"),
        ([f'for="[::ffff:{CLIENT}]"'], CLIENT),
        ([f'proto=https;host="a, for=192.0.2.1;\\"";for={CLIENT}'], CLIENT),
        ([f'for="_a,b;c", for={CLIENT}, for={FAR}'], CLIENT),
        ([f" for={CLIENT} ; proto=https ,\tfor={FAR}\t"], CLIENT),
        ([f";;for={CLIENT};"], CLIENT),
        ([f"for=10.1.1.1, for={FAR}"], "10.1.1.1"),
        # an element that names no address
        ([f"for={CLIENT}, for=unknown, for={FAR}"], FAR),
        ([f"for={CLIENT}, for=_hidden, for={FAR}"], FAR),
        ([f'for={CLIENT}, for="", for={FAR}'], FAR),
        ([f"for={CLIENT}, by={FAR}, for={FAR}"], FAR),
        ([f"for={CLIENT}, , for={FAR}"], FAR),
        ([f"for={CLIENT}, for=10.0.0.3;for=10.0.0.4, for={FAR}"], FAR),
        ([f"for={CLIENT};for={CLIENT}"], NEAR),
        ([f"for={CLIENT},"], NEAR),
        ([f"for={CLIENT}, forx={FAR}"], NEAR),
        ([], NEAR),
        ([""], NEAR),
        # a field that breaks the grammar, wherever
        ([CLIENT], NEAR),
        ([f'for=", for={CLIENT}'], NEAR),
        (['for="192.0.2.1, for="[2001:db8::1]"'], NEAR),
        (['for="192.0.2.1', 'for="[2001:db8::1]"'], NEAR),
        ([f'for="192.0.2.1\\", for={CLIENT}'], NEAR),
        ([f'for="192.0.2.1"x, for={CLIENT}'], NEAR),
        ([f'for=a"b", for={CLIENT}'], NEAR),
        ([f"for=a\\, for={CLIENT}"], NEAR),
        ([f"for=2001:db8::1, for={CLIENT}"], NEAR),
        ([f"for={CLIENT}:80"], NEAR),
        ([f"for = {CLIENT}"], NEAR),
        ([f"for=, for={CLIENT}"], NEAR),
        ([f"={CLIENT}"], NEAR),
        ([f'for="a\x00", for={CLIENT}'], NEAR),
        ([f'x=", for={CLIENT};host=",for=192.0.2.1,x=\\""'], NEAR),  # the client wrote the first quote, and the host
    ],
)
def test_the_rightmost_untrusted_hop_of_forwarded_counts(lines: list[str], key: str) -> None:
    assert behind(NEAR, *lines, header="Forwarded") == key


def test_only_the_header_that_the_proxies_write_is_read() -> None:
    both = [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.2"), ("X-Real-IP", "192.0.2.3")]
    assert key_of((NEAR, 1), ClientIP(trusted_proxies=TRUSTED), both) == "192.0.2.1"
    assert key_of((NEAR, 1), ClientIP(trusted_proxies=TRUSTED, header="Forwarded"), both) == "192.0.2.2"
    assert key_of((NEAR, 1), ClientIP(trusted_proxies=TRUSTED), both[1:]) == NEAR
    assert key_of((NEAR, 1), ClientIP(trusted_proxies=TRUSTED, header="Forwarded"), both[::2]) == NEAR


@pytest.mark.parametrize("peer", [None, ("", 0), ("unix:", 0)])
def test_a_unix_socket_is_trusted_when_it_is_named(peer: object) -> None:
    named = ClientIP(trusted_proxies=["unix:", NEAR])
    assert key_of(peer, named, [("X-Forwarded-For", CLIENT)]) == CLIENT
    assert key_of(peer, named, [("X-Forwarded-For", f"192.0.2.1, {CLIENT}, unix:, {NEAR}")]) == CLIENT
    assert key_of(peer, named, [("X-Forwarded-For", "unix:")]) == ""
    assert key_of(peer, named) == ""
    assert key_of(peer, ClientIP(trusted_proxies=[NEAR]), [("X-Forwarded-For", CLIENT)]) == ""


def test_a_hop_over_a_unix_socket_is_named_in_forwarded_too() -> None:
    lines = [f'for={CLIENT}, for="unix:"']
    assert behind(NEAR, *lines, trusted=[NEAR, "unix:"], header="Forwarded") == CLIENT
    assert behind(NEAR, *lines, header="Forwarded") == NEAR


@pytest.mark.parametrize("entry", ["10.0.0.1", "10.0.0.0/31", "::ffff:10.0.0.1", "::ffff:10.0.0.0/104"])
def test_a_proxy_is_named_by_address_or_network_in_either_family(entry: str) -> None:
    for peer in ("10.0.0.1", "::ffff:10.0.0.1", "::ffff:a00:1"):
        assert behind(peer, CLIENT, trusted=[entry]) == CLIENT
    assert behind("11.0.0.1", CLIENT, trusted=[entry]) == "11.0.0.1"


@pytest.mark.parametrize("entry", ["2001:db8::/64", "2001:DB8:0::1", "::/1"])
def test_a_proxy_may_have_an_ipv6_address(entry: str) -> None:
    assert behind("2001:db8::1", CLIENT, trusted=[entry]) == CLIENT
    assert behind("2001:db8::1%eth0", CLIENT, trusted=[entry]) == CLIENT
    assert behind("192.0.2.1", CLIENT, trusted=[entry]) == "192.0.2.1"
    assert behind("a001:db8::1", CLIENT, trusted=[entry]) == "a001:db8::"


def test_no_more_than_fifty_hops_are_read() -> None:
    hops = [f"10.1.1.{number}" for number in range(50)]
    assert behind(NEAR, ",".join([CLIENT, *hops[1:]])) == CLIENT
    assert behind(NEAR, ",".join([CLIENT, *hops])) == hops[0]
    elements = [f"for={hop}" for hop in hops]
    assert behind(NEAR, ",".join([f"for={CLIENT}", *elements[1:]]), header="Forwarded") == CLIENT
    assert behind(NEAR, ",".join([f"for={CLIENT}", *elements]), header="Forwarded") == hops[0]


def test_no_more_than_four_kibibytes_are_read_and_no_address_is_cut() -> None:
    padded = f"{FAR},{' ' * (4096 - 2 * len(FAR) - 1)}{FAR}"
    assert len(padded) == 4096
    assert behind(NEAR, padded) == FAR
    assert behind(NEAR, f"2{padded}") == FAR  # not 210.0.0.2, and not the rest of it
    assert behind(NEAR, " " * 5000 + CLIENT) == NEAR
    assert behind(NEAR, "x" * 5000 + "," + CLIENT) == CLIENT
    field = f"for={CLIENT};x="
    assert behind(NEAR, field + "x" * (4096 - len(field)), header="Forwarded") == CLIENT
    assert behind(NEAR, field + "x" * (4097 - len(field)), header="Forwarded") == NEAR


def test_no_more_than_two_hundred_parameters_are_read() -> None:
    assert behind(NEAR, "a=b;" * 199 + f"for={CLIENT}", header="Forwarded") == CLIENT
    assert behind(NEAR, "a=b;" * 200 + f"for={CLIENT}", header="Forwarded") == NEAR


# What a client might write to move the edge of what the proxy adds: pieces of the syntax of both headers.
_PIECES = ["for=", "For =", "by=", '"', '""', "\\", '\\"', ",", ", ", ";", "=", " ", "\t", "[", "]", ":80", "unix:"]
_ADDRESSES = ["192.0.2.1", "198.51.100.1", "2001:db8:bad::1", '"[2001:db8:bad::1]"', NEAR, FAR, "unknown", "_x"]
_TEXT = st.lists(st.sampled_from([*_PIECES, *_ADDRESSES]), max_size=12).map("".join)
_ANY = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\x00"), max_size=40)
_LINES = st.lists(_TEXT | _ANY | st.just("x" * 5000), max_size=3)
_CLIENTS = st.ip_addresses(v=4, network="203.0.113.0/24") | st.ip_addresses(v=6, network="2001:db8:c11e::/48")


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def appended(lines: list[str], element: str, *, as_line: bool) -> list[str]:
    """Do what a proxy does: `$http_x_forwarded_for, $remote_addr` in nginx, or one more line."""
    return [*lines, element] if as_line or not lines else [f"{', '.join(lines)}, {element}"]


@given(_LINES, _CLIENTS, st.booleans(), st.booleans())
def test_no_x_forwarded_for_of_a_client_makes_it_another(
    lines: list[str], client: Any, as_line: bool, second: bool
) -> None:
    lines = appended(lines, str(client), as_line=as_line)
    if second:
        lines = appended(lines, FAR, as_line=not as_line)
    assert behind(NEAR, *lines) == key_of((str(client), 1))


@example(['x="'], IPv4Address(CLIENT), False, False, ',for=192.0.2.1,x="')
@given(_LINES, _CLIENTS, st.booleans(), st.booleans(), st.none() | _TEXT)
def test_no_forwarded_of_a_client_makes_it_another(
    lines: list[str], client: Any, as_line: bool, second: bool, host: str | None
) -> None:
    element = f'for="[{client}]:4711"' if isinstance(client, IPv6Address) else f"for={client}"
    if host is not None:  # the client's own Host, as some proxies report it
        element = f"{element};host={quoted(host)};proto=https"
    allowed = {key_of((str(client), 1)), NEAR}
    lines = appended(lines, element, as_line=as_line)
    if second:
        lines = appended(lines, f'for="{FAR}"', as_line=not as_line)
    assert behind(NEAR, *lines, header="Forwarded") in allowed


@given(_CLIENTS, st.text(max_size=20))
def test_what_a_proxy_adds_for_an_honest_client_is_read(client: Any, host: str) -> None:
    host = host.encode("ascii", "ignore").decode().translate(dict.fromkeys([*range(32), 127]))
    node = f'"[{client}]"' if isinstance(client, IPv6Address) else str(client)
    line = f"for={node};host={quoted(host)}, for={FAR}"
    assert behind(NEAR, line, header="Forwarded") == key_of((str(client), 1))


def test_it_serves_as_a_dependency_of_another_key() -> None:
    async def by_address_and_day(address: str = Depends(ClientIP(trusted_proxies=TRUSTED))) -> str:
        return f"{address} today"

    app = FastAPI()

    @app.get("/", dependencies=[Depends(Limiter()("1/minute", key=by_address_and_day))])
    async def home() -> None: ...

    def call(peer: str, told: str) -> int:
        return TestClient(app, client=(peer, 1)).get("/", headers={"X-Forwarded-For": told}).status_code

    assert [call(NEAR, CLIENT), call(NEAR, "192.0.2.2"), call(FAR, CLIENT), call(CLIENT, "192.0.2.3")] == [
        200,
        200,
        429,
        429,
    ]


def test_clients_are_told_apart_and_what_they_say_of_themselves_is_ignored() -> None:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(Limiter()("1/minute"))])
    async def home() -> None: ...

    def call(host: str, forged: str) -> int:
        headers = {"X-Forwarded-For": forged, "Forwarded": f"for={forged}", "X-Real-IP": forged}
        return TestClient(app, client=(host, 1)).get("/", headers=headers).status_code

    assert [call("192.0.2.1", "10.0.0.1"), call("192.0.2.1", "10.0.0.2"), call("192.0.2.2", "10.0.0.1")] == [
        200,
        429,
        200,
    ]
    assert [call("2001:db8::1", "10.0.0.1"), call("2001:db8::2", "10.0.0.3")] == [200, 429]


def test_a_web_socket_is_counted_by_the_client_behind_the_proxy() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def home(socket: WebSocket, address: str = Depends(ClientIP(trusted_proxies=TRUSTED))) -> None:
        await socket.accept()
        await socket.send_text(address)

    headers = {"X-Forwarded-For": f"192.0.2.1, {CLIENT}"}
    with TestClient(app, client=(NEAR, 1)).websocket_connect("/", headers=headers) as socket:
        assert socket.receive_text() == CLIENT
