"""The check of the questions to people: which are open, and which are overdue."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from durable_workflow_sqlite.questions import Question
from durable_workflow_sqlite.reading.findings import SHOWN, Finding, Level, at, many
from durable_workflow_sqlite.reading.worker_findings import START
from durable_workflow_sqlite.reading.workers import Workers
from durable_workflow_sqlite.store.questions import load_questions, question_from
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.rows_checkup import LOOKED_AT


def unanswered(file: Readable) -> list[Question]:
    """The questions that are open and have no answer, the longest waiting first."""
    with file.reading() as connection:
        rows = load_questions(connection, file.queries, None, None, LOOKED_AT)
    return [one for one in map(question_from, rows) if not one.is_answered]


def questions(
    asked: Collection[Question], late: Collection[tuple[str, str]], workers: Workers
) -> Iterator[Finding]:
    """What is to say of them.

    asked: `unanswered`. late: of those whose deadline no worker noticed, the execution and the
    signal.
    """
    overdue = [one for one in asked if (one.workflow_execution_id, one.signal_name) in late]
    still_open = [one for one in asked if one not in overdue]
    if overdue:
        yield Finding(
            level=Level.WARNING,
            check="questions",
            message="overdue, and nobody has answered: "
            + ", ".join(f"{_named(one)}, until {at(one.deadline)}" for one in overdue),
            hint=f"start a worker that has these workflows: {START}. It does what the workflow says"
            " for this case: it is too late to answer",
        )
    if still_open:
        more = len(still_open) - SHOWN
        none = "" if workers.living else f". No worker lives to take an answer: {START}"
        yield Finding(
            level=Level.NOTE,
            check="questions",
            message=f"{many(len(still_open), 'question')} to people, open since: "
            + ", ".join(f"{_named(one)} ({at(one.asked_at)})" for one in still_open[:SHOWN])
            + (f"; and {more:,} more" if more > 0 else ""),
            hint="`durable-workflow questions FILE` lists them, and `durable-workflow answer FILE"
            f" ID NAME JSON` answers one{none}",
        )


def _named(one: Question) -> str:
    of = "" if one.to is None else f" for {one.to}"
    return f"{one.name} of {one.workflow_execution_id}{of}"
