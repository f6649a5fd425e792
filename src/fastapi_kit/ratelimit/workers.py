"""Say what it means that several workers count in memory, each for itself."""

import logging
from multiprocessing import current_process, parent_process
from threading import Event

from fastapi_kit._workers import number_of_workers

__all__ = ["warn_of_several_workers"]

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


def _runs_the_script_of_its_parent() -> bool:
    """Tell whether multiprocessing prepares this process: it is named already, but has no parent yet."""
    return parent_process() is None and current_process().name != "MainProcess"
