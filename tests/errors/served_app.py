"""An app with every way to an error response that FastAPI has, for the tests over a socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Form, Header, HTTPException, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_kit import errors
from fastapi_kit.errors import ConflictError, NotFoundError, Problem

BOTH = ["GET", "HEAD"]


class S3cretError(Exception):
    """A crash, whose class and text are not for clients."""


class ServedFullError(Problem):
    code = "served_full"
    status = 409
    title = "No room"
    room: int = 0


def crash() -> Exception:
    return S3cretError("s3cret")


def _group(*exceptions: Exception) -> Exception:
    return ExceptionGroup("s3cret", exceptions)


RAISED: dict[str, Callable[[], Exception]] = {
    "crash": crash,
    "problem": lambda: ServedFullError("Only a little.", room=3),
    "http": lambda: HTTPException(429, "slowly", headers={"Retry-After": "7"}),
    "http500": lambda: HTTPException(500, "s3cret"),
    "group-problem": lambda: _group(NotFoundError("gone")),
    "group-problems": lambda: _group(ConflictError("a"), _group(ConflictError("b"))),
    "group-http": lambda: _group(HTTPException(401, "who", headers={"WWW-Authenticate": "Bearer"})),
    "group-https": lambda: _group(HTTPException(403, "no"), HTTPException(403, "not")),
    "group-statuses": lambda: _group(HTTPException(403, "s3cret"), HTTPException(404, "no")),
    "group-crash": lambda: _group(crash()),
    "group-mixed": lambda: _group(ConflictError("a"), _group(crash())),
    "group-nested": lambda: _group(_group(_group(NotFoundError("gone")))),
}
"""What can be raised anywhere, by name."""

DETAILS: dict[str, Any] = {
    "str": "because",
    "dict": {"why": ["because", float("inf")], "status": 200},
    "list": [1, {"a": None}],
    "none": None,
    "object": {"value": object, "bytes": b"\xff", "text": "\ud800"},
}


async def task_group(library: str, *coroutines: Callable[[], Awaitable[Any]]) -> None:
    """Run in a task group of a library; what one raises comes as an ExceptionGroup."""

    async def run(coroutine: Callable[[], Awaitable[Any]]) -> None:
        await coroutine()

    if library == "anyio":
        async with anyio.create_task_group() as group:
            for coroutine in coroutines:
                group.start_soon(run, coroutine)
    else:
        async with asyncio.TaskGroup() as tasks:
            for coroutine in coroutines:
                tasks.create_task(run(coroutine))


class Pure:
    """A pure ASGI middleware that raises what its header asks for, before the app, or after the response began."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        when, _, what = dict(scope.get("headers", ())).get(b"x-pure", b"").decode().partition(" ")
        if when == "before":
            raise RAISED[what]()

        async def pass_on(message: Message) -> None:
            await send(message)
            if when == "began" and message["type"] == "http.response.start":
                raise RAISED[what]()

        await self.app(scope, receive, pass_on)
        if when == "after":
            raise RAISED[what]()


class Based(BaseHTTPMiddleware):
    """The same as `Pure` in the way of Starlette."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        when, _, what = request.headers.get("x-based", "").partition(" ")
        if when == "before":
            raise RAISED[what]()
        response = await call_next(request)
        if when == "after":
            raise RAISED[what]()
        return response


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    i: int = 0
    name: str = Field("", max_length=20)
    tags: dict[str, list[int]] = {}


class Filters(BaseModel):
    model_config = ConfigDict(extra="forbid")
    page: int = 1
    word: Annotated[str, Field(max_length=3)] = ""


router = APIRouter()


@router.api_route("/raise/{what}", methods=BOTH)
async def raise_(what: str) -> None:
    raise RAISED[what]()


@router.api_route("/threaded/{what}", methods=BOTH)
def raise_in_a_thread(what: str) -> None:
    raise RAISED[what]()


@router.api_route("/detail/{kind}", methods=BOTH)
async def detail(kind: str) -> None:
    error = HTTPException(400, DETAILS[kind], headers={"Allow": "GET", "Retry-After": "7", "X-Own": "kept"})
    error.detail = DETAILS[kind]
    raise error


@router.api_route("/bodiless/{status}", methods=BOTH)
async def bodiless(status: int) -> None:
    raise HTTPException(status, "s3cret", headers={"ETag": '"1"'})


@router.api_route("/task-group/{library}/{what}", methods=BOTH)
async def in_a_task_group(library: str, what: str) -> None:
    async def fail() -> None:
        raise RAISED[what]()

    await task_group(library, fail, anyio.sleep_forever)


def depends_on(scope: Any, when: str) -> Any:
    async def dependency(what: str) -> AsyncIterator[None]:
        if when == "before":
            raise RAISED[what]()
        yield
        if when == "after":
            raise RAISED[what]()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_fail(what))

    return Depends(dependency, scope=scope)


async def _fail(what: str) -> None:
    raise RAISED[what]()


for scope_ in ("function", "request"):
    for when_ in ("before", "after", "grouped"):

        @router.api_route(f"/depends/{scope_}/{when_}/{{what}}", methods=BOTH, dependencies=[depends_on(scope_, when_)])
        async def depend() -> str:
            return "whole"


@router.api_route("/background/{what}", methods=BOTH)
async def background(what: str, tasks: BackgroundTasks) -> str:
    tasks.add_task(_fail, what)
    return "whole"


@router.api_route("/stream/{when}/{what}", methods=BOTH)
async def stream(when: str, what: str, length: int | None = None) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        if when == "half":
            yield b"half"
        raise RAISED[what]()

    headers = {} if length is None else {"content-length": str(length)}
    return StreamingResponse(parts(), headers=headers, media_type="text/csv")


@router.api_route("/text/{status}", methods=BOTH)
async def text(status: int) -> Response:
    return PlainTextResponse("because", status)


@router.api_route("/empty/{status}", methods=BOTH)
async def empty(status: int) -> Response:
    return Response(status_code=status, headers={"X-Own": "kept"})


@router.api_route("/wrong-response", methods=BOTH, response_model=Body)
async def wrong_response() -> Any:
    return {"i": "s3cret"}


@router.post("/body")
async def body(body: Body) -> str:
    return "whole"


@router.post("/small", max_body_size=10)
async def small(body: Body) -> None: ...


@router.post("/form")
async def form(i: Annotated[int, Form()], name: Annotated[str, Form(max_length=3)] = "") -> None: ...


@router.api_route("/filtered/{i}", methods=BOTH)
async def filtered(filters: Annotated[Filters, Query()], i: int, x_n: Annotated[int, Header()] = 1) -> None: ...


@router.post("/reads")
async def reads(request: Request) -> str:
    """Read a body of which the client never sends the rest."""
    request.app.state.reading.set()
    try:
        return (await request.body()).decode()
    except ClientDisconnect:
        request.app.state.left.set()
        raise


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve nothing, as a broken app does."""


def make_app(debug: bool = False) -> FastAPI:
    app = FastAPI(debug=debug, max_body_size=10_000)
    mounted, based = FastAPI(debug=debug), FastAPI(debug=debug)
    for each in (app, mounted, based):
        errors.install(each)
        each.include_router(router)
    app.add_middleware(Pure)
    based.add_middleware(Based)
    app.mount("/mounted", mounted)
    app.mount("/based", based)
    app.mount("/nothing", nothing)
    return app
