"""What the settings of an outside issuer must be, said at start-up."""

import re
from collections.abc import Sequence

from fastapi_kit.auth.algorithms import ASYMMETRIC
from fastapi_kit.auth.issuers.fetching import check_url
from fastapi_kit.errors import ConfigurationError

__all__ = ["UNTYPED", "algorithms_of", "audiences_of", "check_urls", "types_of"]

UNTYPED = ""
"""What stands for the `typ` of a token that has none."""

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+")


def audiences_of(given: str | Sequence[str]) -> frozenset[str]:
    """Return the names that the issuer may call this API; raise `ConfigurationError` where there is none."""
    return _names([given] if isinstance(given, str) else given, "audience", "'https://api.example'")


def algorithms_of(given: Sequence[str]) -> frozenset[str]:
    """Return the algorithms; raise `ConfigurationError` for one that takes a shared secret, and for `none`."""
    algorithms = _names(given, "algorithms", "['RS256']")
    if unknown := algorithms - ASYMMETRIC:
        raise ConfigurationError(
            f"algorithms has {', '.join(sorted(unknown))}: what an issuer publishes are public keys, so use some of"
            f" {', '.join(sorted(ASYMMETRIC))}"
        )
    return algorithms


def types_of(given: Sequence[str], *, accept_untyped: bool) -> frozenset[str]:
    """Return each `typ` in small letters, with and without the prefix that may be left out (RFC 7515, 4.1.9)."""
    names = {name.lower().removeprefix("application/") for name in _names(given, "token_types", "['at+jwt']")}
    if wrong := [name for name in names if not _TYPE.fullmatch(name)]:
        raise ConfigurationError(f"token_types has {wrong}: write them as in 'at+jwt' or 'JWT'")
    types = names | {f"application/{name}" for name in names}
    return frozenset(types | {UNTYPED} if accept_untyped else types)


def check_urls(issuer: str, jwks_url: str | None, *, insecure_http: bool) -> None:
    """Raise `ConfigurationError` where the keys could not be fetched, or not safely."""
    given: object = issuer
    if not isinstance(given, str) or not given:
        raise ConfigurationError("an outside issuer needs its name: what its tokens have as `iss`")
    name, url = ("issuer", issuer) if jwks_url is None else ("jwks_url", jwks_url)
    try:
        check_url(url, insecure_http=insecure_http)
        if jwks_url is None and "?" in issuer:
            raise ValueError("it must have no query (OpenID Connect Discovery, 3)")
    except ValueError as error:
        raise ConfigurationError(
            f"{name} cannot be used to fetch keys, {error}: give a jwks_url that can, or, for development alone,"
            " insecure_http=True"
        ) from None


def _names(given: Sequence[str], setting: str, example: str) -> frozenset[str]:
    names: list[object] = [given] if isinstance(given, str) else list(given)
    if isinstance(given, str) or not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigurationError(f"{setting} is {given!r}: give names, as in {example}")
    return frozenset(given)
