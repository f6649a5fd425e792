"""Which environment variables a settings class reads, and which it was given for nothing."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from os import PathLike
from pathlib import PurePath
from typing import Any, get_args

from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo

from fastapi_kit.errors import ConfigurationError, needs_extra

with needs_extra("settings"):
    from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource, SecretsSettingsSource
    from pydantic_settings.sources import PydanticBaseSettingsSource

__all__ = ["Variables", "lenient"]

_NAME = re.compile(r"[A-Za-z0-9_]{1,100}")
_OF_KUBERNETES = re.compile(
    r"(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)", re.IGNORECASE
)
_FOR_SOURCES = frozenset(
    {"case_sensitive", "env_prefix", "env_prefix_target", "env_nested_delimiter", "env_nested_max_split"}
)
_FOR_FILES = frozenset({"env_file", "env_file_encoding", "env_file_depth"})


class _Lenient(PydanticBaseSettingsSource):
    """Leave what is not JSON to the validation, which knows of all that is wrong, and not of the first alone."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            return value


class _LenientEnvironment(_Lenient, EnvSettingsSource):
    pass


class _LenientFile(_Lenient, DotEnvSettingsSource):
    pass


class _LenientSecrets(_Lenient, SecretsSettingsSource):
    pass


_LENIENT: dict[type, type[_Lenient]] = {
    EnvSettingsSource: _LenientEnvironment,
    DotEnvSettingsSource: _LenientFile,
    SecretsSettingsSource: _LenientSecrets,
}


def lenient(source: PydanticBaseSettingsSource) -> PydanticBaseSettingsSource:
    """Return a source that passes on a value that is not JSON; the same one where it is of another kind."""
    kind = _LENIENT.get(type(source))
    if kind is None:
        return source
    twin = kind.__new__(kind)
    vars(twin).update(vars(source))
    return twin


