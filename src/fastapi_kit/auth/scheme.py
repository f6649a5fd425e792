"""The dependencies behind the current user and the guards, as FastAPI and its OpenAPI see them."""

from collections.abc import Callable, Collection
from inspect import Parameter, Signature
from typing import Annotated, Any

from fastapi import Depends
from fastapi.openapi.models import HTTPBearer, OAuth2, OAuthFlowPassword, OAuthFlows
from fastapi.openapi.models import SecurityBase as SchemeModel
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase

from fastapi_kit.auth.errors import (
    InsufficientScopeError,
    MalformedCredentialsError,
    MissingCredentialsError,
    TokenError,
)
from fastapi_kit.auth.principal import Principal
from fastapi_kit.errors import raises

__all__ = ["Guarded", "Scheme", "check_scopes"]


class Scheme(SecurityBase):
    """How to authenticate, for OpenAPI alone: reading the token is `Authenticator`'s."""

    def __init__(self, token_url: str | None, scopes: dict[str, str]) -> None:
        self.model: SchemeModel = HTTPBearer(bearerFormat="JWT")
        self.scheme_name: str = "Bearer"
        if token_url is not None:
            self.model = OAuth2(flows=OAuthFlows(password=OAuthFlowPassword(tokenUrl=token_url, scopes=scopes)))
            self.scheme_name = "Login"

    async def __call__(self) -> None:
        """Do nothing."""


class Guarded(SecurityBase):
    """A dependency that lets a principal pass and gives what `result` makes of it.

    It is a security scheme to FastAPI, which so documents it, but what it stands on is not: FastAPI calls a scheme
    anew for each set of scopes that a route asks for, and `authenticate` once a request. Whatever scopes are asked of
    it by `Security(..., scopes=[...])` are checked, and then credentials are no longer optional.
    """

    def __init__(
        self,
        scheme: Scheme,
        authenticate: Callable[..., Any],
        result: Callable[[Principal[Any]], object],
        *,
        check: Callable[..., None] | None = None,
        is_optional: bool = False,
        **more: Any,
    ) -> None:
        self.model: SchemeModel = scheme.model
        self.scheme_name: str = scheme.scheme_name
        self._result = result
        self._check = check
        self._is_optional = is_optional
        annotations = {"principal": Annotated[Any, Depends(authenticate)], "security_scopes": SecurityScopes, **more}
        self.__signature__: Signature = Signature(
            [Parameter(name, Parameter.KEYWORD_ONLY, annotation=hint) for name, hint in annotations.items()]
        )
        raises(*([] if is_optional else [MissingCredentialsError]), MalformedCredentialsError, TokenError)(self)
        raises(MissingCredentialsError, InsufficientScopeError, when_scoped=True)(self)

    async def __call__(self, principal: Principal[Any] | None, security_scopes: SecurityScopes, **more: Any) -> Any:
        """Return the result, `None` for an anonymous caller where one is welcome."""
        if principal is None:
            if self._is_optional and not security_scopes.scopes:
                return None
            raise MissingCredentialsError
        if security_scopes.scopes:
            check_scopes(principal, security_scopes.scopes)
        if self._check is not None:
            self._check(principal, **more)
        return self._result(principal)


def check_scopes(principal: Principal[Any], wanted: Collection[str]) -> None:
    """Raise `InsufficientScopeError` unless the principal has all these scopes."""
    if not principal.scopes.issuperset(wanted):
        raise InsufficientScopeError(wanted)
