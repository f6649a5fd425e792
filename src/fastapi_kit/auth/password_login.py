"""Who logs in with a user name and a password, as a dependency."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Concatenate, NamedTuple

from fastapi import Depends, Form
from starlette.requests import HTTPConnection

from fastapi_kit.auth.attempts import AttemptLimit
from fastapi_kit.auth.checks import checked_subject
from fastapi_kit.auth.errors import InvalidCredentialsError, PasswordsBusyError
from fastapi_kit.auth.injection import Injected
from fastapi_kit.auth.passwords import PasswordHasher
from fastapi_kit.errors import ConfigurationError, needs_extra, raises
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
    """The `sub` of the token, a string; `load_user` finds the user by it, and limits count by it.

    Take it from the account, never from the name that was typed.
    """
    password_hash: str = field(repr=False)
    is_active: bool = True
    scopes: Iterable[str] = ()
    """The scopes that this user may have; a client that asks for fewer gets fewer."""
    save_hash: Callable[[str], Awaitable[None] | None] | None = None
    """Called with a new hash when the stored one is out of date (bcrypt, or an older profile).

    Write it only where the old hash still stands (`update(User).where(User.password_hash == old)`): the password may
    have been changed meanwhile.
    """

    def __post_init__(self) -> None:
        checked_subject(self.subject)
        if isinstance(self.scopes, str):
            raise TypeError(f"Login.scopes got the string {self.scopes!r} in place of a list: write [{self.scopes!r}]")


class Account(NamedTuple):
    """Who logged in, with which scopes."""

    subject: str
    scopes: frozenset[str]
    is_unchanged: Callable[[], Awaitable[bool]]
    """Looks the account up again: whether it still has the password that was right, and is active."""


FindLogin = Callable[Concatenate[str, ...], Awaitable[Login | None] | Login | None]
"""Looks an account up by user name; takes dependencies after it, as `load_user` does.

For a log-in that lasts it is called a second time, after the log-in began: let it read anew each time.
"""


def password_login(
    passwords: PasswordHasher, find_login: FindLogin, limit: AttemptLimit | Sequence[AttemptLimit]
) -> Callable[..., Awaitable[Account]]:
    """Return a dependency that checks the form of a log-in (RFC 6749, 4.3).

    The scopes are those that the client asks for, as far as the account has them, or all it has. Every limit counts the
    attempt before the account is looked up, and again for the account that was found, before the password is looked
    at; so guesses made at once are counted too. What the account refuses is answered as a wrong password is: a 429
    would tell that there is one.

    Raises `ConfigurationError` for what is no `PasswordHasher` and no `AttemptLimit`.
    """
    limits = tuple(limit) if isinstance(limit, Sequence) else (limit,)
    if isinstance(limit, str | bytes) or not all(hasattr(one, "admits") for one in limits):
        raise ConfigurationError(
            f"limit is {limit!r}: give limiter.attempts('5/15 minutes', by=...), or a list of them"
        )
    if not isinstance(passwords, PasswordHasher):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"passwords is a {type(passwords).__name__}: give a PasswordHasher")
    injected: Injected[Login | None] = Injected(find_login, role="find_login", given="user name")
    refusals = [kind for one in limits for call in (one.begin, one.admits) for kind in problems_of(call)]

    @raises(InvalidCredentialsError, PasswordsBusyError, *dict.fromkeys(refusals))
    async def log_in(
        connection: HTTPConnection,
        username: Annotated[str, Form(min_length=1, max_length=320)],
        password: Annotated[str, Form(min_length=1, json_schema_extra={"format": "password"})],
        resolved: Annotated[dict[str, Any], Depends(injected.resolve)],
        scope: Annotated[str, Form(max_length=2048)] = "",
        grant_type: Annotated[str, Form(pattern="^password$")] = "password",
    ) -> Account:
        for one in limits:
            await one.begin(connection, username)
        # No database holds a NUL, and PostgreSQL refuses to look for one.
        login = await injected.call(username, resolved) if "\0" not in username else None
        if login is not None and False in [await one.admits(connection, login.subject) for one in limits]:
            login = None
        check = await passwords.verify(password, login.password_hash if login is not None else None)
        if login is None or not check.valid or not login.is_active:
            raise InvalidCredentialsError(NO_STORE)
        if check.new_hash is not None and login.save_hash is not None:
            saved = login.save_hash(check.new_hash)
            if inspect.isawaitable(saved):
                await saved
        for one in limits:
            await one.succeeded(connection, username, login.subject)
        scopes = frozenset(login.scopes)
        if scope.strip():
            scopes &= frozenset(scope.split())

        async def is_unchanged() -> bool:
            now = await injected.call(username, resolved)
            hashes = (login.password_hash, check.new_hash)
            return now is not None and now.is_active and now.subject == login.subject and now.password_hash in hashes

        return Account(login.subject, scopes, is_unchanged)

    return log_in
