"""Sessions that commit before the response is sent, on SQLite, PostgreSQL and MariaDB."""

from fastapi_kit.db.database import Database
from fastapi_kit.db.errors import problem_for

__all__ = ["Database", "problem_for"]
