"""The current user and the guards of an app (RFC 6750)."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Concatenate, Generic, cast, overload

from fastapi import Depends, Security

from fastapi_kit.auth.bearer import BearerToken
from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.credentials import Credential, TokenVerifier
from fastapi_kit.auth.errors import ForbiddenError, InsufficientScopeError
from fastapi_kit.auth.injection import Injected
from fastapi_kit.auth.principal import Authenticator, Principal, UserT
from fastapi_kit.auth.scheme import Guarded, Scheme, check_scopes
from fastapi_kit.errors import ConfigurationError, Problem, raises

__all__ = ["Auth"]

Guard = Callable[..., Awaitable[UserT]]
"""A dependency that lets a caller pass, and gives the user."""

Credentials = TokenVerifier | Credential | Sequence[TokenVerifier | Credential]
"""What a request can authenticate with; a `TokenVerifier` stands for the Authorization header."""

Permissions = Mapping[str, Iterable[str]] | Callable[[UserT], Iterable[str]]
"""What each role may do, or what a user may do."""


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
        self._roles = roles
        self._included = _closure(role_hierarchy or {})
        self._permissions = permissions
        if isinstance(permissions, Mapping):
            self._permissions_of_role = _named_sets(permissions, "permissions", "a permission")
        self._credentials = _credentials(credentials, token_url, scopes or {})
        self._scheme = Scheme(self._credentials[0])
        injected: Injected[UserT | None] = Injected(load_user, role="load_user", given="claims")
        self.authenticate: Authenticator[UserT] = Authenticator(
            self._credentials,
            injected,
            is_active=is_active,
            roles=self._all_roles,
            permissions=self._all_permissions,
        )
        """What all the others stand on: gives the `Principal`, or `None` without credentials. Override it in tests."""
        self.principal: Guard[Principal[UserT]] = Guarded(self._credentials, self.authenticate, _principal_of)
        """The dependency that gives the `Principal` who is calling."""
        self.current_user: Guard[UserT] = Guarded(self._credentials, self.authenticate, _user_of)
        """The dependency that gives the user who is calling."""
        self.optional_user: Guard[UserT | None] = Guarded(
            self._credentials, self.authenticate, _user_of, is_optional=True
        )
        """The dependency that gives the user who is calling, `None` without credentials; wrong ones are a 401."""

    def require_any_role(self, *roles: str) -> Guard[UserT]:
        """Return a dependency for callers with at least one of the roles; others get `ForbiddenError` (403)."""
        wanted = self._wanted_roles(roles)
        return self._caller_guard(lambda principal: not wanted.isdisjoint(principal.roles))

    def require_all_roles(self, *roles: str) -> Guard[UserT]:
        """Return a dependency for callers with every one of the roles; others get `ForbiddenError` (403)."""
        wanted = self._wanted_roles(roles)
        return self._caller_guard(lambda principal: wanted <= principal.roles)

    def require_any_permission(self, *permissions: str) -> Guard[UserT]:
        """Return a dependency for callers with at least one of the permissions; others get `ForbiddenError` (403)."""
        wanted = self._wanted_permissions(permissions)
        return self._caller_guard(lambda principal: not wanted.isdisjoint(principal.permissions))

    def require_all_permissions(self, *permissions: str) -> Guard[UserT]:
        """Return a dependency for callers with every one of the permissions; others get `ForbiddenError` (403)."""
        wanted = self._wanted_permissions(permissions)
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
        roles = self._wanted_roles(or_any_role) if or_any_role else frozenset[str]()

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
        return raises(refusal)(Guarded(self._credentials, on or self.authenticate, _user_of, check=check, **more))

    def _wanted_roles(self, roles: Iterable[str]) -> frozenset[str]:
        if self._roles is None:
            raise ConfigurationError("role guards need Auth(..., roles=lambda user: [user.role])")
        return _names(roles, "a role guard", "a role")

    def _wanted_permissions(self, permissions: Iterable[str]) -> frozenset[str]:
        if self._permissions is None:
            raise ConfigurationError("permission guards need Auth(..., permissions={'editor': ['articles:write']})")
        return _names(permissions, "a permission guard", "a permission")

    def _all_roles(self, user: UserT) -> frozenset[str]:
        roles = self._roles(user) if self._roles is not None else ()
        if isinstance(roles, str):
            raise TypeError("roles must give a list of roles: roles=lambda user: [user.role]")
        own = frozenset(roles)
        return own.union(*(self._included.get(role, ()) for role in own))

    def _all_permissions(self, user: UserT, roles: frozenset[str]) -> frozenset[str]:
        if self._permissions is None:
            return _NONE
        if isinstance(self._permissions, Mapping):
            return _NONE.union(*(self._permissions_of_role.get(role, ()) for role in roles))
        permissions = self._permissions(user)
        if isinstance(permissions, str):
            raise TypeError("permissions must give a list: permissions=lambda user: user.permissions")
        return frozenset(permissions)


_NONE: frozenset[str] = frozenset()


def _credentials(given: Credentials, token_url: str | None, scopes: Mapping[str, str]) -> tuple[Credential, ...]:
    """Return each way to authenticate; a verifier of tokens stands for the Authorization header."""
    credentials: list[Credential] = []
    for one in given if isinstance(given, Sequence) else [given]:
        if callable(getattr(one, "find", None)):
            credentials.append(cast(Credential, one))
        elif callable(getattr(one, "verify", None)):
            credentials.append(BearerToken(cast(TokenVerifier, one), token_url, scopes))
        else:
            raise ConfigurationError(
                f"credentials has a {type(one).__name__}: give a TokenService, or a list of what a request may use"
            )
    names = [credential.scheme_name for credential in credentials]
    if not names or len(set(names)) < len(names):
        raise ConfigurationError(
            f"credentials are {names}: give one or more, each of another kind; Issuers(...) joins several issuers"
        )
    return tuple(credentials)


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


def _named_sets(sets: Mapping[str, Iterable[str]], whose: str, what: str) -> dict[str, frozenset[str]]:
    return {name: _names(names, f"{whose}[{name!r}]", what) for name, names in sets.items()}


def _closure(hierarchy: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    """Return for each role all the roles that it includes, directly or through others."""
    direct = _named_sets(hierarchy, "role_hierarchy", "a role")
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
