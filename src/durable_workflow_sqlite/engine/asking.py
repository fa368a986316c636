"""What a context offers to ask people."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.engine.awaiting import AwaitedQuestion
from durable_workflow_sqlite.engine.payload_sizes import check_size
from durable_workflow_sqlite.engine.question_calls import Escalation, QuestionWait
from durable_workflow_sqlite.engine.waiting import Waiting, check_duration
from durable_workflow_sqlite.errors import QuestionOverdueError, SerializationError
from durable_workflow_sqlite.questions import LONGEST_NAME, signal_of
from durable_workflow_sqlite.records import StepKind, check_identifier, check_text, check_time

if TYPE_CHECKING:
    from typing_extensions import TypeForm


T = TypeVar("T")


class Asking(Waiting):
    """Questions of a workflow function to people."""

    __slots__ = ()

    @overload
    def ask(
        self,
        name: str,
        question: str,
        *,
        type: None = None,
        to: str | None = None,
        details: object = None,
        deadline: timedelta | datetime | None = None,
        overdue: Any = "raise",
    ) -> Coroutine[Any, Any, Any]: ...

    @overload
    def ask(
        self,
        name: str,
        question: str,
        *,
        type: TypeForm[T],
        to: str | None = None,
        details: object = None,
        deadline: timedelta | datetime | None = None,
        overdue: Any = "raise",
    ) -> Coroutine[Any, Any, T]: ...

    def ask(
        self,
        name: str,
        question: str,
        *,
        type: Any = None,  # noqa: A002 - the word that callers expect
        to: str | None = None,
        details: object = None,
        deadline: timedelta | datetime | None = None,
        overdue: Any = "raise",
    ) -> Coroutine[Any, Any, Any]:
        """Ask people a question, and return the answer. The execution waits, and takes no memory.

        name: the name of the question; who answers gives it. Up to 120 characters.
        question: the text that people read.
        type: of the answer; plain JSON data by default. Its JSON Schema makes the form in the
            dashboard. An answer of another type is refused, and the question stays open.
        to: whom it is for, as a text of your own: a person, a role, a group. It decides in whose
            list the question is, and protects nothing.
        details: what helps to answer, stored as JSON.
        deadline: until when; a timedelta counts from the first time that the workflow reaches the
            question. It stays the same after a restart.
        overdue: what to do at the deadline. "raise" raises QuestionOverdueError. An `Escalation`
            asks somebody else. Any other value is the answer; it must be of the type.

        Only one answer counts, the first. `client.answer` gives it, `durable-workflow answer`, the
        dashboard, or one insert in SQL.

        Raises TypeError or ValueError at the call for bad arguments; SerializationError for a type
        or a value that cannot be stored, and PayloadTooLargeError for a question that is too large.
        """
        _check_texts(name, question, to)
        answer_type = Any if type is None else type
        overdue = self._checked(name, answer_type, deadline, overdue)
        call = self._question_call(name, question, answer_type, to, details, deadline)
        return self._body.calls.add(self._answered(call, details, overdue))

    @overload
    def question(
        self, name: str, question: str, *, type: None = None, to: str | None = None,
        details: object = None,
    ) -> AwaitedQuestion[Any]: ...  # fmt: skip

    @overload
    def question(
        self, name: str, question: str, *, type: TypeForm[T], to: str | None = None,
        details: object = None,
    ) -> AwaitedQuestion[T]: ...  # fmt: skip

    def question(
        self,
        name: str,
        question: str,
        *,
        type: Any = None,  # noqa: A002 - the word that callers expect
        to: str | None = None,
        details: object = None,
    ) -> AwaitedQuestion[Any]:
        """A question for `wait_any` to wait for; its arguments are those of `ask`.

        If something else comes first, the question is closed without an answer. A deadline is a
        `ctx.timer` beside it.
        """
        _check_texts(name, question, to)
        return AwaitedQuestion(name, Any if type is None else type, question, to, details)

    def _wait_of(self, item: Any) -> Any:
        if isinstance(item, AwaitedQuestion):
            return self._question_call(
                item.name, item.question, item.type, item.to, item.details, None
            )
        return super()._wait_of(item)

    def _checked(
        self, name: str, type_: Any, deadline: timedelta | datetime | None, overdue: Any
    ) -> Any:
        """What to do at the deadline, with a value as it is stored."""
        if deadline is None:
            if isinstance(overdue, Escalation) or overdue != "raise":
                raise ValueError(
                    f"question {name!r} has no deadline, so `overdue` would never be used"
                )
            return overdue
        if isinstance(deadline, datetime):
            check_time("deadline", deadline)
        else:
            check_duration("deadline", deadline)
        if isinstance(overdue, Escalation):
            check_identifier("to", overdue.to)
            after = self._checked(name, type_, overdue.deadline, overdue.overdue)
            return Escalation(overdue.to, overdue.deadline, after)
        if isinstance(overdue, str) and overdue == "raise":
            return overdue
        try:
            what = f"the value of question {name!r} for when it is overdue"
            return serialization.round_trip(overdue, type_, what)[1]
        except SerializationError as refusal:
            self._refuse(refusal)
            return overdue

    async def _answered(self, call: QuestionWait, details: object, overdue: Any) -> Any:
        while True:
            try:
                return await self._body.ask(call)
            except QuestionOverdueError as error:
                if (error.branch, error.step_index) != call.place:
                    raise
                if not isinstance(overdue, Escalation):
                    if isinstance(overdue, str) and overdue == "raise":
                        raise
                    return overdue
            call = self._question_call(
                call.question_name,
                call.question,
                call.payload_type,
                overdue.to,
                details,
                overdue.deadline,
            )
            overdue = overdue.overdue

    def _question_call(
        self,
        name: str,
        question: str,
        type_: Any,
        to: str | None,
        details: object,
        deadline: timedelta | datetime | None,
    ) -> QuestionWait:
        body = self._body
        in_json = "null"
        try:
            if type_ is not Any:
                serialization.check_type(type_, "the answer to question", name)
            in_json = serialization.to_json(details, f"the details of question {name!r}")
        except SerializationError as refusal:
            self._refuse(refusal)
        index = body.asked[self._branch]
        signal_name = signal_of(name, body.run_number, self._branch, index)
        call = QuestionWait(
            place=(self._branch, index),
            name=signal_name,
            history=None,
            is_sleep=False,
            end=deadline,
            payload_type=type_,
            question_name=name,
            to=to,
            question=question,
            details=in_json,
        )
        try:
            check_size(call.input_data, body.max_payload_bytes, f"question {name!r}")
        except SerializationError as refusal:
            self._refuse(refusal)
        call.place, call.history = self._next(signal_name, StepKind.SIGNAL)
        return call


def _check_texts(name: str, question: str, to: str | None) -> None:
    check_identifier("a question's name", name)
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"a question's name must have at most {LONGEST_NAME} characters, not {len(name)}"
        )
    if name.startswith("$"):
        raise ValueError(f"names that begin with $ are reserved for the library: {name!r}")
    check_text("question", question, required=True)
    if to is not None:
        check_identifier("to", to)
