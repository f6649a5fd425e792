"""The bodies of lists in OpenAPI and in JSON."""

import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from fastapi_kit.pagination import NumberedPage, Page
from tests.pagination.support import ItemRead

ITEM = ItemRead(id=1, name="lamp")


def test_pages_in_json() -> None:
    page = Page[ItemRead](items=[ITEM], total=1, skip=0, limit=20)
    numbered = NumberedPage[ItemRead](items=[ITEM], total=None, page=1, size=20, pages=None)

    assert page.model_dump_json() == '{"items":[{"id":1,"name":"lamp"}],"total":1,"skip":0,"limit":20}'
    assert numbered.model_dump_json() == (
        '{"items":[{"id":1,"name":"lamp"}],"total":null,"page":1,"size":20,"pages":null}'
    )


@pytest.mark.parametrize("wrong", [{"total": -1}, {"skip": -1}, {"limit": 0}])
def test_page_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Page[ItemRead].model_validate({"items": [], "total": 0, "skip": 0, "limit": 1} | wrong)


@pytest.mark.parametrize("wrong", [{"total": -1}, {"page": 0}, {"size": 0}, {"pages": -1}])
def test_numbered_page_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        NumberedPage[ItemRead].model_validate({"items": [], "total": 0, "page": 1, "size": 1, "pages": 0} | wrong)


def test_schemas_in_the_openapi() -> None:
    app = FastAPI()

    @app.get("/items")
    async def list_items() -> Page[ItemRead]:
        raise NotImplementedError

    @app.get("/numbered")
    async def list_numbered() -> NumberedPage[ItemRead]:
        raise NotImplementedError

    schemas = app.openapi()["components"]["schemas"]

    assert set(schemas) >= {"ItemRead", "Page_ItemRead_", "NumberedPage_ItemRead_"}
    assert schemas["Page_ItemRead_"]["required"] == ["items", "total", "skip", "limit"]
    assert schemas["NumberedPage_ItemRead_"]["required"] == ["items", "total", "page", "size", "pages"]
    items = {"items": {"$ref": "#/components/schemas/ItemRead"}, "type": "array", "title": "Items"}
    assert schemas["Page_ItemRead_"]["properties"]["items"] == items
