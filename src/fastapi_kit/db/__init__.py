"""Sessions that commit before the response is sent, on SQLite, PostgreSQL and MariaDB."""

from fastapi_kit.db.database import Database

__all__ = ["Database"]
