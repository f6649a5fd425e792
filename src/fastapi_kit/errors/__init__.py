"""One error shape for a whole API: RFC 9457 problem details, and the handlers that see to it."""

from fastapi_kit.errors.configuration import ConfigurationError, needs_extra
from fastapi_kit.errors.declaration import problems_of, raises
from fastapi_kit.errors.installation import install
from fastapi_kit.errors.markdown import catalogue_markdown
from fastapi_kit.errors.pages import catalogue_router
from fastapi_kit.errors.problem import Problem, catalogue
from fastapi_kit.errors.request_ids import request_id
from fastapi_kit.errors.standard import (
    BadRequestError,
    ConflictError,
    NotFoundError,
    PreconditionFailedError,
    PreconditionRequiredError,
    UnavailableError,
)

__all__ = [
    "BadRequestError",
    "ConfigurationError",
    "ConflictError",
    "NotFoundError",
    "PreconditionFailedError",
    "PreconditionRequiredError",
    "Problem",
    "UnavailableError",
    "catalogue",
    "catalogue_markdown",
    "catalogue_router",
    "install",
    "needs_extra",
    "problems_of",
    "raises",
    "request_id",
]
