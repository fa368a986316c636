"""The page of workers: who lives, at what, and what waits for whom."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from durable_workflow_sqlite.dashboard.reading import Source
from durable_workflow_sqlite.database import for_file
from durable_workflow_sqlite.reading.pauses import Paused
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.reading.worker_findings import worker_findings

_DOING: Final = 20
"""Of what a worker does, how much is shown."""


def paused_of(source: Source, reader: Reader, version: str) -> Paused:
    """What is paused, as it was a moment ago."""
    return source.kept("paused", version, lambda: reader.paused(limit=0))


def workers_of(source: Source, reader: Reader, version: str, now: datetime) -> dict[str, Any]:
    """What the template of the workers shows."""
    counts = source.counts(reader, version)
    workers = source.kept("workers", version, lambda: reader.workers(counts, limit=_DOING))
    return {
        "workers": workers.workers,
        "queues": workers.queues,
        "paused": paused_of(source, reader, version),
        "findings": [
            (one.message, for_file(one.hint or "", reader.name).replace("`", ""))
            for one in worker_findings(workers, now)
            if one.level.needs_somebody
        ],
    }
