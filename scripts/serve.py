"""Serve the quickstart with a demo account and say what to try; `make run` starts it."""

import contextlib
import secrets
import socket
import sys

import uvicorn

HELLO = """
  The quickstart is up: {url} (try it in the browser: {url}/docs)
  Demo login: demo / {password} (an admin, with a new password at each start)

  Three requests to try:
    curl {url}/health/ready
    TOKEN=$(curl -s {url}/auth/token -d 'username=demo&password={password}' |
            sed 's/.*"access_token":"\\([^"]*\\).*/\\1/')
    curl -H "Authorization: Bearer $TOKEN" {url}/users/me

  Ctrl-C stops it.
"""


class Server(uvicorn.Server):
    """Says hello once requests are answered, and not before."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()
            print(HELLO.format(url=f"http://{host}:{port}", password=await new_demo_password()), flush=True)


async def new_demo_password() -> str:
    """Give the account `demo` a new password; none that is known in advance ever lies in the database."""
    from sqlalchemy import select  # here, so that a port in use is told at once

    from examples import quickstart

    password = secrets.token_urlsafe(9)
    async with quickstart.db.session() as session:
        user = await session.scalar(select(quickstart.User).where(quickstart.User.username == "demo"))
        user = user or quickstart.User(username="demo", role="admin")
        user.password_hash = await quickstart.passwords.hash(password)
        session.add(user)
    return password


def listen(port: str) -> socket.socket:
    if not port.isdecimal() or not 0 <= int(port) <= 65535:
        sys.exit(f"fastapi_kit: PORT={port} is no port: choose 1024 to 65535, as in: make run PORT=8001")
    try:
        return socket.create_server(("127.0.0.1", int(port)))
    except PermissionError:
        sys.exit(f"fastapi_kit: port {port} needs more rights: choose one above 1023: make run PORT=8001")
    except OSError:
        free = int(port) + 1
        sys.exit(f"fastapi_kit: port {port} is in use: choose another one, as in: make run PORT={free}")


def main() -> None:
    server = Server(uvicorn.Config("examples.quickstart:app", log_level="info", proxy_headers=False))
    with contextlib.suppress(KeyboardInterrupt):
        server.run([listen(sys.argv[1])])
    sys.exit(not server.started)


if __name__ == "__main__":
    main()
