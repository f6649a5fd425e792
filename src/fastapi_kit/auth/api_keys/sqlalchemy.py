"""API keys in a table of the application's own database."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, cast

from fastapi_kit.auth.api_keys.form import ID_LENGTH
from fastapi_kit.auth.api_keys.store import ApiKeyRecord
from fastapi_kit.auth.sql_store import (
    DATABASE_ERRORS,
    UnitOfWork,
    checked_model,
    checked_unit,
    is_outage,
    warn_of_outage,
)
from fastapi_kit.errors import UnavailableError, needs_extra

with needs_extra("db"):
    from sqlalchemy import BigInteger, CursorResult, String, Update, insert, or_, select, update
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Mapped, mapped_column, unmapped_dataclass

__all__ = ["ApiKeyMixin", "SQLAlchemyApiKeyStore"]


@unmapped_dataclass(init=False, repr=False, eq=False)  # so that a MappedAsDataclass can inherit it
class ApiKeyMixin:
    """The columns of API keys, for a table of your own: `class ApiKey(ApiKeyMixin, Base): __tablename__ = "api_keys"`.

    Your migrations create it, as your other tables. Columns of your own need a default. Times are milliseconds since
    the epoch.
    """

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    secret_hash: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(255), index=True)
    name: Mapped[str] = mapped_column(String(100))
    scopes: Mapped[str] = mapped_column(String(2000))
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int | None] = mapped_column(BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(BigInteger)
    last_used_at: Mapped[int | None] = mapped_column(BigInteger)
    successor_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))


class SQLAlchemyApiKeyStore:
    """Keep API keys in a table of the application's database.

        class ApiKey(ApiKeyMixin, Base):
            __tablename__ = "api_keys"

        store = SQLAlchemyApiKeyStore(db.session, ApiKey, read=partial(db.session, read_only=True))

    `begin` opens a session that commits at the end of its block: `db.session` of the `db` block, or
    `async_sessionmaker(engine).begin`. `read`, `begin` by default, opens those that only look a key up. Each call is a
    transaction of its own, before the session of the request executes anything.

    Whatever the database or its driver raises is an `UnavailableError` (503), and a warning in the log of
    "fastapi_kit.auth" names its class. An error in a statement, such as a missing table, stays what it is.

    Security: a key is revoked at once if `read` asks the database that `begin` writes to. From a replica, it is good
    until the replica has caught up.

    Raises `ConfigurationError` for a `begin` or `read` that opens no session, for a model of another mixin, and for one
    with a column of its own that has no default.
    """

    def __init__(self, begin: UnitOfWork, table: type[ApiKeyMixin], *, read: UnitOfWork | None = None) -> None:
        checked_unit("begin", begin)
        checked_unit("read", read or begin, commits=False)
        checked_model("table", table, ApiKeyMixin)
        self._begin, self._read = begin, read or begin
        self._table = table

    async def add(self, record: ApiKeyRecord, /) -> None:
        """Keep a new key."""
        async with _unit(self._begin) as session:
            await session.execute(insert(self._table).values(_row(record)))

    async def find(self, key_id: str, /) -> ApiKeyRecord | None:
        """Return a key by its id, `None` for an unknown one."""
        async with _unit(self._read) as session:
            row = await session.scalar(select(self._table).where(self._table.id == key_id))
            return None if row is None else _record(row)

    async def of_subject(self, subject: str, /) -> Sequence[ApiKeyRecord]:
        """Return all keys of a subject, newest first."""
        table = self._table
        statement = select(table).where(table.subject == subject).order_by(table.created_at.desc(), table.id)
        async with _unit(self._read) as session:
            rows = await session.scalars(statement)
            return [_record(row) for row in rows if row.subject == subject]  # MariaDB takes "a" for "A"

    async def replace(self, key_id: str, successor: ApiKeyRecord, /, *, expires_at: int) -> bool:
        """Keep the successor of a key, and let the key end, if it is neither revoked nor replaced."""
        table = self._table
        statement = self._update(key_id).where(table.revoked_at.is_(None), table.successor_id.is_(None))
        async with _unit(self._begin) as session:
            done = await session.execute(statement.values(expires_at=expires_at, successor_id=successor.id))
            if cast("CursorResult[Any]", done).rowcount != 1:
                return False
            await session.execute(insert(table).values(_row(successor)))
            return True

    async def revoke(self, key_id: str, now: int, /) -> None:
        """Revoke a key; the time of the first call stays."""
        async with _unit(self._begin) as session:
            await session.execute(self._update(key_id).where(self._table.revoked_at.is_(None)).values(revoked_at=now))

    async def touch(self, key_id: str, /, *, now: int, before: int, secret_hash: str) -> None:
        """Note that a key was used, unless that was noted at `before` or later."""
        last = self._table.last_used_at
        async with _unit(self._begin) as session:
            await session.execute(
                self._update(key_id)
                .where(or_(last.is_(None), last < before))
                .values(last_used_at=now, secret_hash=secret_hash)
            )

    def _update(self, key_id: str) -> Update:
        # No object of the session is of this table, so there is none to bring up to date.
        statement = update(self._table).where(self._table.id == key_id)
        return statement.execution_options(synchronize_session=False)


@asynccontextmanager
async def _unit(opened: UnitOfWork) -> AsyncGenerator[AsyncSession]:
    """Open a session; raise `UnavailableError` where the database is the one to blame, and not the statement."""
    try:
        async with opened() as session:
            yield session
    except DATABASE_ERRORS as exc:
        if not is_outage(exc):
            raise
        warn_of_outage("API keys", exc, if_locked="make the call before that session executes anything")
        raise UnavailableError("API keys are not available at the moment.", headers={"Retry-After": "1"}) from None


def _row(record: ApiKeyRecord) -> dict[str, Any]:
    return asdict(record) | {"scopes": " ".join(sorted(record.scopes))}


def _record(row: ApiKeyMixin) -> ApiKeyRecord:
    return ApiKeyRecord(
        row.id,
        row.secret_hash,
        row.subject,
        row.name,
        frozenset(row.scopes.split()),
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.last_used_at,
        row.successor_id,
    )
