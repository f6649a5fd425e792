"""A real Uvicorn under hostile requests: each line of its output, standard error included, is ours."""

import collections
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).parents[2]
APP = "tests.observability.logged_app:app"
SECRET = "hunter2XQZ"
CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f-\xff]")
OWN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Server:
    """A server process whose output goes to two files."""

    def __init__(self, folder: Path, command: list[str], environment: dict[str, str] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.out, self.err = folder / "out", folder / "err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            filled = [part.replace("PORT", str(self.port)) for part in command]
            environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", **(environment or {})}
            self.process = subprocess.Popen(filled, cwd=ROOT, env=environment, stdout=out, stderr=err)

    def __enter__(self) -> Self:
        for _ in range(600):
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                with pytest.raises(subprocess.TimeoutExpired):
                    self.process.wait(0.1)
        self.process.kill()
        raise AssertionError(self.err.read_text() + self.out.read_text())

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        finally:
            self.process.kill()

    def ask(self, raw: bytes) -> bytes:
        """Return the whole answer to one request, which asks for the connection to be closed."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as connection:
            connection.sendall(raw)
            answer = b""
            try:
                while part := connection.recv(65536):
                    answer += part
            except ConnectionResetError:
                pass
            return answer

    def lines(self) -> list[dict[str, Any]]:
        """Return each line of both outputs, all of which are JSON objects in printable ASCII."""
        lines: list[dict[str, Any]] = []
        for raw in [*self.out.read_bytes().split(b"\n"), *self.err.read_bytes().split(b"\n")]:
            if raw:
                assert not CONTROL.search(raw), raw
                lines.append(json.loads(raw))
                assert isinstance(lines[-1], dict)
        return lines


def uvicorn(*options: str, app: str = APP) -> list[str]:
    return [sys.executable, "-m", "uvicorn", app, "--port", "PORT", *options]


@contextmanager
def serving(folder: Path, command: list[str], **environment: str) -> Iterator[Server]:
    with Server(folder, command, environment) as server:
        yield server


def id_in(answer: bytes) -> str | None:
    found = re.search(rb"\r\nx-request-id: ([^\r\n]*)", answer, re.IGNORECASE)
    return found[1].decode() if found else None


HOSTILE = [
    b"'", b'"', b"\t", b"\x80\xff\xfe", b"%s%n%d", b"{}{0.__class__}", b'","level":"FATAL","x":"', b"\x1b[31m",
    b"caf\xc3\xa9", b"\xe2\x80\xa8", b"a" * 8_000, b"${jndi:ldap://x}", b"\\r\\n", b"\xed\xa0\x80", b"<script>",
]  # fmt: skip
PATHS = [
    b"/items/1", b"/items/%0d%0aINFO%20forged", b"/items/%e2%80%a8x", b"/items/%1b%5b31m", b"/items/%22%7d%0a%7b",
    b"/items/%25s%25n", b"/items/..%2f..%2fetc", b"/../../etc/passwd", b"/items/%ff%fe", b"/items/{}", b"/nowhere",
    b"/threads/%0a%0a", b"/nowhere/%7f%00", b"/items/%ed%a0%80", b"/threads/x%u2028",
]  # fmt: skip
METHODS = [b"GET", b"POST", b"DELETE", b"get", b"PUT", b"HEAD", b"BREW", b"TOKEN", b"G'T"]


def hostile_request(rng: random.Random) -> bytes:
    """Return a request, with SECRET only where it is told by name or by look."""
    junk, path = rng.choice(HOSTILE), rng.choice(PATHS)
    if rng.random() < 0.1:
        path = b"http://elsewhere" + path
    path += rng.choice([b"", b"?token=" + SECRET.encode(), b"?a=1&api_key=" + SECRET.encode() + b"&b=%0d%0a"])
    headers = [
        b"X-Junk: " + junk,
        b"X-User: " + junk,
        b"Authorization: Bearer " + SECRET.encode(),
        b"X-Api-Key: " + SECRET.encode(),
        b"Cookie: session=" + SECRET.encode() + b"; csrf=" + SECRET.encode() + junk[:20],
    ]
    ids = [b"ok-id.%d" % rng.randrange(10**6), b"i" * 128, b"i" * 129, b"a b", b'"' + junk, junk, b"\x1b[2J", b""]
    headers.extend(b"X-Request-ID: " + rng.choice(ids) for _ in range(rng.choice([0, 1, 1, 2])))
    if rng.random() < 0.1:
        headers.append(b"X-Folded: a\r\n\tb")
    if rng.random() < 0.05:
        headers.append(b"X-Bare: a\rb")
    rng.shuffle(headers)
    method = rng.choice(METHODS)
    return method + b" " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + b"\r\n".join(headers) + b"\r\n\r\n"


def test_a_thousand_hostile_requests_are_a_line_each_and_no_secret_among_them(tmp_path: Path) -> None:
    rng = random.Random(7)
    answered: collections.Counter[str] = collections.Counter()
    refused = 0
    with serving(tmp_path, uvicorn()) as server:
        for _ in range(1_000):
            identity = id_in(server.ask(hostile_request(rng)))
            if identity is None:
                refused += 1  # by the server, which no app sees
            else:
                assert OWN_ID.fullmatch(identity)
                answered[identity] += 1
        assert server.process.poll() is None
    assert refused < 500 < sum(answered.values())
    lines = server.lines()
    assert server.err.read_bytes() == b""
    assert SECRET not in server.out.read_text()
    access = collections.Counter(line["request_id"] for line in lines if line["logger"] == "fastapi_kit.access")
    assert access == answered
    assert {line["logger"] for line in lines} <= {"fastapi_kit.access", "shop", "uvicorn.error", "asyncio"}
    assert {line["request_id"] for line in lines if line["logger"] == "shop"} <= set(answered)
    assert all("request_id" in line for line in lines if line["logger"] == "shop")
    told = collections.Counter(line["message"].split(":")[0] for line in lines if line["logger"] == "shop")
    assert told["In a thread"] > 5
    assert told["In the background"] == told["Cookies"] > 100
    assert all(line["session_token"] == "[redacted]" for line in lines if "Cookies" in line["message"])


def get(path: str, identity: str, body: bytes | None = None) -> bytes:
    head = "GET" if body is None else "POST"
    length = "" if body is None else f"Content-Length: {len(body)}\r\n"
    start = f"{head} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-ID: {identity}\r\n{length}\r\n"
    return start.encode() + (body or b"")


def test_whatever_fails_is_one_error_with_a_traceback_and_one_line_of_the_request(tmp_path: Path) -> None:
    with serving(tmp_path, uvicorn()) as server:
        server.ask(get(f"/crash?secret={SECRET}", "crash"))
        server.ask(get(f"/stream?secret={SECRET}", "stream"))
        server.ask(get(f"/later?secret={SECRET}", "later"))
        server.ask(get("/accounts", "account", json.dumps({"name": "x", "password": SECRET}).encode()))
        said = json.dumps({"a": {"password": SECRET}, "b": f"redis://:{SECRET}@h"}).encode()
        server.ask(get("/bodies", "body", said))
        server.ask(get("/bodies", "bytes", b"\xff\x00\x1b[31m\r\n\r\n{"))
    lines = server.lines()
    assert SECRET not in server.out.read_text() + server.err.read_text()
    by_id: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for line in lines:
        by_id[line.get("request_id", "")].append(line)
    for identity in ("crash", "account"):
        [error] = [line for line in by_id[identity] if line["level"] == "ERROR"]
        assert error["exception"].startswith("Traceback")
        [access] = [line for line in by_id[identity] if line["logger"] == "fastapi_kit.access"]
        assert access["status"] == 500
    assert "postgresql://shop:[redacted]@db:5432" in json.dumps(by_id["crash"])
    [access] = [line for line in by_id["stream"] if line["logger"] == "fastapi_kit.access"]
    assert (access["status"], access["is_complete"], access["error"]) == (200, False, "ResponseCutError")
    [access] = [line for line in by_id["later"] if line["logger"] == "fastapi_kit.access"]
    assert access["status"] == 200
    for identity in ("body", "bytes"):
        assert len(by_id[identity]) == 3
    errors = [line for line in lines if line["level"] == "ERROR"]
    assert len(errors) == 4, [line["message"] for line in errors]
    assert all(line["exception_type"] for line in errors)


RUN = """\
import uvicorn
from tests.observability.logged_app import app
uvicorn.run(app, port=PORT)
"""
CONFIG = {
    "version": 1,
    "formatters": {"plain": {"format": "PLAIN %(message)s"}},
    "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stderr"}},
    "loggers": {
        "uvicorn": {"handlers": ["err"], "level": "INFO", "propagate": False},
        "uvicorn.access": {"handlers": ["err"], "level": "INFO", "propagate": False},
    },
    "root": {"handlers": ["err"], "level": "INFO"},
}


@pytest.mark.parametrize("way", ["command", "run", "log_config", "log_level"])
def test_all_lines_are_ours_however_uvicorn_is_started(tmp_path: Path, way: str) -> None:
    (tmp_path / "log.json").write_text(json.dumps(CONFIG))
    commands = {
        "command": uvicorn(),
        "run": [sys.executable, "-c", RUN],
        "log_config": uvicorn("--log-config", str(tmp_path / "log.json")),
        "log_level": uvicorn("--log-level", "trace"),
    }
    with serving(tmp_path, commands[way]) as server:
        server.ask(get("/threads/1", "one"))
    lines = server.lines()
    assert sum(line["logger"] == "fastapi_kit.access" for line in lines) == 1
    assert not any(line["logger"] == "uvicorn.access" for line in lines)
    told = [line["message"] for line in lines if line["logger"] == "uvicorn.error"]
    assert any("startup complete" in message for message in told)
    assert any("Finished server process" in message for message in told)


WORKERS = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "fastapi_kit.observability.logs.JsonFormatter"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["out"], "level": "INFO"},
}


def test_lines_of_workers_do_not_mix_and_their_parent_takes_the_formatter_by_configuration(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text(json.dumps(WORKERS))
    with serving(tmp_path, uvicorn("--workers", "2", "--log-config", str(tmp_path / "log.json"))) as server:
        for number in range(200):
            server.ask(get(f"/crash?secret={SECRET}", f"n{number}"))
    lines = server.lines()
    assert sum(line["logger"] == "fastapi_kit.access" for line in lines) == 200
    assert any("Started parent process" in line["message"] for line in lines)
    assert SECRET not in server.out.read_text()


def test_text_for_development_has_no_secrets_and_no_forged_lines_either(tmp_path: Path) -> None:
    with serving(tmp_path, uvicorn(), LOG_FORMAT="text") as server:
        server.ask(get("/items/%0d%0aINFO%20forged%1b%5b31m", "one"))
        server.ask(get(f"/crash?secret={SECRET}", "two"))
    said = server.out.read_text()
    assert SECRET not in said
    assert "\x1b" not in said
    assert not re.search(r"^INFO forged", said, re.MULTILINE)
    assert re.search(
        r"^\d\d:\d\d:\d\d\.\d{3} INFO  fastapi_kit.access GET /crash 500 \d+\.\d ms request_id=two", said, re.MULTILINE
    )
    assert "\n    RuntimeError: no answer with password=[redacted]\n" in said


FAILING = """
import contextlib, os
from fastapi import FastAPI
from fastapi_kit import observability

observability.configure_logging(format=os.environ["LOG_FORMAT"])

def connect(tries):
    try:
        if tries:
            connect(tries - 1)
        raise OSError("no answer of redis://:hunter2XQZ@cache")
    except Exception as exc:
        raise RuntimeError(f"given up at {tries} of them") from exc

@contextlib.asynccontextmanager
async def lifespan(app):
    connect(60)
    yield

app = FastAPI(lifespan=lifespan)
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_start_up_that_fails_says_its_cause(tmp_path: Path, form: str) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    command = [sys.executable, "-m", "uvicorn", "failing:app", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "LOG_FORMAT": form}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 3
    assert SECRET not in ended.stdout + ended.stderr
    if form == "text":
        assert "\n    OSError: no answer of redis://:[redacted]@cache\n" in ended.stdout
        assert "\n    RuntimeError: given up at 60 of them\n" in ended.stdout
    else:
        messages = [json.loads(line)["message"] for line in ended.stdout.splitlines()]
        [failed] = [message for message in messages if message.startswith("Traceback (most recent call last)")]
        assert len(failed) > 10_000
        assert failed.endswith("RuntimeError: given up at 60 of them\n")
