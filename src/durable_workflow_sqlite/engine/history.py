"""What is recorded of an execution, looked up by the place of a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from durable_workflow_sqlite.records import StepCheckpoint, StepKind, StepStatus

Place = tuple[str, int]
"""Branch and index: what tells one step of an execution from all others."""


def place_in_words(place: Place) -> str:
    branch, index = place
    return f"index {index}" + (f" of branch {branch!r}" if branch else "")


class StepHistory:
    """The attempts of one step, and its compensation."""

    __slots__ = ("attempts", "compensation")

    def __init__(self) -> None:
        self.attempts: list[StepCheckpoint] = []
        self.compensation: StepCheckpoint | None = None

    @property
    def last(self) -> StepCheckpoint | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def is_to_be_retried(self) -> bool:
        """Whether its last attempt failed, and another follows."""
        last = self.last
        return (
            last is not None
            and last.kind is StepKind.STEP
            and last.status is StepStatus.FAILED
            and last.due_at is not None
        )


class History:
    """The checkpoints of one execution."""

    __slots__ = ("_steps", "last_completed_at")

    def __init__(self, checkpoints: Iterable[StepCheckpoint] = ()) -> None:
        self._steps: dict[Place, StepHistory] = {}
        self.last_completed_at: datetime | None = None
        for checkpoint in checkpoints:
            place = (checkpoint.branch, checkpoint.step_index)
            step = self._steps.setdefault(place, StepHistory())
            if checkpoint.attempt == 0:
                step.compensation = checkpoint
            else:
                step.attempts.append(checkpoint)
            at = checkpoint.completed_at
            if at is not None and (self.last_completed_at is None or at > self.last_completed_at):
                self.last_completed_at = at

    def take(self, place: Place) -> StepHistory | None:
        """What is recorded at a place; each place is asked for once, and then forgotten."""
        return self._steps.pop(place, None)

    def has_outcome_before(self, time: datetime) -> bool:
        """Whether a step that has not been asked for had its outcome before a time."""
        return any(
            step.last is not None
            and step.last.completed_at is not None
            and step.last.completed_at < time
            for step in self._steps.values()
        )

    def goes_on_after(self, place: Place) -> bool:
        """Whether later steps of a branch are recorded that have not been asked for."""
        branch, index = place
        return any(one[0] == branch and one[1] > index for one in self._steps)

    def __len__(self) -> int:
        return len(self._steps)

    def steps(self) -> Iterator[tuple[Place, StepHistory]]:
        """Every step that has not been asked for."""
        yield from self._steps.items()
