"""Databases of tests' own, copied from one that was prepared once: for real commits and several connections."""

import asyncio
import inspect
import sqlite3
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.testing.database.servers import connected, mariadb, postgresql

with needs_extra("db"):
    from sqlalchemy import MetaData
    from sqlalchemy.engine import URL, make_url

__all__ = ["DatabaseTemplate", "template_database"]


class DatabaseTemplate(Protocol):
    """What `template_database` gives."""

    def copy(self) -> AbstractContextManager[URL]:
        """Make a database as it was prepared, give its URL, and drop it at the end of the block.

        Connections to it that are still open are closed by the server then. The URL is for `Database` and
        `SyncDatabase`; its `str` hides the password.
        """
        ...


@contextmanager
def template_database(
    url: str | URL, prepare: MetaData | Callable[[URL], object], *, worker: str | None = None
) -> Generator[DatabaseTemplate]:
    """Prepare a database once, and give a copy of it to each test, or one to each worker of pytest-xdist.

    For tests of what `rolled_back` cannot show: several connections, locks, real commits. PostgreSQL copies a template
    that all workers share; SQLite copies a file; MariaDB has no templates, so each copy is prepared anew. What is
    made is dropped at the end, also if tests fail. What a run that was killed has left on a server is dropped by
    the next run there. Only databases that carry the mark of this function are ever dropped. It works in threads of its
    own, so that it can stand in sync and async fixtures alike.

    - `url`: of the server, with the driver that the app uses, and a user that may create databases. The database in
      it is only connected to. For SQLite the scheme is enough, `sqlite+aiosqlite://`; the files are in the system's
      folder for temporary ones, where a run that was killed leaves them.
    - `prepare`: the tables to create, or a function that migrates the database whose URL it gets, `async` or not. It
      must close its connections.
    - `worker`: part of the names of the copies, 16 characters at most. Unless told, `PYTEST_XDIST_WORKER` as it is
      when this is called.

    Raises `ConfigurationError` if a copy is not what it made, at its end, and for another kind of database.

    >>> with template_database("sqlite+aiosqlite://", MetaData()) as template:
    ...     with template.copy() as url:
    ...         print(url.drivername)
    sqlite+aiosqlite
    """
    there = make_url(url)

    def prepare_at(target: URL) -> None:
        _prepare(target, prepare)

    match there.get_backend_name():
        case "sqlite":
            context: AbstractContextManager[DatabaseTemplate] = _files(there, prepare_at)
        case "postgresql":
            context = postgresql(there, prepare_at, worker)
        case "mysql" | "mariadb":
            context = mariadb(there, prepare_at, worker)
        case other:
            raise ConfigurationError(f"`url` is of {other}: give one of SQLite, PostgreSQL or MariaDB")
    with context as template:
        yield template


def _prepare(target: URL, prepare: MetaData | Callable[[URL], object]) -> None:
    if isinstance(prepare, MetaData):
        with connected(target) as do:
            do(prepare.create_all)
        return

    def call() -> None:
        made = prepare(target)
        if inspect.isawaitable(made):
            asyncio.run(_awaited(made))

    with ThreadPoolExecutor(1) as thread:  # in which no event loop runs, so that Alembic may start one
        thread.submit(call).result()


async def _awaited(made: Awaitable[Any]) -> None:
    await made


@contextmanager
def _files(url: URL, prepare: Callable[[URL], None]) -> Generator[DatabaseTemplate]:
    with TemporaryDirectory(prefix="fastapi_kit_", ignore_cleanup_errors=True) as folder:
        template = Path(folder) / "template.db"
        prepare(url.set(database=str(template)))
        yield _Files(url, template)


class _Files:
    def __init__(self, url: URL, template: Path) -> None:
        self._url = url
        self._template = template

    @contextmanager
    def copy(self) -> Generator[URL]:
        with TemporaryDirectory(dir=self._template.parent, ignore_cleanup_errors=True) as folder:
            target = Path(folder) / "copy.db"
            with closing(sqlite3.connect(self._template)) as source, closing(sqlite3.connect(target)) as copy:
                source.backup(copy)
            yield self._url.set(database=str(target))
