"""Databases of their own, and a folder of revisions written by hand."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from textwrap import indent
from typing import Any
from uuid import uuid4

from alembic.config import Config
from sqlalchemy import URL, Connection, MetaData, inspect, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from fastapi_kit.db import Database, SyncDatabase
from fastapi_kit.db.migrations.connecting import run_in_loop

AnyDatabase = Database | SyncDatabase

_ENV = """\
from alembic import context
from fastapi_kit.db.migrations import run_migrations

attributes = context.config.attributes
run_migrations(attributes["db"], attributes["metadata"], **attributes["options"])
"""
_REVISION = """\
import time

import sqlalchemy as sa
from alembic import op

revision = {name!r}
down_revision = {after!r}


def upgrade():
{upgrade}


def downgrade():
{downgrade}
"""


@asynccontextmanager
async def fresh(url: str) -> AsyncGenerator[URL]:
    """Give the URL of an empty database on that server, dropped at the end."""
    name = f"kit_{uuid4().hex}"
    force = " WITH (FORCE)" if url.startswith("postgresql") else ""
    admin = create_async_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with admin.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(url).set(database=name)
    finally:
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE {name}{force}"))


class Revisions:
    """A folder for Alembic whose env.py takes the database from the configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last: str | None = None
        folder.joinpath("versions").mkdir(parents=True)
        folder.joinpath("env.py").write_text(_ENV)
        template = files("fastapi_kit.db.migrations").joinpath("script.py.mako").read_text()
        folder.joinpath("script.py.mako").write_text(template)

    def add(self, name: str, upgrade: str, downgrade: str = "pass") -> None:
        bodies = {"upgrade": indent(upgrade, "    "), "downgrade": indent(downgrade, "    ")}
        source = _REVISION.format(name=name, after=self._last, **bodies)
        self.folder.joinpath("versions", f"{name}.py").write_text(source)
        self._last = name

    def name_database(self, source: str) -> Path:
        """Let env.py name a database itself, as a user's does; return an alembic.ini."""
        env = "from sqlalchemy import MetaData\n\nfrom fastapi_kit.db import Database\n"
        env += "from fastapi_kit.db.migrations import run_migrations\n\n"
        self.folder.joinpath("env.py").write_text(f"{env}run_migrations({source}, MetaData())\n")
        ini = self.folder / "alembic.ini"
        ini.write_text(f"[alembic]\nscript_location = {self.folder}\npath_separator = os\n")
        return ini

    def config(self, db: AnyDatabase, metadata: MetaData | None = None, **options: Any) -> Config:
        config = Config(attributes={"db": db, "metadata": metadata or MetaData(), "options": options})
        config.set_main_option("script_location", str(self.folder))
        return config


async def asked(db: AnyDatabase, question: Callable[[Connection], Any]) -> Any:
    """Return the answer that a connection of its own gives."""
    answers: list[Any] = []
    await run_in_loop(db, lambda connection: answers.append(question(connection)))
    return answers[0]


async def tables(db: AnyDatabase) -> set[str]:
    return set(await asked(db, lambda connection: inspect(connection).get_table_names()))


async def columns(db: AnyDatabase, table: str) -> list[Any]:
    return list(await asked(db, lambda connection: inspect(connection).get_columns(table)))


async def execute(db: AnyDatabase, *statements: str) -> None:
    def run(connection: Connection) -> None:
        for statement in statements:
            connection.execute(text(statement))
        connection.commit()

    await run_in_loop(db, run)


async def scalar(db: AnyDatabase, query: str) -> Any:
    return await asked(db, lambda connection: connection.execute(text(query)).scalar())


async def dispose(db: AnyDatabase) -> None:
    if isinstance(db, Database):
        await db.dispose()
    else:
        db.dispose()
