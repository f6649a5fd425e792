"""What clients send and what they get back, kept apart so that neither leaks into the other."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError, PydanticUndefined

from fastapi_kit.schemas._lookalikes import Value, find_lookalikes
from fastapi_kit.schemas.types import UTCDateTime

__all__ = [
    "CAMEL_CASE",
    "CreateModel",
    "InputModel",
    "OutputModel",
    "ReadModel",
    "Timestamps",
    "UpdateModel",
]

CAMEL_CASE = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)
"""For `model_config = CAMEL_CASE` in any model: `created_at` is `createdAt` in JSON, read by either name."""


class InputModel(BaseModel):
    """Base of what a client sends: refuses what would be misread, and takes the rest as usual.

    Refused are members that are not declared, NaN and infinities, `true` and `false` in place
    of a number (`false` is not 0), and the NUL character in any string, which PostgreSQL cannot
    store. Text that holds a number, a date or a UUID is still read as one: Pydantic's `strict`
    would refuse those too. Nested models have to be InputModels themselves.

    A JSON object that has a member twice is read as if only the last were there, which RFC 8259,
    section 4 permits: whoever checks the body before the API, a gateway for one, must read it
    likewise.

    Errors are a 422 as usual. Security: the text of a ValidationError holds no input, so that
    it can be logged; its `errors()` do.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_lookalikes(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        model = handler(data)
        flaws = find_lookalikes(_values(model, data if isinstance(data, Mapping) else {}))
        if flaws:
            raise ValidationError.from_exception_data(cls.__name__, flaws)
        return model


def _values(model: BaseModel, data: Mapping[str, Any]) -> Iterator[Value]:
    """Yield each field that was set: where in `data`, as it is there, as it was read."""
    for name, field in type(model).model_fields.items():
        if name in data:
            yield (name,), data[name], getattr(model, name)
        elif name in model.model_fields_set:
            yield *_aliased(name, field.validation_alias, data), getattr(model, name)


def _aliased(
    name: str, alias: str | AliasPath | AliasChoices | None, data: Mapping[str, Any]
) -> tuple[tuple[str | int, ...], Any]:
    choices: list[str | AliasPath] = []
    if alias is not None:
        choices += alias.choices if isinstance(alias, AliasChoices) else [alias]
    for choice in choices:
        path = choice if isinstance(choice, AliasPath) else AliasPath(choice)
        if (sent := path.search_dict_for_path(dict(data))) is not PydanticUndefined:
            return tuple(path.path), sent
    return (name,), None


class CreateModel(InputModel):
    """Base of what makes something new: its required fields have no default."""


def _drop_defaults(schema: dict[str, Any]) -> None:
    """Leave out `"default": null`: what is left out of an update stays as it is."""
    for field in schema.get("properties", {}).values():
        field.pop("default", None)


class UpdateModel(InputModel):
    """Base of a partial update (PATCH), which tells what was left out from what is null.

    Give every field the default None. One that may be left out but not be null is `Omittable`;
    `X | None` may be either.

    Set `allow_empty = False` for a 422 where nothing is set.

    >>> from fastapi_kit.schemas import Omittable, UpdateModel
    >>> class ItemUpdate(UpdateModel):
    ...     name: Omittable[str] = None
    ...     note: str | None = None
    >>> ItemUpdate.model_validate({"note": None}).changes()
    {'note': None}
    """

    allow_empty: ClassVar[bool] = True

    model_config: ClassVar[ConfigDict] = ConfigDict(json_schema_extra=_drop_defaults)

    def changes(self) -> dict[str, Any]:
        """Return what the client set, null included, by the names of the fields; empty if nothing."""
        return self.model_dump(exclude_unset=True)

    @model_validator(mode="after")
    def _refuse_empty(self) -> Self:
        if not (self.allow_empty or self.model_fields_set):
            raise PydanticCustomError("update_empty", "Set at least one field")
        return self


class OutputModel(BaseModel):
    """Base of what a client gets: its OpenAPI says that every field is always there."""

    model_config: ClassVar[ConfigDict] = ConfigDict(json_schema_serialization_defaults_required=True)


class ReadModel(OutputModel):
    """Base of what is read from rows and objects, by their attributes.

    Name each field that a client may see. What is not declared here stays behind, a password's
    hash for one.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(from_attributes=True)


class Timestamps(ReadModel):
    """Base or mixin of a read model with the time of its creation and of its last change."""

    created_at: UTCDateTime
    updated_at: UTCDateTime
