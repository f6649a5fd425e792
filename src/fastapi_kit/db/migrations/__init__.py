"""Alembic for a `Database` or `SyncDatabase`: one call in env.py, and what a service does at its start."""

from fastapi_kit.db.migrations.environment import run_migrations
from fastapi_kit.db.migrations.errors import MigrationError
from fastapi_kit.db.migrations.running import require_head, upgrade

__all__ = ["MigrationError", "require_head", "run_migrations", "upgrade"]
