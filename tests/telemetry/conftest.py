from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from durable_workflow_sqlite.telemetry import OpenTelemetryObserver


class Telemetry:
    """An observer, and what it exported to memory."""

    def __init__(self, **of_traces: Any) -> None:
        self.traces = TracerProvider(**of_traces)
        self.exporter = InMemorySpanExporter()
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.observer = OpenTelemetryObserver(self.traces, MeterProvider([self.reader]))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def measured(self, name: str, *attributes: str) -> dict[Any, int]:
        """How often a thing was counted or measured, by the values of attributes."""
        found: dict[Any, int] = {}
        for point in self.points(name):
            key = tuple(point.attributes.get(attribute) for attribute in attributes)
            times = point.count if hasattr(point, "count") else point.value
            found[key] = found.get(key, 0) + times
        return found

    def points(self, name: str) -> Iterable[Any]:
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == f"durable_workflow.{name}":
                        yield from metric.data.data_points


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()
