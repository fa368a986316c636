"""One execution, made ready for its page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

from durable_workflow_sqlite.dashboard.situation import error_text, paused, situation
from durable_workflow_sqlite.dashboard.timeline import Timeline, rows_of, timeline
from durable_workflow_sqlite.dashboard.trees import counts_of, tree_rows
from durable_workflow_sqlite.reading.executions import ExecutionDetails, step_words
from durable_workflow_sqlite.reading.pauses import EXECUTION
from durable_workflow_sqlite.reading.worker_findings import how_to_wake
from durable_workflow_sqlite.records import (
    CHILD_SIGNAL,
    DELETED_ROWS,
    TERMINAL_STATUSES,
    ExecutionStatus,
)

SIGNALS_SHOWN = 100


class Links(NamedTuple):
    """Other views of the same execution; empty where there is none."""

    to_scale: str
    squeezed: str
    first: str
    before: str
    after: str
    last: str
    payload: str


def details_of(
    found: ExecutionDetails, now: datetime, *, at: str, page: int | None, squeeze: bool
) -> dict[str, Any]:
    """What the template of an execution shows."""
    summary = found.summary
    is_final = summary.status in TERMINAL_STATUSES
    is_worked_on = found.claim is not None and found.claim.is_alive
    rows = rows_of(
        (*found.steps, *found.compensations), is_final=is_final, is_worked_on=is_worked_on
    )
    drawn = timeline(rows, now, is_final=is_final, page=page, squeeze=squeeze)
    end = summary.status_since if is_final else now
    took = timedelta(0)
    if end is not None and summary.created_at is not None:
        took = max(end - summary.created_at, took)
    says = situation(
        _known(summary.status),
        rows,
        took=took,
        is_worked_on=is_worked_on,
        blocked_reason=summary.blocked_reason,
        trouble=summary.trouble,
        error=error_text(summary.error_type, summary.error_message),
        available_at=found.available_at,
        since=summary.status_since,
    )
    if found.claim is not None and found.claim.stopped_process is not None:
        wake = how_to_wake(found.claim.stopped_process).replace("`", "")
        says.lines.append(f"Its worker is stopped (SIGSTOP), and nobody goes on with it: {wake}.")
        says.is_trouble = True
    if summary.paused_scope is not None:
        is_late = found.ttl_expires_at is not None and found.ttl_expires_at <= now
        says = paused(says, summary, is_late=is_late)
    is_blocked = summary.blocked_reason is not None and not is_final
    waits_for_next_attempt = summary.is_in_back_off(now)
    return {
        "found": found,
        "summary": summary,
        "is_final": is_final,
        "took": took,
        "situation": says,
        "timeline": drawn,
        "signals": found.signals[-SIGNALS_SHOWN:],
        "signals_total": len(found.signals),
        "tree": tree_rows(found.children, summary.id, at),
        "child_counts": counts_of(found.children, summary.id, at),
        "links": _links(summary.id, at, drawn, squeeze),
        "can_signal": not is_final,
        "can_resume": summary.paused_scope == EXECUTION,
        "can_cancel": not is_final and summary.status != ExecutionStatus.COMPENSATING,
        "can_retry": (is_blocked and not (summary.blocked_reason or "").startswith(DELETED_ROWS))
        or (summary.status == ExecutionStatus.FAILED and not found.compensations)
        or (waits_for_next_attempt and not is_final)
        or found.is_not_undone,
        "can_run_again": summary.status in (ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)
        or (
            (is_blocked or (summary.trouble is not None and not is_final))
            and summary.status != ExecutionStatus.COMPENSATING
        ),
        "can_acknowledge": is_final and (found.is_not_undone or found.steps_cut_off > 0),
        "announce": f"{summary.status.lower()}. {says.headline}",
    }


def payload_of(found: ExecutionDetails, query: Mapping[str, str]) -> tuple[str, str] | None:
    """The name and the text of the payload that an address asks for; None if there is none."""
    what = query.get("what")
    text: str | None = None
    name = ""
    if what == "input":
        name, text = "Input", found.input_data
    elif what == "result":
        name, text = "Result", found.output_data
    elif what == "signal":
        for signal in found.signals:
            if str(signal.id) == query.get("signal"):
                name = f"Payload of signal {signal.signal_name}"
                if signal.signal_name.startswith(CHILD_SIGNAL):
                    name = step_words(signal.signal_name).replace("end", "End", 1)
                text = signal.payload
    elif what == "step":
        wanted = tuple(query.get(key, "") for key in ("branch", "index", "attempt"))
        for step in found.steps:
            if (step.branch, str(step.step_index), str(step.attempt)) == wanted:
                name, text = f"Result of {step.step_name}", step.output_data
    return None if text is None else (name, text)


def _links(execution_id: str, at: str, drawn: Timeline, squeeze: bool) -> Links:
    def view(page: int, *, squeezed: bool = squeeze) -> str:
        query = {"id": execution_id, "page": str(page), "squeeze": "1" if squeezed else ""}
        return f"{at}/execution?{urlencode({name: one for name, one in query.items() if one})}"

    is_first, is_last = drawn.page == 1, drawn.page == drawn.pages
    return Links(
        to_scale=view(drawn.page, squeezed=False),
        squeezed=view(drawn.page, squeezed=True),
        first="" if is_first else view(1),
        before="" if is_first else view(drawn.page - 1),
        after="" if is_last else view(drawn.page + 1),
        last="" if is_last else view(drawn.pages),
        payload=f"{at}/payload?{urlencode({'id': execution_id})}",
    )


def _known(status: str) -> ExecutionStatus:
    """A status that somebody made up is taken for one that needs a worker to look at it."""
    try:
        return ExecutionStatus(status)
    except ValueError:
        return ExecutionStatus.PENDING
