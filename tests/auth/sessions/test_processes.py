"""One token, refreshed by four processes at once."""

import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.auth.sessions.support import SECRET, delete_keys, refused, revoked
from tests.auth.sessions.worker import opened, sessions_over

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
PROCESSES, EACH = 4, 25
Worker = subprocess.Popen[str]


@pytest.fixture(scope="module")
def workers() -> Generator[list[Worker]]:
    command = [sys.executable, "-m", "tests.auth.sessions.worker"]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in range(PROCESSES)]
    yield workers
    for worker in workers:
        worker.communicate()  # the end of its input is its end
        assert worker.returncode == 0


@pytest.fixture(params=["postgres", "redis"])
async def place(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncGenerator[dict[str, str]]:
    """Where the log-ins are: a URL, with a schema or a prefix."""
    url = request.getfixturevalue(f"{request.param}_url")
    if request.param == "postgres":
        yield {"url": url, "name": request.getfixturevalue("schema")}
    else:
        name = f"test-{uuid4().hex}:"
        yield {"url": url, "name": name}
        await delete_keys(url, name)


def all_refresh(workers: list[Worker], **arguments: Any) -> tuple[list[str], list[str]]:
    """Let the processes refresh at once; return the successors they got, and why they were refused."""
    tell(workers, json.dumps(arguments))
    assert hear(workers) == ["ready"] * PROCESSES
    tell(workers, "go")
    results = [json.loads(line) for line in hear(workers)]
    return [token for tokens, _ in results for token in tokens], [
        reason for _, reasons in results for reason in reasons
    ]


def tell(workers: list[Worker], line: str) -> None:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"{line}\n")
        worker.stdin.flush()


def hear(workers: list[Worker]) -> list[str]:
    return [worker.stdout.readline().strip() for worker in workers if worker.stdout is not None]


async def test_a_hundred_refreshes_in_four_processes_get_one_successor(
    workers: list[Worker], place: dict[str, str]
) -> None:
    store, close = opened(**place)
    sessions = sessions_over(store, SECRET, grace=60)
    pair = await sessions.start("7")
    successors, refusals = all_refresh(workers, **place, secret=SECRET, grace=60, token=pair.refresh_token)
    assert (len(successors), len(set(successors)), refusals) == (PROCESSES * EACH, 1, [])
    await sessions.refresh(successors[0])
    await close()


async def test_without_a_grace_one_of_a_hundred_succeeds_over_all_processes(
    workers: list[Worker], place: dict[str, str]
) -> None:
    store, close = opened(**place)
    sessions = sessions_over(store, SECRET, grace=0)
    pair = await sessions.start("7")
    successors, refusals = all_refresh(workers, **place, secret=SECRET, grace=0, token=pair.refresh_token)
    assert (len(successors), len(refusals)) == (1, PROCESSES * EACH - 1)
    assert "replayed" in refusals
    assert set(refusals) <= {"replayed", "ended"}
    assert await refused(sessions, successors[0]) == "ended"
    assert await revoked(sessions, pair.access.token)
    await close()
