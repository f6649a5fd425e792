"""A password that is worth hashing."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SecretStr
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from fastapi_kit.errors import ConfigurationError

__all__ = ["PasswordPolicy", "StrongPassword"]

_WORDS = """
abc access admin administrator adminadmin azerty baseball batman changeit changeme charlie chocolate
computer correcthorsebatterystaple default donald dragon flower football freedom guest hello hellohello
hunter iloveyou ilovemyself internet letmein letmeinnow liverpool login loginlogin lovely loveyou master
michael monkey mypassword ninja nopassword passphrase passw passwd password passwordpassword passwort
pokemon princess qazwsx qazwsxedc root rootroot samsung secret secretsecret shadow solo starwars summer
sunshine superman superuser temporary test testing testtest thisisapassword trustno user welcome
welcomewelcome whatever winter yourpassword
"""
"""What is left of often used passwords without all but their letters: `Password2024!!` is `password`."""

_COMMON = frozenset(_WORDS.split())

_KEYBOARDS = ("qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm", "azertyuiopqsdfghjklmwxcvbn")
_LEAST_CHARACTERS = 6
_LEAST_STEPS = 4


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """Say what a new password must be, as `Annotated[SecretStr, PasswordPolicy(min_length=16)]`.

    Length, and none of the passwords that are tried first: no common word under digits and
    punctuation, no row of a keyboard, no repetition, no sequence. There is no rule about
    capitals and digits, which NIST SP 800-63B, section 3.1.1.2 advises against. It does not look
    passwords up in lists of leaked ones, and does not compare them with the user's name.

    For new passwords only: at a login `SecretStr` is right, or a change of policy locks people out.

    `min_length`: characters, 8 or more. `max_length`: characters, which bounds the work of
    hashing, `min_length` to 1024. `forbidden`: words in small letters that are refused as common
    ones are, the name of your service for one.

    Raises `ConfigurationError` when the lengths contradict that. A client is answered 422 with
    the type `password_too_short`, `password_too_long`, `password_too_simple` or
    `password_too_common`. Security: no message and no repr holds the password.
    """

    min_length: int = 12
    max_length: int = 128
    forbidden: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 8 <= self.min_length <= self.max_length <= 1024:
            raise ConfigurationError(
                f"min_length={self.min_length} must be 8 or more and at most max_length={self.max_length},"
                " and max_length at most 1024"
            )

    def check(self, password: SecretStr) -> SecretStr:
        """Return the password, or raise `PydanticCustomError` saying what it lacks."""
        text = password.get_secret_value()
        if len(text) < self.min_length:
            message = "Password should have at least {min_length} characters"
            raise PydanticCustomError("password_too_short", message, {"min_length": self.min_length})
        if len(text) > self.max_length:
            message = "Password should have at most {max_length} characters"
            raise PydanticCustomError("password_too_long", message, {"max_length": self.max_length})
        # neighbours that are always as far apart are a sequence or a repetition: 1234, abab
        steps = {ord(after) - ord(before) for before, after in pairwise(text)}
        if len(set(text)) < _LEAST_CHARACTERS or len(steps) < _LEAST_STEPS:
            raise PydanticCustomError("password_too_simple", "Password should not be a repetition or a sequence")
        letters = "".join(filter(str.isalpha, text.casefold()))
        on_keyboard = letters and any(letters in row for row in _KEYBOARDS)
        if on_keyboard or letters in _COMMON or letters in self.forbidden:
            raise PydanticCustomError("password_too_common", "Password should not be one that is often used")
        return password

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"minLength": self.min_length, "maxLength": self.max_length}


StrongPassword = Annotated[SecretStr, PasswordPolicy()]
"""A new password under the default policy: 12 to 128 characters and none of those tried first."""
