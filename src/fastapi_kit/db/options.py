"""What can be set about a database: the same for `Database` and `SyncDatabase`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict

from fastapi_kit.errors import ConfigurationError

__all__ = ["DatabaseOptions", "Settings"]


class DatabaseOptions(TypedDict, total=False):
    """The keyword arguments of `Database` and `SyncDatabase`, times in seconds and above 0."""

    pool_size: int
    """Connections that a worker process keeps: 1 or more, 5 unless told. In-memory SQLite has one."""
    max_overflow: int
    """More connections under load, closed when they are given back: 0 or more, 10 unless told."""
    pool_timeout_seconds: float
    """How long a request waits for a connection before it is answered 503: 5."""
    pool_recycle_seconds: int
    """The age at which a connection is replaced: 1800."""
    connect_timeout_seconds: float
    """How long a new connection to PostgreSQL or MariaDB may take before it is a 503: 10."""
    statement_timeout_seconds: float | None
    """How long a statement may run before PostgreSQL or MariaDB ends it, which is a 503: 30. `None` for no limit.

    A server that hangs does not end it. asyncpg, asyncmy and pymysql then give it up after as long again, 5 seconds
    more at most. psycopg does so only if the machine or the network is gone, and aiomysql never: under those, a request
    whose statement runs when the server begins to hang waits for it. Later requests get a 503: before a connection is
    used again, its server must answer within `connect_timeout_seconds` (psycopg needs ten seconds more to give it up),
    unless the connection was given back less than half a second ago.
    """
    idle_in_transaction_timeout_seconds: float
    """How long a transaction may do nothing before PostgreSQL ends it, and its connection, which is a 503: 60."""
    busy_timeout_seconds: float
    """How long SQLite waits for another writer before it is a 503: 5."""
    application_name: str
    """The name that `pg_stat_activity` shows: `fastapi-service-kit` unless told."""
    pgbouncer: bool
    """Whether a PgBouncer with `pool_mode = transaction` stands in front of PostgreSQL.

    Then nothing is kept on a connection: no prepared statement, no time-out (set them for the role), no state. A
    read-only session takes a transaction.
    """
    echo: bool
    """Log each statement; parameters stay hidden."""
    slow_query_seconds: float | None
    """Log each statement that takes longer. `None`, the default, for none."""
    repeated_queries: int | None
    """Log a SELECT that one transaction sends this often, 2 or more: a loop that a join could replace (N+1)."""
    engine_options: Mapping[str, Any]
    """For SQLAlchemy's `create_engine`, over what is set here; `connect_args` are merged."""
    session_options: Mapping[str, Any]
    """For SQLAlchemy's sessions, over what is set here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`DatabaseOptions` with their defaults, checked."""

    pool_size: int = 5
    max_overflow: int = 10
    pool_timeout_seconds: float = 5.0
    pool_recycle_seconds: int = 1800
    connect_timeout_seconds: float = 10.0
    statement_timeout_seconds: float | None = 30.0
    idle_in_transaction_timeout_seconds: float = 60.0
    busy_timeout_seconds: float = 5.0
    application_name: str = "fastapi-service-kit"
    pgbouncer: bool = False
    echo: bool = False
    slow_query_seconds: float | None = None
    repeated_queries: int | None = None
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    session_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, at_least in (("pool_size", 1), ("max_overflow", 0), ("repeated_queries", 2)):
            value = getattr(self, name)
            may_be_none = name == "repeated_queries"
            if not (value is None and may_be_none) and not (isinstance(value, int) and value >= at_least):
                raise ConfigurationError(f"`{name}` is {value!r}: give {at_least} or more")
        for each in fields(self):
            value = getattr(self, each.name)
            may_be_none = each.default is None or each.name == "statement_timeout_seconds"
            if each.name.endswith("_seconds") and not (value is None and may_be_none) and not _is_above_0(value):
                raise ConfigurationError(f"`{each.name}` is {value!r}: give a number of seconds above 0")


def _is_above_0(value: object) -> bool:
    return isinstance(value, int | float) and value > 0
