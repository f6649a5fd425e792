"""Databases that are created on a server for tests: marked, so that no other is ever dropped."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import count
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from anyio.from_thread import start_blocking_portal

from fastapi_kit.errors import ConfigurationError, needs_extra

with needs_extra("db"):
    import sqlalchemy
    from sqlalchemy import text
    from sqlalchemy.engine import URL, Connection
    from sqlalchemy.pool import NullPool

__all__ = ["connected", "mariadb", "postgresql"]

ResultT = TypeVar("ResultT")
_MARK = "fastapi_kit test database of "
_LOCK = "fastapi_kit test databases"


class Do(Protocol):
    """Runs a function with a connection in autocommit, wherever that lives."""

    def __call__(self, work: Callable[[Connection], ResultT], /) -> ResultT: ...


@contextmanager
def connected(url: URL) -> Generator[Do]:
    """Connect with the driver of the URL, an async one in the event loop of a thread of its own."""
    options: dict[str, Any] = {"poolclass": NullPool, "isolation_level": "AUTOCOMMIT", "hide_parameters": True}
    if not url.get_dialect().is_async:
        with sqlalchemy.create_engine(url, **options).connect() as connection:
            yield lambda work: work(connection)
        return
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415  # it needs greenlet

    engine = create_async_engine(url, **options)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(engine.connect()) as there:

        def do(work: Callable[[Connection], ResultT], /) -> ResultT:
            result: ResultT = portal.call(there.run_sync, work)
            return result

        yield do


class _Server(ABC):
    """Creates and drops databases for one run of tests, and knows its own from those of a run that was killed.

    A run holds a lock on the server for as long as its connection lives, and each database says which run it is of:
    one whose lock is free is left over.
    """

    def __init__(self, url: URL, do: Do, prepare: Callable[[URL], None], worker: str | None) -> None:
        self._url = url
        self._do = do
        self._prepare = prepare
        self._run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid4().hex
        self._worker = worker or os.environ.get("PYTEST_XDIST_WORKER") or "main"
        self._numbers = count(1)

    @contextmanager
    def copy(self) -> Generator[URL]:
        """Create a database, give its URL, and drop it."""
        name = f"kit_{self._run}_{self._worker}_{next(self._numbers)}"
        self._make_copy(name)
        try:
            self._fill(name)
            yield self._url.set(database=name)
        finally:
            self._drop(name)

    @abstractmethod
    def _make_copy(self, name: str) -> None: ...

    @abstractmethod
    def _fill(self, name: str) -> None: ...

    @abstractmethod
    def _marks(self) -> dict[str, str]:
        """Return what the databases of all runs are marked with, by their names."""

    def _drop(self, name: str) -> None:
        if name not in self._marks():
            raise ConfigurationError(f"the database {name} was not made by `template_database`: drop it yourself")
        force = " WITH (FORCE)" if isinstance(self, _PostgreSQL) else ""
        self._execute(f"DROP DATABASE {self._quoted(name)}{force}")

    def _quoted(self, name: str) -> str:
        return self._do(lambda connection: connection.dialect.identifier_preparer.quote(name))

    def _execute(self, statement: str, **parameters: object) -> None:
        self._do(lambda connection: connection.execute(text(statement), parameters).close())

    def _rows(self, statement: str, **parameters: object) -> list[tuple[Any, ...]]:
        return self._do(lambda connection: [tuple(row) for row in connection.execute(text(statement), parameters)])

    def _scalar(self, statement: str, **parameters: object) -> Any:
        return self._rows(statement, **parameters)[0][0]


class _PostgreSQL(_Server):
    @property
    def _template(self) -> str:
        return f"kit_{self._run}"

    @contextmanager
    def prepared(self) -> Generator["_PostgreSQL"]:
        """Share the template of the run with its other workers; the last one drops it."""
        with self._alone():
            self._drop_leftovers()
            self._execute("SELECT pg_advisory_lock_shared(:key)", key=_key(self._run))
        try:
            with self._alone():
                self._make_template()
            yield self
        finally:
            with self._alone():
                self._execute("SELECT pg_advisory_unlock_shared(:key)", key=_key(self._run))
                self._drop_leftovers()

    def _make_template(self) -> None:
        mark = self._marks().get(self._template)
        if mark == self._run:
            return
        if mark is not None:  # a worker ended in the midst of it
            self._drop(self._template)
        self._create(self._template, "", f"{self._run} unfinished")
        self._prepare(self._url.set(database=self._template))
        self._mark(self._template, self._run)

    def _make_copy(self, name: str) -> None:
        self._create(name, f" TEMPLATE {self._quoted(self._template)}", self._run)

    def _fill(self, name: str) -> None:
        """Leave it as the template is."""

    def _create(self, name: str, options: str, mark: str) -> None:
        self._execute(f"CREATE DATABASE {self._quoted(name)}{options}")
        self._mark(name, mark)

    def _mark(self, name: str, mark: str) -> None:
        self._execute(f"COMMENT ON DATABASE {self._quoted(name)} IS '{_MARK}{mark}'")

    def _marks(self) -> dict[str, str]:
        query = (
            "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database"
            " WHERE starts_with(shobj_description(oid, 'pg_database'), :mark)"
        )
        return {name: comment.removeprefix(_MARK) for name, comment in self._rows(query, mark=_MARK)}

    def _drop_leftovers(self) -> None:
        for name, mark in self._marks().items():
            key = _key(mark.partition(" ")[0])
            if self._scalar("SELECT pg_try_advisory_lock(:key)", key=key):
                self._drop(name)
                self._execute("SELECT pg_advisory_unlock(:key)", key=key)

    @contextmanager
    def _alone(self) -> Generator[None]:
        self._execute("SELECT pg_advisory_lock(:key)", key=_key(_LOCK))
        try:
            yield
        finally:
            self._execute("SELECT pg_advisory_unlock(:key)", key=_key(_LOCK))


def _key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)


class _MariaDB(_Server):
    @property
    def _owner(self) -> str:
        return f"{self._run}_{self._worker}"  # of its own for each worker: these locks cannot be shared

    @contextmanager
    def prepared(self) -> Generator["_MariaDB"]:
        """Drop what others have left over, and let others see that these are not."""
        self._execute("SELECT GET_LOCK(:name, 0)", name=_short(self._owner))
        for name, owner in self._marks().items():
            if self._scalar("SELECT IS_FREE_LOCK(:name)", name=_short(owner)):
                self._execute(f"DROP DATABASE IF EXISTS {self._quoted(name)}")  # another worker may be at it too
        yield self

    def _make_copy(self, name: str) -> None:
        self._execute(f"CREATE DATABASE {self._quoted(name)} COMMENT '{_MARK}{self._owner}'")

    def _fill(self, name: str) -> None:
        self._prepare(self._url.set(database=name))

    def _marks(self) -> dict[str, str]:
        query = "SELECT schema_name, schema_comment FROM information_schema.schemata WHERE schema_comment LIKE :mark"
        return {name: comment.removeprefix(_MARK) for name, comment in self._rows(query, mark=f"{_MARK}%")}


def _short(owner: str) -> str:
    return f"kit_{_key(owner)}"  # 64 characters at most


@contextmanager
def postgresql(url: URL, prepare: Callable[[URL], None], worker: str | None) -> Generator[_PostgreSQL]:
    """Give copies of a template that is prepared once for all workers of a run."""
    with connected(url) as do, _PostgreSQL(url, do, prepare, worker).prepared() as server:
        yield server


@contextmanager
def mariadb(url: URL, prepare: Callable[[URL], None], worker: str | None) -> Generator[_MariaDB]:
    """Give databases that are prepared one by one."""
    with connected(url) as do, _MariaDB(url, do, prepare, worker).prepared() as server:
        yield server
