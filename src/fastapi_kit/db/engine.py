"""From a URL to an engine: which drivers there are, and the defaults that each database needs."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from fastapi_kit.db.commits import refuse_empty_commits
from fastapi_kit.db.errors import name_lost_connections
from fastapi_kit.db.hosts import Hosts
from fastapi_kit.db.options import Settings
from fastapi_kit.db.pools import PoolPerLoop, SQLitePoolPerLoop
from fastapi_kit.db.read_only import keep_read_only
from fastapi_kit.db.sqlite import Transactional, keep_transactions
from fastapi_kit.errors import ConfigurationError, needs_extra

with needs_extra("db"):
    import sqlalchemy
    from sqlalchemy import event
    from sqlalchemy.engine import URL, Engine, make_url
    from sqlalchemy.exc import ArgumentError
    from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

__all__ = ["create_engine", "parse_url"]

_ASYNC_DRIVERS = {  # and what installs each; the first of a database is the one that is proposed
    "sqlite+aiosqlite": "fastapi-service-kit[db]",
    "postgresql+asyncpg": "fastapi-service-kit[postgres]",
    "postgresql+psycopg": "fastapi-service-kit[psycopg]",
    "mysql+asyncmy": "fastapi-service-kit[mariadb]",
    "mariadb+asyncmy": "fastapi-service-kit[mariadb]",
    "mysql+aiomysql": "aiomysql",
    "mariadb+aiomysql": "aiomysql",
}
_SYNC_DRIVERS = {
    "sqlite+pysqlite": "fastapi-service-kit[db-sync]",
    "postgresql+psycopg": "fastapi-service-kit[psycopg]",
    "mysql+pymysql": "pymysql",
    "mariadb+pymysql": "pymysql",
}
_OF_QUEUE_POOL = frozenset({"pool_size", "max_overflow", "pool_timeout"})
_HUNG_SECONDS = 5.0  # at most, more than the server's time-out, until the server itself is taken for hung


def parse_url(url: str | URL, *, is_async: bool, setting: str = "url") -> URL:
    """Return the URL if the kit can use it, else raise `ConfigurationError`, which never quotes the URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the message of either may hold a part of the password
        raise ConfigurationError(
            f"`{setting}` is no database URL: write driver://user:password@host:port/database, for example"
            " sqlite+aiosqlite:///./app.db, and percent-encode @ : / # in user and password"
        ) from None
    drivers, kind = (_ASYNC_DRIVERS, "async") if is_async else (_SYNC_DRIVERS, "sync")
    scheme = parsed.drivername
    if scheme not in drivers:
        name = "postgresql" if scheme == "postgres" else scheme.partition("+")[0]
        proposed = next((each for each in drivers if each.startswith(f"{name}+")), None)
        if proposed is None:
            raise ConfigurationError(
                f"`{setting}` has the unknown scheme {scheme!r}: write one of {', '.join(f'{s}://' for s in drivers)}"
            )
        raise ConfigurationError(
            f"`{setting}` has the scheme {scheme!r}, which names no {kind} driver: write {proposed}:// instead"
        )
    if any("\0" in str(part) for part in parsed):
        raise ConfigurationError(f"`{setting}` has a NUL character in it: leave it out")
    if parsed.get_backend_name() == "sqlite" and parsed.host:
        raise ConfigurationError(
            f"`{setting}` names a host, and SQLite has none: write three slashes before a relative path, as in"
            f" {scheme}:///./app.db, and four before an absolute one"
        )
    if parsed.get_driver_name() == "asyncpg" and "sslmode" in parsed.query:
        raise ConfigurationError(f"`{setting}` has sslmode=, which asyncpg does not know: write ssl= in its place")
    if "@" in (parsed.host or ""):
        raise ConfigurationError(f"`{setting}` has an @ in its user or password: write it as %40")
    return parsed


def create_engine(hosts: Hosts, settings: Settings, *, is_async: bool) -> Engine:
    """Return an engine, not connected, with the defaults of its database; `engine_options` have the last word."""
    url = hosts.first
    ours = _sqlite(url, settings) if url.get_backend_name() == "sqlite" else _server(url, settings)
    theirs = settings.engine_options
    connect_args = _merged(ours.pop("connect_args"), theirs.get("connect_args", {}))
    defaults: dict[str, Any] = {
        "poolclass": _pool_class(url, is_async=is_async),
        "pool_size": settings.pool_size,
        "max_overflow": settings.max_overflow,
        "pool_timeout": settings.pool_timeout_seconds,
        "pool_recycle": settings.pool_recycle_seconds,
        "hide_parameters": True,
        "echo": settings.echo,
    }
    options = {**defaults, **ours, **theirs, "connect_args": connect_args}
    if not issubclass(options["poolclass"], QueuePool):  # the user's own: these are no arguments of it
        options = {name: value for name, value in options.items() if name not in _OF_QUEUE_POOL}
    pings = options.pop("pool_pre_ping", False)
    try:
        engine = _async_engine(url, options) if is_async else sqlalchemy.create_engine(url, **options)
    except ImportError as exc:
        drivers = _ASYNC_DRIVERS if is_async else _SYNC_DRIVERS
        raise ConfigurationError(
            f"`url` is for the driver {url.get_driver_name()!r}, which is not installed:"
            f" pip install '{drivers[url.drivername]}'"
        ) from exc
    if url.get_backend_name() == "sqlite":
        keep_transactions(engine, is_async=is_async)
    else:
        hosts.serve(engine, limit_seconds=settings.connect_timeout_seconds, pings=pings)
        keep_read_only(engine)
    event.listen(engine, "handle_error", name_lost_connections, retval=True)
    refuse_empty_commits(engine)
    return engine


