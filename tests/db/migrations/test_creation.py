"""The command that creates what Alembic needs."""

import runpy
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from fastapi_kit.db.migrations.creation import main

APP = """\
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_kit.db import Database, SyncDatabase


class Base(DeclarativeBase): ...


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)


class Holder:
    db = Database("sqlite+aiosqlite://")


db = Holder.db
sync_db = SyncDatabase("sqlite+pysqlite://")
"""
EMPTY = """\
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase): ...
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    package = tmp_path / "kit_sample"
    package.mkdir()
    for name, source in {"main": APP, "empty": EMPTY, "broken": "import no_such_package\n"}.items():
        package.joinpath(f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "kit_sample"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("db", "metadata", "wanted"),
    [
        (
            "kit_sample.main:db",
            "kit_sample.main:Base.metadata",
            (
                "from kit_sample.main import Base, db\nfrom fastapi_kit.db.migrations import run_migrations\n\n"
                "run_migrations(db, Base.metadata)\n"
            ),
        ),
        (
            "kit_sample.main:Holder.db",
            "kit_sample.empty:Base.metadata",
            (
                "from kit_sample.empty import Base\nfrom kit_sample.main import Holder\n"
                "from fastapi_kit.db.migrations import run_migrations\n\nrun_migrations(Holder.db, Base.metadata)\n"
            ),
        ),
        ("kit_sample.main:sync_db", "kit_sample.main:Base.metadata", "run_migrations(sync_db, Base.metadata)\n"),
    ],
)
def test_an_environment_is_written(
    db: str, metadata: str, wanted: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--folder", "100%/sql", db, metadata]) == 0
    assert folder.joinpath("100%/sql/env.py").read_text().endswith(wanted)
    assert "script_location = %(here)s/100%%/sql\n" in folder.joinpath("alembic.ini").read_text()
    assert folder.joinpath("100%/sql/script.py.mako").is_file()
    assert folder.joinpath("100%/sql/versions").is_dir()
    said = capsys.readouterr().out
    assert "alembic upgrade head" in said
    assert ("has no tables yet" in said) == ("empty" in metadata)


@pytest.mark.parametrize(
    ("db", "metadata", "reason"),
    [
        ("kit_sample.main.db", "kit_sample.main:Base.metadata", "write module:name, as in app.main:db"),
        ("kit_sample.main:db", "kit_sample/main.py:Base", "write module:name, as in app.main:Base.metadata"),
        ("kit_simple.main:db", "kit_sample.main:Base.metadata", "there is no module 'kit_simple' in"),
        ("kit_sample.mian:db", "kit_sample.main:Base.metadata", "there is no module 'kit_sample.mian' in"),
        ("kit_sample.main:database", "kit_sample.main:Base.metadata", "was imported, but has no 'database' there"),
        ("kit_sample.main:Base", "kit_sample.main:Base.metadata", "is a DeclarativeAttributeIntercept: name your"),
        ("kit_sample.main:db", "kit_sample.main:Base", "write kit_sample.main:Base.metadata"),
        ("kit_sample.main:db", "kit_sample.main:Holder", "is a type: name the MetaData of your models"),
    ],
)
def test_what_is_not_there_is_said(
    db: str, metadata: str, reason: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", db, metadata]) == 1
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["kit_sample"]


def test_what_the_application_lacks_is_its_own_error(folder: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        main(["init", "kit_sample.broken:db", "kit_sample.main:Base.metadata"])


@pytest.mark.parametrize("taken", ["alembic.ini", "migrations", "migrations/env.py"])
def test_nothing_is_written_over(taken: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.joinpath(taken).parent.mkdir(exist_ok=True)
    folder.joinpath(taken).write_text("mine")
    assert main(["init", "kit_sample.main:db", "kit_sample.main:Base.metadata"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert [path.read_text() for path in (folder / "alembic.ini", folder / taken) if path.is_file()][-1] == "mine"
    assert not folder.joinpath("migrations/versions").exists()


def test_an_empty_folder_may_be_there_but_no_second_one_is_made(folder: Path) -> None:
    folder.joinpath("migrations").mkdir()
    assert main(["init", "kit_sample.main:db", "kit_sample.main:Base.metadata"]) == 0
    assert main(["init", "--folder", "others", "kit_sample.main:db", "kit_sample.main:Base.metadata"]) == 1
    assert not folder.joinpath("others").exists()


def test_it_is_run_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["migrations", "init", "--help"])
    import_module("fastapi_kit.db.migrations.__main__")  # which runs nothing
    monkeypatch.delitem(sys.modules, "fastapi_kit.db.migrations.__main__")
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("fastapi_kit.db.migrations", run_name="__main__")
    assert "app.main:Base.metadata" in capsys.readouterr().out
