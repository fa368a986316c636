"""Who answered a question, in the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from durable_workflow_sqlite.engine import audit, serialization
from durable_workflow_sqlite.questions import name_in, read_record
from durable_workflow_sqlite.records import AuditEntry, StepCheckpoint, WorkflowSignal

ANSWER: Final = "answer"
"""The act of who answers a question."""

BY_SQL: Final = "an insert by SQL"
"""Who it was, where the answer has no `signal_key`: so it did not come through this library."""

_LONGEST_ANSWER: Final = 10_000
"""Of an answer in the audit log, in characters; the history of the execution has all of it."""


def act_of_answer(
    signal: WorkflowSignal, name: str, to: str | None, by: str | None, now: datetime
) -> AuditEntry:
    """by: as for `audit.entry`."""
    details: dict[str, object] = {"question": name, "signal": signal.signal_name}
    if to is not None:
        details["to"] = to
    payload = signal.payload or "null"
    if len(payload) <= _LONGEST_ANSWER and serialization.is_json(payload):
        details["answer"] = msgspec.Raw(payload.encode())
    return audit.entry(signal.workflow_execution_id, ANSWER, by, now, details)


def acts_of_answer(
    signal: WorkflowSignal, question: StepCheckpoint, now: datetime
) -> list[AuditEntry]:
    """What to add where an answer is taken: a client has added it already."""
    if signal.signal_key is not None:
        return []
    record = read_record(question.input_data)
    name = name_in(question.step_name) if record is None else record.name
    return [act_of_answer(signal, name, None if record is None else record.to, BY_SQL, now)]
