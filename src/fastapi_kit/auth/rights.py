"""The roles and permissions of a user, and the names that guards ask for."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from fastapi_kit.errors import ConfigurationError

__all__ = ["Permissions", "Rights", "UserT", "checked_names"]

UserT = TypeVar("UserT")

Permissions = Mapping[str, Iterable[str]] | Callable[[UserT], Iterable[str]]
"""What each role may do, or what a user may do."""

_NONE: frozenset[str] = frozenset()


class Rights(Generic[UserT]):
    """What an app says of its users' roles and permissions, made ready to be asked at each request.

    Raises `ConfigurationError` for a role that includes nothing or a string, and for async functions.
    """

    def __init__(
        self,
        roles: Callable[[UserT], Iterable[str]] | None,
        hierarchy: Mapping[str, Iterable[str]],
        permissions: Permissions[UserT] | None,
    ) -> None:
        for name, function in (("roles", roles), ("permissions", permissions)):
            if inspect.iscoroutinefunction(function):
                raise ConfigurationError(f"{name} must be sync: load what it needs in load_user")
        self._roles = roles
        self._included = _closure(_sets(hierarchy, "role_hierarchy", "a role"))
        self._has_permissions = permissions is not None
        self._permissions_of_user = permissions if callable(permissions) else None
        self._permissions_of_role = (
            _sets(permissions, "permissions", "a permission") if isinstance(permissions, Mapping) else {}
        )

    def of(self, user: UserT) -> tuple[frozenset[str], frozenset[str]]:
        """Return the user's roles, with those that they include, and the permissions.

        Raises `TypeError` if the app gave a string in place of a list, whose letters would be roles, or a mapping.
        """
        own = _given(self._roles, user, "roles")
        roles = own.union(*(self._included.get(role, ()) for role in own))
        permissions = _given(self._permissions_of_user, user, "permissions")
        if self._permissions_of_role:
            permissions = permissions.union(*(self._permissions_of_role.get(role, ()) for role in roles))
        return roles, permissions

    def wanted_roles(self, roles: Iterable[str]) -> frozenset[str]:
        """Return what a role guard asks for; raise `ConfigurationError` if nobody could have it."""
        if self._roles is None:
            raise ConfigurationError("role guards need Auth(..., roles=lambda user: [user.role])")
        return checked_names(roles, "a role guard", "a role")

    def wanted_permissions(self, permissions: Iterable[str]) -> frozenset[str]:
        """Return what a permission guard asks for; raise `ConfigurationError` if nobody could have it."""
        if not self._has_permissions:
            raise ConfigurationError("permission guards need Auth(..., permissions={'editor': ['articles:write']})")
        return checked_names(permissions, "a permission guard", "a permission")


def checked_names(names: Iterable[str], whose: str, what: str) -> frozenset[str]:
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


def _given(function: Callable[[UserT], Iterable[str]] | None, user: UserT, name: str) -> frozenset[str]:
    if function is None:
        return _NONE
    names: object = function(user)
    if not isinstance(names, Iterable) or isinstance(names, str | Mapping):
        raise TypeError(f"{name} gave a {type(names).__name__}: it must give a list, {name}=lambda user: [...]")
    return frozenset(names)


def _sets(sets: Mapping[str, Iterable[str]], whose: str, what: str) -> dict[str, frozenset[str]]:
    return {name: checked_names(names, f"{whose}[{name!r}]", what) for name, names in sets.items()}


def _closure(direct: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Return for each role all the roles that it includes, directly or through others."""
    closure: dict[str, frozenset[str]] = {}
    for role in direct:
        found = {role}
        pending = [role]
        for one in pending:
            new = direct.get(one, _NONE) - found
            found |= new
            pending.extend(new)
        closure[role] = frozenset(found)
    return closure
