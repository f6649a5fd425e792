"""A process of its own that refreshes a token 25 times at once, whenever it is told to; started by `test_processes`."""

import asyncio
import json
import sys
from datetime import timedelta
from typing import Any

from fastapi_kit.auth import InvalidGrantError, Key, Sessions, TokenPair, TokenService
from fastapi_kit.auth.sessions.redis import RedisSessionStore
from fastapi_kit.auth.sessions.store import SessionStore
from tests.auth.sessions.support import postgres, store_on


def opened(url: str, name: str) -> tuple[SessionStore, Any]:
    if url.startswith("redis"):
        store = RedisSessionStore(url, prefix=name)
        return store, store.aclose
    database = postgres(url, name, pool_size=5, max_overflow=0)
    return store_on(database), database.dispose


def sessions_over(store: SessionStore, secret: str, grace: float) -> Sessions:
    tokens = TokenService(Key.hmac(secret), issuer="i", audience="a")
    return Sessions(tokens, store, grace=timedelta(seconds=grace))


async def take_part(url: str, name: str, secret: str, grace: float, token: str) -> None:
    store, close = opened(url, name)
    sessions = sessions_over(store, secret, grace)
    await store.epoch("warm up")
    print("ready", flush=True)
    sys.stdin.readline()
    answers = await asyncio.gather(*(sessions.refresh(token) for _ in range(25)), return_exceptions=True)
    successors = [answer.refresh_token for answer in answers if isinstance(answer, TokenPair)]
    refusals = [answer.reason for answer in answers if isinstance(answer, InvalidGrantError)]
    print(json.dumps([successors, refusals]), flush=True)
    await close()


if __name__ == "__main__":
    for line in sys.stdin:
        asyncio.run(take_part(**json.loads(line)))
