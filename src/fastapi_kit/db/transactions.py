"""What a session may do, and the transaction that each database needs for it."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Literal, get_args

from fastapi_kit.db.read_only import READ_ONLY
from fastapi_kit.db.sqlite import reading, writing
from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy import event
    from sqlalchemy.engine import Connection, Engine

__all__ = ["IsolationLevel", "Mode", "engine_for"]

IsolationLevel = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
"""As the SQL standard names them. SQLite's transactions that write are always serializable."""


class Mode(Enum):
    """What a session is for."""

    WRITE = "write"
    """To read and write."""
    READ = "read"
    """To read, and to write in spite of it: the request has a safe method."""
    READ_ONLY = "read only"
    """To read; each statement sees what is committed by then."""
    SNAPSHOT = "snapshot"
    """To read; all statements see one moment."""


def engine_for(engine: Engine, mode: Mode, isolation_level: IsolationLevel | None, *, keeps_state: bool) -> Engine:
    """Return the same engine and pool for transactions of a mode.

    `keeps_state`: whether something can be left on a connection for its next user; PgBouncer's are not one's own.

    Raises `ValueError` for another isolation level, on SQLite too, where it changes nothing.
    """
    if isolation_level not in {None, *get_args(IsolationLevel)}:
        raise ValueError(f"isolation_level is {isolation_level!r}: give one of {', '.join(get_args(IsolationLevel))}")
    match engine.dialect.name:
        case "sqlite":
            return _on_sqlite(engine, mode)
        case "postgresql":
            options = _on_postgresql(mode, keeps_state=keeps_state)
        case _:
            return _on_mariadb(engine, mode, isolation_level)
    if isolation_level:
        options = {**options, "isolation_level": isolation_level}
    return _with(engine, options)


def _with(engine: Engine, options: Mapping[str, Any]) -> Engine:
    """Return an engine whose connections have options, and are given back if they are cancelled while they get them.

    An option of the engine would be set at a moment where SQLAlchemy forgets the connection; drivers may wait there.
    """
    engine = engine.execution_options()
    if options:

        @event.listens_for(engine, "engine_connect")
        def set_options(connection: Connection) -> None:
            try:
                connection.execution_options(**options)
            except BaseException:
                connection.invalidate()
                connection.close()
                raise

    return engine


def _on_sqlite(engine: Engine, mode: Mode) -> Engine:
    match mode:
        case Mode.WRITE:
            return writing(engine)
        case Mode.READ:
            return reading(engine)
        case Mode.READ_ONLY:
            return reading(engine, query_only=True)
        case _:  # SNAPSHOT
            return reading(engine, query_only=True, snapshot=True)


def _on_postgresql(mode: Mode, *, keeps_state: bool) -> Mapping[str, Any]:
    match mode:
        case Mode.SNAPSHOT:
            return {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"}
        case Mode.READ_ONLY if keeps_state:
            return {READ_ONLY: True, "isolation_level": "AUTOCOMMIT"}
        case Mode.READ_ONLY:
            return {"postgresql_readonly": True}
        case _:
            return {}


def _on_mariadb(engine: Engine, mode: Mode, isolation_level: IsolationLevel | None) -> Engine:
    options: dict[str, Any] = {"isolation_level": isolation_level} if isolation_level else {}
    if mode in {Mode.READ_ONLY, Mode.SNAPSHOT}:
        options[READ_ONLY] = True
    engine = _with(engine, options)
    # Its default level, REPEATABLE READ, would show each statement the moment of the first.
    begins: Sequence[str] = {
        Mode.READ_ONLY: ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION READ ONLY"),
        Mode.SNAPSHOT: ("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",),
    }.get(mode, ())
    if begins:

        @event.listens_for(engine, "begin")
        def start(connection: Connection) -> None:
            for begin in begins:
                connection.exec_driver_sql(begin)

    return engine
