"""What the routers of a log-in share: refreshing it, and ending all of a user's."""

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from fastapi_kit.auth.bearer import BearerToken
from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.cookies import TokenCookies
from fastapi_kit.auth.errors import InvalidCredentialsError, InvalidGrantError, InvalidScopeError, TokenError
from fastapi_kit.auth.guards import Auth
from fastapi_kit.auth.password_login import NO_STORE, Account
from fastapi_kit.auth.sessions import Sessions, TokenPair
from fastapi_kit.errors import ConfigurationError, UnavailableError, raises

_log = logging.getLogger("fastapi_kit.auth")

__all__ = ["Refresh", "add_log_out_everywhere", "begin", "refreshing"]

Refresh = Callable[[str, Collection[str] | None], Awaitable[TokenPair]]
"""Takes a refresh token and the scopes wanted, `None` for all that the log-in has."""


async def begin(sessions: Sessions, account: Account) -> TokenPair:
    """Begin the log-in of who gave the right password, unless a change of it overtook the log-in.

    The account is looked up again once the log-in is stored. A change that commits later finds it, and ends it by the
    epoch; one that committed before is seen now. So none is missed.
    """
    pair = await sessions.start(account.subject, scopes=account.scopes)
    if not await account.is_unchanged():
        await sessions.end_session(pair.session_id)
        raise InvalidCredentialsError(NO_STORE)
    return pair


def refreshing(sessions: Sessions, auth: Auth[Any]) -> Callable[..., Awaitable[Refresh]]:
    """Return a dependency that gives what exchanges a refresh token, if its user still exists and is active.

    The user is looked up after the exchange. Before it, the session of `load_user` could hold SQLite's write lock, for
    which the exchange would wait.
    """

    @raises(InvalidGrantError, InvalidScopeError, UnavailableError)
    async def dependency(resolved: Annotated[dict[str, Any], Depends(auth.authenticate.load_user.resolve)]) -> Refresh:
        async def refresh(refresh_token: str, scopes: Collection[str] | None) -> TokenPair:
            async def check(claims: AccessClaims) -> None:
                await auth.authenticate.principal_of(claims, resolved)

            try:
                return await sessions.refresh(refresh_token, scopes=scopes, check=check)
            except (TokenError, InvalidGrantError) as refusal:
                _log.info("A refresh was refused: %s", refusal)
                raise InvalidGrantError(refusal.reason) from None

        return refresh

    return dependency


def add_log_out_everywhere(
    router: APIRouter, sessions: Sessions, auth: Auth[Any], cookies: TokenCookies | None = None
) -> None:
    """Add `POST /logout-all` for the tokens of `auth`; an API key cannot log anybody out. It clears the cookies.

    It loads no user: on SQLite the session of `load_user` would hold the write lock that ending the log-ins takes.
    """
    tokens = [one for one in auth.credentials if isinstance(one, BearerToken | TokenCookies)]
    if not tokens:
        raise ConfigurationError("auth takes no tokens: give Auth the Sessions, as in Auth(sessions, load_user)")
    caller: Auth[AccessClaims] = Auth(tokens, _claims_themselves)

    @router.post("/logout-all", summary="Log out everywhere", status_code=204)
    @raises(UnavailableError)
    async def log_out_everywhere(
        claims: Annotated[AccessClaims, Depends(caller.current_user)], response: Response
    ) -> None:
        """End every log-in of the caller, this one too."""
        await sessions.end_all(claims.subject)
        if cookies is not None:
            cookies.clear(response)


async def _claims_themselves(claims: AccessClaims) -> AccessClaims:
    return claims
