"""What a client offers for questions to people."""

from __future__ import annotations

from durable_workflow_sqlite.engine import question_answers
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.questions import Question


class AnsweringClient:
    """Lists the open questions, and answers them."""

    def _working(self) -> Access:
        raise NotImplementedError

    async def questions(
        self, *, to: str | None = None, execution_id: str | None = None, limit: int = 100
    ) -> list[Question]:
        """The questions to people that are open: the longest waiting first; at most `limit`.

        to: whom they are for, exactly as `ctx.ask` has it. execution_id: who asks. With neither,
            those of all executions.
        """
        store = self._working().store
        return await store.load_questions(to, execution_id, limit=limit)

    async def answer(
        self, execution_id: str, name: str, value: object, *, by: str | None = None
    ) -> Question:
        """Answer a question that an execution asks now, and return the question.

        name: of the question, or the name of its signal, which also tells two questions of one name
            apart.
        value: stored as JSON. It must be of the type that the workflow has named.
        by: who answers, for the audit log; by default the user that this process runs as.

        Only the first answer counts. It is stored together with the entry in the audit log. Where
        the code of the workflow runs in this process, it checks the type; elsewhere JSON Schema
        does, and what only the code can tell is refused when the execution takes the answer. Then
        the question stays open, and `show` and `doctor` say why.

        Raises QuestionNotFoundError if it does not ask that, or too late; QuestionAnsweredError;
        ExecutionNotFoundError; ExecutionFinishedError; SerializationError for an answer of another
        type, and PayloadTooLargeError. Nothing is written then.
        """
        return await question_answers.answer(self._working(), execution_id, name, value, by)
