"""The bodies of lists in OpenAPI and in JSON."""

from typing import Generic, TypeVar

import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from fastapi_kit.pagination import CursorPage, NumberedPage, Page
from fastapi_kit.schemas import ReadModel
from tests.pagination.support import ItemRead

T = TypeVar("T")
ITEM = ItemRead(id=1, name="lamp")


def test_pages_in_json() -> None:
    page = Page[ItemRead](items=[ITEM], total=1, skip=0, limit=20)
    numbered = NumberedPage[ItemRead](items=[ITEM], total=None, page=1, size=20, pages=None)

    assert (
        page.model_dump_json()
        == '{"items":[{"id":1,"name":"lamp"}],"total":1,"total_capped":false,"skip":0,"limit":20}'
    )
    assert numbered.model_dump_json() == (
        '{"items":[{"id":1,"name":"lamp"}],"total":null,"total_capped":false,"page":1,"size":20,"pages":null}'
    )


@pytest.mark.parametrize("wrong", [{"total": -1}, {"skip": -1}, {"limit": 0}])
def test_page_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Page[ItemRead].model_validate({"items": [], "total": 0, "total_capped": False, "skip": 0, "limit": 1} | wrong)


@pytest.mark.parametrize("wrong", [{"total": -1}, {"page": 0}, {"size": 0}, {"pages": -1}])
def test_numbered_page_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        NumberedPage[ItemRead].model_validate(
            {"items": [], "total": 0, "total_capped": False, "page": 1, "size": 1, "pages": 0} | wrong
        )


class Shelved(Page[ItemRead]):
    """A page with a name of its own."""


class Wrapped(ReadModel, Generic[T]):
    value: T


def test_schemas_in_the_openapi() -> None:
    app = FastAPI()

    @app.get("/items")
    async def list_items() -> Page[ItemRead]:
        raise NotImplementedError

    @app.get("/numbered")
    async def list_numbered() -> NumberedPage[ItemRead]:
        raise NotImplementedError

    @app.get("/cursors")
    async def list_by_cursor() -> CursorPage[ItemRead]:
        raise NotImplementedError

    @app.get("/shelved")
    async def list_shelved() -> Shelved:
        raise NotImplementedError

    @app.get("/numbers")
    async def list_numbers() -> Page[int]:
        raise NotImplementedError

    schemas = app.openapi()["components"]["schemas"]

    names = {"Page_ItemRead_", "NumberedPage_ItemRead_", "CursorPage_ItemRead_", "Shelved", "Page_int_", "ItemRead"}
    assert set(schemas) == names | {"HTTPValidationError", "ValidationError"} & set(schemas)
    counted = ["items", "total", "total_capped"]
    assert schemas["Page_ItemRead_"]["required"] == schemas["Shelved"]["required"] == [*counted, "skip", "limit"]
    assert schemas["NumberedPage_ItemRead_"]["required"] == [*counted, "page", "size", "pages"]
    assert schemas["CursorPage_ItemRead_"]["required"] == ["items", "next_cursor", "previous_cursor"]
    items = {"items": {"$ref": "#/components/schemas/ItemRead"}, "type": "array", "title": "Items"}
    assert all(schemas[name]["properties"]["items"] == items for name in names - {"Page_int_", "ItemRead"})
