"""What `alembic revision --autogenerate` writes."""

from pathlib import Path

import pytest
from alembic import command
from alembic.script import Script
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table
from sqlalchemy.types import TypeDecorator

from tests.db.migrations.support import AnyDatabase, Revisions

pytestmark = pytest.mark.anyio


class Slug(TypeDecorator[str]):
    impl = String
    cache_ok = True


def revise(revisions: Revisions, db: AnyDatabase, metadata: MetaData) -> str:
    script = command.revision(revisions.config(db, metadata), autogenerate=True)
    assert isinstance(script, Script)
    return Path(script.path).read_text()


@pytest.mark.parametrize("driver", ["sqlite+aiosqlite", "mysql+asyncmy"])
async def test_a_revision_needs_no_edit(driver: str, db: AnyDatabase, revisions: Revisions) -> None:
    metadata = MetaData()
    Table("parents", metadata, Column("id", Integer, primary_key=True), Column("slug", Slug(20), index=True))
    Table("children", metadata, Column("parent_id", Integer, ForeignKey("parents.id"), index=True))
    first = revise(revisions, db, metadata)
    assert f"import {__name__}\n" in first
    assert f"{__name__}.Slug(length=20)" in first
    assert "drop_index" not in first  # MariaDB refuses that, and the table takes them with it
    compile(first, "first", "exec")
    command.upgrade(revisions.config(db), "head")

    metadata.tables["parents"].append_column(Column("name", String(90)))
    second = revise(revisions, db, metadata)
    assert "add_column" in second
    assert ("batch_alter_table" in second) == driver.startswith("sqlite")
    assert f"import {__name__}\n" not in second
    command.upgrade(revisions.config(db), "head")

    metadata.tables["parents"].indexes.clear()
    assert "drop_index" in revise(revisions, db, metadata)
