"""Logging as it was before."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

SERVERS = ("uvicorn", "uvicorn.error", "uvicorn.asgi", "uvicorn.access", "gunicorn.error", "gunicorn.access")


@contextmanager
def unchanged_logging() -> Iterator[None]:
    """Undo in the end what was done to the logging of the process."""
    loggers = [logging.getLogger(name) for name in ("", "shop", *SERVERS)]
    before = [(one, one.handlers[:], one.filters[:], one.level, one.propagate) for one in loggers]
    yield
    logging.captureWarnings(False)
    for one, handlers, filters, level, propagate in before:
        one.handlers[:], one.filters[:], one.propagate = handlers, filters, propagate
        one.setLevel(level)
