"""FastAPI's own telemetry, given to Prometheus and to an OpenTelemetry collector without what nobody should read."""

import logging
from collections.abc import AsyncGenerator, Collection, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.telemetry import TelemetryConfig
from opentelemetry import _logs, metrics, trace

from fastapi_kit._workers import number_of_workers
from fastapi_kit.errors import ConfigurationError, needs_extra
from fastapi_kit.observability._telemetry_checks import (
    check_flush,
    check_paths,
    check_service,
    endpoint_of,
    headers_of,
    ratio_of,
)

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["Telemetry"]

_log = logging.getLogger("fastapi_kit.observability")
_scrapes: RunVar[CapacityLimiter] = RunVar("fastapi_kit_scrapes")


class Telemetry:
    """Wire the spans, metrics and logs that FastAPI makes itself to `GET /metrics` and to a collector.

        telemetry = Telemetry("shop", otlp_endpoint="http://collector:4318")
        app = FastAPI(telemetry=telemetry.config)
        app.include_router(telemetry.router)

    Without `otlp_endpoint` nothing leaves the process but by `/metrics`. Needs the extra `telemetry`.

    - `service_name`: what the service is called in traces and metrics (`service.name`).
    - `otlp_endpoint`: the base URL of a collector, to which OTLP goes as http/protobuf: `/v1/traces`, `/v1/metrics` and
      `/v1/logs` are added. Port 4317, which is for gRPC by default, is a warning. Threads in the background push; a
      collector that is down or slow delays no request and no start-up, and costs what the queues (2,048 spans, 2,048
      log records) cannot hold.
    - `otlp_headers`: sent with each push, for the key of the collector. They are secrets: never logged.
    - `metrics_path`: where Prometheus reads. Change it here and include the router without a prefix, so that the
      telemetry leaves scrapes out.
    - `exclude_paths`: whole paths of which there is no telemetry.
    - `sample_ratio`: 0 to 1, the part of the traces that is recorded; if left out, all with a collector, none without.
      A request with a `traceparent` follows the flag `sampled` in it (W3C Trace Context, 3.2.2.5), so that a trace is
      whole. Each request has a trace id all the same, and metrics count all.
    - `resource_attributes`: more about the process, such as `{"deployment.environment.name": "production"}`. They are
      exported as they are.
    - `operation_spans`: spans for dependencies, endpoint, serialization and background tasks too.
    - `flush_timeout_seconds`: above 0, up to 60: how long the shutdown waits for the last push.
    - `unsafe_export_exception_text`: exports the text of exceptions, and with it whatever was put there: rows, tokens,
      passwords. Only for a collector that may hold all of that.

    Other settings are those of OpenTelemetry's SDK, from its environment variables (`OTEL_BSP_...`,
    `OTEL_EXPORTER_OTLP_CERTIFICATE`), read here and not at import. No global is set, see `make_global`.

    Security: `/metrics` tells all routes and how often they fail, to whoever can read it. Keep its path away from the
    public side of your proxy, or give a guard: `app.include_router(telemetry.router, dependencies=[...])`.
    What is pushed has no text of exceptions, no values of query parameters, and no headers but harmless ones. The path
    of a request is in its span (`url.path`): a secret in a path is exported. Redaction is in the exporters of this
    object: an exporter that you add to a provider yourself gets everything. Over plain http the network between here
    and the collector reads all, `otlp_headers` too.

    Raises `ConfigurationError` for values outside of these bounds, for an endpoint that is no http(s) URL or holds
    credentials, and without the extra.
    """

    def __init__(
        self,
        service_name: str,
        *,
        otlp_endpoint: str | None = None,
        otlp_headers: Mapping[str, str] | None = None,
        metrics_path: str = "/metrics",
        exclude_paths: Collection[str] = ("/health/live", "/health/ready"),
        sample_ratio: float | None = None,
        resource_attributes: Mapping[str, str | bool | int | float] | None = None,
        operation_spans: bool = False,
        flush_timeout_seconds: float = 5.0,
        unsafe_export_exception_text: bool = False,
    ) -> None:
        check_service(service_name)
        check_paths(metrics_path, exclude_paths)
        check_flush(flush_timeout_seconds)
        endpoint = endpoint_of(otlp_endpoint)
        headers = headers_of(otlp_headers, endpoint)
        ratio = ratio_of(sample_ratio, endpoint)
        with needs_extra("telemetry"):
            from fastapi_kit.observability._telemetry_pipeline import Pipeline  # noqa: PLC0415  # the SDK is optional
        self._pipeline = Pipeline(
            {**(resource_attributes or {}), "service.name": service_name},
            endpoint=endpoint,
            headers=headers,
            sample_ratio=ratio,
            exception_text=unsafe_export_exception_text,
        )
        self._flush_timeout_seconds = flush_timeout_seconds
        self._excluded = frozenset({metrics_path, *exclude_paths})
        self._pushes = endpoint is not None
        self.config: TelemetryConfig = {
            "tracer_provider": self.tracer_provider,
            "meter_provider": self.meter_provider,
            "logger_provider": self.logger_provider,
            "logs": self._pushes,  # formatting a traceback is not for nothing
            "operation_spans": operation_spans,
            "auto_configure": False,  # it would add exporters that do not redact
            "exclude": self._excludes,
        }
        """For `FastAPI(telemetry=...)`."""
        self.router: APIRouter = self._make_router(metrics_path)
        """`GET /metrics`, not in the OpenAPI; when the app shuts down it flushes."""

    @property
    def tracer_provider(self) -> "TracerProvider":
        """Where spans come from, for instrumentation that takes a provider."""
        return self._pipeline.tracer_provider

    @property
    def meter_provider(self) -> "MeterProvider":
        """Where metrics come from: `observe_pools(meter=telemetry.meter_provider.get_meter("shop"), shop=db)`."""
        return self._pipeline.meter_provider

    @property
    def logger_provider(self) -> "LoggerProvider":
        """Where log records come from, for instrumentation that takes a provider."""
        return self._pipeline.logger_provider

    def make_global(self) -> None:
        """Make the providers those of the process, for instrumentation that asks for no provider (SQLAlchemy, httpx).

        OpenTelemetry takes each once in a process, so call it in the main module and not in a library. Raises
        `ConfigurationError` if others are set already.
        """
        if trace.get_tracer_provider() is not self.tracer_provider:
            trace.set_tracer_provider(self.tracer_provider)
            metrics.set_meter_provider(self.meter_provider)
            _logs.set_logger_provider(self.logger_provider)
        current = (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider())
        if current != (self.tracer_provider, self.meter_provider, self.logger_provider):
            raise ConfigurationError(
                "this process has OpenTelemetry providers already: call make_global() once, and start without "
                "opentelemetry-instrument, or give these providers to each instrumentation"
            )

    def flush(self) -> bool:
        """Push what is queued, for at most `flush_timeout_seconds`; return False if that was not enough.

        The router does it when the app shuts down; scripts and workers without an app call it at their end. It blocks:
        call it in a thread from async code. What could not be pushed by then is lost with the process, and a warning
        says so. A collector that refuses a batch is logged by OpenTelemetry.
        """
        done = self._pipeline.flush(self._flush_timeout_seconds)
        if not done:
            _log.warning(
                "The collector did not take the last spans, metrics and log records within %s seconds: they are lost "
                "if the process ends now.",
                self._flush_timeout_seconds,
            )
        return done

    def _excludes(self, scope: MutableMapping[str, Any]) -> bool:
        path: str = scope["path"]
        return path in self._excluded or path.removeprefix(scope.get("root_path", "")) in self._excluded

    def _make_router(self, metrics_path: str) -> APIRouter:
        @asynccontextmanager
        async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
            if not self._pushes and number_of_workers() != 1:
                _log.warning(
                    "Each worker of this server has its own metrics, and %s reads those of one of them, any at each "
                    "scrape. Push to a collector, Telemetry(otlp_endpoint=...), or run one worker in each container "
                    "(of gunicorn: WEB_CONCURRENCY=1).",
                    metrics_path,
                )
            try:
                yield
            finally:  # `atexit` would be too late: uvicorn ends itself by the signal that it got
                await run_sync(self.flush, limiter=CapacityLimiter(1))

        router = APIRouter(lifespan=lifespan)

        @router.get(metrics_path, include_in_schema=False)
        async def read_metrics(request: Request) -> Response:
            accept = request.headers.get("accept", "")
            text, media_type = await run_sync(self._pipeline.scrape, accept, limiter=_limiter())
            return Response(text, headers={"Content-Type": media_type, "Cache-Control": "no-store"})

        return router


def _limiter() -> CapacityLimiter:
    """Return what makes scrapes wait for each other, outside of the threads that endpoints share."""
    try:
        return _scrapes.get()
    except LookupError:
        limiter = CapacityLimiter(1)
        _scrapes.set(limiter)
        return limiter
