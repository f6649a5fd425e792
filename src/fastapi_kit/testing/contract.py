"""Documented contains observed: a test fails when a response is not in the app's OpenAPI document."""

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_kit._fastapi import matched_route, route_template
from fastapi_kit._layers import Layer, has_layer
from fastapi_kit.testing.comparison import Answer, Comparison, ContractError, Document, escaped

__all__ = ["Contract", "ContractError"]

_OF_THE_APP = frozenset({404, 405, 413, 500})
"""What answers where no route matches: the router, and what stands around it."""


class Contract:
    """Wrap an app for any test client, so that each response is compared with `app.openapi()`.

    Clients are written from the document: an error that is not in it is one that nobody handles. With
    `TestClient(Contract(app))` each test that sends a request also checks what the document says about it:

    - The operation lists the status, exactly or as `4XX`. `default` counts only for what any route may answer: 400
      `bad_request`, 413, 415 and 500. Else it would allow everything.
    - It lists the media type. Where it lists none, there is no body.
    - A JSON body fits its schema (JSON Schema 2020-12; formats are not enforced).
    - The `code` of a problem is one of those documented for this operation and status.
    - Where no route matches, the 404, and the 405 of a wrong method, are problems, if the app has `errors.install`.

    Not read are the bodies of HEAD, of what is not JSON or is compressed, and of a response that breaks off. Left alone
    are routes that are not in the document, mounted apps (wrap each by itself), WebSockets, what a middleware answers,
    and a route that a middleware hides by passing on a copy of the scope. Needs the extra `testing`.

    Raises `ContractError` (an `AssertionError`) out of the app once the response is sent: `TestClient` and
    `httpx2.ASGITransport` raise it in the test. Where they are told not to (`raise_server_exceptions=False`), and over
    a real server, assert at the end that `errors` is empty.

    >>> from fastapi import FastAPI
    >>> from starlette.testclient import TestClient
    >>> app = FastAPI()
    >>> @app.get("/", response_model=int)
    ... async def read() -> int:
    ...     return 1
    >>> TestClient(Contract(app)).get("/").json()
    1
    """

    def __init__(self, app: FastAPI) -> None:
        self.app: ASGIApp = app
        self.errors: list[ContractError] = []
        """The errors that were raised, in order."""
        self.checked: set[tuple[str, str, int]] = set()
        """Method, path template and status of each response that was compared with an operation."""
        self._app = app
        self._document: Document | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI 3)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = Answer()

        async def pass_on(message: Message) -> None:
            answer.add(message)
            await send(message)

        await self.app(scope, receive, pass_on)
        try:
            self._check(scope, answer)
        except ContractError as error:
            self.errors.append(error)
            raise

    def _check(self, scope: Scope, answer: Answer) -> None:
        if scope.get("app") is not self._app or not answer.status:
            return  # a mounted app answered, or nobody
        document = self._current_document()
        method: str = scope["method"]
        template, route = route_template(scope), matched_route(scope)
        pointer = f"#/paths/{escaped(template)}/{method.lower()}/responses"
        who = f"{method} {template} answered {answer.status}"
        if method == "HEAD":
            answer.forget_body()
        if route is not None and document.has(pointer):
            self.checked.add((method, template, answer.status))
            Comparison(document, answer, who).with_operation(pointer)
        elif answer.status in _OF_THE_APP and method != "HEAD" and has_layer(self._app, Layer.ERRORS):
            is_wrong_method = answer.status == 405 and method not in getattr(route, "methods", {method})
            if "endpoint" not in scope or is_wrong_method:
                Comparison(document, answer, who).with_problem()

    def _current_document(self) -> Document:
        content = self._app.openapi()
        if self._document is None or self._document.content is not content:  # a route was added
            self._document = Document(content)
        return self._document
