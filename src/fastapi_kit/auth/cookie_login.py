"""The routes of a log-in whose tokens stay in cookies, out of the reach of scripts."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from fastapi_kit.auth.attempts import AttemptLimit
from fastapi_kit.auth.cookies import TokenCookies
from fastapi_kit.auth.errors import CsrfError, MalformedCredentialsError, MissingCredentialsError
from fastapi_kit.auth.guards import Auth
from fastapi_kit.auth.password_login import NO_STORE, Account, FindLogin, password_login
from fastapi_kit.auth.passwords import PasswordHasher
from fastapi_kit.auth.session_routes import Refresh, add_log_out_everywhere, begin, refreshing
from fastapi_kit.auth.sessions import Sessions, TokenPair
from fastapi_kit.errors import ConfigurationError, UnavailableError, raises

__all__ = ["CookieLoginResponse", "cookie_login_router"]


class CookieLoginResponse(BaseModel):
    """A log-in whose tokens are in cookies."""

    expires_in: int
    """Seconds until it has to be refreshed."""
    refresh_expires_in: int
    """Seconds until it can no longer be refreshed."""
    scope: str
    csrf_token: str
    """What unsafe requests send in `X-CSRF-Token`; the readable cookie has it too."""


def cookie_login_router(
    sessions: Sessions,
    cookies: TokenCookies,
    passwords: PasswordHasher,
    find_login: FindLogin,
    *,
    auth: Auth[Any],
    limit: AttemptLimit | Sequence[AttemptLimit] = (),
    prefix: str = "/auth/cookie",
) -> APIRouter:
    """Return a router with `POST /auth/cookie/login`, `/refresh`, `/logout` and `/logout-all`; `prefix` moves them.

    They are those of `login_router` for browsers: no answer holds a token, so that a script that was smuggled into the
    page cannot take one away. `cookies` has to be among the credentials of `auth`.

    A refresh and a log-out need no `X-CSRF-Token`, since the access token may be gone: another origin is refused, and
    the browser sends the cookie of the refresh token with this site's own requests alone (`SameSite=Strict`).

    Raises `CsrfError` (403) for what another origin sends, besides what `login_router` raises.

    Raises `ConfigurationError` for cookies that `auth` does not read.
    """
    if not isinstance(sessions, Sessions):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"sessions is a {type(sessions).__name__}: give the Sessions first, then the cookies")
    if not any(one is cookies for one in auth.credentials):
        raise ConfigurationError("these cookies are not among auth's: Auth([sessions, cookies], load_user)")
    router = APIRouter(prefix=prefix, tags=["auth"])

    def answer(pair: TokenPair, response: Response) -> CookieLoginResponse:
        response.headers.update(NO_STORE)
        return CookieLoginResponse(
            expires_in=pair.access.expires_in,
            refresh_expires_in=pair.refresh_expires_in,
            scope=" ".join(sorted(pair.access.scopes)),
            csrf_token=cookies.set(response, pair),
        )

    @raises(CsrfError)
    async def from_here(request: Request) -> None:
        cookies.check_origin(request)

    @router.post("/login", summary="Log in with cookies", dependencies=[Depends(from_here)])
    @raises(UnavailableError)
    async def log_in(
        account: Annotated[Account, Depends(password_login(passwords, find_login, limit))], response: Response
    ) -> CookieLoginResponse:
        """Exchange a user name and a password for cookies."""
        return answer(await begin(sessions, account), response)

    @router.post("/refresh", summary="Refresh the cookies", dependencies=[Depends(from_here)])
    @raises(MissingCredentialsError, MalformedCredentialsError)
    async def refresh(
        request: Request, exchange: Annotated[Refresh, Depends(refreshing(sessions, auth))], response: Response
    ) -> CookieLoginResponse:
        """Exchange the cookies for new ones."""
        refresh_token = cookies.refresh_token(request)
        if refresh_token is None:
            raise MissingCredentialsError(cookies.challenge)
        return answer(await exchange(refresh_token, None), response)

    @router.post("/logout", summary="Log out with cookies", status_code=204, dependencies=[Depends(from_here)])
    @raises(MalformedCredentialsError, UnavailableError)
    async def log_out(request: Request, response: Response) -> None:
        """End the log-in, and have the browser forget the cookies."""
        refresh_token = cookies.refresh_token(request)
        if refresh_token is not None:
            await sessions.end(refresh_token)
        cookies.clear(response)

    add_log_out_everywhere(router, sessions, auth, cookies)
    return router
