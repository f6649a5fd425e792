"""What a database is asked when a service starts."""

from fastapi_kit.errors import ConfigurationError, needs_extra

with needs_extra("db"):
    from sqlalchemy import MetaData, text
    from sqlalchemy.orm import Session

__all__ = ["SERVER_LIMIT", "checked_metadata", "create_missing", "no_answer"]

_CREATE_ALL_LOCK = 0x66617374_6B6974  # any constant of one's own

SERVER_LIMIT = {
    "sqlite": "SELECT NULL",
    "postgresql": "SELECT current_setting('max_connections')::int"
    " - current_setting('superuser_reserved_connections')::int",
    "mysql": "SELECT @@max_connections",
    "mariadb": "SELECT @@max_connections",
}
"""For each dialect, how many connections the server takes; null where nothing but files limits them."""


def checked_metadata(create_all: object) -> MetaData | None:
    """Return what is to be created; raise `ConfigurationError` if it is no `MetaData`."""
    if create_all is None or isinstance(create_all, MetaData):
        return create_all
    raise ConfigurationError(f"`create_all` is {create_all!r}: give the MetaData of your models, as Base.metadata")


def create_missing(session: Session, metadata: MetaData) -> None:
    """Create the tables that are missing, and commit; workers that start together wait for each other."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"SELECT pg_advisory_xact_lock({_CREATE_ALL_LOCK})"))
    metadata.create_all(session.connection())
    session.commit()


def no_answer(dialect: str, exc: BaseException) -> ConfigurationError:
    """Return the error for a database that does not answer when the service starts."""
    reason = getattr(exc, "orig", None) or exc
    return ConfigurationError(
        f"`url` names a {dialect} database that does not answer"
        f" ({type(reason).__name__}: {reason}):"
        f" {'make its folder' if dialect == 'sqlite' else 'start it'}, or correct the URL"
    )
