"""Writing problem details (RFC 9457) as responses."""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic_core import PydanticSerializationError, to_json
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from fastapi_kit.errors.problem import Problem, code_of, phrase_of
from fastapi_kit.errors.request_ids import context_of

__all__ = ["MEDIA_TYPE", "Renderer", "TitleOf"]

_log = logging.getLogger("fastapi_kit.errors")

MEDIA_TYPE = "application/problem+json"

_OF_THE_BODY = frozenset({"content-type", "content-length"})

TitleOf = Callable[[str, str, HTTPConnection], str]
"""`(code, title, connection) -> title`, for titles in the caller's language."""


class Renderer:
    """Turn exceptions into problem responses, in the one shape of the app they were installed on."""

    def __init__(self, type_base: str | None = None, title_of: TitleOf | None = None) -> None:
        self._type_base = type_base
        self._title_of = title_of

    def render(
        self,
        connection: HTTPConnection,
        status: int,
        code: str | None = None,
        *,
        title: str | None = None,
        detail: str = "",
        extensions: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return the response for one problem; `code` and `title` default to those of the status."""
        code = code or code_of(status)
        title = title or phrase_of(status)
        if self._title_of is not None:
            title = self._translated(self._title_of, code, title, connection)
        members = self.members(status, code, title, detail)
        context = context_of(connection.scope)
        if context.fields is None:
            context.fields = {}
        context.fields["problem"] = code  # for the log lines of the request
        members["request_id"] = context.id
        if extensions:
            members |= extensions
        if headers:
            headers = {name: value for name, value in headers.items() if name.lower() not in _OF_THE_BODY}
        return Response(_json(members), status, headers, MEDIA_TYPE)

    def _translated(self, title_of: TitleOf, code: str, title: str, connection: HTTPConnection) -> str:
        try:
            return title_of(code, title, connection)
        except Exception:  # noqa: BLE001  # the error that is to be answered comes first
            _log.exception("title_of failed, request id %s", context_of(connection.scope).id)
            return title

    def members(self, status: int, code: str, title: str, detail: str = "") -> dict[str, Any]:
        """Return the standard members of one problem."""
        phrase = phrase_of(status)
        if self._type_base is None:
            # about:blank promises the title of the status (RFC 9457, 4.2.1): the problem's own goes below it.
            detail = detail or (title if title != phrase else "")
            members: dict[str, Any] = {"type": "about:blank", "title": phrase}
        else:
            members = {"type": self._type_base + code, "title": title}
        members["status"] = status
        if detail and detail != members["title"]:
            members["detail"] = detail
        members["code"] = code
        return members

    def render_exception(self, connection: HTTPConnection, exc: HTTPException) -> Response:
        """Return the response for a problem or for any other `HTTPException`, with its headers.

        Statuses without a body have none; those below 400 are answered as FastAPI does, text and all. The
        detail of a bare 500 is left out: it is where applications put the text of exceptions.
        """
        status = exc.status_code
        if isinstance(exc, Problem):
            return self.render(
                connection,
                status,
                exc.code,
                title=exc.title,
                detail=exc.detail,
                extensions=exc.extensions,
                headers=exc.headers,
            )
        if status < 400:
            has_body = status >= 200 and status not in (204, 205, 304)
            return Response(str(exc.detail) if has_body else None, status, exc.headers, "text/plain")
        detail: Any = exc.detail if status != HTTPStatus.INTERNAL_SERVER_ERROR else ""
        if isinstance(detail, str):
            return self.render(connection, status, detail=detail, headers=exc.headers)
        extensions = {} if detail is None else {"context": detail}
        return self.render(connection, status, extensions=extensions, headers=exc.headers)


def _nothing(_: object) -> None:
    """Stand for what is no JSON: its repr is for nobody outside."""


def _json(members: Mapping[str, Any]) -> bytes:
    try:
        return to_json(members, inf_nan_mode="null", fallback=_nothing)
    except (PydanticSerializationError, UnicodeEncodeError, ValueError):
        # A lone surrogate, echoed by somebody's detail or sent as a member's name, has no UTF-8; nor have some bytes.
        return to_json(_encodable(members), inf_nan_mode="null", fallback=_nothing)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    members: Any = value
    if isinstance(value, Mapping):
        return {_encodable(name): _encodable(item) for name, item in members.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_encodable(item) for item in members]
    return value
