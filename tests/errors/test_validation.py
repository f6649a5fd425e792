"""Pointers resolve in the body that was sent; nothing that was sent comes back."""

import json
import time
from base64 import b64encode
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from fastapi import Body, FastAPI, Form, Header, Query
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AnyUrl,
    Base64Str,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from starlette.testclient import TestClient

from fastapi_kit import errors
from fastapi_kit.schemas import InputModel, PasswordPolicy, ShortText


class Cat(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: dict[str, int]


class Node(BaseModel):
    value: int
    children: list["Node"] = []


class Versioned(BaseModel):
    version: Literal[1]
    size: int


class Unversioned(BaseModel):
    version: Literal[0]


class Tree(InputModel):
    a: "Tree | None" = None
    tags: list[str] = Field(default=[])


class Counts(InputModel):
    counts: dict[str, Tree] = Field(default={})
    name: str = ""
    limited: dict[int, int] = Field(default={})


def refuse_all(message: str) -> None:
    raise ValueError(message)


class Taken(InputModel):
    """Each field is refused with a text that holds what it was read as, in one form or another."""

    name: ShortText = ""
    number: int = 0
    id: UUID | None = None
    encoded: Base64Str = ""
    cut: str = ""
    email: str = ""
    asserted: str = ""
    password: Annotated[SecretStr | None, PasswordPolicy(min_length=8, max_length=20)] = None
    literal: str = ""
    helped: str = ""
    custom: str = ""
    limited: int = 0

    @field_validator("name", "number", "id", "encoded")
    @classmethod
    def _taken(cls, value: Any) -> Any:
        raise ValueError(f"{value} is taken")

    @field_validator("cut")
    @classmethod
    def _cut(cls, value: str) -> str:
        raise ValueError(f"{value[:6]!r} is a bad beginning, {value.upper()} too")

    @field_validator("email")
    @classmethod
    def _email(cls, value: str) -> str:
        raise PydanticCustomError("value_error", "no mail to {domain}", {"domain": value.partition("@")[2]})

    @field_validator("asserted")
    @classmethod
    def _asserted(cls, value: str) -> str:
        raise AssertionError(value)

    @field_validator("literal")
    @classmethod
    def _literal(cls, value: str) -> str:
        raise ValueError("Choose another one")

    @field_validator("helped")
    @classmethod
    def _helped(cls, value: str) -> str:
        refuse_all("Ask for help")
        return value

    @field_validator("custom")
    @classmethod
    def _custom(cls, value: str) -> str:
        raise PydanticCustomError("taken", "This one is taken")

    @field_validator("limited")
    @classmethod
    def _limited(cls, value: int) -> int:
        raise PydanticCustomError("too_many", "Order {le} at most", {"le": 5})


class Filters(BaseModel):
    model_config = ConfigDict(extra="forbid")
    page: int = 1


class Order(BaseModel):
    number: int = 0
    unit: Annotated[int, Field(alias="unit/price~eur")] = 0
    either: int | list[int] | None = None
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    Cat: dict[str, int] = {}
    document: Annotated[Versioned | Unversioned, Field(discriminator="version")] | None = None
    node: Node | None = None
    matrix: list[list[int]] = []
    id: UUID | None = None
    site: AnyUrl | None = None
    password: str = ""
    email: str = ""

    names: list[str] = []
    shouted: Annotated[list[int], BeforeValidator(lambda values: [f"{value}!" for value in values])] = []

    @field_validator("names")
    @classmethod
    def _short(cls, values: list[str]) -> list[str]:
        for value in values:
            assert len(value) < 4, f"{value} is long"
        return values

    @field_validator("password")
    @classmethod
    def _strong(cls, value: str) -> str:
        if value == "leak":
            raise ValueError(f"{value} is too weak")
        if value == "weak":
            raise ValueError("Choose a longer password")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "Order":
        assert self.email != "hunter2@x", f"{self.email} is banned"
        return self


app = FastAPI()
errors.install(app)


@app.post("/orders")
async def create(order: Order) -> None: ...


@app.post("/embedded")
async def embedded(order: Annotated[Order, Body(embed=True)]) -> None: ...


@app.post("/form")
async def form(age: Annotated[int, Form()]) -> None: ...


@app.post("/trees")
async def trees(tree: Tree) -> None: ...


@app.post("/counts")
async def counts(counts: Counts) -> None: ...


@app.post("/taken")
async def taken(taken: Taken) -> None: ...


@app.get("/filtered")
async def filtered(filters: Annotated[Filters, Query()]) -> None: ...


@app.get("/items/{item_id}")
async def items(item_id: int, limit: Annotated[int, Query()] = 1, x_n: Annotated[int, Header()] = 1) -> None: ...


client = TestClient(app)


def resolve(pointer: str, body: Any) -> Any:
    """Follow RFC 6901 to the letter."""
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        body = body[int(name)] if isinstance(body, list) else body[name]
    return body


def refuse(path: str, body: Any) -> list[dict[str, Any]]:
    response = client.post(path, json=body)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "validation_error"
    found: list[dict[str, Any]] = response.json()["errors"]
    return found


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"number": "x"}, "/number"),
        ({"unit/price~eur": "x"}, "/unit~1price~0eur"),
        ({"pet": {"kind": "cat", "lives": "x"}}, "/pet/lives"),
        ({"pet": {"kind": "cat", "lives": 9, "cat": 1}}, "/pet/cat"),
        ({"pet": {"kind": "dog", "tricks": {"dog": "x"}}}, "/pet/tricks/dog"),
        ({"pet": {"kind": "cow"}}, "/pet"),
        ({"document": {"version": 1, "size": "x"}}, "/document/size"),
        ({"pet": {"kind": "cat"}}, "/pet"),
        ({"matrix": [[1], [2, "x"]]}, "/matrix/1/1"),
        ({"node": {"value": 1, "children": [{"value": 2}, {"children": []}]}}, "/node/children/1"),
        ({"shouted": ["x"]}, "/shouted/0"),
        ([], ""),
        ("x", ""),
    ],
)
def test_a_pointer_resolves_to_the_value_or_to_the_parent_of_what_is_missing(body: Any, pointer: str) -> None:
    (error,) = refuse("/orders", body)
    assert error["pointer"] == pointer
    resolve(error["pointer"], body)


