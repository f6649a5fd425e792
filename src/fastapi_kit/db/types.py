"""What columns hold that SQLAlchemy and Python 3.11 do not have: instants in UTC, and ids that are in order."""

import secrets
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy import DateTime, TypeDecorator
    from sqlalchemy.dialects.mysql import DATETIME
    from sqlalchemy.engine import Dialect
    from sqlalchemy.sql.operators import OperatorType
    from sqlalchemy.types import TypeEngine

__all__ = ["UTCTimestamp", "utc_now", "uuid7"]


class UTCTimestamp(TypeDecorator[datetime]):
    """Store an instant with microseconds, and return it aware and in UTC, on each database.

    On PostgreSQL the column is `TIMESTAMP WITH TIME ZONE`. SQLite and MariaDB keep no time zone: what they hold is UTC,
    on MariaDB in a `DATETIME(6)`, since a plain one drops the fraction of a second.

    A value in another zone is converted. A naive one, which could mean any, is a `ValueError` within SQLAlchemy's
    `StatementError`. What the database makes itself, `func.now()` for one, is in the time zone of its session: on
    MariaDB set that to UTC, or make the value in Python.
    """

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = DateTime(timezone=True).with_variant(
        DATETIME(fsp=6), "mysql", "mariadb"
    )
    cache_ok: bool | None = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the value for the driver."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(f"{value!r} has no time zone: use datetime.now(UTC), or value.replace(tzinfo=...)")
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the driver's value, aware."""
        if value is None:
            return None
        return value.astimezone(UTC) if dialect.name == "postgresql" else value.replace(tzinfo=UTC)

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        """Return the type of the other operand: a `timedelta` that is added is an interval."""
        return self if isinstance(value, datetime) else self.impl_instance.coerce_compared_value(op, value)


def utc_now() -> datetime:
    """Return this instant, aware and in UTC."""
    return datetime.now(UTC)


def uuid7() -> UUID:
    """Return a UUID of version 7 (RFC 9562, 5.7), which sorts by the time it was made.

    Ids that grow keep an index compact where random ones scatter. The order holds to about 250 ns (6.2, method 3),
    between machines as well as their clocks agree, and not while a clock is set back. 62 bits are random.

    Security: an id tells when it was made, to the millisecond. It is no secret and no capability.
    """
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction = (nanoseconds << 12) // 1_000_000
    return UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | secrets.randbits(62))
