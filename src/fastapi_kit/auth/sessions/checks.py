"""What log-ins stand on."""

from fastapi_kit.auth.sessions.store import SessionStore
from fastapi_kit.auth.tokens import TokenService
from fastapi_kit.errors import ConfigurationError

__all__ = ["check_parts"]


def check_parts(tokens: object, store: object) -> None:
    """Raise `ConfigurationError` for what is no `TokenService` and no store of log-ins, and for the class of one."""
    if not isinstance(tokens, TokenService):
        raise ConfigurationError(
            f"tokens is a {type(tokens).__name__}: give a TokenService, as in Sessions(TokenService(...), store)"
        )
    if isinstance(store, type) or not isinstance(store, SessionStore):
        raise ConfigurationError(
            f"store is a {type(store).__name__}: give an object that keeps log-ins, as in"
            " Sessions(tokens, SQLAlchemySessionStore(db.session, LoginSession, Revocation))"
        )
