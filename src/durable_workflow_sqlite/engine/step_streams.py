"""`step_stream` and `report_progress`: what the action of an attempt tells while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_workflow_sqlite.engine.step_info import AT_WORK
from durable_workflow_sqlite.engine.streams import StepStream
from durable_workflow_sqlite.records import Progress

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.run import Run
    from durable_workflow_sqlite.records import StepCheckpoint


def step_stream() -> StepStream:
    """The stream of this attempt of the step whose action calls this; see `StepStream`.

    Raises RuntimeError anywhere else, also in a compensation, and in a thread that the action has
    started itself.
    """
    run, intent = _at_work("step_stream()")
    return run.environment.streams.buffer_of(run).stream_of(intent)


def report_progress(done: float, total: float | None = None, note: str | None = None) -> None:
    """Say how much of its work the step has done whose action calls this. People see it live.

    done: 0 or more; it replaces what this attempt has reported before. total: of how much; None if
    that is unknown. note: what is done right now, in one line of 1000 characters at most.

    It returns at once. The newest report is written every 0.25 seconds, and with the outcome of
    the attempt. After a timeout or a cancellation of the attempt, this does nothing. `follow` and
    `progress` of a client give it, and so do `durable-workflow show` and the dashboard.

    Raises TypeError or ValueError for bad arguments; RuntimeError where `step_stream` raises it,
    and after the action has returned.
    """
    run, intent = _at_work("report_progress()")
    environment = run.environment
    report = Progress(
        workflow_execution_id=intent.workflow_execution_id,
        branch=intent.branch,
        step_index=intent.step_index,
        step_name=intent.step_name,
        attempt=intent.attempt,
        done=done,
        total=total,
        note=note,
        reported_at=environment.clock.now(),
    )
    buffer = environment.streams.buffer_of(run)
    if buffer.stream_of(intent).may_tell("the progress of step"):
        buffer.reports.add(report)


def _at_work(call: str) -> tuple[Run, StepCheckpoint]:
    try:
        run, intent = AT_WORK.get()
    except LookupError:
        raise RuntimeError(
            f"{call} was called outside of an action: call it in the function of a step"
        ) from None
    if intent.attempt == 0:
        raise RuntimeError(f"{call} was called in a compensation, which has no stream")
    return run, intent
