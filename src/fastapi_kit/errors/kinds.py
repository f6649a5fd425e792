"""What there is to say about a kind of problem, for its page and for its section in a manual."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from pydantic.errors import PydanticUserError
from pydantic_core import to_json

from fastapi_kit._fastapi import routes_of
from fastapi_kit.errors.declaration import problems_of
from fastapi_kit.errors.examples import example_of, extension_schemas, plain_example, validation_example
from fastapi_kit.errors.problem import Problem, catalogue, code_of, phrase_of
from fastapi_kit.errors.render import Renderer
from fastapi_kit.errors.standard import BadRequestError, NotFoundError

__all__ = ["Kind", "describe_kind", "general_kinds", "kind_of_app", "kinds_of_app", "phrase_kinds", "remember_renderer"]

_TEXTS = {
    405: "Answer 405: the resource does not have this method. The header `Allow` names those that it has.",
    413: "Answer 413: the body of the request is larger than the service takes.",
    500: "Answer 500: something went wrong in the service. Its log has the cause, under the request id.",
}
_ERRORS = {"errors": "array of object: what is wrong, each with `detail` and `code`, and `pointer` or `in` and `name`"}
_NO_PHRASE = "error"
_INVALID = "validation_error"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem; `text` and what is said of headers may have code in backticks."""

    code: str
    status: int | None
    title: str
    text: str
    example: Mapping[str, Any]
    extensions: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def status_line(self) -> str:
        """Return the status with its phrase."""
        return "any without a registered phrase" if self.status is None else f"{self.status} {phrase_of(self.status)}"

    @property
    def example_json(self) -> str:
        """Return the example as it is to be shown."""
        return to_json(self.example, indent=2, inf_nan_mode="null", serialize_unknown=True).decode()


def describe_kind(kind: type[Problem], renderer: Renderer) -> Kind:
    """Return what a class says of itself: the first paragraph of its docstring, its extensions and headers."""
    try:
        schemas = extension_schemas(kind)
        extensions = {name: _type_in_words(schema) for name, schema in schemas.items()}
    except (PydanticUserError, NameError):  # of a type that has no schema, or is not there at run time
        schemas, extensions = {}, {}
    text = " ".join(inspect.cleandoc(kind.__doc__ or kind.title).split("\n\n")[0].split())
    example = example_of(kind, renderer, schemas)
    return Kind(kind.code, kind.status, kind.title, text, example, extensions, kind.response_headers)


def general_kinds(renderer: Renderer) -> Iterator[Kind]:
    """Yield the kinds that any app answers with, whatever its routes declare."""
    yield describe_kind(BadRequestError, renderer)
    yield describe_kind(NotFoundError, renderer)
    yield from (_of_a_status(status, renderer) for status in _TEXTS)
    yield _invalid(renderer)


def phrase_kinds(renderer: Renderer) -> Iterator[Kind]:
    """Yield the kinds that have the code of their status and no class: of an `HTTPException`, for one."""
    yield from (_of_a_status(status, renderer) for status in range(400, 600) if code_of(status) != _NO_PHRASE)
    yield _of_no_phrase(renderer)


def kinds_of_app(app: FastAPI) -> list[Kind]:
    """Return the kinds that the routes of the app declare, and those that any app has, by status."""
    document = app.openapi()  # FastAPI makes a new one after a route was added
    listed: tuple[Any, list[Kind]] | None = vars(app).get(_LISTED)
    if listed is None or listed[0] is not document:
        kinds = {kind.code: kind for kind in general_kinds(_renderer_of(app))}
        kinds |= {kind.code: _described(app, kind) for kind in _declared(app)}
        listed = document, sorted(kinds.values(), key=lambda kind: (kind.status or 0, kind.code))
        vars(app)[_LISTED] = listed
    return listed[1]


def kind_of_app(app: FastAPI, code: str) -> Kind | None:
    """Return the kind with this code, also one that no route declares; None if there is none."""
    renderer = _renderer_of(app)
    for kind in catalogue():
        if kind.code == code != Problem.code:
            return _described(app, kind)
    if code == _INVALID:
        return _invalid(renderer)
    if code == _NO_PHRASE:
        return _of_no_phrase(renderer)
    return next((_of_a_status(status, renderer) for status in range(400, 600) if code_of(status) == code), None)


_RENDERER = "_fastapi_kit_renderer"


def remember_renderer(app: FastAPI, renderer: Renderer) -> None:
    """Keep what writes the problems of this one app, so that the examples are like them."""
    vars(app)[_RENDERER] = renderer


def _renderer_of(app: FastAPI) -> Renderer:
    renderer: Renderer | None = vars(app).get(_RENDERER)
    return renderer or Renderer()


def _declared(app: FastAPI) -> Iterable[type[Problem]]:
    kinds = {
        kind: None  # once, on however many routes
        for route in routes_of(app, mounted=True)
        for dependency in route.dependencies
        for kind in problems_of(dependency.call, scoped=dependency.is_scoped)
    }
    # Not the base of others, whose docstring is for those who write them.
    return (kind for kind in kinds if kind.code != Problem.code)


_KINDS = "_fastapi_kit_kinds"
_LISTED = "_fastapi_kit_kinds_listed"


def _described(app: FastAPI, kind: type[Problem]) -> Kind:
    """Describe a kind once: anybody may ask for the pages, and a schema takes its time."""
    known: dict[type[Problem], Kind] = vars(app).setdefault(_KINDS, {})
    if kind not in known:
        known[kind] = describe_kind(kind, _renderer_of(app))
    return known[kind]


def _of_no_phrase(renderer: Renderer) -> Kind:
    text = "The status says what there is to say."
    return Kind(_NO_PHRASE, None, "Error", text, plain_example(renderer, 599, _NO_PHRASE, "Error"))


def _invalid(renderer: Renderer) -> Kind:
    text = "Answer 422: the request is not what the operation takes. `errors` says where, and what was expected."
    return Kind(_INVALID, 422, "The request is not valid", text, validation_example(renderer), _ERRORS)


def _of_a_status(status: int, renderer: Renderer) -> Kind:
    phrase = phrase_of(status)
    text = _TEXTS.get(status, f"Answer {status}: the status says what there is to say.")
    return Kind(code_of(status), status, phrase, text, plain_example(renderer, status, code_of(status), phrase))


def _type_in_words(schema: Mapping[str, Any]) -> str:
    words = _type(schema)
    return f"{words}: {schema['description']}" if "description" in schema and "$ref" not in schema else words


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema or "const" in schema:
        return " or ".join(to_json(value).decode() for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(choice) for choice in schema["anyOf"]))
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))
