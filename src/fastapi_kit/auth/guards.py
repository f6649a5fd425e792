"""The current user and the guards of an app (RFC 6750)."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, Concatenate, Generic, overload

from fastapi import Depends, Security
from fastapi.security import SecurityScopes

from fastapi_kit.auth.errors import ForbiddenError, InsufficientScopeError
from fastapi_kit.auth.injection import Injected
from fastapi_kit.auth.principal import Authenticator, OptionalAuthenticator, Principal, UserT
from fastapi_kit.auth.scheme import GuardedUser, OptionalUser, Scheme
from fastapi_kit.auth.tokens import AccessClaims, TokenService
from fastapi_kit.errors import ConfigurationError, raises

__all__ = ["Auth"]

Guard = Callable[..., Awaitable[UserT]]
"""A dependency that lets a caller pass, and gives the user."""


class Auth(Generic[UserT]):
    """Dependencies for the current user and for guards, all on one callable.

    `load_user(claims, ...)` finds the user of a verified token, or returns `None`: the caller then gets a 401. It takes
    the claims first and any dependencies after them (the session, say), and may be sync or async. `is_active(user)`
    false is a 401 too. `roles(user)` gives the roles that the role guards compare; `role_hierarchy` says which roles
    a role includes (`{"admin": ["editor"], "editor": ["viewer"]}`). With `token_url`, the path of the log-in, Swagger
    UI offers its form under Authorize, with `scopes`, name to description; without it, a field for a token.

        auth = Auth(tokens, load_user, roles=lambda user: [user.role], token_url="/auth/token")
        CurrentUser = Annotated[User, Depends(auth.current_user)]

    The token is verified and the user loaded once a request, however many of these a route uses. In a test,
    `app.dependency_overrides[auth.principal] = lambda: Principal(user, subject="1", roles=frozenset({"admin"}))`
    covers the current user and all guards.

    Raises `ConfigurationError` when `load_user` takes no claims.
    """

    @overload
    def __init__(
        self,
        tokens: TokenService,
        load_user: Callable[Concatenate[AccessClaims, ...], Awaitable[UserT | None]],
        *,
        is_active: Callable[[UserT], bool] | None = None,
        roles: Callable[[UserT], Iterable[str]] | None = None,
        role_hierarchy: Mapping[str, Iterable[str]] | None = None,
        token_url: str | None = None,
        scopes: Mapping[str, str] | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        tokens: TokenService,
        load_user: Callable[Concatenate[AccessClaims, ...], UserT | None],
        *,
        is_active: Callable[[UserT], bool] | None = None,
        roles: Callable[[UserT], Iterable[str]] | None = None,
        role_hierarchy: Mapping[str, Iterable[str]] | None = None,
        token_url: str | None = None,
        scopes: Mapping[str, str] | None = None,
    ) -> None: ...

    def __init__(
        self,
        tokens: TokenService,
        load_user: Callable[..., Any],
        *,
        is_active: Callable[[UserT], bool] | None = None,
        roles: Callable[[UserT], Iterable[str]] | None = None,
        role_hierarchy: Mapping[str, Iterable[str]] | None = None,
        token_url: str | None = None,
        scopes: Mapping[str, str] | None = None,
    ) -> None:
        self._roles = roles
        self._included = _closure(role_hierarchy or {})
        self._scheme = Scheme(token_url, dict(scopes or {}))
        injected: Injected[UserT | None] = Injected(load_user, role="load_user", given="claims of the token")
        self.principal: Authenticator[UserT] = Authenticator(
            tokens, injected, is_active=is_active, roles=self._all_roles
        )
        """The dependency that gives the `Principal`; override this one in tests."""
        self.optional_principal: OptionalAuthenticator[UserT] = OptionalAuthenticator(self.principal)
        """The dependency that gives the `Principal`, or `None` without credentials; wrong ones are a 401."""

        def has_asked_scopes(principal: Principal[UserT], security_scopes: SecurityScopes) -> None:
            _check_scopes(principal, frozenset(security_scopes.scopes))

        user = GuardedUser[UserT](self._scheme, self.principal, has_asked_scopes, security_scopes=SecurityScopes)
        self.current_user: Guard[UserT] = raises(InsufficientScopeError, when_scoped=True)(user)
        """The dependency that gives the user who is calling.

        With `Security(auth.current_user, scopes=[...])`, only if the token has all those scopes.
        """
        self.optional_user: Guard[UserT | None] = OptionalUser[UserT](self._scheme, self.optional_principal)
        """The dependency that gives the user who is calling, `None` without credentials; wrong ones are a 401."""

    def require_any_role(self, *roles: str) -> Guard[UserT]:
        """Return a dependency for callers with at least one of the roles; others get `ForbiddenError` (403)."""
        wanted = self._wanted_roles(roles)
        return self._role_guard(lambda principal: not wanted.isdisjoint(principal.roles))

    def require_all_roles(self, *roles: str) -> Guard[UserT]:
        """Return a dependency for callers with every one of the roles; others get `ForbiddenError` (403)."""
        wanted = self._wanted_roles(roles)
        return self._role_guard(lambda principal: wanted <= principal.roles)

    def require_any_scope(self, *scopes: str) -> Guard[UserT]:
        """Return a dependency for tokens with at least one of the scopes; others get `InsufficientScopeError` (403)."""
        return self._scope_guard(frozenset(scopes), any_of=True)

    def require_all_scopes(self, *scopes: str) -> Guard[UserT]:
        """Return a dependency for tokens with every one of the scopes; others get `InsufficientScopeError` (403)."""
        return self._scope_guard(frozenset(scopes), any_of=False)

    def require_owner(self, owner: Callable[..., Any], *, or_any_role: Iterable[str] = ()) -> Guard[UserT]:
        """Return a dependency for the owner of a thing, and for callers with one of the roles `or_any_role`.

        `owner` is a dependency that returns the subject of the owner, as a string; it runs after the caller is known,
        and may raise the 404 of the thing. Others get `ForbiddenError` (403).
        """
        roles = self._wanted_roles(or_any_role) if or_any_role else frozenset[str]()

        def owns(principal: Principal[UserT], owner: str) -> None:
            if owner != principal.subject and roles.isdisjoint(principal.roles):
                raise ForbiddenError

        guard = GuardedUser[UserT](self._scheme, self.principal, owns, owner=Annotated[str, Depends(owner)])
        return raises(ForbiddenError)(guard)

    def _role_guard(self, allows: Callable[[Principal[UserT]], bool]) -> Guard[UserT]:
        def has_role(principal: Principal[UserT]) -> None:
            if not allows(principal):
                raise ForbiddenError

        return raises(ForbiddenError)(GuardedUser[UserT](self._scheme, self.principal, has_role))

    def _scope_guard(self, wanted: frozenset[str], *, any_of: bool) -> Guard[UserT]:
        if not wanted:
            raise ConfigurationError("a scope guard needs a scope: without one it would let everybody pass")

        def has_scopes(principal: Principal[UserT], asked: None) -> None:
            if not any_of or wanted.isdisjoint(principal.scopes):
                _check_scopes(principal, wanted)

        # In OpenAPI a list of scopes means all of them, so any-of is not told there.
        asked = Annotated[None, Security(self._scheme, scopes=() if any_of else sorted(wanted))]
        guard = GuardedUser[UserT](self._scheme, self.principal, has_scopes, asked=asked)
        return raises(InsufficientScopeError)(guard)

    def _wanted_roles(self, roles: Iterable[str]) -> frozenset[str]:
        wanted = frozenset(roles)
        if not wanted:
            raise ConfigurationError("a role guard needs a role: without one it would let nobody or everybody pass")
        if self._roles is None:
            raise ConfigurationError("role guards need Auth(..., roles=lambda user: [user.role])")
        return wanted

    def _all_roles(self, user: UserT) -> Iterable[str]:
        for role in self._roles(user) if self._roles is not None else ():
            yield role
            yield from self._included.get(role, ())


def _check_scopes(principal: Principal[Any], wanted: frozenset[str]) -> None:
    if not wanted <= principal.scopes:
        raise InsufficientScopeError(wanted)


def _closure(hierarchy: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    """Return for each role all the roles that it includes, directly or through others."""
    closure: dict[str, frozenset[str]] = {}
    for role in hierarchy:
        found = {role}
        pending = [role]
        for one in pending:
            new = set(hierarchy.get(one, ())) - found
            found |= new
            pending.extend(new)
        closure[role] = frozenset(found)
    return closure
