"""Several workers, each with counts of its own."""

import importlib.util
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Timer
from types import ModuleType, SimpleNamespace

import pytest
import uvicorn

from fastapi_kit import _workers
from fastapi_kit.ratelimit import workers

WARNS = """
from fastapi import FastAPI
from fastapi_kit.ratelimit.workers import warn_of_several_workers

warn_of_several_workers()
app = FastAPI()
"""
RUNS = """
import uvicorn
{imports}
if __name__ == "__main__":
    uvicorn.run("{app}", {options}, port=0)
"""
COUNTS = """
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi_kit.ratelimit.workers import warn_of_several_workers

warn_of_several_workers()

@asynccontextmanager
async def count(app):
    warn_of_several_workers()
    yield

app = FastAPI(lifespan=count)
"""
STARTED = "Application startup complete"
OF_TWO = "by each of the 2 workers for itself: a client may have 2 times its quota"
UVICORN = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0"]


def warnings_of(command: Sequence[str], folder: Path, *, started: int, **environment: str) -> list[str]:
    """Start a server, and return what it warns of until so many workers serve."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "WEB_CONCURRENCY"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    give_up = Timer(60, os.killpg, (process.pid, signal.SIGKILL))
    give_up.start()
    lines: list[str] = []
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            lines.append(line)
            if sum(STARTED in line for line in lines) == started:
                process.terminate()
                break
        lines.extend(output)
    process.wait()
    give_up.cancel()
    assert sum(STARTED in line for line in lines) == started, "".join(lines)
    return [line for line in lines if "Rate limits are counted in memory" in line]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(WARNS)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ([str(Path(sys.executable).with_name("uvicorn")), "app:app", "--port", "0", "--workers", "2"], {}),
        pytest.param(
            [sys.executable, "-m", "fastapi", "run", "app.py", "--port", "0", "--workers", "2"],
            {},
            marks=pytest.mark.skipif(importlib.util.find_spec("fastapi_cli") is None, reason="needs fastapi-cli"),
        ),
    ],
)
def test_each_of_two_workers_warns(command: list[str], environment: dict[str, str], folder: Path) -> None:
    warnings = warnings_of(command, folder, started=2, **environment)
    assert [OF_TWO in warning for warning in warnings] == [True, True]


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (["--workers", "1"], {"WEB_CONCURRENCY": "2"}),
        (["--reload", "--workers", "2"], {}),
    ],
)
def test_a_single_worker_does_not_warn(options: list[str], environment: dict[str, str], folder: Path) -> None:
    assert warnings_of([*UVICORN, *options], folder, started=1, **environment) == []


def test_each_worker_that_a_script_starts_warns_once(folder: Path) -> None:
    (folder / "script.py").write_text(RUNS.format(imports=WARNS, app="script:app", options="workers=2"))
    assert len(warnings_of([sys.executable, "script.py"], folder, started=2)) == 2


def test_what_the_script_imports_for_its_workers_warns_when_it_counts(folder: Path) -> None:
    (folder / "app.py").write_text(COUNTS)
    (folder / "script.py").write_text(RUNS.format(imports="import app", app="app:app", options="workers=2"))
    assert len(warnings_of([sys.executable, "script.py"], folder, started=2)) == 2


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """The log of a process that has not decided yet."""
    monkeypatch.setattr(workers, "_decided", Event())
    caplog.set_level(logging.WARNING, "fastapi_kit.ratelimit")
    return caplog


def worker(monkeypatch: pytest.MonkeyPatch, config: object) -> None:
    """Be a process that a server started."""
    process = SimpleNamespace(name="SpawnProcess-1", _kwargs={"config": config})
    for module in (workers, _workers):
        monkeypatch.setattr(module, "current_process", lambda: process)
    monkeypatch.setattr(workers, "parent_process", lambda: process)


def test_it_warns_once_and_says_what_to_do(log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    worker(monkeypatch, uvicorn.Config("app:app", workers=3))
    workers.warn_of_several_workers()
    workers.warn_of_several_workers()
    (warning,) = log.messages
    assert "by each of the 3 workers for itself: a client may have 3 times its quota" in warning
    assert 'Limiter("redis://...")' in warning


@pytest.mark.parametrize(
    "config",
    [uvicorn.Config("app:app"), uvicorn.Config("app:app", workers=3, reload=True), {"workers": 3}, None],
)
def test_any_other_process_does_not_warn(
    config: object, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker(monkeypatch, config)
    workers.warn_of_several_workers()
    assert log.messages == []


def test_a_process_whose_settings_are_of_another_kind_is_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    worker(monkeypatch, SimpleNamespace(workers=["a", "b"]))
    assert _workers.number_of_workers() == 1


def test_while_a_worker_runs_the_script_of_its_parent_nothing_is_decided(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as preparing:
        preparing.setattr(workers, "current_process", lambda: SimpleNamespace(name="SpawnProcess-1"))
        workers.warn_of_several_workers()
    assert log.messages == []
    worker(monkeypatch, uvicorn.Config("app:app", workers=2))
    workers.warn_of_several_workers()
    assert len(log.messages) == 1


@pytest.fixture
def gunicorn(log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Be a process of gunicorn, as far as one can tell without it; return its log."""
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", ModuleType("gunicorn.arbiter"))
    monkeypatch.delitem(sys.modules, "__config__", raising=False)
    monkeypatch.setenv("SERVER_SOFTWARE", "gunicorn/23.0.0")
    for variable in ("WEB_CONCURRENCY", "GUNICORN_CMD_ARGS"):
        monkeypatch.delenv(variable, raising=False)
    return log