def _pool_class(url: URL, *, is_async: bool) -> type[QueuePool]:
    if not is_async:
        return QueuePool
    if url.get_backend_name() != "sqlite":
        return PoolPerLoop
    return AsyncAdaptedQueuePool if _is_in_memory(url) else SQLitePoolPerLoop


def _is_in_memory(url: URL) -> bool:
    return url.database in (None, "", ":memory:")


def _async_engine(url: URL, options: dict[str, Any]) -> Engine:
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415  # it needs greenlet

    return create_async_engine(url, **options).sync_engine


def _sqlite(url: URL, settings: Settings) -> dict[str, Any]:
    ours: dict[str, Any] = {
        "connect_args": {
            "factory": Transactional,
            "isolation_level": None,  # until the first transaction: the pragmas are set outside of one
            "timeout": settings.busy_timeout_seconds,
            "check_same_thread": False,  # one thread at a time, but not always the same
        },
    }
    if _is_in_memory(url):
        # The database is its connection: there must be one, for one transaction at a time, and kept.
        ours |= {"pool_size": 1, "max_overflow": 0, "pool_recycle": -1}
    return ours


def _server(url: URL, settings: Settings) -> dict[str, Any]:
    limit = settings.statement_timeout_seconds
    hung = None if limit is None else limit + min(limit, _HUNG_SECONDS)
    driver = url.get_driver_name()
    if driver == "asyncpg":
        connect_args = _asyncpg(settings, hung)
    elif driver == "psycopg":
        connect_args = _psycopg(settings, hung)
    else:
        connect_args = _mariadb(settings, None if driver == "aiomysql" else hung)
    return {"pool_pre_ping": True, "connect_args": connect_args}


def _asyncpg(settings: Settings, hung: float | None) -> dict[str, Any]:
    connect_args: dict[str, Any] = {
        "timeout": settings.connect_timeout_seconds,
        "command_timeout": hung,
        "server_settings": {"application_name": settings.application_name} | _kept_by_postgresql(settings),
    }
    if not settings.pgbouncer:
        return connect_args
    return connect_args | {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: f"kit_{uuid4().hex}",
    }


def _psycopg(settings: Settings, hung: float | None) -> dict[str, Any]:
    kept = " ".join(f"-c {name}={value}" for name, value in _kept_by_postgresql(settings).items())
    connect_args: dict[str, Any] = {
        "connect_timeout": max(2, round(settings.connect_timeout_seconds)),  # libpq takes no less
        "application_name": settings.application_name,
    } | ({"prepare_threshold": None} if settings.pgbouncer else {"options": kept})
    if hung is None:
        return connect_args
    # of the other end of the line; libpq has none for a server that is there and hangs
    return connect_args | {"tcp_user_timeout": int(hung * 1000), "keepalives_idle": max(1, round(hung))}


def _mariadb(settings: Settings, hung: float | None) -> dict[str, Any]:
    connect_args: dict[str, Any] = {"connect_timeout": settings.connect_timeout_seconds}
    if (limit := settings.statement_timeout_seconds) is not None:
        # In a comment that MariaDB alone reads: MySQL knows no such variable.
        connect_args["init_command"] = f"SET @kit = 0 /*M!, SESSION max_statement_time = {limit:f} */"
    return connect_args if hung is None else connect_args | {"read_timeout": hung}


def _kept_by_postgresql(settings: Settings) -> dict[str, str]:
    """Return what a connection is told for as long as it lives; PgBouncer refuses it."""
    limits = {
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout_seconds,
        "statement_timeout": settings.statement_timeout_seconds or 0,
    }
    return {} if settings.pgbouncer else {name: str(int(seconds * 1000)) for name, seconds in limits.items()}


def _merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    both = {**ours, **theirs}
    if isinstance(nested := ours.get("server_settings"), dict):
        both["server_settings"] = {**nested, **theirs.get("server_settings", {})}
    if "options" in ours and "options" in theirs:  # of libpq, where the last one of a name holds
        both["options"] = f"{ours['options']} {theirs['options']}"
    return both
