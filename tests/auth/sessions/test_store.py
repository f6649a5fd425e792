"""What every store promises, on each of them."""

import asyncio
import secrets
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from fastapi_kit.auth.sessions.store import SessionState, SessionStore
from tests.auth.sessions.support import NOW_MS, record

pytestmark = pytest.mark.anyio

HOUR = 3_600_000


async def test_a_log_in_comes_back_as_it_was_kept(store: SessionStore) -> None:
    kept = record(subject="ü" * 255, previous_hash="p" * 64, nonce="n" * 64, rotated_at=7, epoch=3)
    await store.add(kept)
    assert await store.find(kept.id) == (kept, await store.epoch(kept.subject))


async def test_one_without_scopes_and_claims_comes_back_too(store: SessionStore) -> None:
    kept = record(scopes=frozenset(), claims={})
    await store.add(kept)
    assert await store.find(kept.id) == (kept, 0)


async def test_what_is_unknown_is_nothing(store: SessionStore) -> None:
    assert await store.find("0" * 32) is None
    assert await store.epoch(uuid4().hex) == 0
    assert await store.check(uuid4().hex, None, None) == SessionState(is_denied=False, epoch=0, session=None)
    assert await store.check(uuid4().hex, "0" * 32, "t") == SessionState(is_denied=False, epoch=0, session=None)


async def test_rotation_replaces_the_presented_hash_alone(store: SessionStore) -> None:
    before = record()
    await store.add(before)
    new, nonce = secrets.token_hex(32), secrets.token_hex(32)
    change: Any = {"successor": new, "nonce": nonce, "now": NOW_MS + 1, "expires_at": NOW_MS + 3000}
    assert not await store.rotate(before.id, presented=secrets.token_hex(32), **change)
    assert await store.find(before.id) == (before, 0)
    assert await store.rotate(before.id, presented=before.secret_hash, **change)
    after = replace(
        before,
        secret_hash=new,
        previous_hash=before.secret_hash,
        nonce=nonce,
        rotated_at=NOW_MS + 1,
        expires_at=NOW_MS + 3000,
    )
    assert await store.find(before.id) == (after, 0)
    assert not await store.rotate(before.id, presented=before.secret_hash, **change | {"successor": "f" * 64})
    assert not await store.rotate("0" * 32, presented=new, **change)
    assert await store.find(before.id) == (after, 0)


async def test_of_fifty_rotations_at_once_one_is_done(store: SessionStore) -> None:
    before = record()
    await store.add(before)
    successors = [secrets.token_hex(32) for _ in range(50)]
    done = await asyncio.gather(
        *(
            store.rotate(
                before.id, presented=before.secret_hash, successor=successor, nonce="n", now=1, expires_at=NOW_MS * 2
            )
            for successor in successors
        )
    )
    assert done.count(True) == 1
    found = await store.find(before.id)
    assert found is not None
    assert found[0].secret_hash == successors[done.index(True)]


async def test_an_ended_log_in_stays_ended_and_does_not_rotate(store: SessionStore) -> None:
    kept = record()
    await store.add(kept)
    await store.end(kept.id, NOW_MS + 1)
    await store.end(kept.id, NOW_MS + 2)
    assert await store.find(kept.id) == (replace(kept, ended_at=NOW_MS + 1), 0)
    assert not await store.rotate(
        kept.id, presented=kept.secret_hash, successor="s", nonce="n", now=NOW_MS, expires_at=NOW_MS
    )


async def test_ending_what_is_unknown_keeps_nothing(store: SessionStore) -> None:
    unknown = secrets.token_hex(16)
    await store.end(unknown, NOW_MS)
    assert await store.find(unknown) is None


async def test_an_epoch_rises_even_if_the_clock_went_back(store: SessionStore) -> None:
    subject = uuid4().hex
    assert await store.raise_epoch(subject, now=NOW_MS, keep_until=NOW_MS + HOUR) == NOW_MS
    assert await store.raise_epoch(subject, now=NOW_MS - HOUR, keep_until=NOW_MS) == NOW_MS + 1
    assert await store.raise_epoch(subject, now=NOW_MS + 50, keep_until=NOW_MS + HOUR) == NOW_MS + 50
    assert await store.epoch(subject) == NOW_MS + 50
    assert await store.epoch(subject.upper()) == 0


async def test_fifty_raises_at_once_give_fifty_epochs(store: SessionStore) -> None:
    subject = uuid4().hex
    raised = await asyncio.gather(
        *(store.raise_epoch(subject, now=NOW_MS, keep_until=NOW_MS + HOUR) for _ in range(50))
    )
    assert sorted(raised) == list(range(NOW_MS, NOW_MS + 50))
    assert await store.epoch(subject) == NOW_MS + 49


async def test_a_check_tells_all_there_is_to_know(store: SessionStore) -> None:
    kept = record()
    await store.add(kept)
    epoch = await store.raise_epoch(kept.subject, now=NOW_MS, keep_until=NOW_MS + HOUR)
    token_id, other = uuid4().hex, uuid4().hex
    await asyncio.gather(*(store.deny(token_id, keep_until=NOW_MS + HOUR) for _ in range(10)))
    assert await store.check(kept.subject, kept.id, token_id) == SessionState(True, epoch, kept)
    assert await store.check(kept.subject, kept.id, other) == SessionState(False, epoch, kept)
    assert await store.check(other, None, token_id) == SessionState(True, 0, None)
    assert await store.check(other, None, None) == SessionState(False, 0, None)


async def test_no_name_is_too_long_or_too_odd(store: SessionStore) -> None:
    name = "\0\ud800'\"" + "x" * 5000
    epoch = await store.raise_epoch(name, now=NOW_MS, keep_until=NOW_MS + HOUR)
    await store.deny(name, keep_until=NOW_MS + HOUR)
    assert await store.check(name, None, name) == SessionState(True, epoch, None)


@pytest.mark.parametrize("store", ["memory", "sqlite", "postgres", "mariadb"], indirect=True)
async def test_purging_deletes_what_is_past_its_end_and_nothing_else(store: SessionStore) -> None:
    end = NOW_MS + HOUR
    await store.purge(NOW_MS * 2)  # what other tests left
    past, living = record(expires_at=end), record(expires_at=end + 1)
    for kept in (past, living):
        await store.add(kept)
    await store.deny("past", keep_until=end)
    await store.deny("living", keep_until=end + 1)
    await store.raise_epoch("past", now=5, keep_until=end)
    await store.raise_epoch("living", now=5, keep_until=end + 1)
    await store.raise_epoch("living", now=5, keep_until=0)  # the clock went back: kept as long as before
    assert await store.purge(end) == 3
    assert await store.purge(end) == 0
    assert await store.find(past.id) is None
    assert await store.check("past", living.id, "past") == SessionState(False, 0, living)
    assert await store.check("living", None, "living") == SessionState(True, 6, None)
    assert await store.purge(end + 1) == 3
