"""Columns that most tables share, as mixins for the application's own models.

They combine freely: `class Item(IntegerKey, Timestamps, Versioned, Base)`. They are no dataclasses, so SQLAlchemy
refuses them in a model that is one (`MappedAsDataclass`).
"""

import secrets
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from fastapi_kit.db.types import UTCTimestamp, utc_now, uuid7
from fastapi_kit.errors import ConfigurationError, needs_extra

with needs_extra("db"):
    from sqlalchemy import BigInteger, Integer, Uuid, inspect, literal_column
    from sqlalchemy.exc import InvalidRequestError
    from sqlalchemy.orm import Mapped, declared_attr, mapped_column

__all__ = [
    "NAMING_CONVENTION",
    "IntegerKey",
    "SoftDelete",
    "Timestamps",
    "UTCTimestamp",
    "UUIDKey",
    "Versioned",
    "uuid7",
]

NAMING_CONVENTION: Final = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}
"""For `MetaData(naming_convention=NAMING_CONVENTION)`: a migration can drop a constraint only by its name.

Every column of a constraint is in its name, so two that begin with the same column differ. A name that is too long
for the database (63 on PostgreSQL, 64 on MariaDB) is cut, and ends in a hash. A CHECK needs a name of your own.
"""

_BITS_OF_FIRST_VERSION = 48  # what is left of BIGINT is for counting up


class IntegerKey:
    """Give a model an `id` that the database counts up: BIGINT, and INTEGER on SQLite, where that alone counts."""

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)


class UUIDKey:
    """Give a model an `id` that is made in Python, at the insert, and sorts by the time it was made: `uuid7`."""

    id: Mapped[UUID] = mapped_column(Uuid(), primary_key=True, default=uuid7)


def _created_at(context: Any) -> datetime:
    given: datetime | None = context.get_current_parameters().get("created_at")
    return given or utc_now()


class Timestamps:
    """Give a model `created_at` and `updated_at`: aware, in UTC, with microseconds, and equal at first.

    Python sets them, in ORM flushes and in `insert()` and `update()` statements alike, so that they can be read after
    a flush without another query. The clock is that of the worker. SQL text, and the SET of an upsert
    (`on_conflict_do_update`), bring no `updated_at`: write it there.
    """

    created_at: Mapped[datetime] = mapped_column(UTCTimestamp(), default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(UTCTimestamp(), default=_created_at, onupdate=utc_now)


def _first_version() -> int:
    return secrets.randbits(_BITS_OF_FIRST_VERSION)


def _next_version(version: int | None) -> int:
    return _first_version() if version is None else version + 1


class Versioned:
    """Give a model a `version`, which every change counts up, so that no change is lost to another unseen.

    A flush changes or deletes a row only in the version that the session has read; else it raises SQLAlchemy's
    `StaleDataError`, in a request a 409, or a 412 where the client sent `If-Match`. The first version is random:
    a row that is deleted and made again under its old key has another.

    An `update()` statement checks no version, but counts it up, so that whoever holds the row as it was is told. A
    bulk `update(Item)` with a list of dictionaries checks the `version` that each of them must have. SQL text, the
    SET of an upsert (`on_conflict_do_update`) and an `update()` that joins a second versioned table have to set it.

    Raises `ConfigurationError` when a model has `__mapper_args__` in which those of this class are missing: write
    them as a `declared_attr.directive` that returns `{**super().__mapper_args__, ...}`.
    """

    version: Mapped[int] = mapped_column(
        "version",
        BigInteger(),
        default=_first_version,
        onupdate=literal_column("version", BigInteger()) + 1,
    )

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        if any(issubclass(base, Versioned) and "__mapper__" in vars(base) for base in cls.__mro__[1:]):
            return {}  # the mapper of that model hands them down
        return {"version_id_col": cls.version, "version_id_generator": _next_version}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        mapper = vars(cls).get("__mapper__")
        if mapper is not None and mapper.version_id_col is None:
            raise ConfigurationError(
                f"{cls.__name__} is Versioned, and its own `__mapper_args__` switch that off: make them a"
                " `@declared_attr.directive` that returns {**super().__mapper_args__, ...}"
            )

    @property
    def etag(self) -> str:
        """Return the strong entity tag of the row (RFC 9110, 8.8.3), for the header `ETag` and for `If-Match`.

        It stands for the columns of this row, not for what its relationships hold.

        Raises SQLAlchemy's `InvalidRequestError` while there are changes that are not flushed: a tag that went out
        now would be that of what the client just replaced.
        """
        state = inspect(self)
        if state.modified or not state.has_identity:
            raise InvalidRequestError(f"{type(self).__name__}.etag is that of a row: flush the session before")
        return f'"{self.version}"'


class SoftDelete:
    """Give a model a `deleted_at`: rows that are marked as deleted are left out, and can be restored.

    Sessions of a `Database` leave them out of every ORM SELECT, those of relationships, joins, subqueries and `get()`
    included, and of `update()` statements. `execution_options(include_deleted=True)` brings them back, for the
    statement that has it and what that loads. A `delete()` statement and `session.delete()` are real: they delete
    what they name, marked or not. What `session.delete()` cascades to is complete unless the relationship was loaded
    before, without its marked rows; the foreign key refuses the delete then. Expire the relationship first.

    Not left out: what is in the session already (`get()` asks there first), `select(Item.__table__)`, SQL text, and the
    SELECT of an `insert().from_select()`. A row that references a marked one stays, its relationship reads None; a
    join that needs both leaves it out. Marking does not cascade. A unique constraint holds for marked rows too: use an
    index that is unique where `deleted_at` is null.

    Security: the data is still there. A request for erasure needs a real delete.
    """

    deleted_at: Mapped[datetime | None] = mapped_column(UTCTimestamp())

    def soft_delete(self) -> None:
        """Mark the row as deleted at the next flush; the time of the first call stays."""
        if self.deleted_at is None:
            self.deleted_at = utc_now()

    def restore(self) -> None:
        """Take the mark away at the next flush."""
        self.deleted_at = None
