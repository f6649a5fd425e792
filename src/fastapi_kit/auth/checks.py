"""Checks that several constructors share, with an error that says what to write instead."""

from datetime import timedelta

from fastapi_kit.errors import ConfigurationError

__all__ = ["checked_duration", "checked_subject"]


def checked_subject(subject: object) -> str:
    """Return the id of a user; raise `ValueError` for one that is empty or no string, with which no token works."""
    if not isinstance(subject, str):
        raise ValueError(
            f"the subject is a {type(subject).__name__}: give the id of the user as a string, str(user.id)"
        )
    if not subject:
        raise ValueError("the subject is empty: give the id of the user as a string")
    return subject


def checked_duration(name: str, value: object, least: timedelta, most: timedelta) -> timedelta:
    """Return a duration; raise `ConfigurationError` for one out of bounds, and for a number, which has no unit."""
    if not isinstance(value, timedelta):
        raise ConfigurationError(f"{name} is {value!r}: give a timedelta, as in timedelta(minutes=15)")
    if not least <= value <= most:
        raise ConfigurationError(f"{name} is {value}: choose {_told(least)} to {_told(most)}")
    return value


def _told(duration: timedelta) -> str:
    for unit, name in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        if duration > unit and not duration % unit:
            return f"{duration // unit} {name}s"
    seconds = duration.total_seconds()
    return f"{seconds:g} second{'' if seconds == 1 else 's'}" if seconds else "0"