class Variables:
    """The variables of one settings class under the options that `pydantic_settings` was called with.

    Raises `ConfigurationError` for an env file in another encoding.
    """

    def __init__(self, settings: type[BaseModel], options: Mapping[str, Any]) -> None:
        given = {name.removeprefix("_"): value for name, value in options.items() if name.startswith("_")}
        of_sources = {name: value for name, value in given.items() if name in _FOR_SOURCES}
        of_files = {name: value for name, value in given.items() if name in _FOR_FILES}
        kind: Any = settings
        self._environment = EnvSettingsSource(kind, **of_sources)
        try:
            self._file = DotEnvSettingsSource(kind, **of_sources, **of_files)
        except UnicodeDecodeError:
            encoding = given.get("env_file_encoding") or kind.model_config.get("env_file_encoding") or "UTF-8"
            raise ConfigurationError(f"the env file is not {encoding}: save it so, and load again") from None
        self._folder = given.get("secrets_dir", kind.model_config.get("secrets_dir"))
        self._settings = settings
        self._delimiter = self._environment.env_nested_delimiter or ""

    def places(self, path: tuple[int | str, ...]) -> str:
        """Return where the variable of a field can be set, in words."""
        places = ["in the environment", *(["in the env file"] if self._file.env_file else [])]
        name = self.name_of(path)
        # Of what is inside of a variable, a file holds the whole as JSON, which is not what is missing.
        if self._folder is not None and len(path) == 1 and name == self.needed(path):
            folders = [self._folder] if isinstance(self._folder, str | PathLike) else self._folder
            file = name if self._environment.case_sensitive else name.lower()
            places += [f"in the file {PurePath(folder) / file}" for folder in folders]
        return " or ".join(places)

    def name_of(self, path: tuple[int | str, ...]) -> str:
        """Return the variable of a field, as people write it; what is inside of its JSON comes after `at`.

        An entry of a list is counted from 1, as people do who wrote it between commas.

        Names that only the value gives, keys of a dict for one, are left out: they may be part of a secret.
        """
        below = list(path)
        name = ""
        model: type[BaseModel] | None = self._settings
        while below and model is not None:
            found = _field(model, str(below[0]))
            if found is None or (name and not self._delimiter):
                break
            field_name, field = found
            name += (self._delimiter if name else "") + (
                _keys(field_name, field)[0] if name else self._written(field_name, field)[0]
            )
            model = next(iter(_models(field.annotation)), None)
            del below[0]
        inside = ".".join(str(step) for step in below if isinstance(step, int) or (model and _field(model, step)))
        if name and len(below) == 1 and isinstance(below[0], int):
            return f"entry {below[0] + 1} of {self._display(name)}"
        return self._display(name) + (f" at {inside}" if inside and name else "")

    def needed(self, path: tuple[int | str, ...]) -> str:
        """Return the variables to set for a field that is missing: of a nested model those that it needs."""
        name, model = self.name_of(path), self._settings
        for step in path:
            found = _field(model, str(step))
            nested = list(_models(found[1].annotation)) if found else []
            if not (nested and self._delimiter):
                return name
            model = nested[0]
        keys = [_keys(inner, field)[0] for inner, field in model.model_fields.items() if field.is_required()]
        return " and ".join(name + self._display(self._delimiter + key) for key in keys) or name

    def unknown(self) -> Iterator[tuple[str, str | None]]:
        """Yield each variable with the prefix that no field reads, and what may have been meant.

        Those that Kubernetes sets for services with such a name are left out.
        """
        prefix = self._fold(self._environment.env_prefix)
        if not prefix:
            return
        known, open_prefixes = set[str](), set[str]()
        for name, field in self._settings.model_fields.items():
            for written in self._written(name, field):
                self._collect(written, field, known, open_prefixes, depth=0)
        for variable, value in {**self._file.env_vars, **self._environment.env_vars}.items():
            rest = variable.removeprefix(prefix)
            is_ours = (
                variable in known
                or not variable.startswith(prefix)
                or variable.startswith(tuple(open_prefixes))
                or _OF_KUBERNETES.fullmatch(rest) is not None
                or (rest.upper().endswith("PORT") and re.match(r"(?:tcp|udp|sctp)://", value or "") is not None)
            )
            if not is_ours and _NAME.fullmatch(variable):
                names = {name.removeprefix(prefix): name for name in known}
                meant = get_close_matches(rest, names, n=1, cutoff=0.7)
                yield self._display(variable), self._display(names[meant[0]]) if meant else None

    def _collect(self, name: str, field: FieldInfo, known: set[str], open_prefixes: set[str], *, depth: int) -> None:
        known.add(self._fold(name))
        if not self._delimiter:
            return
        models = list(_models(field.annotation))
        if not models or depth > 8:  # of a dict, whose keys anybody may choose; or a model within itself
            open_prefixes.add(self._fold(name + self._delimiter))
            return
        for model in models:
            for inner, inner_field in model.model_fields.items():
                for key in _keys(inner, inner_field):
                    self._collect(name + self._delimiter + key, inner_field, known, open_prefixes, depth=depth + 1)

    def _written(self, name: str, field: FieldInfo) -> list[str]:
        target = self._environment.env_prefix_target
        prefix = self._environment.env_prefix
        keys = _keys(name, field)
        return [(prefix if target == "all" or (target == "alias") == (key != name) else "") + key for key in keys]

    def _fold(self, name: str) -> str:
        return name if self._environment.case_sensitive else name.lower()

    def _display(self, name: str) -> str:
        return name if self._environment.case_sensitive else name.upper()


def _keys(name: str, field: FieldInfo) -> list[str]:
    """Return the names by which a field is read, the first one first."""
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias] if alias is not None else [name]
    return [str(choice.path[0]) if isinstance(choice, AliasPath) else choice for choice in choices]


def _field(model: type[BaseModel], step: str) -> tuple[str, FieldInfo] | None:
    for name, field in model.model_fields.items():
        if step == name or step in _keys(name, field):
            return name, field
    return None


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
