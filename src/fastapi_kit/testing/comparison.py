"""One response beside an OpenAPI document: the comparison that `Contract` makes."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import quote

from starlette.types import Message

from fastapi_kit.errors import catalogue, needs_extra

with needs_extra("testing"):
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT202012

__all__ = ["Answer", "Comparison", "ContractError", "Document", "escaped"]

_GENERAL = {400: "bad_request", 413: "content_too_large", 415: "unsupported_media_type", 500: "internal_server_error"}
"""What any route may answer before or after its own code: a body that cannot be read, is too large or of a wrong type,
a crash. Nobody can declare these, so `default` stands for them. It stands for no others: a 404 or 405 of the router
belongs to no operation, and what answers 503 can declare it."""

_PROBLEM_TYPE = "application/problem+json"
_PROBLEM = "#/components/schemas/Problem"
_URI = "urn:openapi"
_MAX_MESSAGE = 300


class ContractError(AssertionError):
    """Say which response is not in the OpenAPI document, what is documented, and what to do."""


class Answer:
    """What an app sent: status, media type, whether there is a body, and a JSON body."""

    def __init__(self) -> None:
        self.status: int = 0
        self.media_type: str = ""
        self.is_head: bool = False
        self.has_body: bool = False
        self.is_readable: bool = False
        self.is_complete: bool = False
        self._text: bytes = b""

    def add(self, message: Message) -> None:
        """Take note of one message of the response."""
        if message["type"] == "http.response.start":
            headers = {name.lower(): value.decode("latin-1") for name, value in message.get("headers", ())}
            self.status = message["status"]
            self.media_type = headers.get(b"content-type", "").partition(";")[0].strip().lower()
            is_json = self.media_type == "application/json" or self.media_type.endswith("+json")
            self.is_readable = is_json and b"content-encoding" not in headers
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            self.has_body = self.has_body or bool(body)
            self.is_complete = not message.get("more_body", False)
            if self.is_readable:  # a stream is not, and may be endless
                self._text += body

    def forget_body(self) -> None:
        """Be the answer to HEAD, which has no body, whatever the app sends to the server."""
        self.is_head = True
        self.has_body = self.is_readable = False

    def json(self) -> Any:
        """Return the body; `ValueError` for what is no JSON, `NaN` included."""
        return json.loads(self._text, parse_constant=_refuse)


class Document:
    """An OpenAPI document, and the validators that were made of its schemas."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        resource: Resource[Any] = Resource.from_contents(content, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(_URI, resource)
        self._validators: dict[str, Draft202012Validator] = {}

    def at(self, pointer: str) -> Any:
        """Return what stands at a JSON pointer (RFC 6901)."""
        value: Any = self.content
        for token in pointer.removeprefix("#/").split("/"):
            value = value[int(token) if isinstance(value, list) else token.replace("~1", "/").replace("~0", "~")]
        return value

    def followed(self, pointer: str) -> str:
        """Return the place that a reference at a pointer names; the pointer where there is none."""
        return str(self.at(pointer).get("$ref", pointer))

    def has(self, pointer: str) -> bool:
        """Tell whether anything stands there."""
        try:
            self.at(pointer)
        except KeyError:
            return False
        return True

    def misfit(self, pointer: str, value: Any) -> str:
        """Return where and how a value breaks the schema at a pointer; empty if it fits."""
        if pointer not in self._validators:
            schema = {"$ref": _URI + quote(pointer, safe="#/~")}
            self._validators[pointer] = Draft202012Validator(schema, registry=self._registry)
        error = best_match(self._validators[pointer].iter_errors(value))
        return f"{error.json_path}: {error.message[:_MAX_MESSAGE]}" if error is not None else ""

    def codes(self, pointer: str) -> set[str] | None:
        """Return the codes that a schema of problems names; None if it allows any."""
        schema = self.at(pointer)
        if "$ref" in schema:
            return self.codes(schema["$ref"])
        for union in ("anyOf", "oneOf"):
            if union in schema:
                codes = [self.codes(f"{pointer}/{union}/{number}") for number in range(len(schema[union]))]
                return set[str]().union(*(some or () for some in codes)) if None not in codes else None
        code = schema.get("properties", {}).get("code", {}).get("const")
        return {code} if code is not None else None


