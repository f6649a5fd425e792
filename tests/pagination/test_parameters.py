"""What a client may ask for, over HTTP, and what an endpoint may allow."""

from typing import Annotated, Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from fastapi import FastAPI

from fastapi_kit.errors import ConfigurationError
from fastapi_kit.pagination import (
    PageNumber,
    PageNumberParams,
    SkipLimit,
    SkipLimitParams,
    page_number,
    skip_limit,
)

pytestmark = pytest.mark.anyio

app = FastAPI()


@app.get("/skip")
async def by_skip(params: SkipLimit) -> list[int]:
    return [params.skip, params.limit]


@app.get("/page")
async def by_page(params: PageNumber) -> list[int]:
    return [params.page, params.size, params.skip, params.limit]


@app.get("/small-skip")
async def small_skip(
    params: Annotated[SkipLimitParams, skip_limit(default=3, maximum=5, max_skip=7)],
) -> list[int]:
    return [params.skip, params.limit]


@app.get("/small-page")
async def small_page(
    params: Annotated[PageNumberParams, page_number(default_size=3, max_size=5, max_page=7)],
) -> list[int]:
    return [params.page, params.size]


async def get(url: str) -> httpx2.Response:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop") as client:
        return await client.get(url)


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("/skip", [0, 20]),
        ("/skip?skip=40&limit=100", [40, 100]),
        ("/skip?skip=1000000&limit=1", [1_000_000, 1]),
        ("/page", [1, 20, 0, 20]),
        ("/page?page=3&size=100", [3, 100, 200, 100]),
        ("/page?page=1000000&size=1", [1_000_000, 1, 999_999, 1]),
        ("/small-skip", [0, 3]),
        ("/small-skip?skip=7&limit=5", [7, 5]),
        ("/small-page", [1, 3]),
        ("/small-page?page=7&size=5", [7, 5]),
    ],
)
async def test_what_is_within_the_bounds_is_read(url: str, read: list[int]) -> None:
    response = await get(url)

    assert (response.status_code, response.json()) == (200, read)


HUGE = ["1e20", "1000001", str(2**63), "9" * 5000, "nan", "1.5", "", "true", "%00"]


@pytest.mark.parametrize(
    "url",
    [
        *(f"/skip?skip={value}" for value in ["-1", *HUGE]),
        *(f"/skip?limit={value}" for value in ["-1", "0", "101", *HUGE]),
        *(f"/page?page={value}" for value in ["-1", "0", *HUGE]),
        *(f"/page?size={value}" for value in ["-1", "0", "101", *HUGE]),
        "/small-skip?skip=8",
        "/small-skip?limit=6",
        "/small-page?page=8",
        "/small-page?size=6",
    ],
    ids=lambda url: url[:30],
)
async def test_what_is_out_of_bounds_is_422(url: str) -> None:
    response = await get(url)

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", url.partition("?")[2].partition("=")[0]]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/skip", {"skip": (0, 1_000_000, 0), "limit": (1, 100, 20)}),
        ("/page", {"page": (1, 1_000_000, 1), "size": (1, 100, 20)}),
        ("/small-skip", {"skip": (0, 7, 0), "limit": (1, 5, 3)}),
        ("/small-page", {"page": (1, 7, 1), "size": (1, 5, 3)}),
    ],
)
async def test_bounds_are_in_the_openapi(path: str, expected: dict[str, tuple[int, int, int]]) -> None:
    parameters = app.openapi()["paths"][path]["get"]["parameters"]

    assert {
        parameter["name"]: tuple(parameter["schema"][bound] for bound in ("minimum", "maximum", "default"))
        for parameter in parameters
    } == expected
    assert all(parameter["description"] for parameter in parameters)


@pytest.mark.parametrize("path", ["/skip", "/page"])
async def test_parameters_are_read_without_the_thread_pool(path: str) -> None:
    threads = anyio.to_thread.current_default_thread_limiter()
    taken = [object() for _ in range(int(threads.available_tokens))]
    for borrower in taken:
        threads.acquire_on_behalf_of_nowait(borrower)
    try:
        with anyio.fail_after(5):
            response = await get(path)
    finally:
        for borrower in taken:
            threads.release_on_behalf_of(borrower)

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"default": 0}, "default=0 must be between 1 and maximum=100"),
        ({"default": 101}, "default=101 must be between 1 and maximum=100"),
        ({"maximum": 0}, "maximum=0"),
        ({"maximum": 2**31 - 1}, r"maximum below 2\*\*31"),
        ({"names": ("skip", "skip")}, "two different query parameters"),
        ({"names": ("skip", "")}, "two different query parameters"),
        ({"names": ("skip",)}, "two different query parameters"),
        ({"names": "ab"}, "two different query parameters"),
        ({"max_skip": -1}, "max_skip=-1 must be between 0"),
        ({"max_skip": 2**63}, r"and 2\*\*63 - 1"),
    ],
)
def test_skip_limit_refuses_bounds_that_contradict(bounds: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        skip_limit(**bounds)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"default_size": 0}, "default_size=0 must be between 1 and max_size=100"),
        ({"default_size": 101}, "default_size=101"),
        ({"max_size": 0}, "max_size=0"),
        ({"max_page": 0}, "max_page=0 must be 1 or more"),
        ({"max_page": 2**62}, r"max_page \* max_size below 2\*\*63"),
        ({"names": ("page", "page")}, "two different query parameters"),
    ],
)
def test_page_number_refuses_bounds_that_contradict(bounds: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        page_number(**bounds)


def test_bounds_may_be_as_wide_as_a_database_takes() -> None:
    skip_limit(max_skip=2**63 - 1, maximum=2**31 - 2)
    page_number(max_page=(2**63 - 1) // 100)


def test_names_may_be_any_text() -> None:
    skip_limit(names=("page[offset]", "page[limit]"))
    page_number(names=("page[number]", "page[size]"))


@pytest.mark.parametrize(("skip", "limit"), [(-1, 5), (0, 0)])
def test_skip_limit_params_by_hand_are_checked(skip: int, limit: int) -> None:
    with pytest.raises(ValueError, match=f"skip={skip} must be 0 or more, limit={limit} 1 or more"):
        SkipLimitParams(skip, limit)


@pytest.mark.parametrize(("page", "size"), [(0, 5), (1, 0)])
def test_page_number_params_by_hand_are_checked(page: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"page={page} and size={size} must be 1 or more"):
        PageNumberParams(page, size)
