"""Answers to questions, as people give them: one counts, and it is of the question's type."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from durable_workflow_sqlite.engine import answer_schemas, audit, serialization
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.engine.answer_acts import ANSWER, act_of_answer
from durable_workflow_sqlite.engine.payload_sizes import check_size
from durable_workflow_sqlite.errors import (
    ExecutionFinishedError,
    QuestionAnsweredError,
    QuestionNotFoundError,
    SerializationError,
)
from durable_workflow_sqlite.questions import Question
from durable_workflow_sqlite.records import (
    AuditEntry,
    WorkflowSignal,
    check_identifier,
)

_MOST_OF_ONE: Final = 1000
"""Questions of one execution that are looked at."""


async def answer(
    access: Access, execution_id: str, name: str, value: object, by: str | None
) -> Question:
    """See `Client.answer`."""
    check_identifier("execution_id", execution_id)
    check_identifier("the name of a question", name)
    if by is not None:
        check_identifier("by", by)
    what = f"the answer to question {name!r}"
    text = serialization.to_json(value, what)
    check_size(text, access.store.max_payload_bytes, what)
    while True:
        found = await access.store.load_questions(
            workflow_execution_id=execution_id, limit=_MOST_OF_ONE
        )
        now = access.clock.now()
        question = await _open_question(access, execution_id, name, found, now)
        _refuse_misfit(access, question, text)
        signal = WorkflowSignal(
            workflow_execution_id=execution_id,
            signal_name=question.signal_name,
            payload=text,
            signal_key=f"answer {uuid.uuid4()}",
            created_at=now,
        )
        act = act_of_answer(signal, question.name, question.to, by, now)
        sent = await access.store.answer_question(signal, act)
        if sent is not None:
            access.on_signal_sent(sent)
            return question
        # It has just been closed or answered: whoever asks again is told how.


async def _open_question(
    access: Access, execution_id: str, name: str, found: Sequence[Question], now: datetime
) -> Question:
    """The one that is meant. Raises for one that cannot be answered."""
    meant = [one for one in found if name in (one.name, one.signal_name)]
    if len(meant) > 1:
        names = ", ".join(repr(one.signal_name) for one in meant)
        raise QuestionNotFoundError(
            f"execution {execution_id!r} asks {len(meant)} questions {name!r} now; say which one is"
            f" meant by the name of its signal: {names}",
            workflow_execution_id=execution_id,
        )
    if meant and not meant[0].is_answered:
        question = meant[0]
        if question.deadline is not None and question.deadline <= now:
            raise QuestionNotFoundError(
                f"question {name!r} of execution {execution_id!r} could be answered until"
                f" {question.deadline}",
                workflow_execution_id=execution_id,
            )
        return question
    execution = await access.load(execution_id)
    await _raise_if_answered(access, execution_id, name, meant)
    if execution.status.is_terminal:
        raise ExecutionFinishedError(
            f"execution {execution_id!r} is {execution.status}: question {name!r} was not answered",
            workflow_execution_id=execution_id,
            status=execution.status.value,
        )
    asks = ", ".join(repr(one.name) for one in found if not one.is_answered) or "nothing"
    raise QuestionNotFoundError(
        f"execution {execution_id!r} asks no question {name!r} now; it asks {asks}",
        workflow_execution_id=execution_id,
    )


async def _raise_if_answered(
    access: Access, execution_id: str, name: str, meant: Sequence[Question]
) -> None:
    """Raise QuestionAnsweredError where the last one of that name has an answer."""
    acts = [
        one
        for one in await access.store.load_audit_log(execution_id)
        if one.act == ANSWER and name in _names_in(one)
    ]
    if acts:
        last = acts[-1]
        raise QuestionAnsweredError(
            f"question {name!r} of execution {execution_id!r} was answered by {last.actor} at"
            f" {last.created_at}; this answer was not stored",
            workflow_execution_id=execution_id,
            answered_by=last.actor,
            answered_at=last.created_at,
        )
    if meant:
        raise QuestionAnsweredError(
            f"question {name!r} of execution {execution_id!r} has an answer already, from an insert"
            " by SQL; this answer was not stored",
            workflow_execution_id=execution_id,
        )


def _names_in(act: AuditEntry) -> tuple[object, object]:
    details = audit.details_of(act.details)
    return details.get("question"), details.get("signal")


def _refuse_misfit(access: Access, question: Question, text: str) -> None:
    """Raise SerializationError for an answer that is not of the type."""
    execution_id = question.workflow_execution_id
    reason = answer_schemas.misfit(msgspec.json.decode(text), question.schema)
    if reason is None and (execution := access.executions.get(execution_id)) is not None:
        reason = execution.misfit(question.signal_name, text)
    if reason is not None:
        raise SerializationError(
            f"question {question.name!r} of execution {execution_id!r} was not answered: {reason}",
            workflow_execution_id=execution_id,
            step_name=question.signal_name,
        )
