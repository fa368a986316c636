"""The history of an execution, as strings that a test can compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from durable_workflow_sqlite.engine.history import TIMERS, asks
from durable_workflow_sqlite.records import (
    COMPENSATION_SUFFIX,
    CUT_OFF,
    StepCheckpoint,
    StepKind,
    StepStatus,
)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a step, a sleep, a wait for a signal, or a compensation.

    name: of the step, with its branch before it: "mail/fetch".
    became: the outcome. "" is completed; else it is "failed", "timed out", or "in doubt" for an
        attempt that a crash interrupted. While the attempt runs, it is "running", "sleeping" or
        "waiting"; "waits for an answer" if a person must say what became of it. If the workflow
        cancelled it, or the execution ended, it is "cut off", or "never began" if the action had
        not begun. A compensation is "undone".
    result: of the step, or the signal's payload, as plain JSON data.
    """

    name: str
    kind: StepKind
    became: str
    attempt: int
    result: Any
    error: str | None
    started_at: datetime | None
    completed_at: datetime | None

    def __str__(self) -> str:
        what = self.became
        if self.error is not None:
            what += f": {self.error}"
        return f"{self.name} ({what})" if what else self.name


class History(list[str]):
    """A line for each event, in the order in which they began; `events` has the details.

    A completed event is its name alone. Any other event has its outcome in brackets:

        ["price", "charge (in doubt)", "charge", "approved (waiting)"]

    The timers of plain asyncio (`asyncio.sleep`, `asyncio.timeout`) are left out.
    """

    def __init__(
        self, checkpoints: Iterable[StepCheckpoint] = (), *, is_over: bool = False
    ) -> None:
        """is_over: the execution has ended."""
        self.events: list[Event] = list(_events(checkpoints, is_over))
        super().__init__(map(str, self.events))

    def times(self, step: str) -> int:
        """How often the action of a step began; its compensation does not count."""
        return sum(
            one.name == step
            and one.kind is StepKind.STEP
            and one.attempt > 0
            and one.became != "never began"
            for one in self.events
        )

    def assert_ran(self, *steps: str, times: int | None = None) -> None:
        """Each of these steps began: this number of times, or at least once."""
        __tracebackhide__ = True
        for step in steps:
            found = self.times(step)
            if found == 0 or (times is not None and found != times):
                wanted = "" if times is None else f" {_times(times)}"
                self._fail(f"step {step!r} should have run{wanted}, and ran {_times(found)}")

    def assert_not_ran(self, *steps: str) -> None:
        """None of these steps began."""
        __tracebackhide__ = True
        for step in steps:
            if found := self.times(step):
                self._fail(f"step {step!r} should not have run, and ran {_times(found)}")

    def assert_order(self, *names: str) -> None:
        """These completed one after the other; others may have come between."""
        __tracebackhide__ = True
        completed = [one.name for one in self.events if one.became == ""]
        rest = iter(completed)
        for number, name in enumerate(names):
            if name not in rest:
                after = f" after {names[number - 1]!r}" if number else ""
                self._fail(f"{name!r} should have completed{after}, and did not")

    def assert_undone(self, *steps: str) -> None:
        """These steps, and no others, were compensated, in this order."""
        __tracebackhide__ = True
        found = [one.name for one in self.events if one.became == "undone"]
        if found != list(steps):
            self._fail(f"undone should be {list(steps)}, and is {found}")

    def _fail(self, message: str) -> None:
        __tracebackhide__ = True  # by pytest: a failure is shown where the test asked
        lines = "".join(f"\n    {line}" for line in self) or "\n    nothing"
        raise AssertionError(f"{message}. It was:{lines}")


def _events(checkpoints: Iterable[StepCheckpoint], is_over: bool) -> Iterator[Event]:
    ordered = sorted(checkpoints, key=lambda one: one.id or 0)
    last_attempts = {(one.branch, one.step_index): one.attempt for one in ordered if one.attempt}
    for one in ordered:
        if one.branch == TIMERS:
            continue
        is_last = one.attempt in (0, last_attempts.get((one.branch, one.step_index)))
        name = one.step_name.removesuffix(COMPENSATION_SUFFIX if one.attempt == 0 else "")
        became = _became(one, is_last, is_over)
        yield Event(
            name=f"{one.branch}/{name}" if one.branch else name,
            kind=one.kind,
            became=became,
            attempt=one.attempt,
            result=None if one.output_data is None else msgspec.json.decode(one.output_data),
            error=_error(one) if became in ("failed", "undoing", "undoing failed") else None,
            started_at=one.started_at,
            completed_at=one.completed_at,
        )


def _became(one: StepCheckpoint, is_last: bool, is_over: bool) -> str:
    if is_last and not is_over and asks(one):
        return "waits for an answer"
    if one.attempt == 0:
        return {
            StepStatus.COMPENSATED: "undone",
            StepStatus.FAILED: "undoing failed",
        }.get(one.status, "undoing")
    if one.status is StepStatus.COMPLETED:
        return ""
    if one.status is StepStatus.FAILED and one.error_type == CUT_OFF and one.event is None:
        return "never began" if one.started_at is None else "cut off"
    if one.status is StepStatus.FAILED:
        return "timed out" if one.kind is StepKind.SIGNAL else "failed"
    if not is_last:
        return "in doubt"
    if is_over:
        return "cut off"
    return {StepKind.STEP: "running", StepKind.SLEEP: "sleeping"}.get(one.kind, "waiting")


def _error(one: StepCheckpoint) -> str | None:
    if one.error_type is None or asks(one):
        return None
    kind = one.error_type.rpartition(":")[2]
    return f"{kind}: {one.error_message}" if one.error_message else kind


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")
