"""Issuing, rotating and revoking keys, and what a key says when it is verified."""

import asyncio
import hmac
import logging
import math
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from fastapi_kit.auth import ApiKeys, InvalidApiKeyError
from fastapi_kit.auth.api_keys import ApiKeyRecord, MemoryApiKeyStore, form
from fastapi_kit.errors import ConfigurationError, ConflictError, NotFoundError, UnavailableError
from tests.auth.api_keys.conftest import Clock

pytestmark = pytest.mark.anyio

PEPPER, OLDER = secrets.token_bytes(32), secrets.token_bytes(32)
CONNECTION = HTTPConnection({"type": "http", "headers": []})
DAY = timedelta(days=1)


class Store(MemoryApiKeyStore):
    """One that notes what was asked of it, and can be told to fail."""

    def __init__(self) -> None:
        super().__init__(development=True)
        self.looked_up: list[str] = []
        self.touches = 0
        self.failure: Exception | None = None

    async def find(self, key_id: str, /) -> ApiKeyRecord | None:
        self.looked_up.append(key_id)
        return await super().find(key_id)

    async def touch(self, key_id: str, /, *, now: int, before: int, secret_hash: str) -> None:
        self.touches += 1
        if self.failure is not None:
            raise self.failure
        await super().touch(key_id, now=now, before=before, secret_hash=secret_hash)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def keys(store: Store, clock: Clock) -> ApiKeys:
    return ApiKeys(store, PEPPER, prefix="kit", clock=clock)


def spliced(key_id: str, key: str) -> str:
    """Return a well-formed key of this id with the secret of that key."""
    body = f"kit_{key_id}_{key.split('_')[2][:43]}"
    return body + form._checksum(body)


async def reason_of(keys: ApiKeys, key: str) -> str:
    with pytest.raises(InvalidApiKeyError) as error:
        await keys.verify(key, CONNECTION)
    return error.value.reason


async def subject_of(keys: ApiKeys, key: str) -> str:
    return (await keys.verify(key, CONNECTION)).subject


async def test_a_key_says_who_it_is_for_and_what_it_may_do(keys: ApiKeys, clock: Clock) -> None:
    new = await keys.create("7", name="deploy", scopes=["write", "read"], expires_in=DAY)
    claims = await keys.verify(new.key, CONNECTION)
    assert (claims.subject, claims.issuer, claims.token_id) == ("7", "api_key", new.id)
    assert claims.scopes == {"read", "write"}
    assert (claims.issued_at, claims.not_before, claims.expires_at) == (clock.now, 0, clock.now + 86400)
    assert (claims.session_id, dict(claims.members)) == (None, {})
    assert new.expires_at == datetime.fromtimestamp(clock.now, UTC) + DAY


async def test_a_key_may_have_no_end(keys: ApiKeys, clock: Clock) -> None:
    new = await keys.create("7")
    clock.advance(100 * 366 * 86400)
    assert (await keys.verify(new.key, CONNECTION)).expires_at == math.inf
    assert new.expires_at is None


async def test_the_key_is_in_no_repr_and_in_no_record(keys: ApiKeys, store: Store) -> None:
    new = await keys.create("7", name="deploy")
    record = await store.find(new.id)
    assert record is not None
    secret = new.key.split("_")[2]
    for shown in [repr(new), repr(record), repr(await keys.list("7")), record.secret_hash]:
        assert secret not in shown
    assert record.secret_hash not in repr(record) + repr(await keys.list("7"))


async def test_a_list_shows_all_of_a_key_but_its_hash(keys: ApiKeys, store: Store, clock: Clock) -> None:
    first = await keys.create("7", name="old", scopes=["b", "a"], expires_in=DAY)
    created_at = datetime.fromtimestamp(clock.now, UTC)
    clock.advance(61)
    await keys.verify(first.key, CONNECTION)
    second = await keys.rotate(first.id, subject="7", overlap=timedelta(0))
    await keys.revoke(first.id, subject="7")
    newest, oldest = await keys.list("7")
    assert (newest.id, newest.last_used_at, newest.successor_id) == (second.id, None, None)
    assert (oldest.id, oldest.subject, oldest.name, oldest.scopes) == (first.id, "7", "old", ("a", "b"))
    later = created_at + timedelta(seconds=61)
    assert (oldest.created_at, oldest.last_used_at, oldest.expires_at, oldest.revoked_at) == (created_at, *[later] * 3)
    assert oldest.successor_id == second.id
    assert await keys.list("8") == ()


