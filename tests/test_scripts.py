"""The two commands of the README say in one line what is wrong with the machine they run on."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, path: Path | None = None) -> tuple[int, str]:
    environment = {"PATH": f"{path}:/usr/bin:/bin"} if path else None
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def fake_python(folder: Path, script: str) -> Path:
    python = folder / "python3"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return folder


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_no_python(tmp_path: Path) -> None:
    code, said = run("sh", "scripts/venv.sh", "python3.99", tmp_path / "venv")
    assert code == 1
    assert said == (
        "fastapi_kit: python3.99 was not found: install Python 3.11 or newer, "
        "or name yours: make run PYTHON=/path/to/python3\n"
    )


def test_old_python(tmp_path: Path) -> None:
    path = fake_python(tmp_path, 'case "$2" in *print*) echo 3.9 ;; *) exit 1 ;; esac')
    code, said = run("sh", "scripts/venv.sh", "python3", tmp_path / "venv", path=path)
    assert code == 1
    assert said == (
        "fastapi_kit: python3 is Python 3.9, too old: install 3.11 or newer, or name one: make run PYTHON=python3.11\n"
    )


def test_python_without_venv(tmp_path: Path) -> None:
    path = fake_python(tmp_path, 'case "$2" in *print*) echo 3.11 ;; *ensurepip*) exit 1 ;; esac')
    code, said = run("sh", "scripts/venv.sh", "python3", tmp_path / "venv", path=path)
    assert code == 1
    assert said == (
        "fastapi_kit: python3 has no venv module: install it (Debian, Ubuntu: apt-get install python3.11-venv)\n"
    )


def test_port_in_use(taken_port: int) -> None:
    code, said = run(sys.executable, "-m", "scripts.serve", str(taken_port))
    assert code == 1
    assert said == (
        f"fastapi_kit: port {taken_port} is in use: choose another one, as in: make run PORT={taken_port + 1}\n"
    )


@pytest.mark.parametrize("port", ["http", "-1", "65536", ""])
def test_port_that_is_none(port: str) -> None:
    code, said = run(sys.executable, "-m", "scripts.serve", port)
    assert code == 1
    assert said == f"fastapi_kit: PORT={port} is no port: choose 1024 to 65535, as in: make run PORT=8001\n"


def read_hello(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    said = ""
    while line := server.stdout.readline():
        if "Ctrl-C" in line:
            return said
        said += line
    raise AssertionError(f"the server ended: {said}")


@pytest.mark.skipif(not shutil.which("curl"), reason="the requests are curl commands")
def test_served_quickstart_answers_the_requests_it_prints(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "scripts.serve", "0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        try:
            said = read_hello(server)
            requests = said.partition("Three requests to try:\n")[2]
            answers = subprocess.run(["sh", "-euc", requests], capture_output=True, text=True, check=True).stdout
        finally:
            server.send_signal(signal.SIGINT)
    username = re.search(r"Demo login: (\S+) / ", said)
    assert username is not None
    assert username[1] in answers
    assert '"status":4' not in answers
    assert server.returncode == 0
