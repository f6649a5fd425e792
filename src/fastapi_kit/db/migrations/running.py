"""Migrations from within a service: to the newest revision, or only a look whether it is there."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from copy import copy
from pathlib import Path
from threading import Lock
from typing import Any

from fastapi_kit.db.migrations.connecting import HasEngine, run_in_loop
from fastapi_kit.db.migrations.environment import OWN_CONNECTION
from fastapi_kit.errors import ConfigurationError, needs_extra

with needs_extra("db"):
    from sqlalchemy.engine import Connection
with needs_extra("migrations"):
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

__all__ = ["require_head", "upgrade"]

_log = logging.getLogger("fastapi_kit.db.migrations")
_alembic = Lock()  # `alembic.context` and `alembic.op` are global: one command at a time in a process


async def upgrade(
    db: HasEngine, config: Config | str | os.PathLike[str] = "alembic.ini", revision: str = "head"
) -> None:
    """Migrate a database up to a revision: in a lifespan, or in a test, where it may be in memory.

    It runs env.py as `alembic upgrade` does, on `db` even if env.py names another database. Workers that start
    together wait for each other. The event loop goes on, except while a migration computes.

    - `config`: Alembic's, or the path of its file.

    Raises `MigrationError`, as `run_migrations` does; Alembic's `CommandError`, of which that is one, for a revision
    that it does not know; `ConfigurationError` if there is no such file; and SQLAlchemy's errors.
    """
    alembic_config = _read(config)

    def work(connection: Connection) -> None:
        command.upgrade(_with(alembic_config, connection), revision)

    async with _alone():
        await run_in_loop(db, work)


async def require_head(db: HasEngine, config: Config | str | os.PathLike[str] = "alembic.ini") -> None:
    """Return if the database is at the newest revision of this code, for a lifespan in which nobody migrates.

    A database with a revision that this code does not know is newer, as it is for old workers while new ones are
    deployed: that is logged as a warning and let pass.

    Raises `ConfigurationError` if revisions are missing, naming them, or if there is no such file as `config`.
    """
    alembic_config = _read(config)
    script = ScriptDirectory.from_config(alembic_config)
    found: set[str] = set()

    def note(heads: tuple[str, ...], _: Any) -> list[Any]:
        found.update(heads)
        return []

    def work(connection: Connection) -> None:
        with EnvironmentContext(_with(alembic_config, connection), script, fn=note, dont_mutate=True):
            script.run_env()

    async with _alone():
        await run_in_loop(db, work)
    wanted = set(script.get_heads())
    if unknown := found - {each.revision for each in script.walk_revisions()}:
        _log.warning("the database is newer than this code: it is at %s", ", ".join(sorted(unknown)))
    elif found != wanted:
        raise ConfigurationError(
            f"the database is at revision {_names(found)} and this code needs {_names(wanted)}:"
            " run `alembic upgrade head` before the service starts"
        )


def _read(config: Config | str | os.PathLike[str]) -> Config:
    if isinstance(config, Config):
        return config
    if not Path(config).is_file():
        raise ConfigurationError(f"there is no {Path(config).absolute()}: give the path of your alembic.ini")
    return Config(config)


def _with(config: Config, connection: Connection) -> Config:
    ours = copy(config)
    ours.attributes = {**config.attributes, OWN_CONNECTION: connection}
    return ours


@asynccontextmanager
async def _alone() -> AsyncGenerator[None]:
    # To wait in the lock would stop the loop that its owner may need.
    while not _alembic.acquire(blocking=False):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    try:
        yield
    finally:
        _alembic.release()


def _names(revisions: set[str]) -> str:
    return ", ".join(sorted(revisions)) or "none"
