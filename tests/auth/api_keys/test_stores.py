"""What every store of API keys promises, on each of them."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from fastapi_kit.auth.api_keys import ApiKeyRecord, ApiKeyStore, MemoryApiKeyStore
from tests.auth.api_keys.support import on_mariadb, on_postgres, on_sqlite, store_in

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000_000


@pytest.fixture(params=["memory", "sqlite", "postgres", "mariadb"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[ApiKeyStore]:
    match request.param:
        case "memory":
            yield MemoryApiKeyStore(development=True)
            return
        case "sqlite":
            context = on_sqlite(tmp_path)
        case "postgres":
            context = on_postgres(request.getfixturevalue("postgres_url"))
        case _:
            context = on_mariadb(request.getfixturevalue("mariadb_url"))
    async with context as database:
        yield store_in(database)


def a_record(subject: str = "ada", *, created_at: int = NOW, expires_at: int | None = None) -> ApiKeyRecord:
    scopes = frozenset({"write", "read"})
    return ApiKeyRecord(
        secrets.token_hex(12), secrets.token_hex(32), subject, "ein Schlüssel 🔑", scopes, created_at, expires_at
    )


async def added(store: ApiKeyStore, record: ApiKeyRecord) -> ApiKeyRecord:
    await store.add(record)
    return record


async def found(store: ApiKeyStore, record: ApiKeyRecord) -> ApiKeyRecord:
    kept = await store.find(record.id)
    assert kept is not None
    return kept


async def test_a_key_is_found_as_it_was_added(store: ApiKeyStore) -> None:
    without_end, with_end = a_record(), replace(a_record(expires_at=NOW + 1), scopes=frozenset(), name="")
    for record in without_end, with_end:
        await store.add(record)
        assert await store.find(record.id) == record


async def test_an_unknown_id_finds_nothing(store: ApiKeyStore) -> None:
    await store.add(a_record())
    assert await store.find("0" * 24) is None


async def test_the_keys_of_a_subject_come_newest_first_and_no_other(store: ApiKeyStore) -> None:
    old, new = [await added(store, a_record(created_at=NOW + at)) for at in (0, 1)]
    twins = sorted([await added(store, a_record("ann")) for _ in range(2)], key=lambda record: record.id)
    for other in ["Ada", "ada ", "àda", "adam"]:
        await store.add(a_record(other))
    assert list(await store.of_subject("ada")) == [new, old]
    assert list(await store.of_subject("ann")) == twins
    assert list(await store.of_subject("eve")) == []


async def test_the_first_revocation_counts(store: ApiKeyStore) -> None:
    record, other = await added(store, a_record()), await added(store, a_record())
    await store.revoke(record.id, NOW + 1)
    await store.revoke(record.id, NOW + 2)
    await store.revoke("0" * 24, NOW)
    assert await store.find(record.id) == replace(record, revoked_at=NOW + 1)
    assert await store.find(other.id) == other


async def test_a_successor_takes_over(store: ApiKeyStore) -> None:
    record, successor = await added(store, a_record()), a_record()
    assert await store.replace(record.id, successor, expires_at=NOW + 5)
    assert await store.find(record.id) == replace(record, expires_at=NOW + 5, successor_id=successor.id)
    assert await store.find(successor.id) == successor


async def test_a_key_that_is_unknown_or_revoked_or_replaced_gets_no_successor(store: ApiKeyStore) -> None:
    revoked, replaced = await added(store, a_record()), await added(store, a_record())
    await store.revoke(revoked.id, NOW)
    await store.replace(replaced.id, a_record(), expires_at=NOW)
    for key_id in [revoked.id, replaced.id, "0" * 24]:
        successor = a_record()
        assert not await store.replace(key_id, successor, expires_at=NOW + 9)
        assert await store.find(successor.id) is None
    assert (await found(store, replaced)).expires_at == NOW


async def test_of_20_successors_at_once_one_takes_over(store: ApiKeyStore) -> None:
    record = await added(store, a_record())
    successors = [a_record("bob") for _ in range(20)]
    done = await asyncio.gather(*[store.replace(record.id, one, expires_at=NOW) for one in successors])
    assert done.count(True) == 1
    winner = successors[done.index(True)]
    assert list(await store.of_subject("bob")) == [winner]
    assert (await found(store, record)).successor_id == winner.id


async def test_a_key_is_either_revoked_before_it_is_replaced_or_not_replaced(store: ApiKeyStore) -> None:
    for _ in range(5):
        record, successor = await added(store, a_record()), a_record()
        done, _revoked = await asyncio.gather(
            store.replace(record.id, successor, expires_at=NOW), store.revoke(record.id, NOW)
        )
        kept = await found(store, record)
        assert kept.revoked_at == NOW
        assert (kept.successor_id is not None) is done
        assert (await store.find(successor.id) is not None) is done


async def test_a_use_is_noted_with_the_new_hash_when_the_last_one_is_old_enough(store: ApiKeyStore) -> None:
    record, other = await added(store, a_record()), await added(store, a_record())
    first, second, third = (secrets.token_hex(32) for _ in range(3))
    await store.touch(record.id, now=NOW, before=NOW - 60, secret_hash=first)
    await store.touch(record.id, now=NOW + 60, before=NOW, secret_hash=second)
    assert await store.find(record.id) == replace(record, last_used_at=NOW, secret_hash=first)
    await store.touch(record.id, now=NOW + 61, before=NOW + 1, secret_hash=third)
    await store.touch("0" * 24, now=NOW, before=NOW, secret_hash=first)
    assert await store.find(record.id) == replace(record, last_used_at=NOW + 61, secret_hash=third)
    assert await store.find(other.id) == other


def test_the_memory_store_warns_unless_it_is_meant() -> None:
    with pytest.warns(UserWarning, match="loses all API keys at a restart") as warned:
        MemoryApiKeyStore()
    assert warned[0].filename == __file__
