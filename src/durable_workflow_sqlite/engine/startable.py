"""What starts a workflow needs to know of it; `workflow.py` has the rest."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Never, TypeAlias, TypeVar, TypeVarTuple, Unpack

from durable_workflow_sqlite.records import Workflow

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class CalledWorkflow(Coroutine[Any, Any, R_co]):
    """For type checkers: the type of a called workflow, which no other function returns."""


Startable: TypeAlias = Callable[[Never, Unpack[Ts]], CalledWorkflow[R]]
"""A workflow that takes these arguments, as what starts it sees it: some may have defaults."""


class StartableDefinition:
    """Of a workflow: its record, its input as JSON, and the type of its result."""

    name: str

    @functools.cached_property
    def record(self) -> Workflow:
        """The definition as a record of the store."""
        raise NotImplementedError

    @functools.cached_property
    def result_type(self) -> Any:
        """The type that the function returns. Raises SerializationError if JSON cannot hold it."""
        raise NotImplementedError

    def encode_input(self, args: tuple[Any, ...]) -> str:
        """The arguments as JSON text. Raises TypeError or SerializationError."""
        raise NotImplementedError


def check_startable(candidate: object) -> StartableDefinition:
    """Raise TypeError for anything but a workflow, and say what was perhaps meant."""
    if isinstance(candidate, StartableDefinition):
        return candidate
    if inspect.iscoroutine(candidate):
        candidate.close()
        raise TypeError(
            "the workflow was called; pass the workflow, then its arguments:"
            " `engine.run(order, argument)`"
        )
    raise TypeError(f"{candidate!r} is not a workflow; decorate the function with @workflow")
