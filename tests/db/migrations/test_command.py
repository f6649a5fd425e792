"""From an empty folder to the second revision and back, typed as a user types it, on each database."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.db.migrations.conftest import ASYNC
from tests.db.migrations.support import AnyDatabase, columns, scalar, tables

pytestmark = pytest.mark.anyio

INIT = [sys.executable, "-m", "fastapi_kit.db.migrations", "init", "app.main:db", "app.main:Base.metadata"]
TYPES = """\
from typing import Any

from sqlalchemy import String
from sqlalchemy.types import TypeDecorator


class Slug(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: object) -> Any:
        return value and value.lower()
"""
MAIN = """\
import os
from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, MetaData, Numeric, String, func, true
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.types import Slug
from fastapi_kit.db import Database, SyncDatabase


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Owner(Base):
    __tablename__ = "owners"
    __table_args__ = (CheckConstraint("visits >= 0", name="visits_positive"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(Slug(20), unique=True)
    visits: Mapped[int] = mapped_column(server_default="0")
    active: Mapped[bool] = mapped_column(server_default=true())
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2), server_default="0.00")
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    if "SECOND" in os.environ:
        name: Mapped[str | None] = mapped_column(String(90), index=True)
        rival_id: Mapped[int | None] = mapped_column(ForeignKey("owners.id"), index=True)


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey(Owner.id, ondelete="CASCADE"), index=True)


url = os.environ["URL"]
db = (SyncDatabase if "+py" in url else Database)(url)
"""


SEVERAL = """\
import shlex, sys
from alembic.config import main

for command in sys.argv[1:]:
    main(shlex.split(command))
"""


# Each takes ten seconds of new processes: CI types it on every database, a plain run on SQLite.
DRIVERS = [*ASYNC, "sqlite+pysqlite"] if os.environ.get("CI") else ["sqlite+aiosqlite"]


@pytest.mark.parametrize("driver", DRIVERS)
async def test_from_nothing_to_the_second_revision_and_back(db: AnyDatabase, url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.joinpath("app").mkdir(parents=True)
    for name, source in {"__init__": "", "types": TYPES, "main": MAIN}.items():
        home.joinpath("app", f"{name}.py").write_text(source)

    def type_in(*command: str, **variables: str) -> str:
        environment = {**os.environ, "URL": url, **variables}
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def type_in_several(*commands: str, **variables: str) -> str:
        return type_in(sys.executable, "-c", SEVERAL, *commands, **variables)

    type_in(*INIT)
    type_in_several("revision --autogenerate -m first", "upgrade head", "check")
    assert await tables(db) == {"alembic_version", "owners", "items"}
    said = type_in_several("revision --autogenerate -m second", "upgrade head", "check", SECOND="yes")
    assert said.count("Detected added column") == 2
    assert "No new upgrade operations" in said
    assert {column["name"] for column in await columns(db, "owners")} >= {"name", "rival_id"}
    type_in(str(Path(sys.executable).with_name("alembic")), "downgrade", "-1")
    assert {column["name"] for column in await columns(db, "owners")}.isdisjoint({"name", "rival_id"})
    type_in_several("downgrade base")
    assert await tables(db) == {"alembic_version"}
    assert await scalar(db, "SELECT count(*) FROM alembic_version") == 0
