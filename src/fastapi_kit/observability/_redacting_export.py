"""Exporters that redact, so that what other instrumentation recorded is covered too."""

import copy
import dataclasses
from collections.abc import Sequence

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Status

from fastapi_kit.observability._telemetry_redaction import redacted_attributes, redacted_body

__all__ = ["RedactingLogExporter", "RedactingSpanExporter"]


class RedactingSpanExporter(SpanExporter):
    """Hand spans on to another exporter without what must not leave the process, see `_telemetry_redaction`."""

    def __init__(self, exporter: SpanExporter, *, exception_text: bool) -> None:
        self._exporter = exporter
        self._exception_text = exception_text

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export redacted copies; other processors still see the spans as they are."""
        return self._exporter.export([_Redacted(span, exception_text=self._exception_text) for span in spans])

    def shutdown(self) -> None:
        """Shut the other exporter down."""
        self._exporter.shutdown()


class RedactingLogExporter(LogRecordExporter):
    """Hand log records on to another exporter without what must not leave the process, see `_telemetry_redaction`."""

    def __init__(self, exporter: LogRecordExporter, *, exception_text: bool) -> None:
        self._exporter = exporter
        self._exception_text = exception_text

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export redacted copies."""
        return self._exporter.export([self._redacted(record) for record in batch])

    def shutdown(self) -> None:
        """Shut the other exporter down."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the other exporter."""
        return self._exporter.force_flush(timeout_millis)

    def _redacted(self, record: ReadableLogRecord) -> ReadableLogRecord:
        said = copy.copy(record.log_record)  # a new one would be of the context of this thread
        said.exception = None
        said.body = redacted_body(said.body, said.attributes, exception_text=self._exception_text)
        said.attributes = redacted_attributes(said.attributes, exception_text=self._exception_text)
        return dataclasses.replace(record, log_record=said)


class _Redacted(ReadableSpan):
    """The copy of a span; how much the limits of the SDK had dropped from it is told as before."""

    def __init__(self, span: ReadableSpan, *, exception_text: bool) -> None:
        self._span = span
        super().__init__(
            name=span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=redacted_attributes(span.attributes, exception_text=exception_text),
            events=[
                Event(event.name, redacted_attributes(event.attributes, exception_text=exception_text), event.timestamp)
                for event in span.events
            ],
            links=[
                Link(link.context, redacted_attributes(link.attributes, exception_text=exception_text))
                for link in span.links
            ],
            kind=span.kind,
            # The SDK writes an exception into the description, and so do instrumentations.
            status=span.status if exception_text else Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    @property
    def dropped_attributes(self) -> int:
        return self._span.dropped_attributes

    @property
    def dropped_events(self) -> int:
        return self._span.dropped_events

    @property
    def dropped_links(self) -> int:
        return self._span.dropped_links