@pytest.mark.parametrize(
    ("command", "environment", "settings", "number"),
    [
        ("gunicorn app:app", {}, {}, 1),
        ("gunicorn -w 4 app:app", {}, {}, 4),
        ("gunicorn -w4 app:app", {}, {}, 4),
        ("gunicorn --worker-class x --workers 4 app:app", {}, {}, 4),
        ("/srv/gunicorn/__main__.py --workers=4 app:app", {}, {}, 4),
        ("gunicorn -w", {}, {}, None),
        ("gunicorn app:app", {"WEB_CONCURRENCY": "4"}, {}, 4),
        ("gunicorn app:app -w 1", {"WEB_CONCURRENCY": "4"}, {}, 1),
        ("gunicorn app:app", {"GUNICORN_CMD_ARGS": "--workers 4", "WEB_CONCURRENCY": "2"}, {"workers": 3}, 4),
        ("gunicorn app:app -w 5", {"GUNICORN_CMD_ARGS": "--workers 4"}, {}, 5),
        ("gunicorn app:app", {"WEB_CONCURRENCY": "2"}, {"workers": 3}, 3),
        ("gunicorn app:app", {}, {"bind": ":80"}, 1),
        ("gunicorn -c python:conf app:app", {}, {}, None),
        ("gunicorn -c python:conf app:app -w 2", {}, {}, 2),
        ("serve.py", {}, {}, None),
        ("serve.py", {"WEB_CONCURRENCY": "1"}, {}, None),
    ],
)
def test_gunicorn_is_asked_as_it_asks_itself(
    command: str,
    environment: dict[str, str],
    settings: dict[str, object],
    number: int | None,
    gunicorn: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", command.split())
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if settings:
        module = ModuleType("__config__")
        vars(module).update(settings)
        monkeypatch.setitem(sys.modules, "__config__", module)
    assert _workers.number_of_workers() == number
    workers.warn_of_several_workers()
    assert len(gunicorn.messages) == (number != 1)
    assert all("times its quota" in message for message in gunicorn.messages)


def test_what_gunicorn_starts_as_a_program_is_no_worker(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_SOFTWARE", "gunicorn/23.0.0")
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    workers.warn_of_several_workers()
    assert log.messages == []
