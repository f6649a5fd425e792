"""A service whose log-ins are limited."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, get_args

import httpx2
from fastapi import FastAPI, Form, Request

from fastapi_kit.auth import AttemptLimit
from fastapi_kit.ratelimit import Strategy

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
# A busy machine must not look like a hung Redis.
PATIENT = "?timeout=60&socket_timeout=30&socket_connect_timeout=30"
HERE, THERE = "192.0.2.1", "192.0.2.2"


class Service:
    """A log-in whose right password is "right", and that notes each password it looked at.

    `find` returns the subject of a name; without it each name is an account of its own. Log-ins wait while `open` is
    not set.
    """

    def __init__(self, *limits: AttemptLimit, find: Callable[[str], str | None] = lambda name: name) -> None:
        self.looked_at: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.app = FastAPI()

        @self.app.post("/login")
        async def log_in(request: Request, account: Annotated[str, Form()], password: Annotated[str, Form()]) -> bool:
            for limit in limits:
                await limit.begin(request, account)
            subject = find(account)
            if subject is None or False in [await limit.admits(request, subject) for limit in limits]:
                return False
            self.looked_at.append(password)
            await self.open.wait()
            if password == "right":
                for limit in limits:
                    await limit.succeeded(request, account, subject)
            return password == "right"

    async def attempts(
        self, account: str, passwords: Sequence[str], address: str = HERE, *, at_once: bool = False
    ) -> list[int]:
        """Return the status of each."""
        transport = httpx2.ASGITransport(self.app, client=(address, 50000))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            calls = [client.post("/login", data={"account": account, "password": one}) for one in passwords]
            if at_once:
                return [response.status_code for response in await asyncio.gather(*calls)]
            return [(await call).status_code for call in calls]

    async def until_looked_at(self, number: int) -> None:
        """Return when so many passwords were looked at."""
        while len(self.looked_at) < number:
            await asyncio.sleep(0)
