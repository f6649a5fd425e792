"""What stops a migration."""

from fastapi_kit.errors import needs_extra

with needs_extra("migrations"):
    from alembic.util import CommandError

__all__ = ["MigrationError"]


class MigrationError(CommandError):
    """Say why a migration was not run, or was undone; Alembic's command prints it without a traceback."""
