"""How much is done of an execution, as people read it."""

from __future__ import annotations

from durable_workflow_sqlite.records import Progress


def name_of(progress: Progress) -> str:
    """Which step it is of, or which branch of the workflow function: "workflow", on the main line.

    A step comes with its branch.
    """
    of = progress.step_name or "workflow"
    return f"{progress.branch}/{of}" if progress.branch else of


def amount_of(progress: Progress) -> str:
    """Such as `3 of 10 (30 %)`."""
    done = _number(progress.done)
    if progress.total is None or progress.fraction is None:
        return done
    return f"{done} of {_number(progress.total)} ({int(progress.fraction * 100)} %)"


def _number(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) else f"{number:,.6g}"
