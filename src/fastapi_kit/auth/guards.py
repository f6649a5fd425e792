"""The current user and the guards of an app (RFC 6750)."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, Concatenate, Generic, overload

from fastapi import Depends, Security

from fastapi_kit.auth.bearer import Credentials, credentials_of
from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.credentials import Credential
from fastapi_kit.auth.errors import ForbiddenError, InsufficientScopeError
from fastapi_kit.auth.injection import Injected
from fastapi_kit.auth.principal import Authenticator, Principal, UserT
from fastapi_kit.auth.rights import Permissions, Rights, checked_names
from fastapi_kit.auth.scheme import Guarded, Schemes, check_scopes
from fastapi_kit.errors import ConfigurationError, Problem, raises

__all__ = ["Auth"]

Guard = Callable[..., Awaitable[UserT]]
"""A dependency that lets a caller pass, and gives the user."""


class Auth(Generic[UserT]):
    """Dependencies for the current user and for guards, all on one callable.

    `credentials` is what verifies bearer tokens (`TokenService`, `Sessions`, `OutsideIssuer`, `Issuers`), another
    kind of credentials (`TokenCookies`, `ApiKeys`), or a list of them: each of these then opens a route, and a request
    with two is a 400.

    `load_user(claims, ...)` finds the user of verified credentials, or returns `None`: the caller then gets a 401. It
    takes the claims first and any dependencies after them (the session, say), and may be sync or async.
    `is_active(user)` false is a 401 too. `roles(user)` gives the roles that the role guards compare; `role_hierarchy`
    says which roles a role includes (`{"admin": ["editor"], "editor": ["viewer"]}`), and `permissions` what each role
    may do (`{"editor": ["articles:write"]}`), or is a function that says it of a user. With `token_url`, the path of
    the log-in, Swagger UI offers its form under Authorize, with `scopes`, name to description; without it, a field for
    a token.

        auth = Auth(tokens, load_user, roles=lambda user: [user.role], token_url="/auth/token")
        CurrentUser = Annotated[User, Depends(auth.current_user)]

    The credentials are verified and the user loaded once a request, however many of these a route uses. In a test,
    `app.dependency_overrides[auth.authenticate] = lambda: Principal(user, subject="1", roles=frozenset({"admin"}))`
    covers them all.

    Scopes asked for by `Security(..., scopes=[...])` are checked by each of these, `authenticate` apart: do not put
    that one on a route.

    Raises `ConfigurationError` when `load_user` takes no claims, and for credentials that are none or the same twice.
    """

    @overload
    def __init__(
        self,
        credentials: Credentials,
        load_user: Callable[Concatenate[AccessClaims, ...], Awaitable[UserT | None]],
        *,
        is_active: Callable[[UserT], bool] | None = None,
        roles: Callable[[UserT], Iterable[str]] | None = None,
        role_hierarchy: Mapping[str, Iterable[str]] | None = None,
        permissions: Permissions[UserT] | None = None,
        token_url: str | None = None,
        scopes: Mapping[str, str] | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        credentials: Credentials,
        load_user: Callable[Concatenate[AccessClaims, ...], UserT | None],
        *,
        is_active: Callable[[UserT], bool] | None = None,
        roles: Callable[[UserT], Iterable[str]] | None = None,
        role_hierarchy: Mapping[str, Iterable[str]] | None = None,
        permissions: Permissions[UserT] | None = None,
        token_url: str | None = None,
        scopes: Mapping[str, str] | None = None,
    ) -> None: ...

    def __init__(
        self,
        credentials: Credentials,
        load_user: Callable[..., Any],
        *,
        is_active: Callable[[UserT], bool] | None = None,
        roles: Callable[[UserT], Iterable[str]] | None = None,
        role_hierarchy: Mapping[str, Iterable[str]] | None = None,
        permissions: Permissions[UserT] | None = None,
        token_url: str | None = None,
        scopes: Mapping[str, str] | None = None,
    ) -> None:
        if is_active is not None and inspect.iscoroutinefunction(is_active):
            raise ConfigurationError("is_active must be sync, as in is_active=lambda user: user.is_active")
        self._rights = Rights(roles, role_hierarchy or {}, permissions)
        self.credentials: tuple[Credential, ...] = credentials_of(credentials, token_url, scopes or {})
        """The ways in which a request can authenticate."""
        self._schemes = Schemes(self.credentials)
        injected: Injected[UserT | None] = Injected(load_user, role="load_user", given="claims")
        self.authenticate: Authenticator[UserT] = Authenticator(self.credentials, injected, is_active, self._rights)
        """What all the others stand on: gives the `Principal`, or `None` without credentials. Override it in tests."""
        self.principal: Guard[Principal[UserT]] = Guarded(self.credentials, self.authenticate, _principal_of)
        """The dependency that gives the `Principal` who is calling."""
        self.current_user: Guard[UserT] = Guarded(self.credentials, self.authenticate, _user_of)
        """The dependency that gives the user who is calling."""
        self.optional_user: Guard[UserT | None] = Guarded(
            self.credentials, self.authenticate, _user_of, is_optional=True
        )
        """The dependency that gives the user who is calling, `None` without credentials; wrong ones are a 401."""

    def require_any_role(self, *roles: str) -> Guard[UserT]:
        """Return a dependency for callers with at least one of the roles; others get `ForbiddenError` (403)."""
        wanted = self._rights.wanted_roles(roles)
        return self._caller_guard(lambda principal: not wanted.isdisjoint(principal.roles))

    def require_all_roles(self, *roles: str) -> Guard[UserT]:
        """Return a dependency for callers with every one of the roles; others get `ForbiddenError` (403)."""
        wanted = self._rights.wanted_roles(roles)
        return self._caller_guard(lambda principal: wanted <= principal.roles)

    def require_any_permission(self, *permissions: str) -> Guard[UserT]:
        """Return a dependency for callers with at least one of the permissions; others get `ForbiddenError` (403)."""
        wanted = self._rights.wanted_permissions(permissions)
        return self._caller_guard(lambda principal: not wanted.isdisjoint(principal.permissions))

    def require_all_permissions(self, *permissions: str) -> Guard[UserT]:
        """Return a dependency for callers with every one of the permissions; others get `ForbiddenError` (403)."""
        wanted = self._rights.wanted_permissions(permissions)
        return self._caller_guard(lambda principal: wanted <= principal.permissions)

    def require_any_scope(self, *scopes: str) -> Guard[UserT]:
        """Return a dependency for tokens with at least one of the scopes; others get `InsufficientScopeError` (403)."""
        return self._scope_guard(scopes, any_of=True)

    def require_all_scopes(self, *scopes: str) -> Guard[UserT]:
        """Return a dependency for tokens with every one of the scopes; others get `InsufficientScopeError` (403)."""
        return self._scope_guard(scopes, any_of=False)

    def require_owner(self, owner: Callable[..., Any], *, or_any_role: Iterable[str] = ()) -> Guard[UserT]:
        """Return a dependency for the owner of a thing, and for callers with one of the roles `or_any_role`.

        `owner` is a dependency that returns the subject of the owner, as a string; it runs after the caller is known,
        and may raise the 404 of the thing. Others get `ForbiddenError` (403).
        """
        roles = self._rights.wanted_roles(or_any_role) if or_any_role else frozenset[str]()

        def owns(principal: Principal[UserT], owner: object) -> None:
            if not isinstance(owner, str):
                raise TypeError(f"the owner must be a str as the token's subject is, not {type(owner).__name__}")
            if owner != principal.subject and roles.isdisjoint(principal.roles):
                raise ForbiddenError

        # On `principal`, which refuses anonymous callers before the owner is looked up.
        return self._guard(owns, ForbiddenError, on=self.principal, owner=Annotated[str, Depends(owner)])

    def _caller_guard(self, allows: Callable[[Principal[UserT]], bool]) -> Guard[UserT]:
        def allowed(principal: Principal[UserT]) -> None:
            if not allows(principal):
                raise ForbiddenError

        return self._guard(allowed, ForbiddenError)

    def _scope_guard(self, scopes: Iterable[str], *, any_of: bool) -> Guard[UserT]:
        wanted = checked_names(scopes, "a scope guard", "a scope")

        def has_scopes(principal: Principal[UserT]) -> None:
            if not any_of or wanted.isdisjoint(principal.scopes):
                check_scopes(principal, wanted)

        # In OpenAPI a list of scopes means all of them, so any-of is not told there.
        asked: dict[str, Any] = (
            {} if any_of else {"asked": Annotated[None, Security(self._schemes, scopes=sorted(wanted))]}
        )
        return self._guard(has_scopes, InsufficientScopeError, **asked)

    def _guard(
        self,
        check: Callable[..., None],
        refusal: type[Problem],
        on: Callable[..., Any] | None = None,
        **more: Any,
    ) -> Guard[UserT]:
        return raises(refusal)(Guarded(self.credentials, on or self.authenticate, _user_of, check=check, **more))


def _principal_of(principal: Principal[UserT]) -> Principal[UserT]:
    return principal


def _user_of(principal: Principal[UserT]) -> UserT:
    return principal.user
