"""Hashing passwords: argon2id, off the event loop, bounded."""

import asyncio
import os
import secrets
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pydantic import SecretStr

from fastapi_kit.auth._handlers import (
    OWASP,
    RFC_9106_LOW_MEMORY,
    Argon2Profile,
    BcryptHandler,
    argon2id_handler,
    can_match,
)
from fastapi_kit.auth.errors import PasswordsBusyError
from fastapi_kit.errors import ConfigurationError, needs_extra

with needs_extra("auth"), warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # passlib imports `crypt`, which Python 3.11 deprecates
    from passlib.context import CryptContext

__all__ = ["OWASP", "RFC_9106_LOW_MEMORY", "Argon2Profile", "PasswordCheck", "PasswordHasher"]

_ResultT = TypeVar("_ResultT")

_MAX_WORKERS = 4
_NICENESS = 15  # about a thirtieth of the loop's share for each lane, so log-ins go on in a machine that is busy


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """Whether a password was right; if so and its hash is out of date, `new_hash` is what to store in its place."""

    valid: bool
    new_hash: str | None = None


class PasswordHasher:
    """Hash and check passwords through passlib's `CryptContext`.

    New hashes are argon2id by `profile` (RFC 9106); bcrypt hashes are verified and replaced at the next log-in. One
    hash takes some 30 to 140 ms and the profile's memory, so `workers` threads of its own do it: no more hashes run at
    once (one for each core, 4 at the most, so 256 MiB with the default profile), and the event loop goes on. On Linux
    they leave the cores to it where both want them. Up to `max_waiting` more wait; then `PasswordsBusyError` (503 with
    Retry-After). A password of more than `max_length` characters is never hashed.

    Raises `ConfigurationError` for figures below 1.
    """

    def __init__(
        self,
        profile: Argon2Profile = RFC_9106_LOW_MEMORY,
        *,
        workers: int | None = None,
        max_waiting: int = 100,
        max_length: int = 1024,
    ) -> None:
        workers = min(_MAX_WORKERS, os.cpu_count() or 1) if workers is None else workers
        if min(workers, max_waiting, max_length) < 1:
            raise ConfigurationError("workers, max_waiting and max_length are numbers from 1 on")
        self._context = CryptContext(schemes=[argon2id_handler(profile), BcryptHandler], deprecated=["bcrypt"])
        self._executor = ThreadPoolExecutor(workers, "fastapi_kit-passwords", initializer=_go_behind_the_loop)
        self._free = workers + max_waiting
        self._max_length = max_length
        self._dummy_hash: str | None = None

    async def hash(self, password: str | SecretStr) -> str:
        """Return the hash to store.

        Raises `ValueError` for a password of over `max_length` characters (check the length where it is typed), and
        `PasswordsBusyError`.
        """
        plain = _reveal(password)
        if not self._is_hashable(plain):
            raise ValueError(f"a password has at most {self._max_length} characters, and no lone surrogate")
        return await self._run(partial(self._context.hash, plain))

    async def verify(self, password: str | SecretStr, hashed: str | None) -> PasswordCheck:
        """Tell whether the password is the one that was hashed.

        Give `None` for a user that does not exist: the answer is no, after the time that a wrong password takes, so
        that nobody learns who has an account. The same holds for a hash of no known kind, such as `"!"`.

        Raises `PasswordsBusyError`.
        """
        return await self._run(partial(self._verify, _reveal(password), hashed))

    def _verify(self, password: str, hashed: str | None) -> PasswordCheck:
        dummy_hash = self._get_dummy_hash()  # first, so that making it tells nothing
        if not self._is_hashable(password):
            password, hashed = "", None
        if hashed is None or not self._context.identify(hashed) or not can_match(password, hashed):
            self._context.verify(password, dummy_hash)
            return PasswordCheck(valid=False)
        valid, new_hash = self._context.verify_and_update(password, hashed)
        return PasswordCheck(valid, new_hash)

    def _is_hashable(self, password: str) -> bool:
        return len(password) <= self._max_length and password == password.encode("utf-8", "ignore").decode()

    def _get_dummy_hash(self) -> str:
        # Made in a worker at first use, not at import: two at once make two, which is no harm.
        self._dummy_hash = self._dummy_hash or self._context.hash(secrets.token_hex())
        return self._dummy_hash

    async def _run(self, work: Callable[[], _ResultT]) -> _ResultT:
        if self._free <= 0:
            raise PasswordsBusyError
        self._free -= 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        # Given back when the work is done, not when its caller went away: a cancelled one may still be hashing.
        future.add_done_callback(self._give_back)
        return await asyncio.shield(future)

    def _give_back(self, _: "asyncio.Future[_ResultT]") -> None:
        self._free += 1


def _go_behind_the_loop() -> None:
    """Have the scheduler prefer the event loop to this thread, and to the lanes of its hashes.

    Only Linux has priorities of threads; elsewhere these calls would be about the whole process.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # forbidden in some sandboxes, and no reason not to hash
            os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _reveal(password: str | SecretStr) -> str:
    return password.get_secret_value() if isinstance(password, SecretStr) else password
