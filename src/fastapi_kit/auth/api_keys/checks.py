"""What an API key can be made of."""

from collections.abc import Iterable
from datetime import timedelta

from fastapi_kit.auth.api_keys.store import ApiKeyStore
from fastapi_kit.auth.checks import checked_duration, checked_subject
from fastapi_kit.auth.claims import checked_scopes
from fastapi_kit.errors import ConfigurationError

__all__ = ["check_labels", "check_store", "limited_scopes", "milliseconds_of"]

_MAX_SUBJECT, _MAX_NAME, _MAX_SCOPES = 255, 100, 2000


def check_store(store: object) -> None:
    """Raise `ConfigurationError` for what is no store, and for the class of one."""
    if isinstance(store, type) or not isinstance(store, ApiKeyStore):
        raise ConfigurationError(
            f"store is a {type(store).__name__}: give an object that keeps API keys, as in"
            " ApiKeys(SQLAlchemyApiKeyStore(db.session, ApiKey), pepper, prefix='shop')"
        )


def check_labels(subject: str, name: str) -> None:
    """Raise `ValueError` for a subject or a name that a store cannot hold, or a person cannot read."""
    checked_subject(subject)
    if len(subject) > _MAX_SUBJECT or not subject.isprintable():
        raise ValueError(f"subject: give the id of the user, of up to {_MAX_SUBJECT} printable characters")
    if not (len(name) <= _MAX_NAME and name.isprintable()):
        raise ValueError(f"name: use up to {_MAX_NAME} printable characters")


def limited_scopes(scopes: Iterable[str]) -> frozenset[str]:
    """Return scopes as a set; raise `ValueError` for what is no scope, and for more than a store can hold."""
    wanted = checked_scopes(scopes)
    if len(" ".join(wanted)) > _MAX_SCOPES:
        raise ValueError(f"the scopes have more than {_MAX_SCOPES} characters together")
    return wanted


def milliseconds_of(name: str, value: object, least: timedelta, most: timedelta) -> int:
    """Return the duration that an argument gives; raise `ValueError` for one out of bounds, and for a number."""
    try:
        return checked_duration(name, value, least, most) // timedelta(milliseconds=1)
    except ConfigurationError as exc:  # what it says is right, but no setting is wrong
        raise ValueError(str(exc)) from None
