"""Log-ins in the application's own database: SQLite, PostgreSQL or MariaDB."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from copy import copy
from functools import partial
from typing import Any, TypeVar

from fastapi_kit.auth.sessions.models import RevocationMixin, SessionMixin
from fastapi_kit.auth.sessions.store import (
    SessionRecord,
    SessionState,
    fields_of,
    record_of,
    revocation_key,
    unavailable,
)
from fastapi_kit.auth.sql_store import (
    DATABASE_ERRORS,
    UnitOfWork,
    checked_model,
    checked_unit,
    is_outage,
    sql_error,
    warn_of_outage,
)
from fastapi_kit.errors import ConflictError, needs_extra

with needs_extra("db"):
    from sqlalchemy import (
        Column,
        ColumnElement,
        Delete,
        Select,
        Table,
        Update,
        bindparam,
        case,
        delete,
        insert,
        inspect,
        literal,
        select,
        update,
    )
    from sqlalchemy.exc import IntegrityError
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

__all__ = ["RevocationMixin", "SQLAlchemySessionStore", "SessionMixin"]

_ResultT = TypeVar("_ResultT")

_FIELDS = tuple(SessionRecord.__dataclass_fields__)
_ATTEMPTS = 10
_PURGED_AT_ONCE = 1000
_RAISED: tuple[type[Exception], ...] = (*DATABASE_ERRORS, ConflictError)
# Another transaction was first: PostgreSQL's serialization failure and deadlock; MariaDB's deadlock, snapshot too old.
_OVERTAKEN = frozenset({"40001", "40P01", 1213, 1020})


class SQLAlchemySessionStore:
    """Keep log-ins in two tables of the application, migrated by its own Alembic.

    `begin` opens a unit of work that commits at its end: `db.session` of the kit's `Database`, or `begin` of an
    `async_sessionmaker`. Each call has one of its own, so that a replayed token ends its log-in although the request
    is refused. `read` opens one for reads: `partial(db.session, read_only=True)`; with asyncpg, an `async_sessionmaker`
    of an engine with `isolation_level="AUTOCOMMIT"` saves each check its BEGIN and ROLLBACK. It must see what was
    committed, so no replica that lags behind. A transaction that was overtaken by another is tried again, up to ten
    times.

    Whatever the database or its driver raises is an `UnavailableError` (503), and a warning in the log of
    "fastapi_kit.auth" names its class. An error in a statement, such as a missing table, stays what it is. A server
    that hangs is given up when the driver gives up: set its time-out, asyncpg's `command_timeout` for one.

    Raises `ConfigurationError` for a `begin` or `read` that opens no session, for a model of another mixin, and for one
    with a column of its own that has no default.
    """

    def __init__(
        self,
        begin: UnitOfWork,
        sessions: type[SessionMixin],
        revocations: type[RevocationMixin],
        *,
        read: UnitOfWork | None = None,
    ) -> None:
        checked_unit("begin", begin)
        checked_unit("read", read or begin, commits=False)
        self._begin, self._read = begin, read or begin
        self._sessions = checked_model("sessions", sessions, SessionMixin)
        self._revocations = checked_model("revocations", revocations, RevocationMixin)
        self._columns = [self._sessions.c[name] for name in _FIELDS]
        self._check = _check(self._sessions, self._revocations, self._columns)
        self._mapper = inspect(sessions)
        self._outer: AsyncSession | None = None

    def within(self, session: AsyncSession) -> "SQLAlchemySessionStore":
        """Return a store that works inside this session's transaction, and commits or rolls back with it.

        For `Sessions.using`, to begin and to end log-ins; not for `refresh`, since the end that a replayed token brings
        must be committed although the request is refused. After an `UnavailableError` roll the transaction back.
        """
        store: SQLAlchemySessionStore = copy(self)
        store._begin = store._read = lambda: nullcontext(session)
        store._outer = session
        return store

    async def epoch(self, subject: str) -> int:
        """Return the subject's epoch."""
        return await self._run(self._read, partial(self._value, key=revocation_key("epoch", subject))) or 0

    async def add(self, record: SessionRecord) -> None:
        """Keep a new log-in."""
        statement = insert(self._sessions).values(fields_of(record))
        await self._run(self._begin, lambda connection: connection.execute(statement))

    async def find(self, session_id: str) -> tuple[SessionRecord, int] | None:
        """Return a log-in and its subject's epoch."""
        statement = select(*self._columns).where(self._sessions.c.id == session_id)

        async def work(connection: AsyncConnection) -> tuple[SessionRecord, int] | None:
            row = (await connection.execute(statement)).mappings().first()
            if row is None:
                return None
            return record_of(row), await self._value(connection, revocation_key("epoch", row["subject"])) or 0

        return await self._run(self._read, work)

    async def rotate(
        self, session_id: str, *, presented: str, successor: str, nonce: str, now: int, expires_at: int
    ) -> bool:
        """Replace the good hash, if it is the one presented."""
        table = self._sessions
        statement = (
            update(table)
            .where(table.c.id == session_id, table.c.secret_hash == presented, table.c.ended_at == 0)
            .values(secret_hash=successor, previous_hash=presented, nonce=nonce, rotated_at=now, expires_at=expires_at)
        )
        return await self._run(self._begin, partial(_changed, statement=statement)) == 1

    async def end(self, session_id: str, now: int) -> None:
        """End one log-in."""
        table = self._sessions
        statement = update(table).where(table.c.id == session_id, table.c.ended_at == 0).values(ended_at=now)
        await self._run(self._begin, partial(_changed, statement=statement))

    async def raise_epoch(self, subject: str, *, now: int, keep_until: int) -> int:
        """Raise the subject's epoch, and return it."""
        value = self._revocations.c.value
        raised = case((value >= now, value + 1), else_=now)
        return await self._revoke(revocation_key("epoch", subject), now, raised, keep_until)

    async def deny(self, token_id: str, *, keep_until: int) -> None:
        """Revoke one access token."""
        await self._revoke(revocation_key("token", token_id), 0, literal(0), keep_until)

    async def check(self, subject: str, session_id: str | None, token_id: str | None) -> SessionState:
        """Return what there is to know of an access token."""
        values = {
            "epoch_key": revocation_key("epoch", subject),
            "token_key": revocation_key("token", token_id or ""),
            "session_id": session_id or "",
        }

        async def work(connection: AsyncConnection) -> SessionState:
            row: dict[str, Any] = dict((await connection.execute(self._check, values)).mappings().one())
            epoch, denied = row.pop("subject_epoch") or 0, row.pop("denied")
            return SessionState(denied is not None, epoch, record_of(row) if row["id"] is not None else None)

        return await self._run(self._read, work)

    async def purge(self, now: int) -> int:
        """Delete all that is past its end, a thousand rows in a transaction."""
        sessions, revocations = self._sessions.c, self._revocations.c
        return await self._purge(sessions.id, sessions.expires_at, now) + await self._purge(
            revocations.key, revocations.keep_until, now
        )

    async def _purge(self, key: Column[str], end: Column[int], now: int) -> int:
        async def work(connection: AsyncConnection) -> tuple[int, int]:
            keys = (await connection.scalars(select(key).where(end <= now).limit(_PURGED_AT_ONCE))).all()
            return len(keys), await _changed(connection, delete(key.table).where(key.in_(keys), end <= now))

        total, found = 0, _PURGED_AT_ONCE
        while found == _PURGED_AT_ONCE:
            found, deleted = await self._run(self._begin, work)
            total += deleted
        return total

    async def _value(self, connection: AsyncConnection, key: str) -> int | None:
        table = self._revocations
        return await connection.scalar(select(table.c.value).where(table.c.key == key))

    async def _revoke(self, key: str, first: int, raised: ColumnElement[int], keep_until: int) -> int:
        """Insert a row with the value `first`, or set the one that is there to `raised`; return its value.

        No dialect's own upsert, and no UPDATE of a row that is not there, with which MariaDB locks its neighbours.
        """
        table = self._revocations
        longer = case((table.c.keep_until > keep_until, table.c.keep_until), else_=keep_until)
        change = update(table).where(table.c.key == key).values(value=raised, keep_until=longer)
        # In a transaction of its own: one that has read may fail to write what has changed since.
        is_there = await self._run(self._read, partial(self._value, key=key)) is not None

        async def work(connection: AsyncConnection) -> int:
            nonlocal is_there
            if is_there and await _changed(connection, change):
                return await self._value(connection, key) or 0
            is_there = True  # at the next attempt: if this one fails, another has inserted it
            await connection.execute(insert(table).values(key=key, value=first, keep_until=keep_until))
            return first

        return await self._run(self._begin, work)

    async def _run(self, begin: UnitOfWork, work: Callable[[AsyncConnection], Awaitable[_ResultT]]) -> _ResultT:
        if self._outer is not None:
            await self._outer.flush()  # here, so that the application's errors stay its own
        attempts = 0
        while True:
            try:
                async with begin() as session:
                    return await work(await session.connection(bind_arguments={"mapper": self._mapper}))
            except _RAISED as exc:
                attempts += 1
                was_overtaken = _is_overtaken(exc)
                if not (was_overtaken or is_outage(exc)):
                    raise
                # What the application did before in a transaction of its own cannot be done again here.
                if attempts == _ATTEMPTS or self._outer is not None or not was_overtaken:
                    warn_of_outage("log-ins", exc, if_locked="use store.within(session)")
                    break
            await asyncio.sleep(random.uniform(0, 0.01 * attempts))  # noqa: S311
        raise unavailable()  # here, so that it drags no error of the database along


def _check(sessions: Table, revocations: Table, columns: list[Column[Any]]) -> Select[*tuple[Any, ...]]:
    """Return the statement of every request, made once."""
    epoch = select(revocations.c.value).where(revocations.c.key == bindparam("epoch_key"))
    denied = select(revocations.c.key).where(revocations.c.key == bindparam("token_key"))
    always = select(literal(1)).subquery()  # a row to join to, whether there is a log-in or not
    return select(
        epoch.scalar_subquery().label("subject_epoch"), denied.scalar_subquery().label("denied"), *columns
    ).select_from(always.outerjoin(sessions, sessions.c.id == bindparam("session_id")))


async def _changed(connection: AsyncConnection, statement: Update | Delete) -> int:
    return (await connection.execute(statement)).rowcount


def _is_overtaken(error: BaseException) -> bool:
    cause = sql_error(error)
    driver = getattr(cause, "driver_exception", None)  # None where the pool had no connection in time
    return isinstance(cause, IntegrityError) or not _OVERTAKEN.isdisjoint(
        {getattr(driver, "sqlstate", None), *getattr(driver, "args", ())[:1]}
    )
