"""What a log-in promises, over every store."""

import asyncio
import logging
from datetime import timedelta

import pytest

from fastapi_kit.auth import InvalidGrantError, InvalidScopeError, Sessions, TokenPair
from fastapi_kit.auth.sessions.store import SessionStore
from tests.auth.sessions.support import NOW, Clock, refused, revoked, sessions_of, signed

pytestmark = pytest.mark.anyio


async def test_a_log_in_gives_a_pair_and_each_refresh_the_next(sessions: Sessions, clock: Clock) -> None:
    first = await sessions.start("7", scopes=["read", "write"], claims={"tenant": {"id": [1, "é"]}})
    clock.advance(minutes=15)
    second = await sessions.refresh(first.refresh_token)
    assert second.session_id == first.session_id
    assert second.refresh_token != first.refresh_token
    assert (second.refresh_expires_in, second.access.expires_in) == (14 * 86400, 900)
    claims = await sessions.verify(second.access.token)
    assert (claims.subject, claims.session_id, set(claims.scopes)) == ("7", first.session_id, {"read", "write"})
    assert claims.members["tenant"] == {"id": (1, "é")}
    assert claims.token_id != first.access.token_id
    third = await sessions.refresh(second.refresh_token)
    assert (await sessions.verify(third.access.token)).members["tenant"] == {"id": (1, "é")}


async def test_no_token_is_in_a_repr_or_in_the_store(sessions: Sessions) -> None:
    pair = await sessions.start("7")
    found = await sessions.store.find(pair.session_id)
    for shown in (repr(pair), repr(found), repr(sessions)):
        assert pair.refresh_token not in shown
        assert pair.access.token not in shown
    assert pair.session_id not in pair.refresh_token


async def test_fifty_refreshes_of_one_token_get_the_same_successor(sessions: Sessions) -> None:
    first = await sessions.start("7")
    pairs = await asyncio.gather(*(sessions.refresh(first.refresh_token) for _ in range(50)))
    assert len({pair.refresh_token for pair in pairs}) == 1
    assert len({pair.access.token_id for pair in pairs}) == 50
    await sessions.refresh(pairs[0].refresh_token)
    assert not await revoked(sessions, pairs[49].access.token)


async def test_without_a_grace_one_of_fifty_refreshes_succeeds_and_the_log_in_ends(
    store: SessionStore, clock: Clock
) -> None:
    sessions = sessions_of(store, clock, grace=timedelta(0))
    first = await sessions.start("7")
    answers = await asyncio.gather(*(sessions.refresh(first.refresh_token) for _ in range(50)), return_exceptions=True)
    pairs = [answer for answer in answers if isinstance(answer, TokenPair)]
    reasons = {answer.reason for answer in answers if isinstance(answer, InvalidGrantError)}
    assert len(pairs) == 1
    assert len(answers) - len(pairs) == 49
    assert "replayed" in reasons
    assert reasons <= {"replayed", "ended"}
    assert await refused(sessions, pairs[0].refresh_token) == "ended"
    assert await revoked(sessions, pairs[0].access.token)


