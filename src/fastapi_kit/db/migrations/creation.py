"""The command that creates what Alembic needs."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi_kit.errors import ConfigurationError, needs_extra

with needs_extra("db"):
    from sqlalchemy import MetaData
    from sqlalchemy.engine import Engine

__all__ = ["create_environment", "main"]

_INI = """\
# The database's URL is not here: migrations use the Database that env.py names.
[alembic]
script_location = %(here)s/{folder}
prepend_sys_path = %(here)s
path_separator = os
"""
_ENV = '''\
"""Alembic runs this file for each of its commands."""

{imports}
from fastapi_kit.db.migrations import run_migrations

run_migrations({db}, {metadata})
'''
_NEXT = """\
Wrote alembic.ini and {folder}. Next:
  alembic revision --autogenerate -m "first tables"
  alembic upgrade head
"""
_NO_TABLES = """\
`{metadata}` has no tables yet. Import your models in `{module}`: Alembic sees none that is not imported.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m fastapi_kit.db.migrations`; return the exit status, with the reason on stderr if it is not 0."""
    parser = ArgumentParser("python -m fastapi_kit.db.migrations", description="Alembic for a fastapi_kit Database.")
    init = parser.add_subparsers(required=True).add_parser(
        "init", help="write alembic.ini and a folder for migrations, once, where the application can be imported"
    )
    init.add_argument("db", help="where the Database is, as in app.main:db")
    init.add_argument("metadata", help="where the models' MetaData is, as in app.main:Base.metadata")
    init.add_argument("--folder", default="migrations", help="for env.py and the revisions (default: migrations)")
    arguments = parser.parse_args(argv)
    try:
        said = create_environment(arguments.db, arguments.metadata, arguments.folder)
    except ConfigurationError as exc:
        sys.stderr.write(f"fastapi_kit: {exc}\n")
        return 1
    sys.stdout.write(said)
    return 0


def create_environment(db: str, metadata: str, folder: str = "migrations") -> str:
    """Write alembic.ini, here, and `folder` with env.py; return what to type next.

    `db` and `metadata` say where the two are: `app.main:db`, `app.main:Base.metadata`. They are imported.

    Raises `ConfigurationError`, and writes nothing, if either is not there or is something else, or if there is an
    alembic.ini or something in `folder` already. What the application raises when it is imported is not caught.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    db_module, db_name, found_db = _find(db, "app.main:db")
    metadata_module, metadata_name, found_metadata = _find(metadata, "app.main:Base.metadata")
    _check(db, found_db, metadata, found_metadata)
    target, ini = Path(folder), Path("alembic.ini")
    for path in (ini, target):
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise ConfigurationError(f"{path} is there already: nothing is written over it. Move it, or take --folder")
    imports: dict[str, set[str]] = {}
    for module, name in ((db_module, db_name), (metadata_module, metadata_name)):
        imports.setdefault(module, set()).add(name.partition(".")[0])
    lines = [f"from {module} import {', '.join(sorted(imports[module]))}" for module in sorted(imports)]
    target.joinpath("versions").mkdir(parents=True, exist_ok=True)
    template = files("fastapi_kit.db.migrations").joinpath("script.py.mako").read_text("utf-8")
    target.joinpath("script.py.mako").write_text(template, "utf-8")
    env = _ENV.format(imports="\n".join(lines), db=db_name, metadata=metadata_name)
    target.joinpath("env.py").write_text(env, "utf-8")
    ini.write_text(_INI.format(folder=target.as_posix().replace("%", "%%")), "utf-8")
    empty = "" if found_metadata.tables else _NO_TABLES.format(metadata=metadata, module=metadata_module)
    return _NEXT.format(folder=target) + empty


def _find(where: str, example: str) -> tuple[str, str, Any]:
    """Return the module's name, the name in it, and what has that name."""
    module_name, _, name = where.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), *name.split("."))):
        raise ConfigurationError(f"{where!r} does not say where to look: write module:name, as in {example}")
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise  # it is there, and needs one that is not
        raise ConfigurationError(
            f"{where!r}: there is no module {exc.name!r} in {Path.cwd()} or among the installed ones:"
            " run this in the folder from which your application starts"
        ) from exc
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as exc:
            raise ConfigurationError(f"{where!r}: {module_name} was imported, but has no {part!r} there") from exc
    return module_name, name, found


def _check(db: str, found_db: Any, metadata: str, found_metadata: Any) -> None:
    engine = getattr(found_db, "engine", None)
    if not isinstance(getattr(engine, "sync_engine", engine), Engine):
        raise ConfigurationError(f"{db!r} is a {type(found_db).__name__}: name your fastapi_kit.db.Database")
    if isinstance(getattr(found_metadata, "metadata", None), MetaData):
        raise ConfigurationError(f"{metadata!r} has the metadata, but is not it: write {metadata}.metadata")
    if not isinstance(found_metadata, MetaData):
        raise ConfigurationError(
            f"{metadata!r} is a {type(found_metadata).__name__}: name the MetaData of your models, as in"
            " app.main:Base.metadata"
        )
