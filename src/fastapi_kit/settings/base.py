"""The base of a service's settings."""

import logging
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Any, ClassVar, Literal, Self

from pydantic import ValidationError, ValidatorFunctionWrapHandler, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError, PydanticUseDefault, SchemaError

from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.errors.secrets import REMEDY
from fastapi_kit.errors.validation import describe
from fastapi_kit.settings.display import shown
from fastapi_kit.settings.types import SecretPolicy
from fastapi_kit.settings.variables import Variables, lenient

with needs_extra("settings"):
    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

__all__ = ["ServiceSettings"]

_log = logging.getLogger("fastapi_kit.settings")

_OWN_WORDS = frozenset({"weak_secret", "secret_url", "comma_separated", "crash"})
"""Types of errors whose text goes on from the name of the variable."""
_OWN_SENTENCES = frozenset({"origin", "host", "configuration"})
_EMPTY = frozenset({"weak_secret", "secret_url", "string_too_short"})
"""Types of errors that for an empty text say less than that it is empty; those of parsing and of JSON do so too."""
_JSON = frozenset(
    {"list_type", "set_type", "tuple_type", "frozen_set_type", "dict_type", "model_type", "dataclass_type"}
)


class ServiceSettings(BaseSettings):
    """Read the settings of a service from its environment, and say all that is wrong with them at once.

        class Settings(ServiceSettings, env_prefix="SHOP_"):
            secret_key: Secret
            database_url: SecretURL = SecretURL("sqlite+aiosqlite:///./shop.db")

        settings = Settings.load()

    It is a `BaseSettings` of pydantic-settings, with all that belongs to it: aliases, nested models
    (`env_nested_delimiter`), files of secrets (`secrets_dir`), other sources. Four things differ: defaults are
    validated too; an instance cannot be changed; a keyword argument that is no setting is refused; what an env file has
    beyond the settings is no error. Such a file is read only if the class asks for it (`env_file=".env"`), so that the
    folder in which a process happens to start does not change what it does.

    Raises `ConfigurationError` with a line for each variable that is missing or wrong, by the name that it has in the
    environment. `unknown_variables` says what becomes of a variable with the prefix that no field reads, a slip of the
    pen mostly: `"warn"` logs it on `fastapi_kit.settings`, `"error"` refuses to start, `"ignore"` says nothing. Without
    a prefix nothing is known to be meant for the service, and nothing is reported.

    A validator may raise anything: what is no `ValueError` is reported by the name of its class, since its text may be
    the value (`KeyError` shows what was looked up). That of a `ConfigurationError` is passed on.

    Security: no error, repr or log shows a value. A repr leaves out, besides secrets, what is named like one and what
    looks like a URL with a password; `model_dump` does so for `Secret`, `SecretStr` and `SecretURL` alone.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True, dotenv_filtering="only_existing"
    )

    unknown_variables: ClassVar[Literal["warn", "error", "ignore"]] = "warn"

    def __init__(self, **values: Any) -> None:
        unknown: list[str] = []
        wrong: list[str] = []
        try:
            variables = Variables(type(self), values)
            unknown = [] if self.unknown_variables == "ignore" else [_unread(*one) for one in variables.unknown()]
            try:
                super().__init__(**values)
            except ValidationError as exc:
                wrong = [_line(type(self), error, variables, values) for error in exc.errors(include_url=False)]
        except SettingsError:  # of a source that is not the environment, or whose folder is none
            wrong = ["a source of settings could not be read: see that its files are there and in their format"]
        except ConfigurationError as exc:
            wrong = [str(exc)]
        except Exception as exc:  # noqa: BLE001 (of a model validator, a default_factory, a source: its text may be a value)
            wrong = [f"{type(exc).__name__} was raised where no variable can be told: mend this first"]
        # Raised here, where no cause that quotes a value comes with it.
        if wrong or (unknown and self.unknown_variables == "error"):
            lines = list(dict.fromkeys([*wrong, *unknown]))
            raise ConfigurationError("\n  ".join([f"{type(self).__name__} cannot be loaded:", *lines]))
        for line in unknown:
            _log.warning(line)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # One for each class, by another name, since those of a parent run before the validators of the class.
        name = f"_guard_{cls.__module__}_{cls.__qualname__}"
        setattr(cls, name, field_validator("*", mode="wrap")(_guard))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in their order: arguments, environment, env file, files of secrets."""
        return init_settings, lenient(env_settings), lenient(dotenv_settings), lenient(file_secret_settings)

    @classmethod
    def load(cls, **values: Any) -> Self:
        """Return the settings; the same as `Settings()`, which type checkers take for a call that lacks arguments."""
        return cls(**values)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):  # the error of pydantic shows the value
            raise AttributeError(
                f"`{name}` is a setting, and settings do not change: make others, with `load({name}=...)`"
            )
        super().__setattr__(name, value)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, field in type(self).model_fields.items():
            if field.repr:
                yield name, shown(name, getattr(self, name))


def _guard(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Turn what pydantic does not take for a wrong value into one, so that the others are reported as well."""
    try:
        return handler(value)
    except SchemaError:  # what the handler makes of `PydanticUseDefault`
        raise PydanticUseDefault from None
    except (ValueError, AssertionError):
        raise
    except ConfigurationError as exc:
        kind, reason = "configuration", str(exc)
    except Exception as exc:  # noqa: BLE001 (whatever it is, its text may be the value)
        kind, reason = "crash", f"is refused: its validator raised {type(exc).__name__}"
    raise PydanticCustomError(kind, "{reason}", {"reason": reason})


def _line(
    settings: type[ServiceSettings], error: ErrorDetails, variables: Variables, arguments: Collection[str]
) -> str:
    """Say what is wrong with one setting, and what to do, in a line without its value."""
    path, kind = error["loc"], error["type"]
    field = settings.model_fields.get(str(path[0])) if path else None
    is_argument = bool(path) and path[0] in arguments
    if kind == "extra_forbidden" and len(path) == 1:
        return _unread(f"the argument `{path[0]}`", _meant(str(path[0]), settings))
    remedy = f"; {REMEDY}" if field and any(isinstance(part, SecretPolicy) for part in field.metadata) else ""
    if kind == "missing":
        return f"{variables.needed(path)} is missing: set it {variables.places(path)}{remedy}"
    name = f"the argument `{path[0]}`" if is_argument else variables.name_of(path) or settings.__name__
    if field and not is_argument and error["input"] is field.default:
        name += " is not set, and its default"
    if error["input"] == "" and (kind in _EMPTY | _JSON or kind.endswith("_parsing")):
        return f"{name} is empty{remedy}"
    if kind in _OWN_WORDS:
        return f"{name} {error['msg']}"
    detail = error["msg"] if kind in _OWN_SENTENCES else describe([error], None)[0]["detail"]
    return f"{name}: {detail}" + (", written as JSON" if kind in _JSON else "")


def _meant(name: str, settings: type[ServiceSettings]) -> str | None:
    close = get_close_matches(name, settings.model_fields, n=1, cutoff=0.75)
    return f"`{close[0]}`" if close else None


def _unread(name: str, meant: str | None) -> str:
    return f"{name} is set, but no setting reads it" + (f": did you mean {meant}?" if meant else "")
