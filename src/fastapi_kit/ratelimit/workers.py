"""Say what it means that several workers count in memory, each for itself."""

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise
from multiprocessing import current_process, parent_process
from threading import Event

__all__ = ["number_of_workers", "warn_of_several_workers"]

_log = logging.getLogger("fastapi_kit.ratelimit")
_decided = Event()


def warn_of_several_workers() -> None:
    """Log a warning, once, if this process is one of several workers or may be.

    Where `uvicorn.run(workers=2)` stands in a script, each worker first runs the imports of that script, and then it is
    not known yet what it will be: the next call decides. So call it again when something is counted; it costs nothing.
    """
    if _decided.is_set() or _runs_the_script_of_its_parent():
        return
    _decided.set()
    number = number_of_workers()
    if number is None:
        _log.warning(
            "Rate limits are counted in memory, and gunicorn may run several workers: each counts for itself, so with "
            'four of them a client may have four times its quota. Count in Redis, Limiter("redis://..."), or run one '
            "worker and say so, --workers 1."
        )
    elif number > 1:
        _log.warning(
            "Rate limits are counted in memory by each of the %d workers for itself: a client may have %d times its "
            'quota. Count in Redis, Limiter("redis://..."), or run one worker.',
            number,
            number,
        )


def number_of_workers() -> int | None:
    """Return how many workers of one server there are, this process among them; None if that is not known."""
    if "gunicorn.arbiter" in sys.modules and os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/"):
        return _workers_of_gunicorn()
    # uvicorn hands its settings to each process that it starts, and so does `fastapi run`, which calls uvicorn.run();
    # a single worker runs in the process that was started, and has none.
    settings = getattr(current_process(), "_kwargs", {}).get("config")
    workers = getattr(settings, "workers", 1)
    if not isinstance(workers, int) or getattr(settings, "reload", False):
        return 1
    return workers


def _runs_the_script_of_its_parent() -> bool:
    """Tell whether multiprocessing prepares this process: it is named already, but has no parent yet."""
    return parent_process() is None and current_process().name != "MainProcess"


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
