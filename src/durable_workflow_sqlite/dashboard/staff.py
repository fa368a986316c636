"""The page of workers: who lives, at what, and what waits for whom."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from durable_workflow_sqlite.dashboard.reading import Reader
from durable_workflow_sqlite.database import for_file
from durable_workflow_sqlite.store.inspection import Inspector
from durable_workflow_sqlite.store.worker_checkup import staff_findings

_DOING: Final = 20
"""Of what a worker does, how much is shown."""


def staff_of(reader: Reader, inspector: Inspector, version: str, now: datetime) -> dict[str, Any]:
    """What the template of the workers shows."""
    counts = reader.counts(inspector, version)
    staff = reader.kept("staff", version, lambda: inspector.staff(counts, limit=_DOING))
    return {
        "workers": staff.workers,
        "queues": staff.queues,
        "findings": [
            (one.message, for_file(one.hint or "", inspector.path).replace("`", ""))
            for one in staff_findings(staff, now)
            if one.level.needs_somebody
        ],
    }
