"""Who logs in with a user name and a password, as a dependency."""

import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Concatenate, NamedTuple

from fastapi import Depends, Form
from starlette.requests import HTTPConnection

from fastapi_kit.auth.attempts import AttemptLimit
from fastapi_kit.auth.errors import InvalidCredentialsError, PasswordsBusyError
from fastapi_kit.auth.injection import Injected
from fastapi_kit.auth.passwords import PasswordHasher
from fastapi_kit.errors import needs_extra, raises
from fastapi_kit.errors.declaration import problems_of

with needs_extra("auth"):
    import python_multipart  # FastAPI reads the form with it

__all__ = ["NO_STORE", "Account", "FindLogin", "Login", "password_login"]

del python_multipart

NO_STORE = {"Cache-Control": "no-store"}
"""For every answer that holds a token, or says that there is none (RFC 6749, 5.1)."""


@dataclass(frozen=True, slots=True)
class Login:
    """What the log-in needs of an account: the hash to check, and who the token is for."""

    subject: str
    """The `sub` of the token; `load_user` finds the user by it."""
    password_hash: str = field(repr=False)
    is_active: bool = True
    scopes: Iterable[str] = ()
    """The scopes that this user may have; a client that asks for fewer gets fewer."""
    save_hash: Callable[[str], Awaitable[None] | None] | None = None
    """Called with a new hash when the stored one is out of date (bcrypt, or an older profile)."""

    def __post_init__(self) -> None:
        if isinstance(self.scopes, str):
            raise TypeError(f"Login.scopes got the string {self.scopes!r} in place of a list: write [{self.scopes!r}]")


class Account(NamedTuple):
    """Who logged in, with which scopes."""

    subject: str
    scopes: frozenset[str]
    authenticated_at: float
    """When the password began to be checked, in seconds since the epoch."""


FindLogin = Callable[Concatenate[str, ...], Awaitable[Login | None] | Login | None]
"""Looks an account up by user name; takes dependencies after it, as `load_user` does."""


def password_login(
    passwords: PasswordHasher, find_login: FindLogin, limit: AttemptLimit | Sequence[AttemptLimit]
) -> Callable[..., Awaitable[Account]]:
    """Return a dependency that checks the form of a log-in (RFC 6749, 4.3).

    The scopes are those that the client asks for, as far as the account has them, or all it has. Every limit counts the
    attempt before the account is looked up, so that guesses made at once are counted too.
    """
    limits = tuple(limit) if isinstance(limit, Sequence) else (limit,)
    injected: Injected[Login | None] = Injected(find_login, role="find_login", given="user name")

    @raises(InvalidCredentialsError, PasswordsBusyError, *(kind for one in limits for kind in problems_of(one.begin)))
    async def log_in(
        connection: HTTPConnection,
        username: Annotated[str, Form(max_length=320)],
        password: Annotated[str, Form(json_schema_extra={"format": "password"})],
        resolved: Annotated[dict[str, Any], Depends(injected.resolve)],
        scope: Annotated[str, Form(max_length=2048)] = "",
        grant_type: Annotated[str | None, Form(pattern="^password$")] = None,
    ) -> Account:
        authenticated_at = time.time()
        for one in limits:
            await one.begin(connection, username)
        # No database holds a NUL, and PostgreSQL refuses to look for one.
        login = await injected.call(username, resolved) if "\0" not in username else None
        check = await passwords.verify(password, login.password_hash if login is not None else None)
        if login is None or not check.valid or not login.is_active:
            raise InvalidCredentialsError(NO_STORE)
        if check.new_hash is not None and login.save_hash is not None:
            saved = login.save_hash(check.new_hash)
            if inspect.isawaitable(saved):
                await saved
        for one in limits:
            await one.succeeded(connection, username)
        scopes = frozenset(login.scopes)
        if scope.strip():
            scopes &= frozenset(scope.split())
        return Account(login.subject, scopes, authenticated_at)

    return log_in
