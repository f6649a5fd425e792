"""An app that logs what it should not, for a real server to run."""

import logging
import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from fastapi_kit import errors
from fastapi_kit.observability import bind, configure_logging, install

log = logging.getLogger("shop")

configure_logging(level="DEBUG", format="text" if os.environ.get("LOG_FORMAT") == "text" else "json")
app = FastAPI()
errors.install(app)
install(app)


class Account(BaseModel):
    name: str
    password: str = Field(min_length=40)


async def who(request: Request) -> None:
    bind(user=request.headers.get("x-user", "nobody"), session_token=request.headers.get("x-api-key"))


async def note(text: str) -> None:
    log.info("In the background: %s", text)


@app.api_route("/items/{name}", methods=["GET", "POST", "DELETE"], dependencies=[Depends(who)])
async def item(name: str, request: Request, background: BackgroundTasks) -> int:
    log.info("Asked for %s", name)
    log.info("Headers: %s", request.headers)
    log.info("Headers: %r", request.headers.raw)
    log.info("Cookies: %s", request.cookies, extra={"headers": dict(request.headers), "cookies": request.cookies})
    log.info("Query: %s of %s", request.url.query, request.url)
    log.info("%d of " + name, "no number")  # noqa: G003
    background.add_task(note, name)
    return 1


@app.post("/bodies")
async def body(request: Request) -> int:
    raw = await request.body()
    log.info("Body: %r", raw, extra={"body": raw})
    log.info("As text: %s", raw.decode("utf-8", "surrogateescape"))
    return len(raw)


@app.post("/accounts")
async def account(request: Request) -> None:
    Account.model_validate_json(await request.body())


@app.get("/threads/{name}", dependencies=[Depends(who)])
def thread(name: str) -> int:
    log.info("In a thread: %s", name)
    return 1


@app.get("/crash")
async def crash(request: Request) -> None:
    url = f"postgresql://shop:{request.query_params['secret']}@db:5432/shop"
    try:
        raise OSError(f"cannot connect to {url}")
    except OSError as exc:
        raise RuntimeError(f"no answer with password={request.query_params['secret']}") from exc


@app.get("/stream")
async def stream(secret: str) -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        raise RuntimeError(f"Authorization: Bearer {secret}")

    return StreamingResponse(parts())


@app.get("/later")
async def later(background: BackgroundTasks, secret: Annotated[str, "in the task"]) -> int:
    async def fail() -> None:
        raise RuntimeError(f"redis://:{secret}@cache:6379 is gone")

    background.add_task(fail)
    return 1
