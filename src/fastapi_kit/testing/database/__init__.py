"""Databases for tests: one transaction that is rolled back at the end, or a database that is dropped."""

from typing import TYPE_CHECKING, Any

from fastapi_kit.testing.database.isolation import LostCommitWarning
from fastapi_kit.testing.database.rollback import rolled_back
from fastapi_kit.testing.database.template import DatabaseTemplate, template_database

if TYPE_CHECKING:
    from fastapi_kit.testing.database.client import RolledBackClient, rolled_back_client

__all__ = [
    "DatabaseTemplate",
    "LostCommitWarning",
    "RolledBackClient",
    "rolled_back",
    "rolled_back_client",
    "template_database",
]


def __getattr__(name: str) -> Any:
    # When it is asked for: Starlette's TestClient needs httpx2.
    if name not in {"RolledBackClient", "rolled_back_client"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fastapi_kit.testing.database import client  # noqa: PLC0415

    return getattr(client, name)
