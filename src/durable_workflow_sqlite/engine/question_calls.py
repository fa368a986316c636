"""Questions to people, as a workflow function asks them: the wait for the answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from durable_workflow_sqlite.engine.answer_schemas import schema_of
from durable_workflow_sqlite.engine.history import place_in_words
from durable_workflow_sqlite.engine.operations import WaitCall
from durable_workflow_sqlite.engine.payloads import Wanted, every_kind, wanted
from durable_workflow_sqlite.errors import QuestionOverdueError
from durable_workflow_sqlite.questions import Asked, QuestionRecord, name_in, read_record
from durable_workflow_sqlite.records import StepCheckpoint


@dataclass(frozen=True)
class Escalation:
    """Whom `ctx.ask` asks next, when nobody has answered by the deadline.

    to: whom the question is for now.
    deadline: until when; a timedelta counts from when this question is asked.
    overdue: what then, as for `ctx.ask`: "raise", a value, or another `Escalation`.
    """

    to: str
    deadline: timedelta | datetime | None = None
    overdue: Any = "raise"


class QuestionWait(WaitCall, eq=False, kw_only=True):
    """The wait for the answer to a question."""

    question_name: str
    to: str | None
    question: str
    details: str
    """As JSON."""

    def describe(self) -> str:
        return f"question {self.question_name!r} ({place_in_words(self.place)})"

    @property
    def input_data(self) -> str:
        """The question, for those who answer it."""
        takes = msgspec.json.decode(wanted(self.payload_type) or every_kind(), type=Wanted)
        asked = Asked(
            question=self.question,
            details=msgspec.Raw(self.details.encode()),
            schema=schema_of(self.payload_type),
        )
        record = QuestionRecord(
            type=takes.type,
            json=takes.json,
            name=self.question_name,
            to=self.to,
            asked=msgspec.Raw(msgspec.json.encode(asked)),
        )
        return msgspec.json.encode(record).decode()

    @property
    def payload_in_words(self) -> str:
        return f"the answer to question {self.question_name!r} of"


def overdue(execution_id: str, wait: StepCheckpoint) -> QuestionOverdueError:
    """The error of a question that nobody has answered by its deadline."""
    record = read_record(wait.input_data)
    name = name_in(wait.step_name) if record is None else record.name
    to = None if record is None else record.to
    return QuestionOverdueError(
        f"nobody{'' if to is None else f' of {to}'} answered question {name!r} of execution"
        f" {execution_id!r} by {wait.due_at}",
        workflow_execution_id=execution_id,
        step_name=wait.step_name,
        step_index=wait.step_index,
        branch=wait.branch,
        signal_name=wait.step_name,
        deadline=wait.due_at,
        question=name,
        to=to,
    )
