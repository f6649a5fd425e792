"""Tokens of several issuers in one app, each verified by its own."""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from fastapi_kit.auth import base64url
from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.credentials import TokenVerifier
from fastapi_kit.auth.errors import TokenError
from fastapi_kit.auth.issuers.outside import OutsideIssuer
from fastapi_kit.auth.jws import MAX_TOKEN_BYTES
from fastapi_kit.auth.strict_json import parse_object
from fastapi_kit.errors import ConfigurationError, raises
from fastapi_kit.errors.declaration import problems_of

__all__ = ["Issuers", "OwnIssuer"]


class OwnIssuer(TokenVerifier, Protocol):
    """What verifies the tokens that this service issues: a `TokenService` or `Sessions`."""

    @property
    def issuer(self) -> str:
        """What its tokens have as `iss`."""
        ...


class Issuers:
    """Accept the tokens of this service and of outside issuers; a `TokenVerifier` for `Auth`.

    A token goes to the issuer that its `iss` names, and that one checks everything, `iss` too; what it names is not
    trusted before. A token of another issuer is a `TokenError`.

        issuers = Issuers(tokens, OutsideIssuer("https://id.example", audience="shop", subject_prefix="id.example|"))

    Security: the subject of one issuer's user must never be that of another's, or who can choose a `sub` there is
    somebody else here. Each outside issuer therefore needs a `subject_prefix`, none of which begins with another; own
    subjects have none, so let no id of yours begin with one of them.

    Raises `ConfigurationError` for prefixes that could give two issuers' users one subject, and for one issuer twice.
    """

    def __init__(self, own: OwnIssuer, *outside: OutsideIssuer) -> None:
        prefixes: list[str] = []
        for issuer in outside:
            prefix = issuer.subject_prefix
            if not prefix or any(prefix.startswith(other) or other.startswith(prefix) for other in prefixes):
                raise ConfigurationError(
                    f"{issuer.issuer} has the subject_prefix {prefix!r}: a user there could have the subject of"
                    " somebody else here. Give each outside issuer one of its own, as in subject_prefix='google|',"
                    " and begin none with another"
                )
            prefixes.append(prefix)
        members: tuple[OwnIssuer, ...] = (own, *outside)
        self._verifiers = {member.issuer: member.verify for member in members}
        if len(self._verifiers) < len(members):
            raise ConfigurationError("two of the issuers have one name: give each once, as its tokens name it in `iss`")
        problems = dict.fromkeys(problem for member in members for problem in problems_of(member.verify))
        self.verify: Callable[[str], Awaitable[AccessClaims]] = raises(*problems)(partial(self._verify))
        """Return what a token says, as the issuer that it names verifies it; raise what that one does."""

    async def _verify(self, token: str) -> AccessClaims:
        verify = self._verifiers.get(_claimed_issuer(token))
        if verify is None:
            raise TokenError("issuer")
        claims = verify(token)
        return await claims if inspect.isawaitable(claims) else claims


def _claimed_issuer(token: str) -> str:
    """Return the `iss` that a token claims to have; nothing of it is verified."""
    segments = token.split(".", 3) if len(token) <= MAX_TOKEN_BYTES else []
    try:
        issuer = parse_object(base64url.decode(segments[1].encode())).get("iss") if len(segments) == 3 else None
    except ValueError:
        issuer = None
    if not isinstance(issuer, str):
        raise TokenError("issuer")
    return issuer
