"""What the base models refuse, read and give out."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import pytest
from fastapi import FastAPI, Form, Query
from pydantic import AliasChoices, AliasPath, Field, JsonValue, SecretStr, ValidationError
from starlette.testclient import TestClient
from typing_extensions import TypedDict

from fastapi_kit.schemas import (
    CAMEL_CASE,
    CreateModel,
    InputModel,
    Omittable,
    OutputModel,
    ReadModel,
    Timestamps,
    UpdateModel,
)


class Level(IntEnum):
    low = 0
    high = 1


class Size(TypedDict):
    width: int
    label: str


class Cat(InputModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(InputModel):
    kind: Literal["dog"]
    name: str = ""


class Sample(InputModel):
    """A field of each kind that could hide a boolean or a NUL."""

    flag: bool = False
    whole: int = 0
    positive: Annotated[int, Field(gt=-1)] = 0
    real: float = 0
    wait: timedelta = timedelta()
    level: Level = Level.low
    zero: Literal[0] = 0
    maybe: int | None = None
    either: int | bool | None = None
    number_or_text: int | str = 0
    numbers: list[int] | None = None
    flags: list[bool] | None = None
    pair: tuple[int, str] = (0, "")
    unique: set[int] | None = None
    unique_flags: frozenset[bool] = frozenset()
    words: set[str] | None = None
    by_name: dict[str, int] | None = None
    by_number: dict[int, int] | None = None
    nested: list[dict[str, list[int]]] | None = None
    size: Size | None = None
    text: str = ""
    secret: SecretStr = SecretStr("")
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    pets: list[Cat] | None = None
    anything: Any = None
    json_value: JsonValue = None
    a_slash: int = Field(default=0, alias="a/b")
    chosen: int = Field(default=0, validation_alias=AliasChoices("one", AliasPath("other", 1)))
    deep: int = Field(default=0, validation_alias=AliasPath("path", "in"))
    day: date | None = None
    moment: datetime | None = None
    price: Decimal | None = None
    key: UUID | None = None


def errors_of(model: type[InputModel], body: Any) -> list[tuple[tuple[int | str, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    return [(error["loc"], error["type"]) for error in caught.value.errors()]


@pytest.mark.parametrize("boolean", [False, True])
@pytest.mark.parametrize(
    ("path", "wrap"),
    [
        (("whole",), lambda b: {"whole": b}),
        (("positive",), lambda b: {"positive": b}),
        (("real",), lambda b: {"real": b}),
        (("wait",), lambda b: {"wait": b}),
        (("level",), lambda b: {"level": b}),
        (("maybe",), lambda b: {"maybe": b}),
        (("numbers", 1), lambda b: {"numbers": [2, b]}),
        (("pair", 0), lambda b: {"pair": [b, "x"]}),
        (("unique",), lambda b: {"unique": [b, 2]}),
        (("by_name", "x"), lambda b: {"by_name": {"x": b}}),
        (("by_number", 7), lambda b: {"by_number": {"7": b}}),
        (("nested", 0, "x", 1), lambda b: {"nested": [{"x": [2, b]}]}),
        (("size", "width"), lambda b: {"size": {"width": b, "label": ""}}),
        (("pet", "cat", "lives"), lambda b: {"pet": {"kind": "cat", "lives": b}}),
        (("pets", 1, "lives"), lambda b: {"pets": [{"kind": "cat"}, {"kind": "cat", "lives": b}]}),
        (("a/b",), lambda b: {"a/b": b}),
        (("one",), lambda b: {"one": b}),
        (("other", 1), lambda b: {"other": [0, b]}),
        (("path", "in"), lambda b: {"path": {"in": b}}),
    ],
)
def test_boolean_is_no_number(boolean: bool, path: tuple[int | str, ...], wrap: Any) -> None:
    assert errors_of(Sample, wrap(boolean)) == [(path, "number_from_bool")]


def test_false_is_not_the_literal_zero() -> None:
    assert errors_of(Sample, {"zero": False}) == [(("zero",), "number_from_bool")]


@pytest.mark.parametrize("body", [{"number_or_text": True}, {"price": True}, {"text": True}])
def test_boolean_is_refused_by_pydantic_or_by_the_base(body: dict[str, Any]) -> None:
    assert errors_of(Sample, body)


@pytest.mark.parametrize(
    "body",
    [
        {"flag": True},
        {"flag": "true"},
        {"either": False},
        {"flags": [True, False]},
        {"unique_flags": [True]},
        {"anything": {"deep": [True]}},
        {"json_value": [True, 1, "x"]},
        {"whole": "5", "real": 1},
        {"by_number": {"1": 2}, "by_name": {"x": 1}},
        {"unique": (1, 2), "words": {"x"}},
        {"other": [0, 5]},
        {"day": "2026-11-21", "moment": "2026-11-21T10:00:00Z", "price": "1.5"},
        {"key": "12345678-1234-5678-1234-567812345678"},
    ],
    ids=str,
)
def test_the_rest_is_read_as_usual(body: dict[str, Any]) -> None:
    assert Sample.model_validate(body).model_fields_set


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (("text",), {"text": "a\0b"}),
        (("secret",), {"secret": "\0"}),
        (("number_or_text",), {"number_or_text": "\0"}),
        (("pair", 1), {"pair": [1, "\0"]}),
        (("words",), {"words": ["x", "\0"]}),
        (("by_name", "\0"), {"by_name": {"\0": 1}}),
        (("size", "label"), {"size": {"width": 1, "label": "\0"}}),
        (("pet", "dog", "name"), {"pet": {"kind": "dog", "name": "\0"}}),
        (("anything", "x", 0, "y"), {"anything": {"x": [{"y": "\0"}]}}),
        (("json_value", 0), {"json_value": ["\0"]}),
    ],
)
def test_nul_is_refused_wherever_it_hides(path: tuple[int | str, ...], body: dict[str, Any]) -> None:
    assert errors_of(Sample, body) == [(path, "string_nul")]


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\udc00\ud83d"])
def test_a_lone_surrogate_is_refused_since_it_has_no_utf_8(text: str) -> None:
    class Note(InputModel):
        text: str = ""
        password: SecretStr = SecretStr("")
        counts: dict[str, int] = Field(default_factory=dict)

    assert errors_of(Note, {"text": text}) == [(("text",), "string_surrogate")]
    assert errors_of(Note, {"password": text}) == [(("password",), "string_surrogate")]
    ((where, code),) = errors_of(Note, {"counts": {text: 1}})
    assert (where[0], code) == ("counts", "string_surrogate")  # the name itself cannot be told
    assert Note(text="\U0001f600 é").text == "\U0001f600 é"


def test_every_flaw_is_told_at_once() -> None:
    body = {"whole": True, "text": "\0", "numbers": [False, 1, True]}

    assert {where for where, _ in errors_of(Sample, body)} == {
        ("whole",),
        ("text",),
        ("numbers", 0),
        ("numbers", 2),
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e999, "NaN", "Infinity"])
@pytest.mark.parametrize("field", ["real", "price"])
def test_what_is_no_finite_number_is_refused(field: str, value: object) -> None:
    assert errors_of(Sample, {field: value})[0][0] == (field,)


def test_unknown_members_are_refused() -> None:
    assert errors_of(Sample, {"is_admin": True}) == [(("is_admin",), "extra_forbidden")]


def test_depth_is_no_crash() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]

    assert Sample(anything=deep).anything is deep


def test_instances_are_checked_and_kept() -> None:
    dog = Dog.model_construct(kind="dog", name="\0")

    assert Sample(pet=Cat(kind="cat")).pet == Cat(kind="cat")
    assert errors_of(Dog, dog) == [(("name",), "string_nul")]


def test_default_is_the_endpoint_s_own_business() -> None:
    class Export(InputModel):
        separator: str = "\0"

    assert Export.model_validate({}).separator == "\0"
    assert errors_of(Export, {"separator": "\0"}) == [(("separator",), "string_nul")]


def test_errors_hold_no_input_in_their_text() -> None:
    with pytest.raises(ValidationError) as wrong_type:
        Sample.model_validate({"whole": "hunter2-hunter2"})
    with pytest.raises(ValidationError) as nul:
        Sample.model_validate({"secret": "hunter2\0"})

    assert "hunter2" not in str(wrong_type.value)
    assert "hunter2" not in f"{nul.value}{nul.value.errors()}"


def test_schema_is_that_of_the_fields_alone() -> None:
    schema = Dog.model_json_schema()

    assert schema["properties"]["name"] == {"type": "string", "default": "", "title": "Name"}
    assert schema["additionalProperties"] is False


def test_camel_case_is_read_by_either_name_and_written_by_alias() -> None:
    class Order(InputModel):
        model_config = CAMEL_CASE

        unit_price: int

    assert Order.model_validate({"unitPrice": 1}) == Order.model_validate({"unit_price": 1})
    assert Order(unit_price=1).model_dump(by_alias=True) == {"unitPrice": 1}
    assert errors_of(Order, {"unitPrice": True}) == [(("unitPrice",), "number_from_bool")]
    assert errors_of(Order, {"unitPrice": 1, "x": 1}) == [(("x",), "extra_forbidden")]


def test_in_fastapi_as_body_query_and_form() -> None:
    app = FastAPI()

    class Filter(InputModel):
        limit: int = 1
        tags: tuple[str, ...] = ()

    @app.post("/body")
    async def body(sample: Sample) -> dict[str, Any]:
        return sample.model_dump(exclude_unset=True, mode="json")

    @app.get("/query")
    async def query(filters: Annotated[Filter, Query()]) -> Filter:
        return filters

    @app.post("/form")
    async def form(filters: Annotated[Filter, Form()]) -> Filter:
        return filters

    client = TestClient(app)

    assert client.post("/body", json={"whole": 3, "flag": True}).json() == {"whole": 3, "flag": True}
    refused = client.post("/body", json={"numbers": [0, False]})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "numbers", 1]
    assert client.get("/query?limit=5&tags=a&tags=b").json() == {"limit": 5, "tags": ["a", "b"]}
    assert client.get("/query?tags=a%00").status_code == 422
    assert client.get("/query?page=1").status_code == 422
    assert client.post("/form", data={"limit": "5"}).json() == {"limit": 5, "tags": []}
    twice = client.post("/body", content=b'{"whole": 1, "whole": 2}', headers={"Content-Type": "application/json"})
    assert twice.json() == {"whole": 2}


class ItemUpdate(UpdateModel):
    name: Omittable[Annotated[str, Field(max_length=5)]] = None
    note: str | None = None
    stock: Omittable[int] = None


@pytest.mark.parametrize(
    "body", [{}, {"note": None}, {"name": "lamp", "stock": 0}, {"name": "lamp", "note": "x", "stock": 1}]
)
def test_changes_are_what_was_sent(body: dict[str, Any]) -> None:
    assert ItemUpdate.model_validate(body).changes() == body


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": None}, "string_type"),
        ({"stock": None}, "int_type"),
        ({"stock": False}, "number_from_bool"),
        ({"name": "lampshade"}, "string_too_long"),
    ],
)
def test_omittable_is_not_nullable(body: dict[str, Any], code: str) -> None:
    assert errors_of(ItemUpdate, body) == [(tuple(body), code)]


def test_empty_update_is_refused_where_asked() -> None:
    class Strict(ItemUpdate):
        allow_empty: ClassVar[bool] = False

    assert errors_of(Strict, {}) == [((), "update_empty")]
    assert Strict.model_validate({"note": None}).changes() == {"note": None}


def test_update_in_the_openapi_has_no_default_and_null_only_where_it_is_allowed() -> None:
    properties = ItemUpdate.model_json_schema()["properties"]

    assert properties["name"] == {"type": "string", "maxLength": 5, "title": "Name"}
    assert properties["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Note"}
    assert UpdateModel.model_json_schema()["properties"] == {}


def test_omittable_of_what_is_null_alone_stays_that() -> None:
    class Cleared(UpdateModel):
        note: Omittable[None] = None

    assert Cleared.model_validate({"note": None}).changes() == {"note": None}


def test_create_model_is_an_input() -> None:
    class ItemCreate(CreateModel):
        name: str

    assert errors_of(ItemCreate, {"name": "x", "y": 1}) == [(("y",), "extra_forbidden")]


class Row:
    """Stands for an entity, with more than clients may see."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def test_read_model_takes_the_declared_attributes_alone() -> None:
    class UserRead(ReadModel):
        id: int

    assert UserRead.model_validate(Row(id=1, password_hash="x")).model_dump() == {"id": 1}


def test_output_says_that_every_field_is_there() -> None:
    class Health(OutputModel):
        status: str = "ok"

    assert Health.model_json_schema(mode="serialization")["required"] == ["status"]


def test_timestamps_are_utc_from_any_row() -> None:
    class ItemRead(Timestamps):
        id: int

    east = timezone(timedelta(hours=2))
    row = Row(id=1, created_at=datetime(2026, 1, 1), updated_at=datetime(2026, 1, 1, tzinfo=east))  # noqa: DTZ001

    item = ItemRead.model_validate(row)

    assert (item.created_at, item.updated_at) == (
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2025, 12, 31, 22, tzinfo=UTC),
    )
    assert item.model_dump_json() == (
        '{"created_at":"2026-01-01T00:00:00Z","updated_at":"2025-12-31T22:00:00Z","id":1}'
    )
