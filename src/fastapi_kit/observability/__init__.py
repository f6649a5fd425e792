"""What the operator of a service sees of its requests: ids, logs, metrics, traces; and the headers of each response."""

from fastapi_kit.observability.cors import Cors
from fastapi_kit.observability.fields import bind
from fastapi_kit.observability.headers import SecurityHeaders
from fastapi_kit.observability.installation import install
from fastapi_kit.observability.logs import (
    JsonFormatter,
    RequestContextFilter,
    TextFormatter,
    configure_logging,
    structlog_to_logging,
)
from fastapi_kit.observability.redaction import Redactor
from fastapi_kit.observability.telemetry import Telemetry

__all__ = [
    "Cors",
    "JsonFormatter",
    "Redactor",
    "RequestContextFilter",
    "SecurityHeaders",
    "Telemetry",
    "TextFormatter",
    "bind",
    "configure_logging",
    "install",
    "structlog_to_logging",
]
