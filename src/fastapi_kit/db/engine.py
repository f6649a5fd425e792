"""From a URL to an engine: which drivers there are, and the defaults that each database needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fastapi_kit.db.sqlite import Transactional, keep_transactions
from fastapi_kit.errors import ConfigurationError, needs_extra

with needs_extra("db"):
    import_module("greenlet")  # SQLAlchemy misses it at the first connection only
    from sqlalchemy import event
    from sqlalchemy.engine import URL, Dialect, make_url
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.exc import ArgumentError
    from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
    from sqlalchemy.pool import AsyncAdaptedQueuePool

__all__ = ["EngineSettings", "create_engine", "parse_url"]

_PIP = {
    "sqlite+aiosqlite": "fastapi-service-kit[db]",
    "postgresql+asyncpg": "fastapi-service-kit[postgres]",
    "postgresql+psycopg": "psycopg[binary]",
    "mysql+asyncmy": "fastapi-service-kit[mariadb]",
    "mariadb+asyncmy": "fastapi-service-kit[mariadb]",
    "mysql+aiomysql": "aiomysql",
    "mariadb+aiomysql": "aiomysql",
}
_ASYNC_DRIVER = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "mysql": "mysql+asyncmy",
    "mariadb": "mariadb+asyncmy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How to connect; `Database` documents each of them, times are in seconds."""

    pool_size: int
    max_overflow: int
    pool_timeout_seconds: float
    pool_recycle_seconds: int
    connect_timeout_seconds: float
    idle_in_transaction_timeout_seconds: float
    busy_timeout_seconds: float
    application_name: str
    echo: bool

    def __post_init__(self) -> None:
        for name, at_least in (("pool_size", 1), ("max_overflow", 0)):
            if getattr(self, name) < at_least:
                raise ConfigurationError(f"`{name}` is {getattr(self, name)}: give {at_least} or more")
        for name in self.__slots__:
            if name.endswith("_seconds") and not getattr(self, name) > 0:
                raise ConfigurationError(f"`{name}` is {getattr(self, name)}: give more than 0 seconds")


def parse_url(url: str | URL) -> URL:
    """Return the URL if the kit can use it, else raise `ConfigurationError`, which never quotes the URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the message of either may hold a part of the password
        raise ConfigurationError(
            "`url` is no database URL: write driver://user:password@host:port/database, for example"
            " sqlite+aiosqlite:///./app.db, and percent-encode @ : / # in user and password"
        ) from None
    scheme = parsed.drivername
    if scheme not in _PIP:
        driver = _ASYNC_DRIVER.get(scheme.partition("+")[0])
        if driver is None:
            raise ConfigurationError(
                f"`url` has the unknown scheme {scheme!r}: write one of {', '.join(f'{s}://' for s in _PIP)}"
            )
        raise ConfigurationError(
            f"`url` has the scheme {scheme!r}, which names no async driver: write {driver}:// instead"
        )
    if any("\0" in str(part) for part in parsed):
        raise ConfigurationError("`url` has a NUL character in it: leave it out")
    if parsed.get_backend_name() == "sqlite" and parsed.host:
        raise ConfigurationError(
            "`url` names a host, and SQLite has none: write three slashes before a relative path, as in"
            " sqlite+aiosqlite:///./app.db, and four before an absolute one"
        )
    if "@" in (parsed.host or ""):
        raise ConfigurationError("`url` has an @ in its user or password: write it as %40")
    return parsed


def create_engine(url: URL, settings: EngineSettings, options: Mapping[str, Any]) -> AsyncEngine:
    """Return an engine, not connected, with the defaults of its database; `options` have the last word."""
    ours = _sqlite(url, settings) if url.get_backend_name() == "sqlite" else _server(url, settings)
    connect_args = _merged(ours.pop("connect_args"), options.get("connect_args", {}))
    defaults: dict[str, Any] = {
        "poolclass": AsyncAdaptedQueuePool,
        "pool_size": settings.pool_size,
        "max_overflow": settings.max_overflow,
        "pool_timeout": settings.pool_timeout_seconds,
        "pool_recycle": settings.pool_recycle_seconds,
        "hide_parameters": True,
        "echo": settings.echo,
    }
    try:
        engine = create_async_engine(url, **{**defaults, **ours, **options, "connect_args": connect_args})
    except ImportError as exc:
        raise ConfigurationError(
            f"`url` is for the driver {url.get_driver_name()!r}, which is not installed:"
            f" pip install '{_PIP[url.drivername]}'"
        ) from exc
    if url.get_backend_name() == "sqlite":
        keep_transactions(engine)
    else:
        event.listen(engine.sync_engine, "do_connect", _connect)
    return engine


def _sqlite(url: URL, settings: EngineSettings) -> dict[str, Any]:
    ours: dict[str, Any] = {
        "connect_args": {
            "factory": Transactional,
            "isolation_level": None,  # until the first transaction: the pragmas are set outside of one
            "timeout": settings.busy_timeout_seconds,
            "check_same_thread": False,  # the driver has a thread for each connection
        },
    }
    if url.database in (None, "", ":memory:"):
        # The database is its connection: there must be one, for one transaction at a time, and kept.
        ours |= {"pool_size": 1, "max_overflow": 0, "pool_recycle": -1}
    return ours


def _server(url: URL, settings: EngineSettings) -> dict[str, Any]:
    connect_args: dict[str, Any]
    idle = str(int(settings.idle_in_transaction_timeout_seconds * 1000))
    match url.get_driver_name():
        case "asyncpg":
            connect_args = {
                "timeout": settings.connect_timeout_seconds,
                "server_settings": {
                    "application_name": settings.application_name,
                    "idle_in_transaction_session_timeout": idle,
                },
            }
        case "psycopg":
            connect_args = {
                "connect_timeout": max(2, round(settings.connect_timeout_seconds)),  # libpq takes no less
                "application_name": settings.application_name,
                "options": f"-c idle_in_transaction_session_timeout={idle}",
            }
        case _:
            connect_args = {"connect_timeout": settings.connect_timeout_seconds}
    return {"pool_pre_ping": True, "connect_args": connect_args}


def _merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    both = {**ours, **theirs}
    if isinstance(nested := ours.get("server_settings"), dict):
        both["server_settings"] = {**nested, **theirs.get("server_settings", {})}
    return both


def _connect(dialect: Dialect, record: object, args: list[Any], params: dict[str, Any]) -> DBAPIConnection:
    try:
        return dialect.connect(*args, **params)
    except OSError as exc:  # asyncpg lets them through, refused, unresolved and timed out alike
        raise dialect.loaded_dbapi.OperationalError(f"{type(exc).__name__}: {exc}", exc) from exc
