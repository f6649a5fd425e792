"""Refusing at start-up what would not work, or would give a secret away."""

import logging
import re
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from fastapi_kit.errors import ConfigurationError

__all__ = [
    "check_flush",
    "check_paths",
    "check_service",
    "endpoint_of",
    "headers_of",
    "ratio_of",
]

_log = logging.getLogger("fastapi_kit.observability")

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_BASE = "give the base of the collector, such as http://collector:4318"


def check_service(service_name: str) -> None:
    """Refuse a service without a name."""
    if not service_name.strip():
        raise ConfigurationError("service_name is empty: it is what traces and metrics are found by")


def check_paths(metrics_path: str, exclude_paths: Collection[str]) -> None:
    """Refuse paths that no request has."""
    if isinstance(exclude_paths, str):
        raise ConfigurationError("exclude_paths is one string: give a tuple of paths")
    for path in (metrics_path, *exclude_paths):
        if not path.startswith("/") or "{" in path:
            raise ConfigurationError(f"{path!r} is no path of a request: it starts with / and has no parameters")


def ratio_of(sample_ratio: float | None, endpoint: str | None) -> float:
    """Return the part of the traces that is recorded: none where nobody gets them."""
    ratio = float(endpoint is not None) if sample_ratio is None else sample_ratio
    if not 0 <= ratio <= 1:
        raise ConfigurationError(f"sample_ratio is {ratio}: choose 0 (no traces) to 1 (all)")
    return ratio


def check_flush(flush_timeout_seconds: float) -> None:
    """Refuse a shutdown that does not wait, or waits for long."""
    if not 0 < flush_timeout_seconds <= 60:
        raise ConfigurationError(
            f"flush_timeout_seconds is {flush_timeout_seconds}: choose more than 0 and at most 60; 5 is common"
        )


def endpoint_of(url: str | None) -> str | None:
    """Return the base URL of a collector without a slash at its end; no error shows it, since it may hold a key.

    The port for gRPC is a warning and not an error, since a collector may have been set to take http there.
    """
    if url is None:
        return None
    if not _is_http(url):
        raise ConfigurationError(f"otlp_endpoint is no http or https URL: {_BASE}")
    if "@" in url or "?" in url or "#" in url:
        raise ConfigurationError(
            "otlp_endpoint holds credentials, a query or a fragment, and URLs get logged: put keys into otlp_headers"
        )
    base = url.rstrip("/")
    if base.endswith(("/v1/traces", "/v1/metrics", "/v1/logs")):
        raise ConfigurationError(f"otlp_endpoint is that of one kind of telemetry: {_BASE}")
    if urlsplit(base).port == 4317:
        _log.warning(
            "otlp_endpoint has port 4317, where collectors take gRPC by default; this sends http/protobuf, which they "
            "take on port 4318."
        )
    return base


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in {"http", "https"}
        and bool(parts.hostname)
        and port != 0
        and url.isprintable()
        and " " not in url
    )


def headers_of(headers: Mapping[str, str] | None, endpoint: str | None) -> dict[str, str]:
    """Return the headers for a collector; no error shows a value.

    The HTTP client would quote a value that it cannot send in its error, which gets logged.
    """
    if headers and endpoint is None:
        raise ConfigurationError("otlp_headers are for a collector: give otlp_endpoint too")
    for name, value in (headers or {}).items():
        if not _HEADER_NAME.fullmatch(name):
            raise ConfigurationError("a name in otlp_headers is no name of an HTTP header (RFC 9110, 5.1)")
        if not _HEADER_VALUE.fullmatch(value):
            raise ConfigurationError(
                f"the value of {name!r} in otlp_headers is empty, or not of printable ASCII without spaces around it; "
                "a line break at the end of a key that was read from a file is common: strip it"
            )
    return dict(headers or {})
