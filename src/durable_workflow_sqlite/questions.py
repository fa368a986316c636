"""Questions to people: what the record of a wait holds of one, and what people read of it.

A question is the wait for a signal that nobody else sends: the name of the signal says of which
run and place it is the answer. The wait's `input_data` holds the question.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Final

import msgspec

from durable_workflow_sqlite.records import ANSWER_SIGNAL

LONGEST_NAME: Final = 120
"""Of a question, in characters: the name of the signal that answers it holds all of it."""

_LONGEST_SIGNAL: Final = 200

_ESCAPED: Final = str.maketrans({"@": "%40", "%": "%25"})
"""What ends the name must not be in it: else two questions had one signal."""


class Asked(msgspec.Struct, frozen=True):
    """What a person needs to answer. A codec encodes it as a whole.

    schema: JSON Schema of the answer; of a type that cannot be described, it takes everything.
    """

    question: str
    details: msgspec.Raw = msgspec.Raw(b"null")
    schema: dict[str, Any] = {}

    @property
    def plain_details(self) -> Any:
        """Raises MsgspecError for details that somebody has broken."""
        return msgspec.json.decode(self.details)


class QuestionRecord(msgspec.Struct, frozen=True):
    """The `input_data` of a question. It begins as that of any wait which names a type.

    asked: `Asked` as JSON; or what a codec made of it.
    """

    type: str
    json: tuple[str, ...]
    name: str
    to: str | None
    asked: msgspec.Raw


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question that an execution asks people, and that is open: `client.questions` returns it.

    name: as the workflow names it. signal_name: the name of the signal that answers it; it is the
        question's alone.
    to: whom it is for; None for nobody in particular.
    question, details: the text, and plain JSON data beside it. None if they cannot be read, as
        without the codec that has encoded them.
    type: the name of the answer's type. schema: the JSON Schema of the answer.
    asked_at: when it was asked. deadline: until when it can be answered; None for always.
    is_answered: whether an answer is stored that the execution has not taken yet.
    """

    workflow_execution_id: str
    workflow_type: str
    name: str
    signal_name: str
    to: str | None
    question: str | None
    details: Any
    type: str
    schema: dict[str, Any]
    branch: str
    step_index: int
    asked_at: datetime | None
    deadline: datetime | None
    is_answered: bool


def signal_of(name: str, run_number: int, branch: str, step_index: int) -> str:
    """The name of the signal that answers a question: the same each time it is asked there."""
    end = f":{branch}" if branch else ""
    whole = f"{ANSWER_SIGNAL}{name.translate(_ESCAPED)}@{run_number}.{step_index}{end}"
    if len(whole) <= _LONGEST_SIGNAL and whole.isprintable() and whole == whole.rstrip():
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:32]
    cut = name[: LONGEST_NAME // 3].translate(_ESCAPED)
    return f"{ANSWER_SIGNAL}{cut}@{run_number}.{step_index}:{digest}"


def is_question(step_name: str) -> bool:
    """Whether a wait of that name is a question."""
    return step_name.startswith(ANSWER_SIGNAL)


def name_in(signal_name: str) -> str:
    """The name of the question that a signal answers, as far as the signal's name tells."""
    name = signal_name.removeprefix(ANSWER_SIGNAL).partition("@")[0]
    return name.replace("%40", "@").replace("%25", "%") or signal_name


def question_or_step(step_name: str) -> str:
    """The name that the workflow has given: of a question, without its place."""
    return name_in(step_name) if is_question(step_name) else step_name


def read_record(input_data: str | None) -> QuestionRecord | None:
    """None for what is not the record of a question."""
    try:
        return msgspec.json.decode(input_data or "", type=QuestionRecord)
    except msgspec.MsgspecError:
        return None


def with_asked(record: QuestionRecord, asked: str) -> str:
    """The record as JSON, with other JSON for what it asks."""
    changed = msgspec.structs.replace(record, asked=msgspec.Raw(asked.encode()))
    return msgspec.json.encode(changed).decode()


def read_asked(record: QuestionRecord) -> Asked | None:
    """None for what cannot be read, as it is still encoded."""
    try:
        return msgspec.json.decode(record.asked, type=Asked)
    except msgspec.MsgspecError:
        return None


def question_in_words(step_name: str, input_data: str | None) -> str:
    """`an answer of finance to 'approve'`, of the record of a wait."""
    record = read_record(input_data)
    name = name_in(step_name) if record is None else record.name
    of = f" of {record.to}" if record is not None and record.to is not None else ""
    return f"an answer{of} to {name!r}"
