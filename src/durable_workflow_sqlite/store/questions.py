"""The open questions to people, from the waits for their answers."""

from __future__ import annotations

from durable_workflow_sqlite.questions import Question, name_in, read_asked, read_record
from durable_workflow_sqlite.records import check_identifier, check_integer
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.queries import Queries
from durable_workflow_sqlite.store.rows import readable_time


def check_wanted(to: str | None, workflow_execution_id: str | None, limit: int) -> None:
    """Raise TypeError or ValueError for what no question can be chosen by."""
    if to is not None:
        check_identifier("to", to)
    if workflow_execution_id is not None:
        check_identifier("workflow_execution_id", workflow_execution_id)
    check_integer("limit", limit, minimum=1)


def load_questions(
    connection: object,
    queries: Queries,
    to: str | None,
    workflow_execution_id: str | None,
    limit: int,
) -> list[q.LoadQuestionsRow]:
    """Called from within a transaction."""
    if workflow_execution_id is None:
        if to is None:
            return queries.load_questions(connection, row_limit=limit)
        return queries.load_questions_to(connection, asked_of=to, row_limit=limit)
    found = queries.load_questions_of(
        connection, workflow_execution_id=workflow_execution_id, row_limit=limit
    )
    return [one for one in found if to is None or question_from(one).to == to]


def question_from(row: q.LoadQuestionsRow) -> Question:
    """Also of a row that somebody has broken: its question is None then."""
    record = read_record(row.input_data)
    asked = None if record is None else read_asked(record)
    return Question(
        workflow_execution_id=row.workflow_execution_id,
        workflow_type=row.workflow_type or "",
        name=name_in(row.step_name) if record is None else record.name,
        signal_name=row.step_name,
        to=None if record is None else record.to,
        question=None if asked is None else asked.question,
        details=None if asked is None else asked.plain_details,
        type="" if record is None else record.type,
        schema={} if asked is None else asked.schema,
        branch=row.branch,
        step_index=row.step_index,
        asked_at=readable_time(row.started_at),
        deadline=readable_time(row.due_at),
        is_answered=bool(row.is_answered),
    )
