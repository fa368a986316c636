"""The arguments of the tools of a model; each class says what its tool does, to the model."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

LONGEST_VALUE: Final = 20_000
LONGEST_WAIT_S: Final = 50
"""Clients give up a call after a minute."""

MOST_ROWS: Final = 100
SHOWN: Final = 500

_Id = Annotated[str, Meta(description="the id of an execution")]
_Status = Literal[
    "PENDING", "RUNNING", "SUSPENDED", "COMPENSATING", "COMPLETED", "FAILED", "CANCELLED"
]


class List(msgspec.Struct, forbid_unknown_fields=True):
    """Lists executions, the newest first: their state, and what each waits for. `next` in the
    answer is the `after` of the next page."""

    status: Annotated[
        list[_Status] | None, Meta(description="only executions with one of these")
    ] = None
    workflow: Annotated[
        str | None, Meta(description="only executions of the workflow with this name")
    ] = None
    id_prefix: Annotated[str | None, Meta(description="the beginning of the ids")] = None
    tags: Annotated[
        dict[str, str], Meta(description="names and values of tags, which must all match")
    ] = {}
    after: Annotated[str | None, Meta(description="`next` of the page before")] = None
    limit: Annotated[int, Meta(ge=1, le=MOST_ROWS, description="how many at most")] = 20


class Show(msgspec.Struct, forbid_unknown_fields=True):
    """Shows all of one execution: its state, what it waits for, its input and result, its steps
    with their attempts and errors, its signals, and what people did to it."""

    execution_id: _Id
    step: Annotated[str | None, Meta(description="only the steps with this name")] = None
    longest: Annotated[
        int,
        Meta(ge=50, le=LONGEST_VALUE, description="how many characters of each value are shown"),
    ] = SHOWN


class Start(msgspec.Struct, forbid_unknown_fields=True):
    """Starts an execution of a workflow; a worker runs it. It returns the id at once: `wait` waits
    for the result."""

    workflow: Annotated[str, Meta(description="the name of the workflow")]
    arguments: dict[str, Any] | list[Any] = []
    execution_id: Annotated[
        str | None,
        Meta(
            description="an id that you choose: the same call again then starts nothing new. By"
            " default a new one"
        ),
    ] = None


class Signal(msgspec.Struct, forbid_unknown_fields=True):
    """Sends a message to an execution. It is kept until the execution waits for a signal of this
    name; `show` tells which name it waits for."""

    execution_id: _Id
    name: Annotated[str, Meta(description="the name of the signal")]
    payload: Annotated[Any, Meta(description="any JSON")] = None
    key: Annotated[
        str | None,
        Meta(description="a name for this one message: the same call again then sends nothing new"),
    ] = None


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """Answers a question that an execution asks; only the first answer counts. `wait` and `show`
    have the open questions, and the JSON Schema of each answer. Do not decide for a person: ask."""

    execution_id: _Id
    name: Annotated[str, Meta(description="the name of the question, or its `signal_name`")]
    value: Annotated[Any, Meta(description="the answer, as the schema of the question says")]


class Cancel(msgspec.Struct, forbid_unknown_fields=True):
    """Asks an execution to stop, to undo what it did, and to end CANCELLED."""

    execution_id: _Id


class Retry(msgspec.Struct, forbid_unknown_fields=True):
    """Runs a FAILED execution again from the step that failed, lets a blocked one go on, or makes
    the next attempt of a step now. Completed steps do not run again."""

    execution_id: _Id
    from_step: Annotated[
        str | None,
        Meta(description="run again from this step, and all after it; also what was completed"),
    ] = None


class Wait(msgspec.Struct, forbid_unknown_fields=True):
    """Waits for the end of an execution, for some seconds; returns its result. If it is not over by
    then, the answer says what it waits for and how much is done, and you may call this again."""

    execution_id: _Id
    seconds: Annotated[
        float, Meta(ge=0, le=LONGEST_WAIT_S, description="for how long to wait at most")
    ] = 20
