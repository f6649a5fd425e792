"""Servers of the tests' own, to be stopped and restarted: a PostgreSQL, its standby, a PgBouncer."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

_BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/nowhere"), key=lambda path: path.parent.name)
_PGBOUNCER = Path("/usr/sbin/pgbouncer")
_CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
max_connections = 60
max_wal_senders = 4
wal_keep_size = 64MB
hot_standby_feedback = on
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def run(*command: object) -> None:
    """Run as `postgres` where this is root, whom PostgreSQL and PgBouncer refuse."""
    as_other = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
    # No pipe: a server that was started would keep it open.
    subprocess.run(
        [*as_other, *map(str, command)], check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _wait_for(port: int) -> None:
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)


class Cluster:
    """A PostgreSQL server in a folder."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port

    def url(self, driver: str = "asyncpg", database: str = "postgres") -> str:
        return f"postgresql+{driver}://kit:pass-word@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        log = self.folder / "log"
        run(_BINARIES / "pg_ctl", "-D", self.folder, "-o", f"-p {self.port}", "-l", log, "-w", "start")

    def stop(self) -> None:
        """Stop as a crash does: no connection is told, nothing is written."""
        run(_BINARIES / "pg_ctl", "-D", self.folder, "-m", "immediate", "-w", "stop")

    def is_running(self) -> bool:
        return (self.folder / "postmaster.pid").exists()


@contextmanager
def _folder(binary: Path) -> Generator[Path]:
    if not binary.exists():
        verdict = pytest.fail if os.environ.get("CI") else pytest.skip
        verdict(f"there is no {binary}")
    folder = Path(tempfile.mkdtemp(prefix="kit-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(cluster: Cluster) -> Generator[Cluster]:
    cluster.start()
    try:
        yield cluster
    finally:
        if cluster.is_running():
            cluster.stop()


@pytest.fixture(scope="session")
def cluster() -> Generator[Cluster]:
    """Give a server of one's own, running; who stops it starts it again."""
    with _folder(_BINARIES / "initdb") as folder:
        data = folder / "primary"
        run(_BINARIES / "initdb", "-D", data, "-U", "kit", "-A", "trust", "-N", "--no-instructions")
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.write(_CONFIGURATION)
        with _running(Cluster(data, free_port())) as primary:
            yield primary


@pytest.fixture(scope="session")
def standby(cluster: Cluster) -> Generator[Cluster]:
    """Give a server that follows `cluster`, running; who stops it starts it again."""
    with _folder(_BINARIES / "pg_basebackup") as folder:
        data = folder / "standby"
        address = f"host=127.0.0.1 port={cluster.port} user=kit"
        run(_BINARIES / "pg_basebackup", "-d", address, "-D", data, "-R", "-X", "stream", "-c", "fast")
        with _running(Cluster(data, free_port())) as follower:
            yield follower


@pytest.fixture(scope="session")
def pgbouncer(cluster: Cluster) -> Generator[str]:
    """Give the URL of a PgBouncer in transaction mode that has one connection to `cluster`."""
    with _folder(_PGBOUNCER) as folder:
        port = free_port()
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            f"""
[databases]
postgres = host=127.0.0.1 port={cluster.port} user=kit dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 1
logfile = {folder}/log
pidfile = {folder}/pid
"""
        )
        run(_PGBOUNCER, "-d", configuration)
        try:
            _wait_for(port)
            yield f"postgresql+asyncpg://kit@127.0.0.1:{port}/postgres"
        finally:
            os.kill(int((folder / "pid").read_text()), 15)