def test_each_branch_of_a_union_points_at_what_was_sent() -> None:
    body = {"either": ["x"]}
    assert {error["pointer"] for error in refuse("/orders", body)} == {"/either", "/either/0"}


def test_an_embedded_body_keeps_its_name_in_the_pointer() -> None:
    (error,) = refuse("/embedded", {"order": {"number": "x"}})
    assert error["pointer"] == "/order/number"


def test_deep_recursion_is_answered_quickly_and_points_to_the_end() -> None:
    body: dict[str, Any] = {"value": "x"}
    for _ in range(60):
        body = {"value": 1, "children": [body]}
    (error,) = refuse("/orders", {"node": body})
    assert error["pointer"] == "/node" + "/children/0" * 60 + "/value"


def send_as_json(path: str, body: bytes) -> list[dict[str, Any]]:
    begin = time.perf_counter()
    response = client.post(path, content=body, headers={"content-type": "application/json"})
    assert time.perf_counter() - begin < 2, "the event loop stood still"
    assert response.status_code == 422
    found: list[dict[str, Any]] = response.json()["errors"]
    return found


def test_a_name_that_comes_again_and_again_costs_no_time() -> None:
    body = b'{"a":' * 200 + b'{"tags":["\\u0000"]}' + b"}" * 200
    (error,) = send_as_json("/trees", body)
    assert (error["code"], error["pointer"]) == ("string_nul", "/a" * 200 + "/tags/0")
    assert resolve(error["pointer"], json.loads(body)) == "\0"
    leaf = b'{"tags":[' + b",".join([b'"\\u0000"'] * 150) + b"]}"
    found = send_as_json("/trees", b'{"a":' * 200 + leaf + b"}" * 200)
    assert {error["pointer"] for error in found} == {"/a" * 128}  # the parent that 256 characters can name


def test_an_error_without_its_input_is_not_taken_for_one_about_another_null() -> None:
    (error,) = refuse("/counts", {"counts": {"x": {"tags": ["\0"]}}, "name": "b"})
    assert error["pointer"] == "/counts/x/tags/0"
    (error,) = refuse("/trees", {"a": {"a": None, "tags": ["\0"]}, "tags": []})
    assert error["pointer"] == "/a/tags/0"
    (error,) = refuse("/counts", {"limited": {"1": True}})
    assert error["pointer"] == "/limited/1"


def test_the_names_of_a_request_do_not_come_back_a_hundred_times() -> None:
    body = {"counts": {"K" * 100_000: {str(number): 1 for number in range(100)}}}
    response = client.post("/counts", json=body)
    assert len(response.content) < 10_000
    assert {error["pointer"] for error in response.json()["errors"]} == {"/counts"}
    (error,) = client.get("/filtered?" + "K" * 30_000 + "=1").json()["errors"]
    assert (error["in"], error["name"]) == ("query", "K" * 25_600)


def test_parameters_have_in_and_name() -> None:
    response = client.get("/items/x?limit=y", headers={"x-n": "z"})
    assert [(error["in"], error["name"]) for error in response.json()["errors"]] == [
        ("path", "item_id"),
        ("query", "limit"),
        ("header", "x-n"),
    ]


def test_form_fields_have_in_and_name() -> None:
    (error,) = client.post("/form", data={"age": "x"}).json()["errors"]
    assert (error["in"], error["name"]) == ("form", "age")
    (error,) = client.post("/form", data={"other": "x"}).json()["errors"]
    assert (error["in"], error["name"], error["code"]) == ("form", "age", "missing")


