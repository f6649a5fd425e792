"""What a problem looks like, for those who read of it before it happens."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from fastapi_kit.errors.problem import Problem
from fastapi_kit.errors.render import Renderer

__all__ = ["example_of", "extension_schemas", "plain_example", "validation_example"]

_ID = "5f0c8e2a9b7d41c6a3e81d20f4b7690c"
_VALIDATION_ERROR = {"detail": "Input should be greater than 0", "code": "greater_than", "pointer": "/items/0/quantity"}
_SAMPLES = {"string": "string", "integer": 0, "number": 0, "boolean": False, "array": []}


def plain_example(renderer: Renderer, status: int, code: str, title: str) -> dict[str, Any]:
    """Return the body of a problem without extensions."""
    return {**renderer.members(status, code, title), "request_id": _ID}


def validation_example(renderer: Renderer) -> dict[str, Any]:
    """Return the body of a 422."""
    example = plain_example(renderer, 422, "validation_error", "The request is not valid")
    return {**example, "errors": [_VALIDATION_ERROR]}


def extension_schemas(kind: type[Problem], ref: str = "#/$defs/") -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each extension member by name; `ref` is where its models are to be looked for."""
    return {
        name: TypeAdapter(annotation).json_schema(mode="serialization", ref_template=ref + "{model}")
        for name, annotation in kind.extension_types().items()
    }


def example_of(
    kind: type[Problem], renderer: Renderer, extensions: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Return a body of this kind; `extensions` are its `extension_schemas`."""
    example = plain_example(renderer, kind.status, kind.code, kind.title)
    for name, schema in (extensions or {}).items():
        example |= _sample(kind, name, schema)
    return example


def _sample(kind: type[Problem], name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an extension for an example: of its annotation, its default, or the plainest of its type; or none."""
    if "examples" in schema:
        return {name: schema["examples"][0]}
    if hasattr(kind, name):
        return {name: to_jsonable_python(getattr(kind, name), serialize_unknown=True)}
    return {name: _SAMPLES[schema["type"]]} if schema.get("type") in _SAMPLES else {}
