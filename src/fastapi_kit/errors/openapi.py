"""The problems of each route in the OpenAPI document."""

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter

from fastapi_kit._fastapi import Route, routes_of
from fastapi_kit.errors.problem import Problem
from fastapi_kit.errors.raises import problems_of
from fastapi_kit.errors.render import MEDIA_TYPE

__all__ = ["document_problems"]

_REF = "#/components/schemas/"
_STOCK_SCHEMAS = ("HTTPValidationError", "ValidationError")

_PROBLEM = {
    "title": "Problem",
    "description": "An error (RFC 9457). `code` is stable; branch on it, not on the prose.",
    "type": "object",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
    },
}
_VALIDATION_PROBLEM = {
    "title": "ValidationProblem",
    "description": "Where the request is wrong: each error has `pointer` (RFC 6901, in the body), or `in` and `name`.",
    "allOf": [{"$ref": _REF + "Problem"}],
    "type": "object",
    "required": ["errors"],
    "properties": {
        "code": {"const": "validation_error"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail", "code"],
                "properties": {
                    "detail": {"type": "string"},
                    "code": {"type": "string"},
                    "pointer": {"type": "string"},
                    "in": {"enum": ["path", "query", "header", "cookie", "form"]},
                    "name": {"type": "string"},
                },
            },
        },
    },
}


def document_problems(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """Return an `openapi` method for the app that documents what each route can answer with.

    On every operation: `default`, any problem; where there is a body or a parameter, the 422 in our shape in place
    of FastAPI's; and, on exactly the routes that use them, the problems declared with `raises`.
    """
    generate = app.openapi
    done: dict[str, Any] | None = None

    def openapi() -> dict[str, Any]:
        nonlocal done
        schema = generate()  # FastAPI caches it, and makes a new one after a route was added
        if schema is not done:
            _rewrite(schema, routes_of(app))
            done = schema
        return schema

    return openapi


def _rewrite(schema: dict[str, Any], routes: Iterable[Route]) -> None:
    schemas: dict[str, Any] = schema.setdefault("components", {}).setdefault("schemas", {})
    paths: dict[str, Any] = schema["paths"]
    schemas["Problem"] = _PROBLEM
    for operation in (operation for path in paths.values() for operation in path.values()):
        responses = operation["responses"]
        if "HTTPValidationError" in str(responses.get("422")):
            responses["422"] = _response("The request is not valid", _REF + "ValidationProblem")
            schemas["ValidationProblem"] = _VALIDATION_PROBLEM
        responses.setdefault("default", _response("Any other problem", _REF + "Problem"))
    for route in routes:
        kinds = {
            kind: None
            for dependency in route.dependencies
            for kind in problems_of(dependency.call, scoped=dependency.is_scoped)
        }
        for method in route.methods:
            operation = paths.get(route.path, {}).get(method.lower())
            if operation is not None:  # else it is not in the schema
                _add_problems(operation["responses"], kinds, schemas)
    for name in _STOCK_SCHEMAS:
        if f'"{_REF}{name}"'.replace('"', "'") not in str(schema):
            schemas.pop(name, None)


def _add_problems(responses: dict[str, Any], kinds: Iterable[type[Problem]], schemas: dict[str, Any]) -> None:
    by_status: dict[str, list[type[Problem]]] = {}
    for kind in kinds:
        by_status.setdefault(str(kind.status), []).append(kind)
        schemas.setdefault(kind.__name__, _schema_of(kind, schemas))
    for status, same in by_status.items():
        refs = [{"$ref": _REF + kind.__name__} for kind in same]
        if status == "422" and "ValidationProblem" in str(responses.get("422")):
            refs.insert(0, {"$ref": _REF + "ValidationProblem"})
        description = "; ".join(dict.fromkeys(kind.title for kind in same))
        added = {
            "description": description,
            "content": {MEDIA_TYPE: {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}},
        }
        # What the application wrote about this status stays.
        responses[status] = added if status == "422" else {**added, **responses.get(status, {})}


def _schema_of(kind: type[Problem], schemas: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {"code": {"const": kind.code}}
    for name, annotation in kind.extension_types().items():
        member = TypeAdapter(annotation).json_schema(mode="serialization", ref_template=_REF + "{model}")
        schemas.update(member.pop("$defs", {}))
        properties[name] = member
    return {
        "title": kind.title,
        "description": (kind.__doc__ or kind.title).strip().split("\n")[0],
        "allOf": [{"$ref": _REF + "Problem"}],
        "type": "object",
        "required": ["code", *kind.extension_types()],
        "properties": properties,
    }


def _response(description: str, ref: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": {"$ref": ref}}}}
