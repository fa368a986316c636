"""Which errors of a workflow function tell of a mistake in the code, and where they were raised."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from durable_workflow_sqlite.engine import failures
from durable_workflow_sqlite.errors import WorkflowCodeError

if TYPE_CHECKING:
    from types import FrameType

    from durable_workflow_sqlite.engine.body import Body
    from durable_workflow_sqlite.engine.body_errors import OutcomeErrors

_LIBRARY: Final = __name__.partition(".")[0] + "."


BEFORE_RECORDS: Final = "before it came to all that is recorded"
"""Of a mistake that keeps a worker from undoing, too: it does not come to the compensations."""


def mistake_in(
    error: BaseException, classes: tuple[type[Exception], ...], outcomes: OutcomeErrors
) -> BaseException | None:
    """What in an error tells of a mistake in the code, if the workflow function itself raised it.

    What a step failed with is an outcome. What this library raised at a call is a mistake always.
    """
    if error in outcomes:
        return None
    if isinstance(error, BaseExceptionGroup):
        within = cast("BaseExceptionGroup[BaseException]", error).exceptions
        found = (mistake_in(one, classes, outcomes) for one in within)
        return next((one for one in found if one is not None), None)
    return error if isinstance(error, classes) or is_of_this_library(error) else None


def trouble_of(
    body: Body,
    mistake: BaseException,
    format_error: failures.ErrorFormatter,
    *,
    is_replayed: bool = False,
) -> WorkflowCodeError:
    """With this an execution is left as it is, whose function has raised a mistake.

    is_replayed: whether there are records that it has not come to.
    """
    execution_id = body.execution_id
    text = failures.as_text(mistake, format_error)
    name = type(mistake).__qualname__
    unawaited = body.calls.take_unawaited()
    forgotten = ""
    if unawaited and "coroutine" in text:
        calls = ", ".join(call.describe() for call in unawaited)
        forgotten = f". It had called {calls} without `await`: write `await` before the call"
    otherwise = (
        ". If you want the execution to fail with this error, raise another class than"
        f" {name}, or leave {name} out of `@workflow(stops_on=...)`"
    )
    trouble = WorkflowCodeError(
        f"the workflow function of execution {execution_id!r} raised {text}{where(mistake)}"
        f"{forgotten}. No step raised it, so it tells of a mistake in the code: the execution"
        " was left as it is, nothing was undone, and with corrected code it continues"
        + (
            f". It raised that {BEFORE_RECORDS}, so undoing waits for that, too"
            if is_replayed
            else ""
        )
        + ("" if is_of_this_library(mistake) or not is_failure(mistake) else otherwise),
        workflow_execution_id=execution_id,
        error_type=failures.error_type(mistake),
    )
    trouble.__cause__ = mistake
    return trouble


def is_of_this_library(error: BaseException) -> bool:
    place = _last_place(error)
    return place is not None and place.f_globals.get("__name__", "").startswith(_LIBRARY)


def _last_place(error: BaseException) -> FrameType | None:
    """The frame that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else trace.tb_frame


def where(error: BaseException) -> str:
    """The line of the workflow's own code that raised it."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if not trace.tb_frame.f_globals.get("__name__", "").startswith(_LIBRARY):
            place = f" at line {trace.tb_lineno} of {code.co_filename}, in {code.co_qualname}"
        trace = trace.tb_next
    return place


def is_failure(error: BaseException) -> bool:
    """Whether a workflow function that ends with it has failed.

    So has one that ends with CancelledError and was not cancelled: it does so on every replay.
    """
    return all(
        isinstance(one, Exception | asyncio.CancelledError) for one in failures.leaves(error)
    )
