"""What is particular to memory: the warning, threads, and that it does not grow."""

import asyncio
import threading
import warnings

import pytest

from fastapi_kit.auth import TokenPair
from fastapi_kit.auth.sessions.memory import MemorySessionStore
from tests.auth.sessions.support import NOW_MS, Clock, sessions_of


def test_it_warns_where_it_is_made_unless_for_development() -> None:
    with pytest.warns(UserWarning, match="forgets log-ins and revocations at a restart") as caught:
        MemorySessionStore()
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MemorySessionStore(development=True)


def test_event_loops_in_several_threads_share_it(clock: Clock) -> None:
    sessions = sessions_of(MemorySessionStore(development=True), clock)
    first = asyncio.run(sessions.start("7"))
    together = threading.Barrier(4)
    pairs: list[TokenPair] = []

    async def refresh() -> None:
        pairs.extend(await asyncio.gather(*(sessions.refresh(first.refresh_token) for _ in range(25))))

    def run() -> None:
        together.wait()
        asyncio.run(refresh())

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pairs) == 100
    assert len({pair.refresh_token for pair in pairs}) == 1


@pytest.mark.anyio
async def test_it_forgets_what_has_ended_while_it_is_used(clock: Clock) -> None:
    store = MemorySessionStore(development=True, clock=clock)
    sessions = sessions_of(store, clock)
    used = await sessions.start("used")
    for _ in range(50):
        await sessions.revoke(await sessions.verify((await sessions.start("unused")).access.token))
    clock.advance(days=10)
    await sessions.refresh(used.refresh_token)
    clock.advance(days=10)
    for _ in range(20):
        await sessions.start("new")
    assert await store.purge(NOW_MS * 2) == 1 + 20
    for number in range(20):
        await sessions.end_all(str(number))
    clock.advance(days=400)
    for _ in range(5):
        await sessions.end_all("again")
    assert await store.purge(NOW_MS * 2) == 1
