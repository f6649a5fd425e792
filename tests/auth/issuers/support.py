"""Starting and driving the authorization server of the tests, and a clock that stands still."""

import contextlib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import trustme

CLIENT_ID, CLIENT_SECRET = "the-client", "the-secret-of-the-client"

SCRIPT = Path(__file__).with_name("authorization_server.py")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Authority:
    """A certificate authority that nobody else knows, and a certificate of its for localhost."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.certificate = folder / "server.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(self.certificate)
        self.root = folder / "root.pem"
        authority.cert_pem.write_to_path(self.root)
        self.trust = ssl.create_default_context(cafile=self.root)

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(verify=self.trust, trust_env=False)


class AuthorizationServer:
    """The server at a port, whether it runs or not."""

    def __init__(self, authority: Authority, port: int | None = None) -> None:
        self.authority = authority
        self.port = port or free_port()
        self.url = f"https://localhost:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator["AuthorizationServer"]:
        interpreter = [sys.executable, "-W", "error", "-W", "ignore:EdDSA"]
        arguments = [str(self.port), str(self.authority.certificate), CLIENT_ID, CLIENT_SECRET]
        with subprocess.Popen([*interpreter, str(SCRIPT), *arguments]) as process:
            try:
                wait_for_port(self.port, process)
                yield self
            finally:
                process.kill()

    async def behave(self, **behaviour: Any) -> None:
        """Answer as told from now on; well, where nothing is told."""
        await self._post("/control", behaviour)

    async def rotate(self, *, published: int, algorithm: str = "ES256") -> None:
        """Sign with a new key from now on, and publish that many of the newest."""
        await self._post("/control/rotate", {"published": published, "algorithm": algorithm})

    async def token(self, claims: dict[str, Any] | None = None, header: dict[str, Any] | None = None) -> str:
        """Return an access token for the audience `api`, with these members over those that are usual."""
        body = {"claims": {"aud": "api"} | (claims or {}), "header": {"typ": "at+jwt"} | (header or {})}
        return await self._post("/control/token", body)

    async def forged_token(self) -> str:
        """Return a token that another key than this server's signed, under a `kid` that it does not have."""
        body = {"claims": {"aud": "api"}, "header": {"typ": "at+jwt"}, "with_a_key_of_nobody": "ES256"}
        return await self._post("/control/token", body)

    async def count(self, name: str, *, at_least: int = 0) -> int:
        """Return how often a document was asked for, once that is so often."""
        async with self.authority.client() as client:
            answer = await client.get(f"{self.url}/control/count", params={"name": name, "times": at_least})
        return int(answer.raise_for_status().json().get(name, 0))

    async def _post(self, path: str, body: dict[str, Any]) -> str:
        async with self.authority.client() as client:
            return (await client.post(self.url + path, json=body)).raise_for_status().text


def wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise RuntimeError("the server did not start")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
