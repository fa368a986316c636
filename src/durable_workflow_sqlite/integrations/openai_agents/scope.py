"""The run of an agent that the code of a workflow function is in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from durable_workflow_sqlite import WorkflowContext

Streamed = bool | Callable[[Any], object]


@dataclasses.dataclass(frozen=True)
class Scope:
    """Of one run.

    main: the context of the workflow function. branch: where the steps of the run belong.
    copier: makes the durable copies of agents. stream: what followers get of models that stream.
    """

    main: WorkflowContext
    branch: WorkflowContext
    copier: Any
    stream: Streamed

    @contextmanager
    def entered(self) -> Generator[None]:
        """The tasks that begin meanwhile are in it, too. Do not leave it open over a yield."""
        token = _scope.set(self)
        try:
            yield
        finally:
            _scope.reset(token)

    def within(self, name: str) -> Scope:
        """Of a run in this one, which has a branch of its own."""
        return dataclasses.replace(self, branch=self.branch.branch(name, repeat=True))


_scope: ContextVar[Scope | None] = ContextVar("durable_workflow_sqlite_agents", default=None)


def current_scope() -> Scope | None:
    """The run that calls this; None outside of a workflow function, also in actions."""
    scope = _scope.get()
    return scope if scope is not None and scope.main is WorkflowContext.current() else None


def current_branch() -> WorkflowContext | None:
    """The context of the run that calls this, for steps of hooks, guardrails and the like.

    Outside of a run, it is the context of the workflow function. Outside of a workflow function,
    also in the actions of steps, it is None.
    """
    scope = current_scope()
    return WorkflowContext.current() if scope is None else scope.branch
