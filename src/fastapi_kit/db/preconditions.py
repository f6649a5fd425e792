"""Conditional requests (RFC 9110, 13): change what the client has seen or nothing, and send only what it has not."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Header
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from fastapi_kit.errors import BadRequestError, PreconditionFailedError, PreconditionRequiredError, raises

__all__ = ["EntityTagged", "IfMatch", "IfMatchCondition", "IfNoneMatch", "IfNoneMatchCondition", "RequiredIfMatch"]

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
# Empty elements are to be ignored (RFC 9110, 5.6.1.2). No two parts take the same text, so a long header costs one
# pass. Possessive parts would say so, but CPython before 3.11.5 matches them wrongly.
_LIST = re.compile(rf"(?:[ \t]*(?:{_TAG.pattern}[ \t]*)?(?:,|$))*")


class EntityTagged(Protocol):
    """Has an entity tag, as each `Versioned` model does."""

    @property
    def etag(self) -> str:
        """Return the tag as it stands in the header, quotes included."""
        ...


@dataclass(frozen=True, slots=True)
class IfMatchCondition:
    """Hold the `If-Match` of a request, for `check`; made by `IfMatch` and `RequiredIfMatch`."""

    tags: frozenset[str] | None
    """The tags that it lists; `*` alone for any; None where there is no such header."""

    def check(self, current: EntityTagged | None) -> None:
        """Return if the client means the present version, or sent no condition (RFC 9110, 13.1.1).

        `current` is what is stored, None for nothing. Call it before the change. Tags are compared strongly: a weak
        one matches none. Who changes the row between this and the flush makes the flush fail, as a 412 too.

        Raises `PreconditionFailedError` (412, `precondition_failed`).
        """
        if self.tags is None or (current is not None and self._matches(self.tags, current.etag)):
            return
        raise PreconditionFailedError("The stored version is another than that of If-Match.")

    @staticmethod
    def _matches(tags: frozenset[str], etag: str) -> bool:
        return "*" in tags or (etag in tags and not etag.startswith("W/"))


@dataclass(frozen=True, slots=True)
class IfNoneMatchCondition:
    """Hold the `If-None-Match` of a request, for `check`; made by `IfNoneMatch`."""

    tags: frozenset[str] | None
    """The tags that it lists, without `W/`; `*` alone for any; None where there is no such header."""
    is_read: bool
    """Whether the method is GET or HEAD."""

    def check(self, current: EntityTagged | None) -> None:
        """Return if the client has not the present version, or sent no condition (RFC 9110, 13.1.2).

        `current` is what is stored, None for nothing: under `If-None-Match: *` a PUT creates and never replaces.

        Raises `HTTPException` (304) for a GET or HEAD, with the `ETag` and no other header of yours; else
        `PreconditionFailedError` (412, `precondition_failed`).
        """
        if self.tags is None or current is None:
            return
        if "*" not in self.tags and current.etag.removeprefix("W/") not in self.tags:
            return
        if self.is_read:
            raise HTTPException(304, headers={"ETag": current.etag})
        raise PreconditionFailedError("There is a stored version, and If-None-Match excludes it.")


def _parse(name: str, lines: Sequence[str] | None) -> frozenset[str] | None:
    if lines is None:
        return None
    text = ",".join(lines).strip(" \t")
    if text == "*":
        return frozenset("*")
    if not _LIST.fullmatch(text):
        raise BadRequestError(f'{name} is no list of entity tags: send * or the ETag as you got it, "..." with quotes.')
    return frozenset(_TAG.findall(text))


_IfMatchLines = Annotated[
    list[str] | None, Header(alias="If-Match", description="The `ETag` of the version that is to be changed.")
]
_IfNoneMatchLines = Annotated[
    list[str] | None, Header(alias="If-None-Match", description="The `ETag` of the version that the client has.")
]


@raises(BadRequestError, PreconditionFailedError)
async def _if_match(if_match: _IfMatchLines = None) -> IfMatchCondition:
    return IfMatchCondition(_parse("If-Match", if_match))


@raises(BadRequestError, PreconditionFailedError, PreconditionRequiredError)
async def _required_if_match(if_match: _IfMatchLines = None) -> IfMatchCondition:
    if if_match is None:
        raise PreconditionRequiredError("Send the ETag of the version that you mean to change as If-Match.")
    return IfMatchCondition(_parse("If-Match", if_match))


@raises(BadRequestError, PreconditionFailedError)
async def _if_none_match(connection: HTTPConnection, if_none_match: _IfNoneMatchLines = None) -> IfNoneMatchCondition:
    tags = _parse("If-None-Match", if_none_match)
    if tags is not None:
        tags = frozenset(tag.removeprefix("W/") for tag in tags)
    return IfNoneMatchCondition(tags, connection.scope.get("method") in {"GET", "HEAD"})


IfMatch = Annotated[IfMatchCondition, Depends(_if_match)]
"""The `If-Match` of the request, if there is one; a malformed one is a `BadRequestError` (400, `bad_request`)."""

RequiredIfMatch = Annotated[IfMatchCondition, Depends(_required_if_match)]
"""As `IfMatch`; a request without is a `PreconditionRequiredError` (428, `precondition_required`; RFC 6585, 3)."""

IfNoneMatch = Annotated[IfNoneMatchCondition, Depends(_if_none_match)]
"""The `If-None-Match` of the request, if there is one; a malformed one is a `BadRequestError` (400, `bad_request`)."""
