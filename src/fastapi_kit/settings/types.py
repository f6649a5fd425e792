"""Types for settings: secrets that nobody guesses, URLs that hide their password, lists as people write them."""

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler, SecretStr
from pydantic import Secret as _Secret
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.errors.secrets import secret_bytes

with needs_extra("settings"):
    from pydantic_settings import NoDecode

__all__ = ["CommaSeparated", "Secret", "SecretPolicy", "SecretURL"]

T = TypeVar("T")

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s\x00-\x1f\x7f]*")


@dataclass(frozen=True, slots=True)
class SecretPolicy:
    """Say what a secret must be, as `Annotated[SecretStr, SecretPolicy(min_bytes=64)]`.

    Long enough, of more than a few characters, and none of those that tutorials and templates show: a key to sign
    tokens with can be tried out offline, as often as somebody likes. It is the check that `Key.hmac` and the secrets of
    cursors go through too. The default of a field goes through it as well.

    `min_bytes`: 16 or more; 32 is what HS256 asks for (RFC 7518, 3.2), 64 what HS512 does.

    It is not for the passwords and keys that others choose: `SecretStr` is.

    Raises `ConfigurationError` for less than 16.
    """

    min_bytes: int = 32

    def __post_init__(self) -> None:
        if self.min_bytes < 16:
            raise ConfigurationError(f"min_bytes is {self.min_bytes}: choose 16 or more, 32 is common")

    def check(self, secret: Any) -> Any:
        """Return the secret, or raise `PydanticCustomError` saying what it lacks, without showing it."""
        try:
            secret_bytes(secret.get_secret_value(), "", least=self.min_bytes)
        except ConfigurationError as exc:
            reason = str(exc).strip()
        else:
            return secret
        raise PydanticCustomError("weak_secret", "{reason}", {"reason": reason})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


Secret = Annotated[SecretStr, SecretPolicy()]
"""A secret of 32 bytes or more that nobody guesses; `get_secret_value()` returns it, no repr shows it."""


def _check_url(url: str) -> str:
    if _URL.fullmatch(url) is None:
        raise PydanticCustomError("secret_url", "is not a URL: write scheme://user:password@host:port/name")
    return url


class SecretURL(_Secret[Annotated[str, AfterValidator(_check_url)]]):
    """A URL that may hold a password: of a database, of Redis, of a webhook. Its repr shows scheme and host alone.

        database_url: SecretURL = SecretURL("sqlite+aiosqlite:///./shop.db")

    `get_secret_value()` returns the whole, for `Database(settings.database_url.get_secret_value())`. No other part is
    shown, since services put secrets into paths and queries too, nor the host where it cannot be told for sure.
    """

    def _display(self) -> str:
        scheme, _, rest = self.get_secret_value().partition("://")
        authority, *others = re.split(r"[/?#]", rest, maxsplit=1)
        # A password may hold any of these letters unquoted: then it is not clear where it ends.
        user, at, address = authority.rpartition("@")
        is_clear = "@" not in user + "".join(others) and _is_host(address)
        return f"{scheme}://{'**********@' if at else ''}{address.partition(':')[0] if is_clear else '**********'}"


def _is_host(address: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_.-]*(:\d{1,5})?", address) is not None


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            pass
        raise PydanticCustomError("comma_separated", 'begins with [ but is not JSON: write one, two or ["one", "two"]')
    return [member for part in value.split(",") if (member := part.strip())]


CommaSeparated = Annotated[list[T], NoDecode, BeforeValidator(_split)]
"""A list that a variable holds as `one, two` or as JSON, `["one", "two"]`; an empty text is an empty list."""