class Comparison:
    """One response beside the document; raises `ContractError` where they differ."""

    def __init__(self, document: Document, answer: Answer, who: str) -> None:
        self._document = document
        self._answer = answer
        self._who = who
        self._body: Any = None
        self._is_read = answer.is_readable and answer.is_complete and answer.has_body
        if self._is_read:
            try:
                self._body = answer.json()
            except ValueError:
                self._fail(f"with a body that is not the {answer.media_type} it says it is")
        is_problem = answer.media_type == _PROBLEM_TYPE and isinstance(self._body, dict)
        self._code: str | None = self._body.get("code") if is_problem else None

    def with_operation(self, pointer: str) -> None:
        """Compare it with the responses of an operation."""
        responses: Mapping[str, Any] = self._document.at(pointer)
        status = self._answer.status
        key = next((key for key in (str(status), f"{status // 100}XX") if key in responses), None)
        codes = self._codes_at(f"{pointer}/{key}") if key is not None else set[str]()
        if codes is not None and self._code not in codes and self._is_general():
            key, codes = "default", None
            if key not in responses:
                return
        if key is None:
            self._fail(f"{self._name()}, the document lists {', '.join(sorted(responses))}", self._remedy())
        media_type = self._media_type_at(f"{pointer}/{key}")
        if self._is_read and media_type is not None:
            if codes is not None and self._code is not None and self._code not in codes:
                self._fail(f"{self._name()}, the document lists {', '.join(sorted(codes))} for {key}", self._remedy())
            self.with_schema(f"{self._document.followed(f'{pointer}/{key}')}/content/{escaped(media_type)}/schema")

    def with_schema(self, pointer: str) -> None:
        """Compare the body with a schema, if there is one."""
        misfit = self._document.misfit(pointer, self._body) if self._document.has(pointer) else ""
        if misfit:
            self._fail(f"with a body that does not fit its schema: {misfit}", "Mend the endpoint or its response_model")
        if self._code is not None and self._body.get("status") != self._answer.status:
            self._fail("with another status in the body", "Let the exception answer, not a handler of your own")

    def with_problem(self) -> None:
        """Compare it with the problem that `errors.install` makes of what no route answers."""
        if self._answer.media_type != _PROBLEM_TYPE:
            self._fail(f"with {self._answer.media_type or 'no media type'} and not with a problem")
        self.with_schema(_PROBLEM)

    def _is_general(self) -> bool:
        """Tell whether any route may answer so; without `errors.install` a 400 has no code that would tell."""
        status = self._answer.status
        if self._code is None:
            return status in _GENERAL and (status != 400 or not self._is_read)
        return self._code == _GENERAL.get(status)

    def _codes_at(self, pointer: str) -> set[str] | None:
        pointer = f"{self._document.followed(pointer)}/content/{escaped(_PROBLEM_TYPE)}/schema"
        return self._document.codes(pointer) if self._document.has(pointer) else None

    def _media_type_at(self, pointer: str) -> str | None:
        """Return the key of the response's media type; None if there is no body to look at."""
        answer = self._answer
        content: Mapping[str, Any] = self._document.at(self._document.followed(pointer)).get("content", {})
        declaration = f'responses={{{answer.status}: {{"content": {{"{answer.media_type or "text/plain"}": {{}}}}}}}}'
        if not content:
            if answer.has_body:
                self._fail("with a body, the document lists none", f"Send none, or add {declaration} to the route")
            return None
        if answer.is_head and not answer.media_type:
            return None
        if answer.is_readable and answer.is_complete and not answer.has_body:
            self._fail("without a body, the document has one", "Send it, or set response_class=Response on the route")
        keys = {key.partition(";")[0].strip().lower(): key for key in content}
        wanted = (answer.media_type, answer.media_type.partition("/")[0] + "/*", "*/*")
        listed = next((keys[key] for key in wanted if key in keys), None)
        if listed is None:
            self._fail(
                f"with {answer.media_type or 'no media type'}, the document lists {', '.join(content)}",
                f"Set response_class on the route, or add {declaration}",
            )
        return listed

    def _name(self) -> str:
        return f"with the code {self._code!r}" if self._code is not None else "there"

    def _remedy(self) -> str:
        status = self._answer.status
        if self._code is None:
            return f'Set status_code={status} on the route, or add responses={{{status}: {{"description": "..."}}}}'
        kind = next((kind.__name__ for kind in catalogue() if kind.code == self._code), "a Problem of your own")
        return f"Put @errors.raises({kind}) on the endpoint, or on the dependency that raises it"

    def _fail(self, difference: str, remedy: str = "Mend the endpoint") -> NoReturn:
        raise ContractError(f"{self._who} {difference}. {remedy}.")


def escaped(token: str) -> str:
    """Return a name as a part of a JSON pointer (RFC 6901, 3)."""
    return token.replace("~", "~0").replace("/", "~1")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
