"""The dependencies behind the current user and the guards, as FastAPI and its OpenAPI see them."""

from collections.abc import Callable, Collection, Sequence
from inspect import Parameter, Signature
from typing import Annotated, Any

from fastapi import Depends
from fastapi.openapi.models import SecurityBase as SchemeModel
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase

from fastapi_kit.auth.credentials import Credential
from fastapi_kit.auth.errors import (
    InsufficientScopeError,
    MalformedCredentialsError,
    MissingCredentialsError,
    TokenError,
)
from fastapi_kit.auth.principal import Principal
from fastapi_kit.errors import Problem, raises

__all__ = ["Guarded", "Schemes", "check_scopes"]


class _Scheme(SecurityBase):
    """One way to authenticate, for OpenAPI alone: reading the credentials is `Authenticator`'s."""

    def __init__(self, credential: Credential) -> None:
        self.model: SchemeModel = credential.model
        self.scheme_name: str = credential.scheme_name

    async def __call__(self) -> None:
        """Do nothing."""


class Schemes:
    """A dependency on schemes that does nothing: FastAPI documents each as one way to pass."""

    def __init__(self, credentials: Sequence[Credential]) -> None:
        self.__signature__: Signature = Signature(
            [
                Parameter(f"scheme_{at}", Parameter.KEYWORD_ONLY, annotation=Annotated[None, Depends(_Scheme(one))])
                for at, one in enumerate(credentials)
            ]
        )

    async def __call__(self, **_: None) -> None:
        """Do nothing."""


class Guarded(SecurityBase):
    """A dependency that lets a principal pass and gives what `result` makes of it.

    It is a security scheme to FastAPI, which so documents it, but what it stands on is not: FastAPI calls a scheme
    anew for each set of scopes that a route asks for, and `authenticate` once a request. Whatever scopes are asked of
    it by `Security(..., scopes=[...])` are checked, and then credentials are no longer optional.
    """

    def __init__(
        self,
        credentials: Sequence[Credential],
        authenticate: Callable[..., Any],
        result: Callable[[Principal[Any]], object],
        *,
        check: Callable[..., None] | None = None,
        is_optional: bool = False,
        **more: Any,
    ) -> None:
        first, *others = credentials
        self.model: SchemeModel = first.model
        self.scheme_name: str = first.scheme_name
        self._challenge = ", ".join(credential.challenge for credential in credentials if credential.challenge)
        self._result = result
        self._check = check
        self._is_optional = is_optional
        annotations = {
            "principal": Annotated[Any, Depends(authenticate)],
            "security_scopes": SecurityScopes,
            **({"others": Annotated[None, Depends(Schemes(others))]} if others else {}),
            **more,
        }
        self.__signature__: Signature = Signature(
            [Parameter(name, Parameter.KEYWORD_ONLY, annotation=hint) for name, hint in annotations.items()]
        )
        problems: list[type[Problem]] = [] if is_optional else [MissingCredentialsError]
        problems += [MalformedCredentialsError, TokenError, *(kind for one in credentials for kind in one.problems)]
        raises(*dict.fromkeys(problems))(self)
        raises(MissingCredentialsError, InsufficientScopeError, when_scoped=True)(self)

    async def __call__(
        self,
        principal: Principal[Any] | None,
        security_scopes: SecurityScopes,
        others: None = None,
        asked: None = None,
        **more: Any,
    ) -> Any:
        """Return the result, `None` for an anonymous caller where one is welcome; `others` and `asked` document.

        Raises `TypeError` for what is no `Principal`: a test may have put a user in its place.
        """
        if principal is None:
            if self._is_optional and not security_scopes.scopes:
                return None
            raise MissingCredentialsError(self._challenge)
        if not isinstance(principal, Principal):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"authenticate gave a {type(principal).__name__}: give Principal(user, subject='1')")
        if security_scopes.scopes:
            check_scopes(principal, security_scopes.scopes)
        if self._check is not None:
            self._check(principal, **more)
        return self._result(principal)


def check_scopes(principal: Principal[Any], wanted: Collection[str]) -> None:
    """Raise `InsufficientScopeError` unless the principal has all these scopes."""
    if not principal.scopes.issuperset(wanted):
        raise InsufficientScopeError(wanted)