def test_a_body_that_is_no_json_says_where() -> None:
    response = client.post("/orders", content=b'{"number": 1,}', headers={"content-type": "application/json"})
    (error,) = response.json()["errors"]
    assert (response.status_code, error["pointer"]) == (422, "")
    assert error["detail"].startswith("The body is not valid JSON at character 1")


def test_a_missing_body_is_an_error_of_the_whole() -> None:
    (error,) = client.post("/orders").json()["errors"]
    assert (error["code"], error["pointer"]) == ("missing", "")


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"id": "z8c1a1e0-secret"}, "z8c1"),
        ({"site": "s3cret value"}, "s3cret"),
        ({"pet": {"kind": "s3cret"}}, "s3cret"),
        ({"number": "s3cret"}, "s3cret"),
        ({"password": "leak"}, "leak"),
        ({"email": "hunter2@x"}, "hunter2"),
        ({"names": ["abc", "s3cret"]}, "s3cret"),
        ({"names": ["abc"] * 300 + ["s3cret"]}, "s3cret"),
        ({"number": {"a": ["s3cret", None, {"b": "s3cret"}]}}, "s3cret"),
    ],
)
def test_no_value_comes_back(body: Any, sent: str) -> None:
    response = client.post("/orders", json=body)
    assert response.status_code == 422
    assert sent not in response.text


@pytest.mark.parametrize(
    ("field", "value", "leaks"),
    [
        ("name", " s3cret value ", "s3cret"),
        ("name", "s3cret", "s3cret"),
        ("number", " 4242 ", "4242"),
        ("number", "0004242", "4242"),
        ("id", "550E8400E29B41D4A716446655440000", "550e8400"),
        ("encoded", b64encode(b"s3cret").decode(), "s3cret"),
        ("cut", "s3cret\n'value\"", "s3cret"),
        ("cut", "s3cret value", "S3CRET"),
        ("email", "ann@s3cret.example", "s3cret"),
        ("asserted", "s3cret", "s3cret"),
    ],
)
def test_what_was_sent_does_not_come_back_in_another_form(field: str, value: Any, leaks: str) -> None:
    response = client.post("/taken", json={field: value})
    (error,) = response.json()["errors"]
    assert leaks not in response.text
    assert (error["detail"], error["pointer"]) == ("The value is not valid", f"/{field}")


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("literal", "another", "Choose another one"),
        ("literal", "one" * 400_000, "Choose another one"),
        ("helped", "help", "Ask for help"),
        ("custom", "This one is taken", "This one is taken"),
        ("limited", "5", "Order 5 at most"),
        ("password", "8", "Password should have at least 8 characters"),
        ("password", "x" * 1_000_000, "Password should have at most 20 characters"),
    ],
)
def test_a_text_that_stands_in_the_code_is_passed_on_at_no_cost(field: str, value: str, detail: str) -> None:
    (error,) = send_as_json("/taken", json.dumps({field: value}).encode())
    assert error["detail"] == detail


def test_what_a_validator_of_the_application_says_is_kept_if_it_is_a_literal() -> None:
    (error,) = refuse("/orders", {"password": "weak"})
    assert error["detail"] == "Choose a longer password"
    (error,) = refuse("/orders", {"password": "leak"})
    assert error["detail"] == "The value is not valid"


@pytest.mark.parametrize(
    "body",
    [
        b'{"number": NaN}',
        b'{"number": 1e999}',
        b'{"number": Infinity}',
        b'{"\\ud800": 1, "number": "x"}',
        b'{"matrix": ' + b"[" * 2000 + b"]" * 2000 + b"}",
        b"\xff\xfe",
        b'{"number": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"node": ' + b'{"children": [' * 400 + b"]}" * 400 + b"}",
    ],
)
def test_hostile_bodies_are_the_clients_error(body: bytes) -> None:
    response = client.post("/orders", content=body, headers={"content-type": "application/json"})
    assert 400 <= response.status_code < 500, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(response.content)["status"] == response.status_code


def test_a_lone_surrogate_as_a_name_is_answered_in_utf_8() -> None:
    body = b'{"pet": {"kind": "dog", "tricks": {"\\udc00": "x"}}}'
    response = client.post("/orders", content=body, headers={"content-type": "application/json"})
    (error,) = json.loads(response.content.decode("utf-8"))["errors"]
    assert error["pointer"] == "/pet/tricks"  # the name itself cannot be written


def test_at_most_a_hundred_errors_are_listed() -> None:
    assert len(refuse("/orders", {"matrix": [["x"] * 500]})) == 100


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.sampled_from(["kind", "pet"]), inner),
    max_leaves=12,
)
orders = json_values | st.dictionaries(
    st.sampled_from(["number", "unit/price~eur", "either", "pet", "Cat", "node", "matrix"]), json_values
)


@given(body=orders)
def test_every_pointer_resolves_in_any_body(body: Any) -> None:
    content = json.dumps(body).encode()
    response = client.post("/orders", content=content, headers={"content-type": "application/json"})
    assert response.status_code in (200, 422)
    for error in response.json()["errors"] if response.status_code == 422 else ():
        resolve(error["pointer"], body)
