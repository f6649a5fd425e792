"""The dependencies behind the current user and the guards, as FastAPI and its OpenAPI see them."""

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Annotated, Any, Generic

from fastapi import Depends
from fastapi.openapi.models import HTTPBearer, OAuth2, OAuthFlowPassword, OAuthFlows
from fastapi.openapi.models import SecurityBase as SchemeModel
from fastapi.security.base import SecurityBase

from fastapi_kit.auth.principal import Principal, UserT

__all__ = ["GuardedUser", "OptionalUser", "Scheme"]


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


class GuardedUser(SecurityBase, Generic[UserT]):
    """A dependency that checks the principal and gives the user.

    It is a security scheme to FastAPI, which so documents it, but the principal below it is not: FastAPI calls a
    scheme anew for each set of scopes that a route asks for, and the principal once a request.
    """

    def __init__(self, scheme: Scheme, principal: Callable[..., Any], check: Callable[..., None], **more: Any) -> None:
        self.model: SchemeModel = scheme.model
        self.scheme_name: str = scheme.scheme_name
        self._check = check
        annotations = {"principal": Annotated[Any, Depends(principal)], **more}
        self.__signature__: Signature = Signature(
            [Parameter(name, Parameter.KEYWORD_ONLY, annotation=hint) for name, hint in annotations.items()]
        )

    async def __call__(self, principal: Principal[UserT], **more: Any) -> UserT:
        """Return the user if the check passes."""
        self._check(principal, **more)
        return principal.user


class OptionalUser(SecurityBase, Generic[UserT]):
    """The same without a check, for routes that anonymous callers may use."""

    def __init__(self, scheme: Scheme, principal: Callable[..., Any]) -> None:
        self.model: SchemeModel = scheme.model
        self.scheme_name: str = scheme.scheme_name
        parameter = Parameter("principal", Parameter.KEYWORD_ONLY, annotation=Annotated[Any, Depends(principal)])
        self.__signature__: Signature = Signature([parameter])

    async def __call__(self, principal: Principal[UserT] | None) -> UserT | None:
        """Return the user, `None` for an anonymous caller."""
        return None if principal is None else principal.user
