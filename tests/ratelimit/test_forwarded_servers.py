"""Who is counted behind proxies, over HTTP and with what uvicorn itself reads from the headers."""

import json
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
import uvicorn
from fastapi import Depends, FastAPI

from fastapi_kit.ratelimit import ClientIP, by_ip

CLIENT, OTHER, FAR = "203.0.113.9", "192.0.2.66", "10.0.0.2"
TRUSTED = ["127.0.0.1", "10.0.0.0/8", "unix:"]

app = FastAPI()


@app.get("/by_ip")
async def plain(key: str = Depends(by_ip)) -> str:
    return key


@app.get("/x-forwarded-for")
async def x_forwarded_for(key: str = Depends(ClientIP(trusted_proxies=TRUSTED))) -> str:
    return key


@app.get("/forwarded")
async def forwarded(key: str = Depends(ClientIP(trusted_proxies=TRUSTED, header="Forwarded"))) -> str:
    return key


class Server:
    """uvicorn; whoever asks it is a proxy, or a client that connects directly."""

    def __init__(self, listener: socket.socket) -> None:
        self.family = listener.family
        self.address = listener.getsockname()

    def key(self, path: str, *lines: str) -> str:
        """Return the key of a request with these header lines, as they are."""
        head = "\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *lines, "Connection: close", "", ""])
        with socket.socket(self.family) as connection:
            connection.settimeout(30)
            connection.connect(self.address)
            connection.sendall(head.encode("latin-1"))
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.decode().partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 "), head
        return str(json.loads(body))


@contextmanager
def serving(listener: socket.socket, *, proxy_headers: bool) -> Generator[Server]:
    config = uvicorn.Config(app, proxy_headers=proxy_headers, lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, args=([listener],))
    place = Server(listener)
    thread.start()
    try:
        yield place  # it listens already
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    """The server of `uvicorn --no-proxy-headers`."""
    with serving(socket.create_server(("127.0.0.1", 0)), proxy_headers=False) as server:
        yield server


@pytest.fixture(scope="module")
def reading_server() -> Generator[Server]:
    """The server as it is by default: it takes the client's address from the X-Forwarded-For of 127.0.0.1."""
    with serving(socket.create_server(("127.0.0.1", 0)), proxy_headers=True) as server:
        yield server


X_FORWARDED_FOR = [
    ([], "127.0.0.1"),
    ([f"X-Forwarded-For: {CLIENT}"], CLIENT),
    ([f"X-Forwarded-For: {OTHER}, {CLIENT}"], CLIENT),
    ([f"X-Forwarded-For: {OTHER}", f"x-forwarded-for:{CLIENT}"], CLIENT),
    ([f"X-Forwarded-For: {OTHER}, {CLIENT}, {FAR}"], CLIENT),
    ([f"X-Forwarded-For: {OTHER}", f"X-Forwarded-For: {CLIENT}", f"X-Forwarded-For: {FAR}"], CLIENT),
    ([f"X-Forwarded-For: {FAR}, {CLIENT}:4711"], CLIENT),
    (["X-Forwarded-For: [2001:db8:1:2::3]:4711"], "2001:db8:1:2::"),
    ([f"X-Forwarded-For: ::ffff:{CLIENT}"], CLIENT),
    ([f"X-Forwarded-For: {CLIENT}", f"Forwarded: for={OTHER}", f"X-Real-IP: {OTHER}"], CLIENT),
    ([f"X-Forwarded-For: \xff\xb2,, \t,{CLIENT}"], CLIENT),
    ([f"X-Forwarded-For: {'1' * 5000},{CLIENT}"], CLIENT),
    ([f"X-Forwarded-For: {OTHER}, unknown, {FAR}"], FAR),
]


@pytest.mark.parametrize(("lines", "key"), X_FORWARDED_FOR)
def test_the_client_counts_behind_proxies_that_write_x_forwarded_for(
    lines: list[str], key: str, server: Server
) -> None:
    assert server.key("/x-forwarded-for", *lines) == key


@pytest.mark.parametrize(("lines", "key"), X_FORWARDED_FOR)
def test_it_makes_no_difference_that_uvicorn_replaced_the_address_before(
    lines: list[str], key: str, reading_server: Server
) -> None:
    assert reading_server.key("/x-forwarded-for", *lines) == key


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ([], "127.0.0.1"),
        ([f"Forwarded: for={CLIENT}"], CLIENT),
        ([f'forwarded: for={OTHER}, For="{CLIENT}:4711";proto=https;host="a, b"'], CLIENT),
        ([f"Forwarded: for={OTHER}", f"Forwarded: for={CLIENT}", f"Forwarded: for={FAR}"], CLIENT),
        (['Forwarded: for="[2001:db8:1:2::3]:4711"', f"Forwarded: for={FAR}"], "2001:db8:1:2::"),
        ([f'Forwarded: for="{OTHER}', f"Forwarded: for={CLIENT}"], "127.0.0.1"),
        ([f'Forwarded: for="{OTHER}, for="[2001:db8:1:2::3]"'], "127.0.0.1"),
        ([f"Forwarded: for={CLIENT}", f"X-Forwarded-For: {OTHER}", f"X-Real-IP: {OTHER}"], CLIENT),
    ],
)
def test_the_client_counts_behind_proxies_that_write_forwarded(lines: list[str], key: str, server: Server) -> None:
    assert server.key("/forwarded", *lines) == key


def test_uvicorn_has_to_read_no_header_where_proxies_write_forwarded(reading_server: Server) -> None:
    lines = [f"Forwarded: for={CLIENT}", f"X-Forwarded-For: {OTHER}"]  # the second is the client's
    assert reading_server.key("/forwarded", *lines) == OTHER


def test_without_trusted_proxies_all_depends_on_what_uvicorn_reads(server: Server, reading_server: Server) -> None:
    for lines in ([f"X-Forwarded-For: {OTHER}"], [f"Forwarded: for={OTHER}", f"X-Forwarded-For: {OTHER}"]):
        assert server.key("/by_ip", *lines) == "127.0.0.1"
        assert reading_server.key("/by_ip", *lines) == OTHER


@pytest.mark.parametrize("proxy_headers", [True, False])
def test_a_proxy_may_connect_over_a_unix_socket(proxy_headers: bool, tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    with serving(listener, proxy_headers=proxy_headers) as server:
        assert server.key("/x-forwarded-for", f"X-Forwarded-For: {OTHER}, {CLIENT}") == CLIENT
        assert server.key("/x-forwarded-for", f"X-Forwarded-For: {OTHER}, {CLIENT}, unix:, {FAR}") == CLIENT
        assert server.key("/forwarded", f"Forwarded: for={CLIENT}", f"X-Forwarded-For: {OTHER}") == CLIENT
        assert server.key("/by_ip", f"X-Forwarded-For: {OTHER}") == ""
