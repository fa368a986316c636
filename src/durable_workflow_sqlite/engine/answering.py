"""A person answers what became of a step, or of a compensation, that is in doubt."""

from __future__ import annotations

from durable_workflow_sqlite.engine import audit
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.answers import in_answer_to
from durable_workflow_sqlite.engine.history import RecordedHistory, asks
from durable_workflow_sqlite.engine.mending import refused, to_whoever_left_it
from durable_workflow_sqlite.engine.step_names import StepName, find_step, in_words
from durable_workflow_sqlite.errors import StoreCorruptError
from durable_workflow_sqlite.records import COMPENSATION_SUFFIX, StepCheckpoint, check_text

NOTED_CHARACTERS = 1000
"""So much of an answer is kept in the audit log."""


def check_answer(value: object, *, not_done: object, failed: object) -> None:
    """Raise TypeError or ValueError for anything else than one answer."""
    if not isinstance(not_done, bool):
        raise TypeError(f"not_done must be a bool, not {not_done!r}")
    if failed is not None:
        if not isinstance(failed, str):
            raise TypeError(f"failed must be a text that says why, not {failed!r}")
        check_text("failed", failed, required=True)
    if (value is not None) + not_done + (failed is not None) > 1:
        raise ValueError("give one of a value, not_done=True and failed=TEXT")


async def answer(
    access: Access,
    execution_id: str,
    step: StepName,
    text: str | None,
    noted: object,
    failed: str | None,
    by: str | None,
) -> bool:
    """Answer for a step that waits for that, also in a worker; False if it does not wait.

    text: what it returned, as JSON; noted: that for the audit log. failed: why it is to fail. With
    neither, the step has not taken effect.
    """
    record = await access.load(execution_id)
    question = None
    if not record.status.is_terminal:
        question = await _question(access, execution_id, step)
    if question is None:
        return False
    now = access.clock.now()
    details: dict[str, object] = {"step": in_words(question), "was": "in doubt"}
    if failed is not None:
        details["failed"] = failed[:NOTED_CHARACTERS]
    elif text is None:
        details["not_done"] = True
    else:
        details["value"] = noted
    told = await access.store.hasten_attempts(
        execution_id,
        in_answer_to(question, now, value=text, failed=failed),
        audit.entry(execution_id, "resolve", by, now, details),
        to_whoever_left_it(execution_id, now),
        only=question,
        now=now,
    )
    if told:
        await access.hasten(execution_id)
        access.changes.changed(execution_id)
    return bool(told)


async def _question(access: Access, execution_id: str, step: StepName) -> StepCheckpoint | None:
    """What is asked of a step, or with `STEP:compensate` of its compensation, if anything."""
    try:
        last = await _found(access, execution_id, step)
    except (StoreCorruptError, ValueError):
        return None  # `resolve` says why
    return last if last is not None and asks(last) else None


async def _found(access: Access, execution_id: str, step: StepName) -> StepCheckpoint | None:
    name = step if isinstance(step, str) else step[1]
    undone = name.removesuffix(COMPENSATION_SUFFIX)
    if isinstance(step, str):
        step = undone
    elif len(step) == 2:
        step = (step[0], undone)
    else:
        step = (step[0], undone, step[2])
    history = RecordedHistory(await access.store.load_checkpoints(execution_id))
    _, found = find_step(execution_id, history, step)
    return found.last if undone == name else found.compensation


async def refuse_unasked(access: Access, execution_id: str, step: StepName) -> None:
    """Say why "not done" and "failed" are no answers here."""
    await access.load(execution_id)
    await _found(access, execution_id, step)
    name = step if isinstance(step, str) else step[1]
    raise refused(
        execution_id,
        f"asks nobody what became of {name!r}, so nothing was changed. Only a step with"
        ' in_doubt="ask" asks, once a worker has found it in doubt',
    )
