"""The providers of OpenTelemetry's SDK: what collects, what pushes, and what Prometheus reads."""

import time
from collections.abc import Callable, Mapping
from threading import Lock, Thread

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

from fastapi_kit.observability._redacting_export import RedactingLogExporter, RedactingSpanExporter

__all__ = ["Pipeline"]

# No `network.protocol.version`: a client writes it into its request line, and each value would be a series. No
# aggregation either, so that the bounds of the buckets stay those that FastAPI advises.
_DURATIONS = View(
    instrument_name="http.server.request.duration",
    meter_name="fastapi",
    attribute_keys={"http.route", "http.request.method", "http.response.status_code", "error.type", "url.scheme"},
)


class Pipeline:
    """Three providers that end in a registry of Prometheus, and in a collector where there is one.

    Nothing waits for the collector: threads of the SDK send batches, and what their queues cannot hold is dropped.
    """

    def __init__(
        self,
        resource: Mapping[str, str | bool | int | float],
        *,
        endpoint: str | None,
        headers: Mapping[str, str],
        sample_ratio: float,
        exception_text: bool,
    ) -> None:
        described = Resource.create(dict(resource))
        self._registry = CollectorRegistry()
        self._scraping = Lock()
        self._pushes: list[Callable[[], object]] = []
        readers: list[MetricReader] = [_ScrapedReader(scope_info_enabled=False, registry=self._registry)]
        # No `atexit` of theirs: it would wait for 30 s for a collector that hangs.
        self.tracer_provider = TracerProvider(
            ParentBased(TraceIdRatioBased(sample_ratio)), described, shutdown_on_exit=False
        )
        self.logger_provider = LoggerProvider(described, shutdown_on_exit=False)
        if endpoint is not None:
            spans = BatchSpanProcessor(
                RedactingSpanExporter(
                    OTLPSpanExporter(f"{endpoint}/v1/traces", headers=headers), exception_text=exception_text
                )
            )
            logs = BatchLogRecordProcessor(
                RedactingLogExporter(
                    OTLPLogExporter(f"{endpoint}/v1/logs", headers=headers), exception_text=exception_text
                )
            )
            metrics = PeriodicExportingMetricReader(OTLPMetricExporter(f"{endpoint}/v1/metrics", headers=headers))
            self.tracer_provider.add_span_processor(spans)
            self.logger_provider.add_log_record_processor(logs)
            readers.append(metrics)
            self._pushes = [spans.force_flush, logs.force_flush, metrics.force_flush]
        self.meter_provider = MeterProvider(readers, described, shutdown_on_exit=False, views=[_DURATIONS])

    def flush(self, timeout_seconds: float) -> bool:
        """Push what is queued; False if that is not done in time.

        The SDK has no bound of its own (open-telemetry/opentelemetry-python#4568), so that its waiting is done by
        threads that nobody waits for.
        """
        deadline = time.monotonic() + timeout_seconds
        threads = [Thread(target=push, name="fastapi_kit_telemetry_flush", daemon=True) for push in self._pushes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics, as OpenMetrics where that is accepted, else as Prometheus has it, and the media type."""
        with self._scraping:  # of two collections at once one could get what both collected
            if "application/openmetrics-text" in accept:
                text: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
                return text, openmetrics.CONTENT_TYPE_LATEST
            return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4


class _ScrapedReader(PrometheusMetricReader):
    """The reader of Prometheus, for which a flush is nothing.

    Its own flush collects for nobody, and the next scrape then has each series twice, which Prometheus refuses.
    """

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True
