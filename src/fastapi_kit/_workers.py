"""How many workers a server runs, for what each of them does for itself."""

import os
import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise
from multiprocessing import current_process
from typing import Any

__all__ = ["number_of_workers", "uvicorn_settings"]


def uvicorn_settings() -> Any:
    """Return the `uvicorn.Config` of a server that started this process; None elsewhere.

    Uvicorn hands it to each process that it starts, and so does `fastapi run`, which calls `uvicorn.run()`. A single
    worker runs in the process that was started, and has none.
    """
    return getattr(current_process(), "_kwargs", {}).get("config")


def number_of_workers() -> int | None:
    """Return how many workers of one server there are, this process among them; None if that is not known."""
    if "gunicorn.arbiter" in sys.modules and os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/"):
        return _workers_of_gunicorn()
    settings = uvicorn_settings()
    workers = getattr(settings, "workers", 1)
    if not isinstance(workers, int) or getattr(settings, "reload", False):
        return 1
    return workers


def _workers_of_gunicorn() -> int | None:
    """Return what the options say, the settings file, the environment, or gunicorn's default, in its order."""
    arguments = [*shlex.split(os.environ.get("GUNICORN_CMD_ARGS", "")), *sys.argv[1:]]
    # gunicorn runs a settings file as a module of this name
    for stated in (_option(arguments), getattr(sys.modules.get("__config__"), "workers", None)):
        if stated is not None:
            return _number(stated)
    if any("python:" in argument for argument in arguments):  # settings in a module of any name
        return None
    if "gunicorn" not in sys.argv[0]:  # started by code, whose settings are its own
        return None
    return _number(os.environ.get("WEB_CONCURRENCY", "1"))


def _option(arguments: Sequence[str]) -> str | None:
    """Return the last value of `-w N`, `-wN`, `--workers N` or `--workers=N`."""
    found = None
    for argument, following in pairwise([*arguments, ""]):
        if argument in {"-w", "--workers"}:
            found = following
        elif argument.startswith("--workers="):
            found = argument.removeprefix("--workers=")
        elif argument.startswith("-w"):
            found = argument.removeprefix("-w")
    return found


def _number(stated: object) -> int | None:
    try:
        return int(str(stated))
    except ValueError:
        return None