async def test_a_key_ends_on_time(keys: ApiKeys, clock: Clock) -> None:
    new = await keys.create("7", expires_in=timedelta(seconds=10))
    clock.advance(9.99)
    assert await subject_of(keys, new.key) == "7"
    clock.advance(0.01)
    assert await reason_of(keys, new.key) == "expired"


async def test_only_the_holder_of_a_genuine_key_learns_that_it_expired(keys: ApiKeys, clock: Clock) -> None:
    expired, revoked, other = [await keys.create("7", expires_in=DAY) for _ in range(3)]
    forged = spliced(expired.id, other.key)
    await keys.revoke(revoked.id, subject="7")
    clock.advance(86400)
    with pytest.raises(InvalidApiKeyError) as error:
        await keys.verify(expired.key, CONNECTION)
    assert error.value.detail == "The API key has expired."
    for key, reason in [(forged, "secret"), (revoked.key, "revoked"), (spliced("0" * 24, other.key), "unknown")]:
        with pytest.raises(InvalidApiKeyError) as error:
            await keys.verify(key, CONNECTION)
        assert (error.value.reason, error.value.detail) == (reason, InvalidApiKeyError.title)


async def test_each_verification_is_one_look_up_and_a_malformed_key_none(keys: ApiKeys, store: Store) -> None:
    new = await keys.create("7")
    for text in ["", "nonsense", new.key[:-1], new.key[:-1] + ("0" if new.key[-1] != "0" else "1")]:
        assert await reason_of(keys, text) in {"form", "checksum"}
    assert store.looked_up == []
    await keys.verify(new.key, CONNECTION)
    assert store.looked_up == [new.id]


