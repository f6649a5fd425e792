"""What goes wrong at start-up, before there is a client."""

from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["ConfigurationError", "needs_extra"]


class ConfigurationError(Exception):
    """Say at start-up which setting is wrong and what to do; never raised by a request."""


@contextmanager
def needs_extra(extra: str) -> Generator[None]:
    """Turn a failed import of an optional dependency into the pip command that cures it.

    Raises `ConfigurationError` naming `extra` and the missing module.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"this block needs the package {exc.name!r}, which is not installed: "
            f"pip install 'fastapi-service-kit[{extra}]'"
        ) from exc
