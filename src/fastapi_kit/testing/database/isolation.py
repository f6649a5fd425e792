"""Many sessions on one connection, in one transaction: what each of them begins and ends is a savepoint."""

import re
import sqlite3
from copy import copy
from dataclasses import dataclass
from typing import Any, cast

from fastapi_kit.db.commits import UNDOING_ERROR
from fastapi_kit.db.transactions import Mode
from fastapi_kit.errors import needs_extra
from fastapi_kit.testing.database.turns import Turns

with needs_extra("db"):
    from sqlalchemy import event
    from sqlalchemy.engine import Connection, CursorResult, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError, OperationalError
    from sqlalchemy.pool import StaticPool

__all__ = ["Isolation", "LostCommitWarning"]

_INFO = "fastapi_kit_isolation"
_READS_ALONE = "fastapi_kit_reads_alone"
_READ = re.compile(r"[\s(]*(SELECT|SHOW|EXPLAIN|DESC|VALUES|PRAGMA)\b", re.IGNORECASE)
_SAVEPOINT = re.compile(r"SAVEPOINT|RELEASE|ROLLBACK", re.IGNORECASE)
_READ_ONLY_ERRNO = 1792  # of MariaDB

# What would reach beyond the savepoint: the transaction and the connection are the test's.
_LEFT_TO_THE_TEST = (
    *("do_begin", "do_commit", "do_rollback", "do_close", "do_terminate"),
    *("set_isolation_level", "reset_isolation_level"),
)


class LostCommitWarning(UserWarning):
    """Tells that the code under test rolled back a session in which another session had stored rows by then.

    On connections of their own the other session's rows would be there. In a savepoint they cannot stay: test
    that with `template_database`.
    """


@dataclass(slots=True, eq=False)
class _Unit:
    """What one session takes for its transaction."""

    savepoint: str | None = None
    writes: bool = False
    holds_others: bool = False
    """Whether another one wrote behind its savepoint: to roll back to that would undo it too."""
    has_ended: bool = False


