"""One authorization server for the tests of a module, well-behaved again before each of them."""

from collections.abc import Iterator

import pytest

from tests.auth.issuers.support import Authority, AuthorizationServer


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def shared_server(authority: Authority) -> Iterator[AuthorizationServer]:
    with AuthorizationServer(authority).running() as server:
        yield server


@pytest.fixture
async def server(shared_server: AuthorizationServer) -> AuthorizationServer:
    await shared_server.behave()
    return shared_server
