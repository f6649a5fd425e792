import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Annotated

import httpx2
import pytest
from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy import String
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.exceptions import HTTPException

from fastapi_kit import errors
from fastapi_kit.db import Database
from fastapi_kit.db.models import Versioned
from fastapi_kit.db.preconditions import (
    IfMatch,
    IfMatchCondition,
    IfNoneMatch,
    IfNoneMatchCondition,
    RequiredIfMatch,
)
from tests.db.support import client_of, on_mariadb, on_postgres, on_sqlite, served

pytestmark = pytest.mark.anyio


class Base(DeclarativeBase):
    pass


class Page(Versioned, Base):
    __tablename__ = "pages"
    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    text: Mapped[str] = mapped_column(String(20))


class PageRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    text: str


async def at_once() -> None:
    pass


def app_of(database: Database, before_flush: Callable[[], Awaitable[object]] = at_once) -> FastAPI:
    app = FastAPI(lifespan=database.lifespan)
    errors.install(app)
    Session = Annotated[AsyncSession, database.per_request]

    async def write(session: AsyncSession, page: Page, text: str, response: Response) -> Page:
        page.text = text
        await before_flush()
        await session.flush()
        response.headers["ETag"] = page.etag
        return page

    @app.get("/pages/{name}", response_model=PageRead)
    async def read(name: str, session: Session, if_none_match: IfNoneMatch, response: Response) -> Page:
        page = await session.get_one(Page, name)
        if_none_match.check(page)
        response.headers["ETag"] = page.etag
        return page

    @app.put("/pages/{name}/{text}", response_model=PageRead)
    async def put(
        name: str, text: str, session: Session, if_match: IfMatch, if_none_match: IfNoneMatch, response: Response
    ) -> Page:
        page = await session.get(Page, name)
        if_match.check(page)
        if_none_match.check(page)
        if page is None:
            page = Page(name=name)
            session.add(page)
        return await write(session, page, text, response)

    @app.patch("/pages/{name}/{text}", response_model=PageRead)
    async def patch(name: str, text: str, session: Session, if_match: RequiredIfMatch, response: Response) -> Page:
        page = await session.get_one(Page, name)
        if_match.check(page)
        return await write(session, page, text, response)

    return app


