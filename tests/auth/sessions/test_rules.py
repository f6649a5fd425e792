"""What a log-in refuses, whatever the store, and its settings."""

import secrets
from datetime import timedelta
from typing import Any

import pytest

from fastapi_kit.auth import Key, KeySet, Sessions, TokenService
from fastapi_kit.auth.sessions.memory import MemorySessionStore
from fastapi_kit.errors import ConfigurationError, UnavailableError
from tests.auth.sessions.support import NOW, SECRET, Clock, refused, revoked, sessions_of, signed

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "token",
    ["", "x", "A" * 63, "A" * 65, "A" * 63 + "=", "A" * 63 + "\n", "A" * 64 + "\n", "é" * 64, "+" * 64, "A" * 64],
)
async def test_what_is_no_token_is_unknown(token: str, clock: Clock) -> None:
    sessions = sessions_of(MemorySessionStore(development=True), clock)
    assert await refused(sessions, token) == "unknown"
    await sessions.end(token)


@pytest.mark.parametrize("subject", [1, None, b"7", ""])
async def test_a_subject_is_a_string_wherever_it_is_asked_for(subject: Any, clock: Clock) -> None:
    sessions = sessions_of(MemorySessionStore(development=True), clock)
    for answer in sessions.start(subject), sessions.end_all(subject):
        with pytest.raises(ValueError, match=r"the subject is .*give the id of the user as a string"):
            await answer


@pytest.mark.parametrize("subject", ["", "x" * 256, "a\0b", "\ud800"])
async def test_a_subject_that_a_store_cannot_hold_is_refused(subject: str, clock: Clock) -> None:
    sessions = sessions_of(MemorySessionStore(development=True), clock)
    with pytest.raises(ValueError, match="subject"):
        await sessions.start(subject)


async def test_what_a_token_cannot_hold_begins_no_log_in(clock: Clock) -> None:
    sessions = sessions_of(MemorySessionStore(development=True), clock)
    for wrong in ({"sid": "x"}, {"big": "x" * 9000}, {"nan": float("nan")}):
        with pytest.raises(ValueError, match=r"claims|JSON"):
            await sessions.start("7", claims=wrong)


async def test_claims_cannot_be_changed_through_what_the_application_passed(clock: Clock) -> None:
    sessions = sessions_of(MemorySessionStore(development=True), clock)
    claims: dict[str, Any] = {"roles": ["viewer"]}
    pair = await sessions.start("7", claims=claims)
    claims["roles"].append("admin")
    pair = await sessions.refresh(pair.refresh_token)
    assert (await sessions.verify(pair.access.token)).members["roles"] == ("viewer",)


async def test_a_token_that_names_a_log_in_which_is_not_its_own_is_refused(clock: Clock) -> None:
    sessions = sessions_of(MemorySessionStore(development=True), clock)
    pair = await sessions.start("7")
    issue = sessions.tokens.issue
    assert not await revoked(sessions, issue("7", session_id=pair.session_id).token)
    for subject, session_id in (("8", pair.session_id), ("7", secrets.token_hex(16))):
        assert await revoked(sessions, issue(subject, session_id=session_id).token)


async def test_without_a_grace_nothing_is_forgiven_whatever_the_clock_says(clock: Clock) -> None:
    sessions = sessions_of(MemorySessionStore(development=True), clock, grace=timedelta(0))
    pair = await sessions.start("7")
    await sessions.refresh(pair.refresh_token)
    clock.advance(seconds=-1)
    assert await refused(sessions, pair.refresh_token) == "replayed"


async def test_a_token_of_the_very_moment_of_a_log_out_everywhere_falls_with_it(clock: Clock) -> None:
    sessions = sessions_of(MemorySessionStore(development=True), clock)
    token = sessions.tokens.issue("7").token
    await sessions.end_all("7")
    assert await revoked(sessions, token)


async def test_a_revoked_token_stays_so_for_as_long_as_a_leeway_lets_it_live(clock: Clock) -> None:
    tokens = TokenService(Key.hmac(SECRET), issuer="i", audience="a", leeway=timedelta(minutes=5), clock=clock)
    sessions = Sessions(tokens, MemorySessionStore(development=True), clock=clock)
    token = tokens.issue("7").token
    await sessions.revoke(await sessions.verify(token))
    clock.advance(minutes=19)
    await sessions.purge()
    assert await revoked(sessions, token)


async def test_a_token_without_iat_or_jti_falls_with_a_log_out_everywhere(clock: Clock) -> None:
    sessions = sessions_of(MemorySessionStore(development=True), clock)
    token = signed(exp=NOW + 900)
    claims = await sessions.verify(token)
    with pytest.raises(ValueError, match="jti"):
        await sessions.revoke(claims)
    await sessions.end_all("7")
    assert await revoked(sessions, token)


async def test_a_token_of_another_issuer_cannot_be_revoked_here(clock: Clock) -> None:
    sessions = sessions_of(MemorySessionStore(development=True), clock)
    other = TokenService(Key.hmac(SECRET), issuer="other", audience="a", clock=clock)
    assert sessions.issuer == "i"
    with pytest.raises(ValueError, match="our own"):
        await sessions.revoke(other.verify(other.issue("7").token))


async def test_a_token_that_hardly_ever_ends_can_be_revoked(sessions: Sessions) -> None:
    token = signed(exp=1e300, jti=secrets.token_hex())
    await sessions.revoke(await sessions.verify(token))
    assert await revoked(sessions, token)


async def test_a_store_that_never_shows_the_last_change_is_unavailable(clock: Clock) -> None:
    class Lagging(MemorySessionStore):
        async def rotate(self, *_: Any, **__: Any) -> bool:
            return False

    sessions = sessions_of(Lagging(development=True), clock)
    pair = await sessions.start("7")
    with pytest.raises(UnavailableError):
        await sessions.refresh(pair.refresh_token)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"idle": timedelta(minutes=14)}, "idle is 0:14:00: choose 15 minutes to 90 days"),
        ({"idle": timedelta(days=91)}, "idle is 91 days.* to 90 days"),
        ({"idle": 14}, "idle is 14: give a timedelta"),
        ({"absolute": timedelta(days=13)}, "idle is 14 days.* to 13 days"),
        ({"absolute": timedelta(minutes=14)}, "absolute is 0:14:00: choose 15 minutes to"),
        ({"absolute": timedelta(days=3654)}, "absolute is 3654 days"),
        ({"absolute": 90}, "absolute is 90: give a timedelta"),
        ({"grace": timedelta(seconds=-1)}, "grace is -1 day"),
        ({"grace": timedelta(seconds=61)}, "grace is 0:01:01"),
        ({"grace": 10}, "grace is 10: give a timedelta"),
    ],
)
def test_times_out_of_their_bounds_are_told(options: Any, message: str, clock: Clock) -> None:
    with pytest.raises(ConfigurationError, match=message):
        sessions_of(MemorySessionStore(development=True), clock, **options)


def test_what_no_log_in_can_stand_on_is_told_at_once() -> None:
    key = Key.hmac(SECRET)
    tokens, store = TokenService(key, issuer="i", audience="a"), MemorySessionStore(development=True)
    wrong: list[tuple[Any, Any, str]] = [
        (store, tokens, "tokens is a MemorySessionStore: give a TokenService"),
        (KeySet(key), store, "tokens is a KeySet: give a TokenService"),
        (tokens, tokens, "store is a TokenService: give an object"),
        (tokens, MemorySessionStore, "store is a type: give an object"),
    ]
    for given, other, message in wrong:
        with pytest.raises(ConfigurationError, match=message):
            Sessions(given, other)
