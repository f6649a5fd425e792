"""The problems of each route in the OpenAPI document."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastapi import FastAPI

from fastapi_kit._fastapi import Route, routes_of
from fastapi_kit.errors.declaration import problems_of
from fastapi_kit.errors.examples import example_of, extension_schemas, validation_example
from fastapi_kit.errors.problem import Problem
from fastapi_kit.errors.render import MEDIA_TYPE, Renderer
from fastapi_kit.errors.standard import BadRequestError

__all__ = ["document_problems"]

_REF = "#/components/schemas/"
_STOCK_SCHEMAS = ("HTTPValidationError", "ValidationError")

_PROBLEM: dict[str, Any] = {
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
_VALIDATION_PROBLEM: dict[str, Any] = {
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


def document_problems(app: FastAPI, renderer: Renderer) -> Callable[[], dict[str, Any]]:
    """Return an `openapi` method for the app that documents what each route can answer with.

    On every operation: `default`, any problem; where there is a body or a parameter, the 422 in our shape in place
    of FastAPI's; and, on exactly the routes that use them, the problems declared with `raises`, each with an example
    as `renderer` writes it.
    """
    generate = app.openapi
    done: dict[str, Any] | None = None

    def openapi() -> dict[str, Any]:
        nonlocal done
        schema = generate()  # FastAPI caches it, and makes a new one after a route was added
        if schema is not done:
            _Document(schema, renderer).add_problems(routes_of(app))
            done = schema
        return schema

    return openapi


class _Document:
    """An OpenAPI document of FastAPI's, to which the problems are added."""

    def __init__(self, document: dict[str, Any], renderer: Renderer) -> None:
        self._document = document
        self._paths: dict[str, Any] = document["paths"]
        self._schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
        self._renderer = renderer
        self._names: dict[type[Problem], str] = {}

    def add_problems(self, routes: Iterable[Route]) -> None:
        """Add the general ones to every operation, and to those of `routes` what they declare."""
        self._schemas["Problem"] = _PROBLEM | {"examples": [example_of(Problem, self._renderer)]}
        for operation in (operation for path in self._paths.values() for operation in path.values()):
            self._add_general(operation["responses"])
        for route in routes:
            kinds = {
                kind: None
                for dependency in route.dependencies
                for kind in problems_of(dependency.call, scoped=dependency.is_scoped)
            }
            for method in route.methods:
                operation = self._paths.get(route.path, {}).get(method.lower())
                if operation is not None:  # else it is not in the schema
                    if "requestBody" in operation and any(kind.status == 400 for kind in kinds):
                        kinds.setdefault(BadRequestError)  # the body that cannot be read is a 400 as well
                    self._add_declared(operation["responses"], kinds)
        for name in _STOCK_SCHEMAS:
            if f"'{_REF}{name}'" not in str(self._document):
                self._schemas.pop(name, None)

    def _add_general(self, responses: dict[str, Any]) -> None:
        if "HTTPValidationError" in str(responses.get("422")):
            responses["422"] = self._response("The request is not valid", ["ValidationProblem"])
            example = validation_example(self._renderer)
            self._schemas["ValidationProblem"] = _VALIDATION_PROBLEM | {"examples": [example]}
        responses.setdefault("default", self._response("Any other problem", ["Problem"]))

    def _add_declared(self, responses: dict[str, Any], kinds: Iterable[type[Problem]]) -> None:
        by_status: dict[str, list[type[Problem]]] = {}
        for kind in kinds:
            by_status.setdefault(str(kind.status), []).append(kind)
        for status, same in by_status.items():
            names = [self._name_of(kind) for kind in same]
            if status == "422" and "ValidationProblem" in str(responses.get("422")):
                names.insert(0, "ValidationProblem")
            added = self._response("; ".join(dict.fromkeys(kind.title for kind in same)), names)
            headers = {name: text for kind in same for name, text in kind.response_headers.items()}
            if headers:
                added["headers"] = {
                    name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()
                }
            # What the application wrote about this status stays.
            responses[status] = added if status == "422" else {**added, **responses.get(status, {})}

    def _name_of(self, kind: type[Problem]) -> str:
        if kind not in self._names:
            name = kind.__name__
            if name in self._schemas:  # a model of that name, or a problem of another module
                name += f"_{kind.code}"
            self._names[kind] = name
            self._schemas[name] = self._schema_of(kind)
        return self._names[kind]

    def _schema_of(self, kind: type[Problem]) -> dict[str, Any]:
        properties: dict[str, Any] = {"code": {"const": kind.code}}
        extensions = extension_schemas(kind, _REF)
        for name, member in extensions.items():
            self._schemas.update(member.pop("$defs", {}))
            properties[name] = member
        return {
            "title": kind.title,
            "description": (kind.__doc__ or kind.title).strip().split("\n")[0],
            "allOf": [{"$ref": _REF + "Problem"}],
            "type": "object",
            "required": ["code", *extensions],
            "properties": properties,
            "examples": [example_of(kind, self._renderer, extensions)],
        }

    def _response(self, description: str, names: Sequence[str]) -> dict[str, Any]:
        """Return a response of one of the named schemas; of several, each is shown by its example."""
        content: dict[str, Any] = {"schema": {"$ref": _REF + names[0]}}
        if len(names) > 1:
            content["schema"] = {"anyOf": [{"$ref": _REF + name} for name in names]}
            examples = [self._schemas[name]["examples"][0] for name in names]
            content["examples"] = {example["code"]: {"value": example} for example in examples}
        return {"description": description, "content": {MEDIA_TYPE: content}}
