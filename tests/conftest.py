"""Fixtures for all tests: the event loop, and the servers that some tests need."""

import os
import socket
from urllib.parse import urlsplit

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def _server_url(variable: str, default: str) -> str:
    """Return the URL of a server that answers; skip without one, but fail in CI, where each must be there."""
    url = os.environ.get(variable, default)
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname or "", address.port or 0), timeout=2).close()
    except OSError as error:
        verdict = pytest.fail if os.environ.get("CI") else pytest.skip
        verdict(f"no server at {address.hostname}:{address.port} ({error}); {variable} names another")
    return url


@pytest.fixture(scope="session")
def postgres_url() -> str:
    return _server_url("KIT_TEST_POSTGRES_URL", "postgresql+asyncpg://root@127.0.0.1:5432/test")


@pytest.fixture(scope="session")
def mariadb_url() -> str:
    return _server_url("KIT_TEST_MARIADB_URL", "mysql+asyncmy://root@127.0.0.1:3306/test")


@pytest.fixture(scope="session")
def redis_url() -> str:
    return _server_url("KIT_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
