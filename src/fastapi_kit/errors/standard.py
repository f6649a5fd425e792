"""The problems that most services share; write your own for what is particular to yours."""

from collections.abc import Mapping
from typing import ClassVar

from fastapi_kit.errors.problem import Problem

__all__ = [
    "BadRequestError",
    "ConflictError",
    "NotFoundError",
    "PreconditionFailedError",
    "PreconditionRequiredError",
    "UnavailableError",
]


class BadRequestError(Problem):
    """Answer 400: the request cannot be understood."""

    code = "bad_request"
    status = 400


class NotFoundError(Problem):
    """Answer 404: there is no such thing, or the caller may not know of it."""

    code = "not_found"
    status = 404


class ConflictError(Problem):
    """Answer 409: the state of the thing does not allow it."""

    code = "conflict"
    status = 409


class PreconditionFailedError(Problem):
    """Answer 412: the thing has changed since the client read it (RFC 9110, 15.5.13)."""

    code = "precondition_failed"
    status = 412


class PreconditionRequiredError(Problem):
    """Answer 428: the request must say, with `If-Match`, which version it is to change (RFC 6585, 3)."""

    code = "precondition_required"
    status = 428


class UnavailableError(Problem):
    """Answer 503: it may work later; pass `headers={"Retry-After": seconds}` where that is known."""

    code = "service_unavailable"
    status = 503
    response_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "Seconds to wait, where that is known."}
