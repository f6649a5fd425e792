"""The current user and the guards of an app (RFC 6750)."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, Concatenate, Generic, overload

from fastapi import Depends, Security

from fastapi_kit.auth.errors import ForbiddenError, InsufficientScopeError
from fastapi_kit.auth.injection import Injected
from fastapi_kit.auth.principal import Authenticator, Principal, UserT
from fastapi_kit.auth.scheme import Guarded, Scheme, check_scopes
from fastapi_kit.auth.tokens import AccessClaims, TokenService
from fastapi_kit.errors import ConfigurationError, Problem, raises

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
    `app.dependency_overrides[auth.authenticate] = lambda: Principal(user, subject="1", roles=frozenset({"admin"}))`
    covers them all.

    Scopes asked for by `Security(..., scopes=[...])` are checked by each of these, `authenticate` apart: do not put
    that one on a route.

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
        if is_active is not None and inspect.iscoroutinefunction(is_active):
            raise ConfigurationError("is_active must be sync, as in is_active=lambda user: user.is_active")
        self._roles = roles
        self._included = _closure(role_hierarchy or {})
        self._scheme = Scheme(token_url, dict(scopes or {}))
        injected: Injected[UserT | None] = Injected(load_user, role="load_user", given="claims of the token")
        self.authenticate: Authenticator[UserT] = Authenticator(
            tokens, injected, is_active=is_active, roles=self._all_roles
        )
        """What all the others stand on: gives the `Principal`, or `None` without credentials. Override it in tests."""
        self.principal: Guard[Principal[UserT]] = Guarded(self._scheme, self.authenticate, _principal_of)
        """The dependency that gives the `Principal` who is calling."""
        self.current_user: Guard[UserT] = Guarded(self._scheme, self.authenticate, _user_of)
        """The dependency that gives the user who is calling."""
        self.optional_user: Guard[UserT | None] = Guarded(self._scheme, self.authenticate, _user_of, is_optional=True)
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
        return self._scope_guard(scopes, any_of=True)

    def require_all_scopes(self, *scopes: str) -> Guard[UserT]:
        """Return a dependency for tokens with every one of the scopes; others get `InsufficientScopeError` (403)."""
        return self._scope_guard(scopes, any_of=False)

    def require_owner(self, owner: Callable[..., Any], *, or_any_role: Iterable[str] = ()) -> Guard[UserT]:
        """Return a dependency for the owner of a thing, and for callers with one of the roles `or_any_role`.

        `owner` is a dependency that returns the subject of the owner, as a string; it runs after the caller is known,
        and may raise the 404 of the thing. Others get `ForbiddenError` (403).
        """
        roles = self._wanted_roles(or_any_role) if or_any_role else frozenset[str]()

        def owns(principal: Principal[UserT], owner: object) -> None:
            if not isinstance(owner, str):
                raise TypeError(f"the owner must be a str as the token's subject is, not {type(owner).__name__}")
            if owner != principal.subject and roles.isdisjoint(principal.roles):
                raise ForbiddenError

        # On `principal`, which refuses anonymous callers before the owner is looked up.
        return self._guard(owns, ForbiddenError, on=self.principal, owner=Annotated[str, Depends(owner)])

    def _role_guard(self, allows: Callable[[Principal[UserT]], bool]) -> Guard[UserT]:
        def has_role(principal: Principal[UserT]) -> None:
            if not allows(principal):
                raise ForbiddenError

        return self._guard(has_role, ForbiddenError)

    def _scope_guard(self, scopes: Iterable[str], *, any_of: bool) -> Guard[UserT]:
        wanted = _names(scopes, "a scope guard", "a scope")

        def has_scopes(principal: Principal[UserT], **_: None) -> None:
            if not any_of or wanted.isdisjoint(principal.scopes):
                check_scopes(principal, wanted)

        # In OpenAPI a list of scopes means all of them, so any-of is not told there.
        asked: dict[str, Any] = (
            {} if any_of else {"asked": Annotated[None, Security(self._scheme, scopes=sorted(wanted))]}
        )
        return self._guard(has_scopes, InsufficientScopeError, **asked)

    def _guard(
        self,
        check: Callable[..., None],
        refusal: type[Problem],
        on: Callable[..., Any] | None = None,
        **more: Any,
    ) -> Guard[UserT]:
        return raises(refusal)(Guarded(self._scheme, on or self.authenticate, _user_of, check=check, **more))

    def _wanted_roles(self, roles: Iterable[str]) -> frozenset[str]:
        if self._roles is None:
            raise ConfigurationError("role guards need Auth(..., roles=lambda user: [user.role])")
        return _names(roles, "a role guard", "a role")

    def _all_roles(self, user: UserT) -> Iterable[str]:
        roles = self._roles(user) if self._roles is not None else ()
        if isinstance(roles, str):
            raise TypeError("roles must give a list of roles: roles=lambda user: [user.role]")
        for role in roles:
            yield role
            yield from self._included.get(role, ())


def _principal_of(principal: Principal[UserT]) -> Principal[UserT]:
    return principal


def _user_of(principal: Principal[UserT]) -> UserT:
    return principal.user


def _names(names: Iterable[str], whose: str, what: str) -> frozenset[str]:
    """Return names as a set, if there is one, and none of them is what a slip of the pen leaves."""
    if isinstance(names, str):
        raise ConfigurationError(f"{whose} got the string {names!r} in place of a list: write [{names!r}]")
    given: list[object] = list(names)
    if not all(isinstance(name, str) for name in given):
        raise ConfigurationError(f"{whose} got {given!r}: give each name as a string of its own")
    found = frozenset(names)
    if not found or "" in found:
        raise ConfigurationError(f"{whose} needs {what}: without one it would let everybody or nobody pass")
    return found


def _closure(hierarchy: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    """Return for each role all the roles that it includes, directly or through others."""
    direct = {role: _names(included, f"role_hierarchy[{role!r}]", "a role") for role, included in hierarchy.items()}
    closure: dict[str, frozenset[str]] = {}
    for role in direct:
        found = {role}
        pending = [role]
        for one in pending:
            new = direct.get(one, frozenset()) - found
            found |= new
            pending.extend(new)
        closure[role] = frozenset(found)
    return closure
