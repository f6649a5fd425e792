"""Log-ins that begin and end within the application's own transaction."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import URL, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from fastapi_kit.auth.sessions.sqlalchemy import SQLAlchemySessionStore
from fastapi_kit.db import Database
from fastapi_kit.errors import ConflictError, UnavailableError
from tests.auth.sessions.support import (
    NOW_MS,
    Base,
    Clock,
    LoginSession,
    Revocation,
    postgres,
    record,
    refused,
    revoked,
    sessions_of,
    store_on,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("commits", [True, False])
async def test_a_log_out_everywhere_commits_or_rolls_back_with_the_application(
    database: Database, clock: Clock, commits: bool
) -> None:
    store = store_on(database)
    sessions = sessions_of(store, clock)
    subject = uuid4().hex
    pair = await sessions.start(subject)
    clock.advance(seconds=1)

    class RolledBackError(Exception):
        pass

    for _ in range(2):  # the first inserts a row, the second finds it
        try:
            async with database.session() as session:
                inside = sessions.using(store.within(session))
                await inside.end_all(subject)
                assert await inside.store.epoch(subject) >= NOW_MS + 1000
                assert await sessions.store.epoch(subject) == 0 or commits
                if not commits:
                    raise RolledBackError
        except RolledBackError:
            pass
    assert await revoked(sessions, pair.access.token) is commits


async def test_a_log_in_can_begin_and_end_within_the_applications_transaction(database: Database, clock: Clock) -> None:
    store = store_on(database)
    sessions = sessions_of(store, clock)
    async with database.session() as session:
        inside = sessions.using(store.within(session))
        one, two = await inside.start("7"), await inside.start("7")
        await inside.end_session(one.session_id)
        await inside.revoke(await inside.verify(two.access.token))
    assert await refused(sessions, one.refresh_token) == "ended"
    assert await revoked(sessions, two.access.token)
    await sessions.refresh(two.refresh_token)


async def test_the_applications_own_errors_stay_its_own(database: Database, clock: Clock) -> None:
    store = store_on(database)
    sessions = sessions_of(store, clock)
    fields = {"value": 1, "keep_until": 1}
    with pytest.raises(ConflictError):
        async with database.session() as session:
            key = uuid4().hex
            await session.execute(insert(Revocation).values(key=key, **fields))
            session.add(Revocation(key=key, **fields))
            with pytest.raises(IntegrityError):
                await sessions.using(store.within(session)).end_all("7")
            raise ConflictError


async def test_what_cannot_be_tried_again_within_a_transaction_is_unavailable(
    postgres_url: str, schema: str, clock: Clock
) -> None:
    database = postgres(postgres_url, schema, isolation_level="REPEATABLE READ")
    store = store_on(database)
    sessions = sessions_of(store, clock)
    subject = uuid4().hex
    await sessions.end_all(subject)
    with pytest.raises(UnavailableError):
        async with database.session() as session:
            await session.scalar(select(func.count()).select_from(Revocation))  # which takes the snapshot
            await sessions.end_all(subject)
            await sessions.using(store.within(session)).end_all(subject)
    await sessions.end_all(subject)
    await database.dispose()


async def test_after_a_deadlock_nothing_goes_on_as_if_the_transaction_were_still_there(mariadb: URL) -> None:
    """MariaDB rolls the whole transaction back, and would begin another one with the next statement."""
    engine = create_async_engine(mariadb)
    maker = async_sessionmaker(engine)
    store = SQLAlchemySessionStore(maker.begin, LoginSession, Revocation)
    subject, kept, written = uuid4().hex, record(), uuid4().hex
    await store.raise_epoch(subject, now=NOW_MS, keep_until=NOW_MS * 2)
    await store.add(kept)
    change = update(LoginSession).where(LoginSession.id == kept.id).values(ended_at=1)
    many = [{"key": uuid4().hex, "value": 0, "keep_until": 0} for _ in range(200)]
    async with maker() as other:

        async def then_roll_back(changing: Awaitable[object]) -> None:
            await changing
            await other.rollback()

        await other.execute(insert(Revocation), many)  # who has written less loses
        await store.within(other).raise_epoch(subject, now=NOW_MS, keep_until=NOW_MS)
        with pytest.raises(UnavailableError):
            async with maker.begin() as session:
                await session.execute(change)
                await session.execute(insert(Revocation).values(key=written, value=0, keep_until=0))
                waiting = asyncio.create_task(then_roll_back(other.execute(change)))
                await store.within(session).raise_epoch(subject, now=NOW_MS, keep_until=NOW_MS)
        await waiting
    async with maker() as session:
        assert await session.scalar(select(Revocation.value).where(Revocation.key == written)) is None
    assert await store.epoch(subject) == NOW_MS
    await engine.dispose()


async def test_a_locked_sqlite_is_told_with_what_to_do(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db", busy_timeout_seconds=0.01)
    await database.create_all(Base.metadata)
    store = store_on(database)
    sessions = sessions_of(store, clock)
    async with database.session() as session:
        await session.get(Revocation, "")
        with pytest.raises(UnavailableError):
            await sessions.end_all("7")
        (message,) = [record.message for record in caplog.records if record.name == "fastapi_kit.auth"]
        assert message == (
            "The database of the log-ins does not answer: OperationalError (SQLite is locked: if the session of the"
            " same request holds the lock, use store.within(session))"
        )
        await sessions.using(store.within(session)).end_all("7")
    assert await store.epoch("7") == NOW_MS
    await database.dispose()
