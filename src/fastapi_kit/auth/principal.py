"""Who is calling: one callable that all guards of an app depend on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from inspect import Parameter, Signature
from typing import Any, Generic, TypeVar

from starlette.requests import HTTPConnection

from fastapi_kit.auth.bearer import bearer_token
from fastapi_kit.auth.errors import TokenError
from fastapi_kit.auth.injection import Injected
from fastapi_kit.auth.tokens import AccessClaims, TokenService

__all__ = ["Authenticator", "Principal", "UserT"]

UserT = TypeVar("UserT")
_CONNECTION = "fastapi_kit_connection"


@dataclass(frozen=True, slots=True)
class Principal(Generic[UserT]):
    """The authenticated caller of a request: the user, and what the credentials and the user's roles allow."""

    user: UserT
    subject: str
    """The id under which the credentials were issued."""
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    """The user's roles, with those that they include."""
    claims: AccessClaims | None = field(default=None, repr=False)
    """What the token said; `None` in tests, and for credentials that are no token."""


class Authenticator(Generic[UserT]):
    """The dependency that reads the token, verifies it and loads the user, once a request.

    Its signature is that of `load_user` without the claims, so FastAPI resolves what `load_user` needs before this
    runs: before the token was checked.
    """

    def __init__(
        self,
        tokens: TokenService,
        load_user: Injected[UserT | None],
        *,
        is_active: Callable[[UserT], bool] | None,
        roles: Callable[[UserT], Iterable[str]],
    ) -> None:
        self._tokens = tokens
        self._load_user = load_user
        self._is_active = is_active
        self._roles = roles
        connection = Parameter(_CONNECTION, Parameter.KEYWORD_ONLY, annotation=HTTPConnection)
        self.__signature__: Signature = Signature([connection, *load_user.parameters])

    async def __call__(self, **resolved: Any) -> Principal[UserT] | None:
        """Return the caller, `None` where the request carries no credentials.

        Raises `MalformedCredentialsError` (400) and `TokenError` (401). An `is_active` that does not answer with a
        bool is a `TypeError`: to take a coroutine for a yes would let everybody in.
        """
        token = bearer_token(resolved.pop(_CONNECTION))
        if token is None:
            return None
        claims = self._tokens.verify(token)
        user = await self._load_user.call(claims, resolved)
        if user is None or user is False:
            raise TokenError("unknown_user")
        if self._is_active is not None:
            active: object = self._is_active(user)
            if not isinstance(active, bool):
                raise TypeError(f"is_active must return a bool, not {type(active).__name__}")
            if not active:
                raise TokenError("inactive_user")
        return Principal(user, claims.subject, claims.scopes, frozenset(self._roles(user)), claims)
