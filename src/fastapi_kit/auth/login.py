"""The routes of a log-in that answers with tokens (RFC 6749, 4.3 and 6)."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Response
from pydantic import BaseModel

from fastapi_kit.auth.attempts import AttemptLimit
from fastapi_kit.auth.guards import Auth
from fastapi_kit.auth.password_login import NO_STORE, Account, FindLogin, password_login
from fastapi_kit.auth.passwords import PasswordHasher
from fastapi_kit.auth.session_routes import Refresh, add_log_out_everywhere, begin, refreshing
from fastapi_kit.auth.sessions import Sessions, TokenPair
from fastapi_kit.auth.tokens import TokenService
from fastapi_kit.errors import ConfigurationError, UnavailableError, raises

__all__ = ["TokenPairResponse", "TokenResponse", "login_router"]

_RefreshToken = Annotated[str, Form(max_length=512, json_schema_extra={"format": "password"})]


class TokenResponse(BaseModel):
    """A successful log-in (RFC 6749, 5.1)."""

    access_token: str
    token_type: str = "Bearer"
    expires_in: int
    """Seconds until the access token expires."""
    scope: str


class TokenPairResponse(TokenResponse):
    """A successful log-in that can be refreshed."""

    refresh_token: str
    refresh_expires_in: int
    """Seconds until the refresh token expires if it is not used."""


def login_router(
    issuer: TokenService | Sessions,
    passwords: PasswordHasher,
    find_login: FindLogin,
    *,
    auth: Auth[Any] | None = None,
    limit: AttemptLimit | Sequence[AttemptLimit] = (),
    prefix: str = "/auth",
) -> APIRouter:
    """Return a router with `POST /auth/token`, the form log-in; `prefix` moves it.

    With a `TokenService` that is all. With `Sessions` the answer has a refresh token too, and there are
    `POST /auth/refresh`, which exchanges it, `POST /auth/logout`, which ends the log-in that it belongs to, and
    `POST /auth/logout-all`, which ends every log-in of the caller. `auth` then says at each refresh whether the user
    still exists and is active.

    `find_login(username, ...)` looks an account up, `None` if there is none; it takes dependencies after the user name,
    as `load_user` does. A session that it takes as a dependency stays open while the password is hashed, some 100 ms;
    one that it opens itself (`async with db.session(read_only=True)`) does not. `limit` is asked before each password
    is looked at: `limiter.attempts(...)`, or several.

    Answers with `Cache-Control: no-store`: 200; `InvalidCredentialsError` (401) alike, after the same time, for an
    unknown user, a wrong password and an inactive account; `InvalidGrantError` (400) for a refresh token that is not
    good; `PasswordsBusyError` (503). The token has the scopes that the client asks for, as far as the account has them;
    all of them when it asks for none.

    Security: without `limit` nothing counts wrong passwords. For a browser's cookies there is `cookie_login_router`.

    Raises `ConfigurationError` for `Sessions` without `auth`.
    """
    router = APIRouter(prefix=prefix, tags=["auth"])
    check = password_login(passwords, find_login, limit)
    if isinstance(issuer, TokenService):
        if issuer.purpose != "at":
            raise ConfigurationError(f"this TokenService is for {issuer.purpose!r}: log-ins need one for access tokens")

        @router.post("/token", summary="Log in")
        async def log_in(account: Annotated[Account, Depends(check)], response: Response) -> TokenResponse:
            """Exchange a user name and a password for an access token."""
            issued = issuer.issue(account.subject, scopes=account.scopes)
            response.headers.update(NO_STORE)
            return TokenResponse(
                access_token=issued.token, expires_in=issued.expires_in, scope=" ".join(sorted(issued.scopes))
            )

    elif not isinstance(issuer, Sessions):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"the issuer is a {type(issuer).__name__}: give a TokenService, or Sessions")
    elif auth is None:
        raise ConfigurationError("Sessions need auth=Auth(...): it says at each refresh whether the user is active")
    else:
        _add_session_routes(router, issuer, auth, check)
    return router


def _add_session_routes(router: APIRouter, sessions: Sessions, auth: Auth[Any], check: Callable[..., Any]) -> None:
    def answer(pair: TokenPair, response: Response) -> TokenPairResponse:
        response.headers.update(NO_STORE)
        return TokenPairResponse(
            access_token=pair.access.token,
            expires_in=pair.access.expires_in,
            scope=" ".join(sorted(pair.access.scopes)),
            refresh_token=pair.refresh_token,
            refresh_expires_in=pair.refresh_expires_in,
        )

    @router.post("/token", summary="Log in")
    @raises(UnavailableError)
    async def log_in(account: Annotated[Account, Depends(check)], response: Response) -> TokenPairResponse:
        """Exchange a user name and a password for an access token and a refresh token."""
        return answer(await begin(sessions, account), response)

    @router.post("/refresh", summary="Refresh the log-in")
    async def refresh(
        exchange: Annotated[Refresh, Depends(refreshing(sessions, auth))],
        response: Response,
        refresh_token: _RefreshToken,
        scope: Annotated[str, Form(max_length=2048)] = "",
        grant_type: Annotated[str | None, Form(pattern="^refresh_token$")] = None,
    ) -> TokenPairResponse:
        """Exchange a refresh token for a new pair; each is good once."""
        return answer(await exchange(refresh_token, scope.split() or None), response)

    @router.post("/logout", summary="Log out", status_code=204)
    @raises(UnavailableError)
    async def log_out(refresh_token: _RefreshToken) -> None:
        """End the log-in of a refresh token; one that is not good is no error (RFC 7009, 2.2)."""
        await sessions.end(refresh_token)

    add_log_out_everywhere(router, sessions, auth)
