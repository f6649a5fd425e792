"""Origins and hosts that browsers never send are refused at start-up."""

import pytest

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.errors.hosts import check_host, check_hosts, check_origin, check_origins, is_host_header

ORIGINS = [
    "https://shop.example",
    "http://localhost:5173",
    "http://127.0.0.1",
    "http://[::1]:8000",
    "https://xn--bcher-kva.example:8443",
    "capacitor://localhost",
    "chrome-extension://abcdefghijklmnop",
    "http://https:443",
    "https://shop.example:65535",
    "https://a--b.my_pod-.example",
    "*",
]


@pytest.mark.parametrize("origin", ORIGINS)
def test_what_browsers_send_is_taken(origin: str) -> None:
    assert check_origin(origin) == origin


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        ("https://shop.example/", "an origin is scheme://host"),
        ("https://shop.example/path", "an origin is scheme://host"),
        ("shop.example", "an origin is scheme://host"),
        ("https://Shop.example", "an origin is scheme://host"),
        ("https://bücher.example", "an origin is scheme://host"),
        ("https://*.shop.example", "an origin is scheme://host"),
        ("https://u@shop.example", "an origin is scheme://host"),
        ("https://shop.example\n", "an origin is scheme://host"),
        ("https://a..b", "an origin is scheme://host"),
        ("https://.a", "an origin is scheme://host"),
        ("https://a.", "an origin is scheme://host"),
        ("https://-a", "an origin is scheme://host"),
        ("https://a-", "an origin is scheme://host"),
        ("https://a:99999", "an origin is scheme://host"),
        ("https://a:65536", "an origin is scheme://host"),
        ("https://a:0", "an origin is scheme://host"),
        ("https://a:0443", "an origin is scheme://host"),
        ("https://a:\u0661", "an origin is scheme://host"),
        ("https://[::::]", "an origin is scheme://host"),
        ("https://[::1%1]", "an origin is scheme://host"),
        ("https://[::A]", "an origin is scheme://host"),
        ("https://[::1", "an origin is scheme://host"),
        ("https://1.2.3", "an origin is scheme://host"),
        ("https://1.2.3.256", "an origin is scheme://host"),
        ("https://a.0x7f", "an origin is scheme://host"),
        ("javascript://x", "origins with these schemes"),
        ("file://x", "origins with these schemes"),
        ("htps://shop.example", "origins with these schemes"),
        ("", "an origin is scheme://host"),
        ("https://shop.example:443", "leave port 443 out"),
        ("http://shop.example:80", "leave port 80 out"),
        ("null", "trusts everybody"),
    ],
)
def test_what_no_browser_sends_is_refused(origin: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        check_origin(origin)


def test_a_policy_has_origins_and_no_credentials_for_all() -> None:
    check_origins(["https://a.example"], allow_credentials=True)
    check_origins(["*"], allow_credentials=False)
    for none in ((), "https://a.example"):
        with pytest.raises(ConfigurationError, match="at least one origin, in a list"):
            check_origins(none, allow_credentials=False)
    with pytest.raises(ConfigurationError, match="name the origins"):
        check_origins(["https://a.example", "*"], allow_credentials=True)


@pytest.mark.parametrize("host", ["shop.example", "*.shop.example", "localhost", "127.0.0.1", "[::1]", "my_pod-1"])
def test_hosts_are_taken(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize(
    "host",
    [
        "",
        "https://shop.example",
        "shop.example:80",
        "shop.example/",
        "a*.example",
        "*shop.example",
        "Shop",
        "a..b",
        "*.",
        "*..a",
        "*.[::1]",
        "*.1.2.3.4",
        "[::::]",
        "[::1]x",
        "1.2.3.999",
        "-a",
        "%00.a",
    ],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="a trusted host is a name"):
        check_host(host)


def test_hosts_come_in_a_list() -> None:
    check_hosts(["a.example", "b.example"])
    for none in ((), "a.example"):
        with pytest.raises(ConfigurationError, match="at least one host, in a list"):
            check_hosts(none)


@pytest.mark.parametrize("value", ["shop.example", "SHOP.example:8443", "[::A]:65535", "127.0.0.1:80", "my_pod-1"])
def test_a_host_header_names_a_host(value: str) -> None:
    assert is_host_header(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        ":80",
        "a:",
        "a:65536",
        "a:99999999",
        ".a",
        "a.",
        "%00.a",
        "a,b",
        "[::::]",
        "[::1]x",
        "[v1.a]",
        "1.2.3.400",
        "a b",
        "u@a",
        "a/b",
    ],
)
def test_what_leads_nowhere_is_no_host_header(value: str) -> None:
    assert not is_host_header(value)


def test_a_long_host_header_is_refused_like_a_short_one() -> None:
    for value in ("a:" + "9" * 100_000, "a." * 100_000, "[" * 100_000, "[" + "a:" * 50_000 + "]", "9." * 100_000):
        assert not is_host_header(value)


def test_all_hosts_are_no_host() -> None:
    with pytest.raises(ConfigurationError, match="leave it out to allow all"):
        check_hosts(["shop.example", "*"])