class Isolation:
    """Engines for the sessions of a test, all on one connection; kept with it, for their caches of statements."""

    def __init__(self, connection: Connection) -> None:
        driver = cast(DBAPIConnection, connection.connection.dbapi_connection)
        dialect = copy(connection.dialect)
        for name in _LEFT_TO_THE_TEST:
            setattr(dialect, name, _do_nothing)
        pool = StaticPool(lambda: driver, reset_on_return=None, dialect=dialect)
        self._engine = Engine(pool, dialect, connection.engine.url, hide_parameters=True)
        self._reading = self._engine.execution_options(**{_READS_ALONE: True})
        event.listen(self._engine, "begin", self._begin)
        event.listen(self._engine, "before_cursor_execute", self._before)
        event.listen(self._engine, "after_cursor_execute", self._after)
        event.listen(self._engine, "commit", self._commit)
        event.listen(self._engine, "rollback", self._roll_back)
        self._dialect = dialect.name

    @classmethod
    def of(cls, connection: Connection, turns: Turns) -> "Isolation":
        """Return that of a connection, ready for a test, in whose transaction the connection is."""
        isolation: Isolation = connection.info.get(_INFO) or connection.info.setdefault(_INFO, cls(connection))
        isolation._turns = turns
        isolation._test = connection
        isolation._units = {}
        isolation._stack = []
        isolation._running = None
        isolation._bracket = False
        isolation.has_lost = False
        return isolation

    _test: Connection
    _turns: Turns
    _units: dict[Connection, _Unit]
    _stack: list[_Unit]
    """Those with a savepoint, in the order of the savepoints."""
    _running: _Unit | None
    """The one whose statement has not ended well."""
    _bracket: bool
    has_lost: bool
    """Whether something was rolled back that would have stayed on connections of its own."""

    def engine_for(self, mode: Mode) -> Engine:
        """Return the engine for sessions of a mode."""
        return self._reading if mode in {Mode.READ_ONLY, Mode.SNAPSHOT} else self._engine

    def end(self) -> None:
        """Leave the connection; a session that is still open gets an error from now on."""
        self._close_bracket(failed=True)
        self._units = {}

    def _do(self, statement: str) -> CursorResult[Any]:
        return self._test.exec_driver_sql(statement)

    def _unit_of(self, connection: Connection) -> _Unit:
        if connection not in self._units:
            raise _ended()
        return self._units[connection]

    def _begin(self, connection: Connection) -> None:
        self._turns.take()
        self._units[connection] = _Unit()

    def _before(self, connection: Connection, cursor: object, statement: str, *_: object) -> None:
        unit = self._unit_of(connection)
        self._close_bracket(failed=True)  # of a statement that failed
        if connection.get_execution_options().get(_READS_ALONE):
            if not _SAVEPOINT.match(statement):  # it must outlast the bracket
                self._open_bracket(statement)
            return
        self._running = unit
        if unit.savepoint is None:
            unit.savepoint = f"kit_{len(self._stack)}"
            self._do(f"SAVEPOINT {unit.savepoint}")
            self._stack.append(unit)
        if not _READ.match(statement):
            unit.writes = True
            for other in self._stack:
                other.holds_others = other.holds_others or other is not unit

    def _after(self, *_: object) -> None:
        self._running = None
        self._close_bracket(failed=False)

    def _open_bracket(self, statement: str) -> None:
        """Let one statement read only. Where reads have no transaction, its failure must not end the test's."""
        match self._dialect:
            case "sqlite":
                self._do("PRAGMA query_only = ON")
            case "postgresql":
                self._do("SAVEPOINT kit_read")
                self._do("SET TRANSACTION READ ONLY")  # until the savepoint ends
            case _:  # MariaDB can refuse in whole transactions only
                if not _READ.match(statement) and not re.match(r"\s*WITH\b", statement, re.IGNORECASE):
                    message = "Cannot execute statement in a READ ONLY transaction"
                    cause = self._engine.dialect.loaded_dbapi.OperationalError(_READ_ONLY_ERRNO, message)
                    raise OperationalError(statement, None, cause)
        self._bracket = True

    def _close_bracket(self, *, failed: bool) -> None:
        if not self._bracket:
            return
        self._bracket = False
        match self._dialect:
            case "sqlite":
                self._do("PRAGMA query_only = OFF")
            case "postgresql":
                if failed:
                    self._do("ROLLBACK TO SAVEPOINT kit_read")
                self._do("RELEASE SAVEPOINT kit_read")
            case _:
                pass

    def _commit(self, connection: Connection) -> None:
        unit = self._unit_of(connection)
        try:
            if self._running is unit:
                self._check_alive(connection)
            if unit.writes:
                self._check_deferred()
        except BaseException:
            self._end(connection, undo=True)
            raise
        self._end(connection, undo=False)

    def _roll_back(self, connection: Connection) -> None:
        if connection in self._units:
            self._end(connection, undo=True)

    def _check_alive(self, connection: Connection) -> None:
        """Raise the error that somebody caught, if it undid what this unit did; as a `Database` does at its commit."""
        try:
            self._do("SELECT 1")
        except DBAPIError as exc:
            raise connection.info.get(UNDOING_ERROR, exc) from exc

    def _check_deferred(self) -> None:
        # MariaDB defers no constraint.
        if self._dialect == "postgresql":
            # In a savepoint that is rolled back: each constraint has its own mode again afterwards.
            self._do("SAVEPOINT kit_check")
            self._do("SET CONSTRAINTS ALL IMMEDIATE")
            self._do("ROLLBACK TO SAVEPOINT kit_check")
            self._do("RELEASE SAVEPOINT kit_check")
        elif self._dialect == "sqlite" and self._do("PRAGMA foreign_key_check").first():
            cause = sqlite3.IntegrityError("FOREIGN KEY constraint failed")
            raise IntegrityError("COMMIT", None, cause) from cause

    def _end(self, connection: Connection, *, undo: bool) -> None:
        unit = self._units.pop(connection)
        try:
            self._close_bracket(failed=True)
            self._end_savepoint(unit, undo=undo)
        finally:
            self._turns.give_back()

    def _end_savepoint(self, unit: _Unit, *, undo: bool) -> None:
        unit.has_ended = True
        if unit.savepoint and undo and self._must_undo(unit):
            self.has_lost = self.has_lost or unit.holds_others
            self._do(f"ROLLBACK TO SAVEPOINT {unit.savepoint}")
            place = self._stack.index(unit)
            for later in self._stack[place + 1 :]:
                later.savepoint = None  # it is gone; the next statement makes another
            del self._stack[place + 1 :]
        # A savepoint that began before one that is still needed must stay.
        while self._stack and self._stack[-1].has_ended:
            self._do(f"RELEASE SAVEPOINT {self._stack.pop().savepoint}")

    def _must_undo(self, unit: _Unit) -> bool:
        """Return whether a unit changed anything; if not, what others stored behind its savepoint can stay."""
        has_failed = self._running is unit and self._dialect == "postgresql"
        return unit.writes or has_failed or not unit.holds_others


def _ended() -> InvalidRequestError:
    return InvalidRequestError("this session belongs to a test that has ended")


def _do_nothing(*_: Any) -> None: ...
