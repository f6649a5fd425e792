"""Build the sdist and from it the wheel; import what that installs without extras, then with one each."""

import subprocess
import sys
import tempfile
from pathlib import Path

UV = Path(sys.executable).with_name("uv")
BLOCKS = {
    "auth": "auth",
    "db": "db",
    "pagination": "pagination",
    "ratelimit": "ratelimit",
    "settings": "settings",
    "testing.contract": "testing",
}
OF_AUTH = {"auth.issuers": "oidc", "auth.sessions.sqlalchemy": "db", "auth.sessions.redis": "redis"}  # one more each

IMPORTS = """
import fastapi_kit, fastapi_kit.errors, fastapi_kit.health, fastapi_kit.observability, fastapi_kit.schemas
from fastapi_kit.observability import Telemetry
try:
    Telemetry("shop")
except fastapi_kit.errors.ConfigurationError as error:
    assert "pip install 'fastapi-service-kit[telemetry]'" in str(error), error
else:
    raise SystemExit("Telemetry was made without its extra")
print(fastapi_kit.__version__)
"""
REFUSES = """
import importlib, fastapi_kit.errors
try:
    importlib.import_module("fastapi_kit.{block}")
except fastapi_kit.errors.ConfigurationError as error:
    assert "pip install 'fastapi-service-kit[{extra}]'" in str(error), error
else:
    raise SystemExit("fastapi_kit.{block} was imported without its extra")
"""
MIGRATIONS = """
from importlib.resources import files
from fastapi_kit.db.migrations.creation import main
assert files("fastapi_kit.db.migrations").joinpath("script.py.mako").is_file()
main(["init", "--help"])
"""

SYNC = """
import fastapi_kit.errors
from fastapi_kit.db import SyncDatabase
with SyncDatabase("sqlite+pysqlite://").session() as session:
    assert session.connection().exec_driver_sql("SELECT 42").scalar() == 42
try:
    from fastapi_kit.db import Database
except fastapi_kit.errors.ConfigurationError as error:
    assert "pip install 'fastapi-service-kit[db]'" in str(error), error
else:
    raise SystemExit("fastapi_kit.db.Database was imported without greenlet")
"""


PAGES = """
from fastapi import FastAPI
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, insert, select
from sqlalchemy.orm import Session
from fastapi_kit.pagination import CursorParams, Cursors, fetch_sync
numbers = Table("numbers", MetaData(), Column("n", Integer, primary_key=True))
engine = create_engine("sqlite://")
numbers.create(engine)
params = CursorParams(2, None, Cursors(bytes(range(32))), "numbers")
with Session(engine) as session:
    session.execute(insert(numbers), [{"n": n} for n in range(3)])
    page = fetch_sync(session, select(numbers.c.n), params)
assert (page.items, page.has_next) == ([0, 1], True), page
try:
    import greenlet
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("greenlet is there, so this shows nothing")
"""


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def install(wheel: Path, extra: str = "") -> Path:
    """Return the Python of a new environment that holds the wheel with that extra."""
    folder = wheel.parent / (extra or "none")
    python = folder / "bin" / "python"
    run(UV, "venv", "--quiet", "--clear", "--python", sys.executable, folder)
    requirement = f"fastapi-service-kit[{extra}] @ {wheel.as_uri()}"
    run(UV, "pip", "install", "--quiet", "--python", python, requirement)
    return python


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(UV, "build", "--quiet", "--out-dir", folder)
        wheel = next(Path(folder).glob("*.whl"))

        python = install(wheel)
        version = run(python, "-Ic", IMPORTS).strip()
        assert wheel.name.startswith(f"fastapi_service_kit-{version}-"), (wheel.name, version)
        for block, extra in BLOCKS.items():
            run(python, "-Ic", REFUSES.format(block=block, extra=extra))
            print(f"{wheel.name}: {block} is refused without [{extra}]")
        python = install(wheel, "auth")
        for module, extra in OF_AUTH.items():
            run(python, "-Ic", REFUSES.format(block=module, extra=extra))
            print(f"{wheel.name}: {module} is refused without [{extra}]")
            run(install(wheel, f"auth,{extra}"), "-Ic", f"import fastapi_kit.{module}")
        run(install(wheel, "db"), "-Ic", REFUSES.format(block="db.migrations", extra="migrations"))
        run(install(wheel, "migrations"), "-Ic", MIGRATIONS)
        print(f"{wheel.name}: db.migrations is refused without [migrations], and runs with it")
        run(install(wheel, "db-sync"), "-Ic", SYNC)
        print(f"{wheel.name}: db.SyncDatabase runs with [db-sync], and db.Database is refused")
        run(install(wheel, "pagination"), "-Ic", PAGES)
        print(f"{wheel.name}: pages of a sync session are fetched with [pagination] alone")
        made = "from fastapi_kit.observability import Telemetry; Telemetry('shop')"
        run(install(wheel, "telemetry"), "-Ic", made)
        print(f"{wheel.name}: Telemetry is made with [telemetry] alone")
        for extra in sorted(set(BLOCKS.values())):
            python = install(wheel, extra)
            for block in (block for block, needed in BLOCKS.items() if needed == extra):
                run(python, "-Ic", f"import fastapi_kit.{block}")
                print(f"{wheel.name}: {block} is imported with [{extra}] alone")


if __name__ == "__main__":
    main()
