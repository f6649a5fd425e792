"""Fuzz the examples with schemathesis: all its checks, over sockets, signed in and not. `make fuzz` starts it.

`scripts/fuzz.toml` says what is not asked of which operation, and why. The seed is fixed, so a finding comes again;
KIT_FUZZ_SEED=7 tries another one, KIT_FUZZ_EXAMPLES=500 more requests. A warning of schemathesis fails too.
"""

import contextlib
import importlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import uvicorn

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
SETTINGS = Path(__file__).with_name("fuzz.toml")
SEED, EXAMPLES = os.environ.get("KIT_FUZZ_SEED", "1"), os.environ.get("KIT_FUZZ_EXAMPLES", "20")

PASSWORD = "Fuzz-5f0c8e2a9b7d41c6"  # fuzz.toml has it too
NOWHERE = "https://id.invalid"
ENVIRONMENT = {
    "OIDC_ISSUER": NOWHERE,
    "OIDC_CLIENT_ID": "fuzz",
    "OIDC_CLIENT_SECRET": secrets.token_urlsafe(64),
    "PUBLIC_URL": "https://shop.invalid",
    "SECRET_KEY": secrets.token_urlsafe(64),
}


class Person(NamedTuple):
    headers: Mapping[str, str] = {}
    may_do_everything: bool = False


People = dict[str, Person]


async def of_quickstart(quickstart: ModuleType) -> People:
    """Sign up a user and an admin, each with items, and switch the limits off."""
    quickstart.limiter.enabled = False
    people = {"nobody": Person()}
    for role in ("user", "admin"):
        hashed = await quickstart.passwords.hash(PASSWORD)
        async with quickstart.db.session() as session:
            user = quickstart.User(username=f"the-{role}", password_hash=hashed, role=role)
            session.add(user)
            await session.flush()
            session.add_all(quickstart.Item(owner_id=user.id, name=f"Item {number}") for number in range(50))
        token = quickstart.tokens.issue(str(user.id)).token
        people[role] = Person({"Authorization": f"Bearer {token}"}, may_do_everything=role == "admin")
    return people


async def of_feed(feed: ModuleType) -> People:
    return {"nobody": Person(may_do_everything=True)}


async def of_outside_login(outside_login: ModuleType) -> People:
    """Let the provider be known; who comes back from one is for tests/examples/test_outside_login.py."""
    outside_login.provider.server_metadata.update(
        _loaded_at=time.time(), authorization_endpoint=f"{NOWHERE}/authorize", token_endpoint=f"{NOWHERE}/token"
    )
    async with outside_login.db.session() as session:
        user = outside_login.User(issuer=NOWHERE, subject="1", name="Ada")
        session.add(user)
        await session.flush()
    token = outside_login.tokens.issue(str(user.id)).token
    return {
        "nobody": Person(),
        "user with a token": Person({"Authorization": f"Bearer {token}"}, may_do_everything=True),
        "user with a cookie": Person({"Cookie": f"__Host-access={token}"}, may_do_everything=True),
    }


EXAMPLE_PEOPLE: dict[str, Callable[[ModuleType], Awaitable[People]]] = {
    "quickstart": of_quickstart,
    "feed": of_feed,
    "outside_login": of_outside_login,
}


class Server(uvicorn.Server):
    """Prepares the example in its own event loop, before it can be asked anything."""

    def __init__(self, example: ModuleType, prepare: Callable[[ModuleType], Awaitable[People]]) -> None:
        super().__init__(uvicorn.Config(example.app, log_level="error", proxy_headers=False))
        self.people: People = {}
        self._example, self._prepare = example, prepare

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.people = await self._prepare(self._example)


@contextlib.contextmanager
def served(name: str, folder: str) -> Iterator[tuple[str, People]]:
    """Serve an example on a free port, in a thread; give its URL and who may ask."""
    os.environ["DATABASE_URL"] = f"sqlite+aiosqlite:///{folder}/{name}.db"
    server = Server(importlib.import_module(f"examples.{name}"), EXAMPLE_PEOPLE[name])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.people:
                if not thread.is_alive():
                    sys.exit(f"{name} did not start")
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", server.people
        finally:
            server.should_exit = True
            thread.join()


def finds_nothing(url: str, person: Person, folder: str) -> bool:
    settings = Path(folder, "schemathesis.toml")
    text = SETTINGS.read_text()
    settings.write_text(text if person.may_do_everything else text.replace('"missing_auth", ', ""))
    command: list[str | Path] = [SCHEMATHESIS, "--config-file", settings, "run", f"{url}/openapi.json"]
    command += ["--checks", "all", "--seed", SEED, "--max-examples", EXAMPLES]
    command += [option for name, value in person.headers.items() for option in ("--header", f"{name}: {value}")]
    return subprocess.run(command, cwd=folder, check=False).returncode == 0


def main() -> None:
    os.environ.update(ENVIRONMENT)
    results: dict[str, bool] = {}
    for name in EXAMPLE_PEOPLE:
        with tempfile.TemporaryDirectory() as folder, served(name, folder) as (url, people):
            for who, person in people.items():
                print(f"\n==== {name}, {who}", flush=True)
                results[f"{name}, {who}"] = finds_nothing(url, person, folder)
    print(f"\n==== fuzz, seed {SEED}")
    for run, is_well in results.items():
        print("nothing found:" if is_well else "FOUND SOMETHING:", run)
    sys.exit(not all(results.values()))


if __name__ == "__main__":
    main()