async def test_a_token_used_again_ends_the_log_in_for_good(
    sessions: Sessions, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    first = await sessions.start("user-7")
    other = await sessions.start("user-7")
    second = await sessions.refresh(first.refresh_token)
    third = await sessions.refresh(second.refresh_token)
    with caplog.at_level(logging.WARNING, "fastapi_kit.auth"):
        assert await refused(sessions, first.refresh_token) == "replayed"
    (message,) = caplog.messages
    assert first.session_id in message
    assert "'user-7'" in message
    assert first.refresh_token not in message
    for token in (first, second, third):
        assert await refused(sessions, token.refresh_token) == "ended"
        assert await revoked(sessions, token.access.token)
    assert not await revoked(sessions, other.access.token)


async def test_the_right_handle_with_another_secret_ends_the_log_in(sessions: Sessions) -> None:
    pair = await sessions.start("7")
    end = "A" if pair.refresh_token[-1] != "A" else "B"
    assert await refused(sessions, pair.refresh_token[:-1] + end) == "replayed"
    assert await refused(sessions, pair.refresh_token) == "ended"


async def test_a_retry_gets_the_same_successor_until_the_grace_ends(sessions: Sessions, clock: Clock) -> None:
    first = await sessions.start("7")
    second = await sessions.refresh(first.refresh_token)
    clock.advance(seconds=9.999)
    again = await sessions.refresh(first.refresh_token)
    assert again.refresh_token == second.refresh_token
    assert again.refresh_expires_in == 14 * 86400 - 10
    clock.advance(seconds=0.001)
    assert await refused(sessions, first.refresh_token) == "replayed"
    assert await refused(sessions, second.refresh_token) == "ended"


async def test_within_the_grace_only_the_token_before_is_forgiven(sessions: Sessions) -> None:
    first = await sessions.start("7")
    second = await sessions.refresh(first.refresh_token)
    await sessions.refresh(second.refresh_token)
    await sessions.refresh(second.refresh_token)
    assert await refused(sessions, first.refresh_token) == "replayed"


async def test_a_clock_that_goes_back_a_little_is_another_workers_and_a_lot_prolongs_nothing(
    sessions: Sessions, clock: Clock
) -> None:
    first = await sessions.start("7")
    second = await sessions.refresh(first.refresh_token)
    clock.advance(seconds=-60)
    assert (await sessions.refresh(first.refresh_token)).refresh_token == second.refresh_token
    clock.advance(seconds=-0.001)
    assert await refused(sessions, first.refresh_token) == "replayed"


async def test_an_unused_log_in_expires_and_a_used_one_goes_on_to_its_absolute_end(
    store: SessionStore, clock: Clock
) -> None:
    sessions = sessions_of(store, clock, idle=timedelta(hours=1), absolute=timedelta(hours=2))
    unused, pair = await sessions.start("7"), await sessions.start("7")
    clock.advance(minutes=59)
    pair = await sessions.refresh(pair.refresh_token)
    clock.advance(minutes=1)
    assert await refused(sessions, unused.refresh_token) == "expired"
    clock.advance(minutes=55)
    pair = await sessions.refresh(pair.refresh_token)
    assert (pair.refresh_expires_in, pair.access.expires_in) == (300, 300)
    clock.advance(minutes=4, seconds=59.5)
    pair = await sessions.refresh(pair.refresh_token)
    assert (pair.refresh_expires_in, pair.access.expires_in) == (0, 1)
    longer = sessions.tokens.issue("7", session_id=pair.session_id).token
    assert not await revoked(sessions, longer)
    clock.advance(seconds=0.5)
    assert await refused(sessions, pair.refresh_token) == "expired"
    assert await revoked(sessions, longer)


async def test_a_refresh_may_ask_for_less_and_the_log_in_keeps_its_scopes(sessions: Sessions) -> None:
    pair = await sessions.start("7", scopes=["read", "write"])
    less = await sessions.refresh(pair.refresh_token, scopes=["read"])
    assert less.access.scopes == {"read"}
    assert (await sessions.verify(less.access.token)).scopes == {"read"}
    with pytest.raises(InvalidScopeError) as error:
        await sessions.refresh(less.refresh_token, scopes=["read", "admin"])
    assert error.value.extensions == {"error": "invalid_scope"}
    assert error.value.headers == {"Cache-Control": "no-store"}
    none = await sessions.refresh(less.refresh_token, scopes=[])
    assert none.access.scopes == frozenset()
    with pytest.raises(InvalidScopeError):
        await sessions.refresh(less.refresh_token, scopes=["admin"])  # a retry
    assert (await sessions.refresh(none.refresh_token)).access.scopes == {"read", "write"}


async def test_scopes_that_can_be_read_once_are_kept_over_all_attempts(sessions: Sessions) -> None:
    pair = await sessions.start("7", scopes=["read", "write"])
    pairs = await asyncio.gather(*(sessions.refresh(pair.refresh_token, scopes=iter(["read"])) for _ in range(10)))
    assert {each.access.scopes for each in pairs} == {frozenset({"read"})}


async def test_logging_out_ends_the_log_in_with_any_of_its_tokens(sessions: Sessions) -> None:
    for use_old in (False, True):
        first = await sessions.start("7")
        second = await sessions.refresh(first.refresh_token)
        await sessions.end(first.refresh_token if use_old else second.refresh_token)
        await sessions.end(second.refresh_token)
        assert await refused(sessions, second.refresh_token) == "ended"
        assert await revoked(sessions, second.access.token)


async def test_one_log_in_of_several_can_be_ended_by_its_id(sessions: Sessions) -> None:
    here, there = await sessions.start("7"), await sessions.start("7")
    await sessions.end_session(there.session_id)
    await sessions.end_session("no such id")
    assert await revoked(sessions, there.access.token)
    assert not await revoked(sessions, here.access.token)


async def test_logging_out_everywhere_ends_all_that_the_subject_has_and_nothing_else(
    sessions: Sessions, clock: Clock
) -> None:
    pair, other = await sessions.start("a"), await sessions.start("A")
    alone, others = sessions.tokens.issue("a").token, sessions.tokens.issue("A").token
    for token in (pair.access.token, alone, others):
        assert not await revoked(sessions, token)  # and now they are in the cache
    clock.advance(seconds=0.5)
    await sessions.end_all("a")
    assert await revoked(sessions, pair.access.token)
    assert await revoked(sessions, alone)
    assert await refused(sessions, pair.refresh_token) == "ended"
    assert not await revoked(sessions, others)
    await sessions.refresh(other.refresh_token)

    new = await sessions.start("a")
    assert not await revoked(sessions, new.access.token)
    await sessions.refresh(new.refresh_token)
    assert await revoked(sessions, sessions.tokens.issue("a").token)  # in the same second: refused, to be safe
    clock.advance(seconds=1)
    assert not await revoked(sessions, sessions.tokens.issue("a").token)


async def test_no_refresh_that_runs_meanwhile_outlives_a_log_out_everywhere(sessions: Sessions, clock: Clock) -> None:
    async def refresh(pair: TokenPair) -> TokenPair:
        for _ in range(5):
            pair = await sessions.refresh(pair.refresh_token)
        return pair

    pairs = [await sessions.start("7") for _ in range(8)]
    tasks = [asyncio.create_task(refresh(pair)) for pair in pairs]
    await sessions.refresh((await sessions.start("other")).refresh_token)
    await sessions.end_all("7")
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    for before, answer in zip(pairs, answers, strict=True):
        pair = answer if isinstance(answer, TokenPair) else before
        assert isinstance(answer, TokenPair | InvalidGrantError)
        assert await revoked(sessions, pair.access.token)
        assert await refused(sessions, pair.refresh_token) == "ended"


async def test_a_log_in_outlives_the_record_of_a_log_out_before_it(store: SessionStore, clock: Clock) -> None:
    sessions = sessions_of(store, clock)
    await sessions.end_all("7")
    clock.advance(days=360)
    pair = await sessions.start("7")
    clock.advance(days=10)  # the epoch is forgotten, the log-in is not
    await sessions.purge()
    pair = await sessions.refresh(pair.refresh_token)
    assert not await revoked(sessions, pair.access.token)


async def test_one_access_token_can_be_revoked_although_it_is_cached(sessions: Sessions) -> None:
    pair = await sessions.start("7")
    claims = await sessions.verify(pair.access.token)
    await sessions.verify(pair.access.token)
    hits = sessions.tokens.cache_info().hits
    await sessions.revoke(claims)
    assert await revoked(sessions, pair.access.token)
    assert sessions.tokens.cache_info().hits == hits + 1
    assert not await revoked(sessions, (await sessions.refresh(pair.refresh_token)).access.token)


@pytest.mark.parametrize("session_id", ["\0", "0" * 32, "0" * 5000])
async def test_a_token_that_names_no_log_in_there_is_counts_as_revoked(sessions: Sessions, session_id: str) -> None:
    assert await revoked(sessions, signed(exp=NOW + 900, sid=session_id))


async def test_purging_keeps_what_lives(sessions: Sessions, clock: Clock) -> None:
    pair = await sessions.start("7")
    await sessions.end_all("other")
    clock.advance(days=13)
    await sessions.purge()
    await sessions.refresh(pair.refresh_token)
