"""`step_stream`: the stream of the attempt whose action calls it."""

from __future__ import annotations

from durable_workflow_sqlite.engine.step_info import AT_WORK
from durable_workflow_sqlite.engine.streams import StepStream


def step_stream() -> StepStream:
    """The stream of this attempt of the step whose action calls this; see `StepStream`.

    Raises RuntimeError anywhere else, also in a compensation, and in a thread that the action has
    started itself.
    """
    try:
        run, intent = AT_WORK.get()
    except LookupError:
        raise RuntimeError(
            "step_stream() was called outside of an action: call it in the function of a step"
        ) from None
    if intent.attempt == 0:
        raise RuntimeError("step_stream() was called in a compensation, which has no stream")
    return run.environment.streams.buffer_of(run).stream_of(intent)
