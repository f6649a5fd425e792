"""What a route can answer with is in its OpenAPI: in our shape, on that route alone."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar

import pytest
from fastapi import APIRouter, Depends, FastAPI
from openapi_spec_validator import validate
from pydantic import BaseModel, Field
from starlette.testclient import TestClient

from fastapi_kit import errors
from fastapi_kit.errors import ConflictError, NotFoundError, Problem, raises


class Offer(BaseModel):
    price: Decimal


class ValidationError(BaseModel):
    mine: int


class TooLateError(Problem):
    """Answer 409: the offer has ended."""

    code = "too_late"
    status = 409
    title = "Too late"
    instead: Offer | None = None


class SlowDownError(Problem):
    code = "slow_down"
    status = 429
    title = "Slow down"
    response_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "Seconds to wait"}
    limit: Annotated[str, Field(examples=["5/minute"])]
    left: int
    offer: Offer


class OddInputError(Problem):
    code = "odd_input"
    status = 422
    title = "Odd input"


@raises(NotFoundError)
async def find(item_id: int) -> int:
    return item_id


def make_app(**options: Any) -> FastAPI:
    app = FastAPI()
    errors.install(app, **options)
    inner, outer = APIRouter(), APIRouter(prefix="/v1", dependencies=[Depends(find)])

    @inner.get("/items/{item_id}")
    @raises(TooLateError)
    async def read(item_id: int) -> None: ...

    @inner.get("/odd/{item_id}")
    @raises(OddInputError, ConflictError, TooLateError)
    async def odd(item_id: int) -> None: ...

    @inner.get("/own/{item_id}", responses={404: {"description": "Mine"}, 422: {"description": "Mine too"}})
    async def own(found: Annotated[int, Depends(find)]) -> None: ...

    @app.get("/slow", responses={429: {"headers": {"X-Own": {"schema": {"type": "integer"}}}}})
    @raises(SlowDownError)
    async def slow() -> None: ...

    @app.get("/late-only")
    @raises(SlowDownError, TooLateError)
    async def late_only(late: bool = True) -> None:
        raise (
            TooLateError
            if late
            else SlowDownError(limit="5/minute", left=0, offer=Offer(price=Decimal(1)), headers={"Retry-After": "1"})
        )

    @app.get("/plain")
    async def plain() -> None: ...

    @app.get("/hidden", include_in_schema=False)
    @raises(NotFoundError)
    async def hidden() -> None: ...

    outer.include_router(inner)
    app.include_router(outer)
    return app


def responses_of(app: FastAPI, path: str) -> dict[str, Any]:
    found: dict[str, Any] = app.openapi()["paths"][path]["get"]["responses"]
    return found


def ref(response: dict[str, Any]) -> Any:
    return response["content"]["application/problem+json"]["schema"]


def test_a_problem_is_on_exactly_the_routes_that_declare_it_nested_routers_too() -> None:
    app = make_app()
    assert set(responses_of(app, "/plain")) == {"200", "default"}
    read = responses_of(app, "/v1/items/{item_id}")
    assert set(read) == {"200", "404", "409", "422", "default"}
    assert ref(read["404"]) == {"$ref": "#/components/schemas/NotFoundError"}
    assert ref(read["409"]) == {"$ref": "#/components/schemas/TooLateError"}
    assert read["409"]["description"] == "Too late"
    assert ref(read["default"]) == {"$ref": "#/components/schemas/Problem"}


def test_the_422_is_ours_and_fastapis_schemas_are_gone() -> None:
    schema = make_app().openapi()
    assert ref(schema["paths"]["/v1/items/{item_id}"]["get"]["responses"]["422"]) == {
        "$ref": "#/components/schemas/ValidationProblem"
    }
    assert "HTTPValidationError" not in json.dumps(schema)
    assert "ValidationError" not in schema["components"]["schemas"]


def test_several_problems_of_one_status_are_alternatives() -> None:
    odd = responses_of(make_app(), "/v1/odd/{item_id}")
    assert ref(odd["409"]) == {
        "anyOf": [{"$ref": "#/components/schemas/ConflictError"}, {"$ref": "#/components/schemas/TooLateError"}]
    }
    assert ref(odd["422"]) == {
        "anyOf": [{"$ref": "#/components/schemas/ValidationProblem"}, {"$ref": "#/components/schemas/OddInputError"}]
    }


def test_each_of_several_is_shown_by_its_example() -> None:
    odd = responses_of(make_app(), "/v1/odd/{item_id}")
    assert "examples" not in responses_of(make_app(), "/v1/items/{item_id}")["409"]["content"]
    for status, codes in {"409": {"conflict", "too_late"}, "422": {"validation_error", "odd_input"}}.items():
        examples = odd[status]["content"]["application/problem+json"]["examples"]
        assert set(examples) == codes
        for code, example in examples.items():
            assert (example["value"]["code"], example["value"]["status"]) == (code, int(status))


@pytest.mark.parametrize("options", [{}, {"type_base": "https://errors.example.com/"}])
def test_an_example_is_what_the_app_answers(options: dict[str, str]) -> None:
    app = make_app(**options)
    schemas = app.openapi()["components"]["schemas"]
    client = TestClient(app)

    def differs(name: str, answer: Any) -> dict[str, Any]:
        (example,) = schemas[name]["examples"]
        body = answer.json()
        assert set(example) == set(body) - ({"offer"} if name == "SlowDownError" else set())
        assert len(example["request_id"]) == len(body["request_id"])
        return {key: value for key, value in example.items() if key != "request_id" and value != body[key]}

    assert differs("TooLateError", client.get("/late-only")) == {}
    assert differs("SlowDownError", client.get("/late-only?late=0")) == {}
    assert set(differs("ValidationProblem", client.get("/late-only?late=x"))) == {"errors"}
    assert schemas["TooLateError"]["examples"][0]["instead"] is None

    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError

    assert differs("Problem", client.get("/crash")) == {}


def test_the_headers_of_a_problem_are_documented() -> None:
    app = make_app()
    retry_after = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "string"}}}
    assert responses_of(app, "/late-only")["429"]["headers"] == retry_after
    assert responses_of(app, "/slow")["429"]["headers"] == {"X-Own": {"schema": {"type": "integer"}}}
    assert "headers" not in responses_of(app, "/late-only")["409"]


def test_what_the_application_wrote_itself_stays() -> None:
    own = responses_of(make_app(), "/v1/own/{item_id}")
    assert own["404"]["description"] == "Mine"
    assert own["422"] == {"description": "Mine too"}


def test_a_problem_is_described_with_its_extensions() -> None:
    schemas = make_app().openapi()["components"]["schemas"]
    assert schemas["TooLateError"]["properties"]["code"] == {"const": "too_late"}
    assert schemas["TooLateError"]["properties"]["instead"]["anyOf"][0] == {"$ref": "#/components/schemas/Offer"}
    assert schemas["TooLateError"]["description"] == "Answer 409: the offer has ended."
    assert schemas["Offer"]["type"] == "object"


def test_a_model_of_the_application_may_have_the_name_of_fastapis() -> None:
    app = FastAPI()
    errors.install(app)

    @app.get("/")
    async def read() -> ValidationError:
        return ValidationError(mine=1)

    assert app.openapi()["components"]["schemas"]["ValidationError"]["properties"]["mine"]["type"] == "integer"


def test_the_document_is_valid_stable_and_follows_late_routes() -> None:
    app = make_app()
    first = app.openapi()
    validate(first)
    before = json.dumps(first)
    assert json.dumps(app.openapi()) == before
    assert TestClient(app).get("/openapi.json").json() == first

    @app.get("/late/{item_id}")
    async def late(found: Annotated[int, Depends(find)]) -> None: ...

    second = app.openapi()
    assert set(second["paths"]) - set(first["paths"]) == {"/late/{item_id}"}
    assert set(second["paths"]["/late/{item_id}"]["get"]["responses"]) == {"200", "404", "422", "default"}
    validate(second)
