"""The OAuth2 password log-in (RFC 6749, 4.3), as Swagger UI's Authorize form sends it."""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Concatenate

from fastapi import APIRouter, Depends, Form, Response
from pydantic import BaseModel

from fastapi_kit.auth.errors import InvalidCredentialsError, PasswordsBusyError
from fastapi_kit.auth.injection import Injected
from fastapi_kit.auth.passwords import PasswordHasher
from fastapi_kit.auth.tokens import TokenService
from fastapi_kit.errors import needs_extra, raises

with needs_extra("auth"):
    import python_multipart  # FastAPI reads the form with it

__all__ = ["Login", "TokenResponse", "login_router"]

del python_multipart

_NO_STORE = {"Cache-Control": "no-store"}


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


class TokenResponse(BaseModel):
    """A successful log-in (RFC 6749, 5.1)."""

    access_token: str
    token_type: str = "Bearer"
    expires_in: int
    scope: str


def login_router(
    tokens: TokenService,
    passwords: PasswordHasher,
    find_login: Callable[Concatenate[str, ...], Awaitable[Login | None] | Login | None],
    *,
    prefix: str = "/auth",
) -> APIRouter:
    """Return a router with `POST /auth/token`, the form log-in; `prefix` moves it.

    `find_login(username, ...)` looks an account up, `None` if there is none; it takes dependencies after the user name,
    as `load_user` does. A session that it takes as a dependency stays open while the password is hashed, some 100 ms;
    one that it opens itself (`async with db.session(read_only=True)`) does not.

    Answers 200 with `Cache-Control: no-store`; `InvalidCredentialsError` (401) alike, after the same time, for an
    unknown user, a wrong password and an inactive account; `PasswordsBusyError` (503). The token has the scopes that
    the client asks for, as far as the account has them; all of them when it asks for none.

    Security: it limits no attempts. Put a limit on it:
    `app.include_router(login_router(...), dependencies=[Depends(limiter("10/minute"))])`.
    """
    router = APIRouter(prefix=prefix, tags=["auth"])
    injected: Injected[Login | None] = Injected(find_login, role="find_login", given="user name")

    async def resolve(**resolved: Any) -> dict[str, Any]:
        return resolved

    resolve.__signature__ = inspect.Signature(injected.parameters)  # type: ignore[attr-defined]

    @router.post("/token", summary="Log in")
    @raises(InvalidCredentialsError, PasswordsBusyError)
    async def log_in(
        username: Annotated[str, Form(max_length=320)],
        password: Annotated[str, Form(json_schema_extra={"format": "password"})],
        resolved: Annotated[dict[str, Any], Depends(resolve)],
        response: Response,
        scope: Annotated[str, Form(max_length=2048)] = "",
        grant_type: Annotated[str | None, Form(pattern="^password$")] = None,
    ) -> TokenResponse:
        """Exchange a user name and a password for an access token."""
        # No database holds a NUL, and PostgreSQL refuses to look for one.
        login = await injected.call(username, resolved) if "\0" not in username else None
        check = await passwords.verify(password, login.password_hash if login is not None else None)
        if login is None or not check.valid or not login.is_active:
            raise InvalidCredentialsError(_NO_STORE)
        if check.new_hash is not None and login.save_hash is not None:
            saved = login.save_hash(check.new_hash)
            if inspect.isawaitable(saved):
                await saved
        scopes = frozenset(login.scopes)
        issued = tokens.issue(login.subject, scopes=scopes & frozenset(scope.split()) if scope.strip() else scopes)
        response.headers.update(_NO_STORE)
        return TokenResponse(
            access_token=issued.token, expires_in=issued.expires_in, scope=" ".join(sorted(issued.scopes))
        )

    return router
