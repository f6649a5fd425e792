"""Who is calling: one callable that all guards of an app depend on."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import Parameter, Signature
from typing import Any, Generic

from starlette.requests import HTTPConnection

from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.credentials import Credential
from fastapi_kit.auth.errors import InvalidApiKeyError, MalformedCredentialsError, TokenError
from fastapi_kit.auth.injection import Injected
from fastapi_kit.auth.rights import Rights, UserT

__all__ = ["Authenticator", "Principal", "UserT"]

_log = logging.getLogger("fastapi_kit.auth")

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
    permissions: frozenset[str] = frozenset()
    """What these roles, or the user, may do."""
    claims: AccessClaims | None = field(default=None, repr=False)
    """What the credentials said; `None` in tests."""


class Authenticator(Generic[UserT]):
    """The dependency that reads the credentials, verifies them and loads the user, once a request.

    Its signature is that of `load_user` without the claims, so FastAPI resolves what `load_user` needs before this
    runs: before the credentials were checked.
    """

    def __init__(
        self,
        credentials: Sequence[Credential],
        load_user: Injected[UserT | None],
        is_active: Callable[[UserT], bool] | None,
        rights: Rights[UserT],
    ) -> None:
        self._credentials = credentials
        self.load_user = load_user
        self._is_active = is_active
        self._rights = rights
        connection = Parameter(_CONNECTION, Parameter.KEYWORD_ONLY, annotation=HTTPConnection)
        self.__signature__: Signature = Signature([connection, *load_user.parameters])

    async def __call__(self, **resolved: Any) -> Principal[UserT] | None:
        """Return the caller, `None` where the request carries no credentials.

        Raises `MalformedCredentialsError` (400), `TokenError` (401), and what else a credential declares.
        """
        connection: HTTPConnection = resolved.pop(_CONNECTION)
        used: Credential | None = None
        given = ""
        for credential in self._credentials:
            value = credential.find(connection)
            if value is not None:
                if used is not None:  # whose request would it be? RFC 6750, 2
                    raise MalformedCredentialsError(
                        f"Send one kind of credentials: {used.scheme_name} or {credential.scheme_name}, not both."
                    )
                used, given = credential, value
        if used is None:
            return None
        try:
            claims = used.verify(given, connection)
            if not isinstance(claims, AccessClaims):
                claims = await claims
            return await self.principal_of(claims, resolved, used.challenge)
        except (TokenError, InvalidApiKeyError) as refusal:
            _log.info("A caller was refused (%s), code %s", refusal.reason, refusal.code)
            raise

    async def principal_of(
        self, claims: AccessClaims, resolved: dict[str, Any], challenge: str = "Bearer"
    ) -> Principal[UserT]:
        """Return whose claims these are; `resolved` is what `load_user.resolve` gave.

        Raises `TokenError` for a user who is gone or inactive. An `is_active` that does not answer with a bool is a
        `TypeError`: to take a coroutine for a yes would let everybody in.
        """
        user = await self.load_user.call(claims, resolved)
        if isinstance(user, BaseException):
            raise TypeError(f"load_user returned {type(user).__name__}: raise it, or return the user or None")
        if user is None or user is False:
            raise TokenError("unknown_user", challenge=challenge)
        if self._is_active is not None:
            active: object = self._is_active(user)
            if not isinstance(active, bool):
                raise TypeError(f"is_active must return a bool, not {type(active).__name__}")
            if not active:
                raise TokenError("inactive_user", challenge=challenge)
        return Principal(user, claims.subject, claims.scopes, *self._rights.of(user), claims)
