"""Hashing: argon2id for new ones, bcrypt for old ones, bounded, and no faster for those who have no account."""

import asyncio
import os
import secrets
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import bcrypt
import pytest
from pydantic import SecretStr

from fastapi_kit.auth import OWASP, RFC_9106_LOW_MEMORY, Argon2Profile, PasswordHasher, PasswordsBusyError
from fastapi_kit.auth._handlers import BcryptHandler, argon2id_handler
from fastapi_kit.errors import ConfigurationError

pytestmark = pytest.mark.anyio

CHEAP = Argon2Profile(time_cost=1, memory_kib=8, parallelism=1)


@pytest.fixture
def hasher() -> PasswordHasher:
    return PasswordHasher(CHEAP)


async def test_a_hash_is_argon2id_with_the_profile_and_a_salt(hasher: PasswordHasher) -> None:
    first, second = await hasher.hash("correct horse"), await hasher.hash(SecretStr("correct horse"))
    assert first.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert first != second
    assert (await hasher.verify("correct horse", first)).valid
    assert (await hasher.verify(SecretStr("correct horse"), second)).valid
    assert not (await hasher.verify("wrong horse", first)).valid


@pytest.mark.parametrize(
    ("profile", "prefix"),
    [(RFC_9106_LOW_MEMORY, "$argon2id$v=19$m=65536,t=3,p=4$"), (OWASP, "$argon2id$v=19$m=19456,t=2,p=1$")],
)
async def test_the_named_profiles_are_those_of_their_sources(profile: Argon2Profile, prefix: str) -> None:
    hashed = await PasswordHasher(profile).hash("x")
    assert hashed.startswith(prefix)


async def test_an_older_profile_and_bcrypt_are_hashed_again(hasher: PasswordHasher) -> None:
    older = await PasswordHasher(Argon2Profile(2, 16, 1)).hash("pw")
    legacy = bcrypt.hashpw(b"pw", bcrypt.gensalt(4)).decode()
    for stale in (older, legacy):
        check = await hasher.verify("pw", stale)
        assert check.valid
        assert check.new_hash is not None
        assert check.new_hash.startswith("$argon2id$v=19$m=8,")
        assert await hasher.verify("pw", check.new_hash) == check.__class__(valid=True)
        assert await hasher.verify("no", stale) == check.__class__(valid=False)


async def test_bcrypt_never_cuts_a_password_silently(hasher: PasswordHasher) -> None:
    full = bcrypt.hashpw(b"a" * 72, bcrypt.gensalt(4)).decode()
    assert (await hasher.verify("a" * 72, full)).valid
    assert not (await hasher.verify("a" * 73, full)).valid


@pytest.mark.parametrize("stored", [None, "!", "", "plain", "$argon2id$broken", "$2b$04$short", "$1$abc$def"])
async def test_a_missing_or_unusable_hash_never_matches(hasher: PasswordHasher, stored: str | None) -> None:
    check = await hasher.verify("plain", stored)
    assert (check.valid, check.new_hash) == (False, None)


@pytest.mark.parametrize("password", ["x" * 1025, "\ud800"])
async def test_a_password_that_cannot_be_hashed_is_refused_and_never_matches(
    hasher: PasswordHasher, password: str
) -> None:
    with pytest.raises(ValueError, match="at most 1024 characters"):
        await hasher.hash(password)
    assert not (await hasher.verify(password, await hasher.hash(""))).valid


async def test_an_unknown_user_takes_the_time_of_a_wrong_password() -> None:
    hasher = PasswordHasher(OWASP, workers=1)
    hashed = await hasher.hash(secrets.token_hex())
    await hasher.verify("x", None)  # makes the dummy

    async def took(stored: str | None) -> float:
        start = time.perf_counter()
        await hasher.verify("x", stored)
        return time.perf_counter() - start

    pairs = [(await took(None), await took(hashed)) for _ in range(15)]
    ratio = statistics.median(unknown / wrong for unknown, wrong in pairs)
    assert 0.7 < ratio < 1.4


async def test_a_password_that_is_too_long_for_bcrypt_takes_the_time_of_a_wrong_one() -> None:
    hasher = PasswordHasher(OWASP, workers=1)
    legacy = bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()
    await hasher.verify("x", None)

    async def took(password: str, stored: str | None) -> float:
        start = time.perf_counter()
        await hasher.verify(password, stored)
        return time.perf_counter() - start

    pairs = [(await took("x" * 73, legacy), await took("x" * 73, None)) for _ in range(9)]
    assert 0.6 < statistics.median(long / unknown for long, unknown in pairs) < 1.6


async def test_a_full_queue_is_refused_and_recovers() -> None:
    hasher = PasswordHasher(CHEAP, workers=1, max_waiting=2)
    results = await asyncio.gather(*(hasher.hash("x") for _ in range(10)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, PasswordsBusyError)]
    assert len(refused) == 7
    assert (refused[0].status, refused[0].headers) == (503, {"Retry-After": "2"})
    assert (await hasher.hash("x")).startswith("$argon2id$")


async def test_a_caller_that_goes_away_keeps_its_place_until_the_work_is_done() -> None:
    hasher = PasswordHasher(OWASP, workers=1, max_waiting=1)
    for _ in range(2):
        task = asyncio.create_task(hasher.hash("x"))
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    with pytest.raises(PasswordsBusyError):
        await hasher.hash("x")
    async with asyncio.timeout(10):
        while True:
            try:
                assert await hasher.hash("x")
                break
            except PasswordsBusyError:
                await asyncio.sleep(0.01)


async def test_the_event_loop_goes_on_meanwhile() -> None:
    hasher = PasswordHasher(OWASP)
    hashing = asyncio.gather(*(hasher.hash("x") for _ in range(8)))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0.001)
        turns += 1
    await hashing
    assert turns > 8


@pytest.mark.parametrize("options", [{"workers": 0}, {"max_waiting": 0}, {"max_length": 0}])
def test_a_wrong_figure_is_told_at_start_up(options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="are numbers from 1 on"):
        PasswordHasher(CHEAP, **options)


def test_the_handlers_refuse_what_passlib_would_do_with_older_ones() -> None:
    with pytest.raises(NotImplementedError, match="new hashes are argon2id"):
        BcryptHandler.hash("x")
    with pytest.raises(NotImplementedError, match="use hash"):
        argon2id_handler(CHEAP).genhash("x", "y")


def priority(executor: ThreadPoolExecutor) -> tuple[int, int]:
    """Return niceness and scheduling policy of a thread of a pool."""
    return executor.submit(lambda: (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0))).result()


@pytest.mark.skipif(sys.platform != "linux", reason="no other system has priorities of threads")
async def test_hashing_leaves_the_cores_to_the_event_loop() -> None:
    loop = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)
    hashing = priority(PasswordHasher(CHEAP)._executor)
    assert hashing == (max(15, loop[0]), os.SCHED_BATCH)
    assert (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)) == loop


async def test_where_threads_have_no_priority_hashing_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)
    assert PasswordHasher(CHEAP)._executor.submit(lambda: "hashed").result() == "hashed"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert PasswordHasher(CHEAP)._executor.submit(lambda: "hashed").result() == "hashed"
