"""What a problem is, and what a wrong one is told when it is declared or raised."""

import gc
from collections.abc import Iterator
from typing import ClassVar

import pytest
from starlette.exceptions import HTTPException

from fastapi_kit.errors import BadRequestError, ConflictError, NotFoundError, Problem, UnavailableError, catalogue


class SoldOutError(Problem):
    code = "sold_out"
    status = 409
    title = "Sold out"
    limit: ClassVar[int] = 5
    sku: str
    available: int = 0


class SoldOutForeverError(SoldOutError):
    code = "sold_out_forever"
    since: str


class TeapotError(Problem):
    code = "teapot"
    status = 418


class UnregisteredError(Problem):
    code = "unregistered"
    status = 499


def test_it_is_an_http_exception_with_its_status_and_headers() -> None:
    error = NotFoundError("There is no item 3.", headers={"Link": "</items>"})
    assert isinstance(error, HTTPException)
    assert (error.status_code, error.detail, error.headers) == (404, "There is no item 3.", {"Link": "</items>"})


def test_extensions_are_the_annotations_in_order_with_defaults() -> None:
    assert SoldOutError(sku="a").extensions == {"sku": "a", "available": 0}
    assert SoldOutForeverError(sku="a", since="2026").extensions == {"sku": "a", "available": 0, "since": "2026"}
    assert SoldOutForeverError.extension_types() == {"sku": str, "available": int, "since": str}


def test_a_missing_or_unknown_extension_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="SoldOutError needs the extension 'sku'"):
        SoldOutError()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="SoldOutError declares no extension colour"):
        SoldOutError(sku="a", colour="red")  # type: ignore[call-arg]


def test_the_title_defaults_to_the_phrase_of_the_status_or_to_the_parents() -> None:
    assert TeapotError.title == "I'm a Teapot"
    assert UnregisteredError.title == "Error"
    assert SoldOutForeverError.title == "Sold out"
    assert UnavailableError.title == "Service Unavailable"


def test_the_catalogue_lists_every_kind_once() -> None:
    kinds = list(catalogue())
    assert {BadRequestError, ConflictError, NotFoundError, SoldOutError, SoldOutForeverError} <= set(kinds)
    assert len(kinds) == len(set(kinds))


@pytest.fixture
def _forget_refused_classes() -> Iterator[None]:
    yield
    gc.collect()  # a class that its declaration refused lives on until then, and would hold its code


@pytest.mark.usefixtures("_forget_refused_classes")
def test_a_code_cannot_be_taken_twice() -> None:
    with pytest.raises(TypeError, match=r"'sold_out' is taken by .*SoldOutError; give each kind"):

        class OtherError(Problem):
            code = "sold_out"
            status = 400

    with pytest.raises(TypeError, match="is taken by"):

        class SameCodeError(SoldOutError):
            """A subclass needs a code of its own too: clients branch on it."""


@pytest.mark.usefixtures("_forget_refused_classes")
def test_a_reloaded_module_may_declare_its_problems_again() -> None:
    def declare() -> type[Problem]:
        class ReloadedError(Problem):
            code = "reloaded"
            status = 400

        return ReloadedError

    assert declare() is not declare()


@pytest.mark.usefixtures("_forget_refused_classes")
def test_a_status_that_is_no_error_is_refused() -> None:
    with pytest.raises(TypeError, match="status is 204, an error has 400 to 599"):

        class FineError(Problem):
            code = "fine"
            status = 204


@pytest.mark.usefixtures("_forget_refused_classes")
def test_an_extension_cannot_be_named_like_a_standard_member() -> None:
    with pytest.raises(TypeError, match="may not redefine instance, type"):

        class OddError(Problem):
            code = "odd"
            status = 400
            type: str
            instance: str
