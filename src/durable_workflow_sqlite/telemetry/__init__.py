"""Traces and metrics by OpenTelemetry; needs the extra `otel`.

from durable_workflow_sqlite.telemetry import OpenTelemetryObserver

DurableEngine(store, workflows=[order], observers=[OpenTelemetryObserver()])
"""

try:
    from durable_workflow_sqlite.telemetry.observer import OpenTelemetryObserver
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("opentelemetry"):
        raise
    raise ImportError(
        "durable_workflow_sqlite.telemetry needs OpenTelemetry:"
        " pip install 'durable-workflow-sqlite[otel]'"
    ) from error

__all__ = ["OpenTelemetryObserver"]