async def test_an_unknown_id_costs_the_same_comparison(
    keys: ApiKeys, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []

    def compare(one: str, other: str) -> bool:
        compared.append(len(other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr("fastapi_kit.auth.api_keys.service.compare_digest", compare)
    new = await keys.create("7")
    await keys.verify(new.key, CONNECTION)
    assert await reason_of(keys, spliced("0" * 24, new.key)) == "unknown"
    assert compared == [64, 64]


async def test_a_stolen_table_opens_nothing_and_a_copied_hash_neither(keys: ApiKeys, store: Store) -> None:
    mine, theirs = await keys.create("eve"), await keys.create("ada", scopes=["admin"])
    record, victim = await store.find(mine.id), await store.find(theirs.id)
    assert record is not None
    assert victim is not None
    for text in [victim.secret_hash, f"kit_{theirs.id}_{victim.secret_hash}"]:
        assert await reason_of(keys, text) == "form"
    await store.add(replace(victim, secret_hash=record.secret_hash))
    assert await reason_of(keys, spliced(theirs.id, mine.key)) == "secret"


async def test_another_pepper_or_prefix_knows_no_key(keys: ApiKeys, store: Store) -> None:
    new = await keys.create("7")
    assert await reason_of(ApiKeys(store, OLDER, prefix="kit"), new.key) == "secret"
    assert await reason_of(ApiKeys(store, PEPPER, prefix="kid"), new.key) == "form"


async def test_a_pepper_is_replaced_while_keys_are_in_use(store: Store, clock: Clock) -> None:
    before = ApiKeys(store, OLDER, prefix="kit", clock=clock)
    between = ApiKeys(store, OLDER, PEPPER, prefix="kit", clock=clock)
    both = ApiKeys(store, PEPPER, OLDER, prefix="kit", clock=clock)
    after = ApiKeys(store, PEPPER, prefix="kit", clock=clock)
    used, unused = await before.create("7"), await before.create("7")
    new = await both.create("8")
    assert await subject_of(between, new.key) == "8"  # a worker that is not replaced yet
    assert await reason_of(after, used.key) == "secret"
    assert await subject_of(both, used.key) == "7"
    assert await subject_of(after, used.key) == "7"
    assert await reason_of(after, unused.key) == "secret"


async def test_revoking_ends_a_key_at_once_and_again_is_no_error(keys: ApiKeys) -> None:
    new, other = await keys.create("7"), await keys.create("7")
    await keys.verify(new.key, CONNECTION)
    await keys.revoke(new.id, subject="7")
    await keys.revoke(new.id, subject="7")
    assert await reason_of(keys, new.key) == "revoked"
    assert await subject_of(keys, other.key) == "7"


async def test_the_key_of_another_subject_is_none_of_ones_business(keys: ApiKeys) -> None:
    new = await keys.create("7")
    for call in keys.revoke, keys.rotate:
        for key_id, subject in [(new.id, "8"), ("0" * 24, "7")]:
            with pytest.raises(NotFoundError) as error:
                await call(key_id, subject=subject)
            assert error.value.detail == "There is no such API key."
    assert await subject_of(keys, new.key) == "7"


async def test_what_is_no_id_is_unknown_without_a_look_up(keys: ApiKeys, store: Store) -> None:
    for key_id in ["", "\0", "0" * 23, "0" * 25, "0" * 24 + "\n", "G" * 24, "\ud800"]:
        for answer in keys.get(key_id), keys.revoke(key_id, subject="7"), keys.rotate(key_id, subject="7"):
            with pytest.raises(NotFoundError):
                await answer
    assert store.looked_up == []


async def test_an_administrator_gets_any_key_and_ends_it_as_its_owner_would(keys: ApiKeys) -> None:
    new = await keys.create("7", name="deploy")
    info = await keys.get(new.id)
    assert (info,) == await keys.list("7")
    await keys.revoke(info.id, subject=info.subject)
    assert (await keys.get(new.id)).revoked_at is not None
    with pytest.raises(NotFoundError, match="There is no such API key"):
        await keys.get("0" * 24)


@pytest.mark.parametrize("subject", [1, None, "", b"7"])
async def test_a_subject_is_a_string_wherever_it_is_asked_for(keys: ApiKeys, subject: Any) -> None:
    new = await keys.create("7")
    for answer in (
        keys.create(subject),
        keys.list(subject),
        keys.revoke(new.id, subject=subject),
        keys.rotate(new.id, subject=subject),
    ):
        with pytest.raises(ValueError, match=r"the subject is .*give the id of the user as a string"):
            await answer
    assert await subject_of(keys, new.key) == "7"


async def test_a_rotated_key_overlaps_with_its_successor(keys: ApiKeys, clock: Clock) -> None:
    old = await keys.create("7", name="deploy", scopes=["read"], expires_in=90 * DAY)
    clock.advance(10 * 86400)
    new = await keys.rotate(old.id, subject="7", overlap=timedelta(hours=1))
    assert await subject_of(keys, old.key) == "7"
    claims = await keys.verify(new.key, CONNECTION)
    assert claims.subject == "7"
    assert claims.scopes == {"read"}
    assert claims.expires_at == clock.now + 90 * 86400
    assert [info.name for info in await keys.list("7")] == ["deploy", "deploy"]
    clock.advance(3600)
    assert await reason_of(keys, old.key) == "expired"
    assert await subject_of(keys, new.key) == "7"


async def test_the_successor_of_a_key_without_end_has_none_and_so_on(keys: ApiKeys, clock: Clock) -> None:
    first = await keys.create("7")
    second = await keys.rotate(first.id, subject="7")
    third = await keys.rotate(second.id, subject="7")
    assert (second.expires_at, third.expires_at) == (None, None)
    clock.advance(86400)
    assert [await reason_of(keys, key.key) for key in (first, second)] == ["expired"] * 2
    assert await subject_of(keys, third.key) == "7"


async def test_no_overlap_prolongs_a_key(keys: ApiKeys, clock: Clock) -> None:
    old = await keys.create("7", expires_in=timedelta(minutes=5))
    await keys.rotate(old.id, subject="7", overlap=DAY)
    clock.advance(300)
    assert await reason_of(keys, old.key) == "expired"


async def test_a_key_that_has_expired_gets_a_successor_and_stays_expired(keys: ApiKeys, clock: Clock) -> None:
    old = await keys.create("7", expires_in=timedelta(minutes=5))
    clock.advance(300)
    new = await keys.rotate(old.id, subject="7")
    assert await reason_of(keys, old.key) == "expired"
    assert (await keys.verify(new.key, CONNECTION)).expires_at == clock.now + 300


async def test_a_key_without_overlap_ends_with_its_rotation(keys: ApiKeys) -> None:
    old = await keys.create("7")
    new = await keys.rotate(old.id, subject="7", overlap=timedelta(0))
    assert await reason_of(keys, old.key) == "expired"
    assert await subject_of(keys, new.key) == "7"


async def test_a_key_is_rotated_once_and_never_after_it_was_revoked(keys: ApiKeys) -> None:
    rotated, revoked = await keys.create("7"), await keys.create("7")
    await keys.rotate(rotated.id, subject="7")
    await keys.revoke(revoked.id, subject="7")
    with pytest.raises(ConflictError, match="rotated already"):
        await keys.rotate(rotated.id, subject="7")
    with pytest.raises(NotFoundError, match="revoked"):
        await keys.rotate(revoked.id, subject="7")
    assert len(await keys.list("7")) == 3


async def test_a_rotation_that_lost_a_race_leaves_no_key(store: Store, keys: ApiKeys) -> None:
    new = await keys.create("7")

    class Late(Store):
        """One in which the key is revoked after it was looked up."""

        async def replace(self, key_id: str, successor: ApiKeyRecord, /, *, expires_at: int) -> bool:
            await self.revoke(key_id, 1)
            return await super().replace(key_id, successor, expires_at=expires_at)

    store.__class__ = Late
    with pytest.raises(ConflictError, match="or revoked meanwhile"):
        await keys.rotate(new.id, subject="7")
    assert len(await keys.list("7")) == 1


async def test_the_last_use_is_written_once_a_minute(keys: ApiKeys, store: Store, clock: Clock) -> None:
    new = await keys.create("7")
    for _ in range(3):
        await keys.verify(new.key, CONNECTION)
        clock.advance(30)
        await keys.verify(new.key, CONNECTION)
        clock.advance(30)
    assert store.touches == 2  # at 0 s and at 90 s: at 60 s the last was not older than a minute


async def test_requests_at_once_do_not_all_write_the_last_use(keys: ApiKeys, store: Store) -> None:
    new, other = await keys.create("7"), await keys.create("7")
    may_end = asyncio.Event()

    class Slow(Store):
        async def touch(self, key_id: str, /, *, now: int, before: int, secret_hash: str) -> None:
            await super().touch(key_id, now=now, before=now, secret_hash=secret_hash)
            await may_end.wait()

    store.__class__ = Slow
    pending = [asyncio.create_task(subject_of(keys, key)) for key in [new.key] * 20 + [other.key]]
    _, waiting = await asyncio.wait(pending, timeout=0, return_when=asyncio.FIRST_COMPLETED)
    while len(waiting) > 2:
        _, waiting = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED, timeout=0)
    assert store.touches == 2
    may_end.set()
    assert await asyncio.gather(*pending) == ["7"] * 21


async def test_a_refused_key_is_not_in_use(keys: ApiKeys, store: Store, clock: Clock) -> None:
    revoked, expired = await keys.create("7"), await keys.create("7", expires_in=timedelta(seconds=1))
    await keys.revoke(revoked.id, subject="7")
    clock.advance(1)
    for key in [revoked.key, expired.key, spliced(expired.id, revoked.key)]:
        await reason_of(keys, key)
    assert store.touches == 0


@pytest.mark.parametrize("failure", [UnavailableError(), RuntimeError("no such column: secret of the table")])
async def test_a_use_that_cannot_be_noted_refuses_nobody_and_is_tried_again_later(
    failure: Exception, keys: ApiKeys, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    new, other = await keys.create("7"), await keys.create("7")
    store.failure = failure
    with caplog.at_level(logging.WARNING, "fastapi_kit.auth"):
        for key in [new, other, new]:
            assert await subject_of(keys, key.key) == "7"
    assert caplog.messages == [f"The last use of API key {new.id} was not noted: {type(failure).__name__}"]
    assert new.key.split("_")[2] not in caplog.text
    store.failure = None
    clock.advance(60)
    await keys.verify(new.key, CONNECTION)
    assert store.touches == 2


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"subject": ""}, "subject"),
        ({"subject": "7" * 256}, "subject"),
        ({"subject": "7\0"}, "subject"),
        ({"name": "n" * 101}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"scopes": "read"}, r"write \['read'\]"),
        ({"scopes": ["read write"]}, "no scopes"),
        ({"scopes": [""]}, "no scopes"),
        ({"scopes": [f"scope{n}" for n in range(400)]}, "more than 2000 characters"),
        ({"expires_in": timedelta(0)}, "expires_in"),
        ({"expires_in": -DAY}, "expires_in"),
        ({"expires_in": 3654 * DAY}, "expires_in"),
        ({"expires_in": 90}, "expires_in is 90: give a timedelta"),
    ],
)
async def test_what_no_key_can_be_made_of_is_refused(keys: ApiKeys, arguments: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        await keys.create(**{"subject": "7", **arguments})


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), 91 * DAY, 1])
async def test_an_overlap_is_0_to_90_days(keys: ApiKeys, overlap: Any) -> None:
    new = await keys.create("7")
    with pytest.raises(ValueError, match="overlap"):
        await keys.rotate(new.id, subject="7", overlap=overlap)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda store: ApiKeys(store, "", prefix="kit"), "the pepper has 0 bytes"),
        (lambda store: ApiKeys(store, "a-short-one", prefix="kit"), "the pepper has 11 bytes"),
        (lambda store: ApiKeys(store, PEPPER, "change-me" * 9, prefix="kit"), "the pepper is like those of tutorials"),
        (lambda store: ApiKeys(store, PEPPER, prefix="Kit!"), "prefix is 'Kit!'"),
        (lambda store: ApiKeys(store, PEPPER, prefix="kit", header="X API Key"), "header is 'X API Key'"),
        (lambda store: ApiKeys(store, PEPPER, prefix="kit", header="Authorization"), "header is 'Authorization'"),
        (lambda store: ApiKeys(store, PEPPER, prefix="kit", header="cookie"), "header is 'cookie'"),
        (lambda store: ApiKeys(store, PEPPER, prefix="kit", touch_every=timedelta(0)), "touch_every is 0:00:00"),
        (lambda store: ApiKeys(store, PEPPER, prefix="kit", touch_every=2 * DAY), "touch_every is 2 days"),
    ],
)
def test_settings_that_cannot_work_are_told_at_once(store: Store, make: Callable[[Store], ApiKeys], fault: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        make(store)
    assert str(error.value).startswith(fault)
    assert "change-me" not in str(error.value)
    assert "a-short-one" not in str(error.value)


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ({"store": PEPPER}, "store is a bytes: give an object that keeps API keys"),
        ({"store": MemoryApiKeyStore}, "store is a type: give an object that keeps API keys"),
        ({"touch_every": 60}, "touch_every is 60: give a timedelta"),
    ],
)
def test_a_setting_of_another_type_is_told_at_once(store: Store, setting: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        ApiKeys(**{"store": store, "pepper": PEPPER, "prefix": "kit", **setting})