@pytest.fixture
async def client(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[httpx2.AsyncClient]:
    async with on_sqlite(tmp_path) as database, client_of(app_of(database)) as client:
        await database.create_all(Base.metadata)
        yield client


async def put(client: httpx2.AsyncClient, name: str, **headers: str) -> httpx2.Response:
    return await client.put(f"/pages/{name}", headers={key.replace("_", "-"): value for key, value in headers.items()})


def failed(answer: httpx2.Response) -> bool:
    return (answer.status_code, answer.json().get("code")) == (412, "precondition_failed")


async def test_only_the_version_that_the_client_has_is_changed(client: httpx2.AsyncClient) -> None:
    first = (await put(client, "a/one")).headers["ETag"]
    second = await put(client, "a/two", if_match=first)
    assert second.status_code == 200
    assert second.headers["ETag"] not in {first, ""}
    assert failed(await put(client, "a/three", if_match=first))
    read = await client.get("/pages/a")
    assert (read.json(), read.headers["ETag"]) == ({"text": "two"}, second.headers["ETag"])
    assert (await put(client, "a/four")).status_code == 200, "a condition is the client's choice"


async def test_a_list_a_star_and_several_fields_are_one_condition(client: httpx2.AsyncClient) -> None:
    etag = (await put(client, "a/one")).headers["ETag"]
    assert failed(await put(client, "a/x", if_match='"1", "a,b", ""'))
    for text, value in enumerate(("{}", ', "1",, {} ,', 'W/"1",{}', "*", " * ")):
        answer = await put(client, f"a/{text}", if_match=value.format(etag))
        assert answer.status_code == 200, value
        etag = answer.headers["ETag"]
    lines = httpx2.Headers([("If-Match", '"1"'), ("If-Match", etag)])
    assert (await client.put("/pages/a/three", headers=lines)).status_code == 200
    assert failed(await put(client, "a/x", if_match=""))


async def test_a_weak_tag_matches_no_version_that_is_to_be_changed(client: httpx2.AsyncClient) -> None:
    etag = (await put(client, "a/one")).headers["ETag"]
    assert failed(await put(client, "a/two", if_match=f"W/{etag}"))


def test_a_tag_of_ones_own_may_be_weak() -> None:
    class Report:
        etag = 'W/"1"'

    for tags in (frozenset({'W/"1"'}), frozenset({'"1"'})):
        with pytest.raises(errors.PreconditionFailedError):
            IfMatchCondition(tags).check(Report())
    with pytest.raises(HTTPException, match="304"):
        IfNoneMatchCondition(frozenset({'"1"'}), is_read=True).check(Report())


async def test_what_is_not_there_matches_nothing(client: httpx2.AsyncClient) -> None:
    for value in ("*", '"1"'):
        assert failed(await put(client, "none/x", if_match=value))


@pytest.mark.parametrize("name", ["if_match", "if_none_match"])
@pytest.mark.parametrize(
    "value",
    ["1", '"1', '1"', '"1""2"', '"1" "2"', 'w/"1"', 'W/ "1"', '*, "1"', "*,*", "'1'", '"a b"', '"1";'],
)
async def test_a_field_that_cannot_be_read_is_a_400(client: httpx2.AsyncClient, name: str, value: str) -> None:
    await put(client, "a/one")
    answer = await put(client, "a/two", **{name: value})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert "send * or the ETag as you got it" in answer.json()["detail"]
    assert value not in answer.json()["detail"]


async def test_a_long_field_is_read_in_one_pass(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(5):
        for value in ('"",' * 20_000 + "x", "," * 60_000 + "x", '"' * 60_001):
            assert (await put(client, "a/one", if_match=value)).status_code == 400


async def test_a_condition_may_be_required(client: httpx2.AsyncClient) -> None:
    etag = (await put(client, "a/one")).headers["ETag"]
    without = await client.patch("/pages/a/two")
    assert (without.status_code, without.json()["code"]) == (428, "precondition_required")
    assert failed(await client.patch("/pages/a/two", headers={"If-Match": '"1"'}))
    assert (await client.patch("/pages/a/two", headers={"If-Match": etag})).status_code == 200


async def test_what_the_client_has_is_not_sent_again(client: httpx2.AsyncClient) -> None:
    etag = (await put(client, "a/one")).headers["ETag"]
    for value in (etag, f"W/{etag}", f'"1", {etag}', "*"):
        answer = await client.get("/pages/a", headers={"If-None-Match": value})
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", etag), value
    for value in ('"1"', "", 'W/"1"'):
        assert (await client.get("/pages/a", headers={"If-None-Match": value})).status_code == 200, value


async def test_if_none_match_star_creates_and_never_replaces(client: httpx2.AsyncClient) -> None:
    assert (await put(client, "a/one", if_none_match="*")).status_code == 200
    assert failed(await put(client, "a/two", if_none_match="*"))
    assert (await client.get("/pages/a")).json() == {"text": "one"}


async def race(database: Database, before_flush: Callable[[], Awaitable[object]]) -> None:
    await database.create_all(Base.metadata)
    async with database.session() as session:
        session.add(page := Page(name="a", text="old"))
    async with served(app_of(database, before_flush)) as client:
        answers = await asyncio.gather(*(put(client, f"a/{text}", if_match=page.etag) for text in ("one", "two")))
        (won,) = [answer for answer in answers if answer.status_code == 200]
        (lost,) = [answer for answer in answers if answer is not won]
        assert failed(lost), lost.text
        read = await client.get("/pages/a")
        assert (read.json(), read.headers["ETag"]) == (won.json(), won.headers["ETag"])


async def test_of_two_that_race_one_is_told_sqlite(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as database:
        await race(database, at_once)  # they take turns


async def test_of_two_that_race_one_is_told_postgres(postgres_url: str) -> None:
    async with on_postgres(postgres_url) as database:
        await race(database, asyncio.Barrier(2).wait)


async def test_of_two_that_race_one_is_told_mariadb(mariadb_url: str) -> None:
    async with on_mariadb(mariadb_url) as database:
        await race(database, asyncio.Barrier(2).wait)


async def test_the_document_has_the_headers_and_the_refusals(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    change, read = paths["/pages/{name}/{text}"], paths["/pages/{name}"]["get"]
    for method, statuses in (("put", {"400", "412"}), ("patch", {"400", "412", "428"})):
        assert statuses <= change[method]["responses"].keys()
        assert "If-Match" in {parameter["name"] for parameter in change[method]["parameters"]}
    assert "428" not in change["put"]["responses"]
    assert "If-None-Match" in {parameter["name"] for parameter in read["parameters"]}
