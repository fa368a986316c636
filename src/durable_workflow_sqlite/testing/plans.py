"""What a test has planned for its workers and executions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from durable_workflow_sqlite import StepCheckpoint
from durable_workflow_sqlite.questions import question_or_step
from durable_workflow_sqlite.testing.simulated_process import Moment


@dataclass
class CrashPlan:
    step: str
    moment: Moment
    execution_id: str | None
    times_left: int
    down_for: timedelta

    def __str__(self) -> str:
        whose = "" if self.execution_id is None else f" of execution {self.execution_id!r}"
        left = "" if self.times_left == 1 else f", {self.times_left} times"
        return f"a crash {self.moment} step {self.step!r}{whose}{left}"

    def meets(self, step: StepCheckpoint, moment: Moment) -> bool:
        return (
            self.times_left > 0
            and moment == self.moment
            and self.step in (step.step_name, question_or_step(step.step_name))
            and self.execution_id in (None, step.workflow_execution_id)
        )


@dataclass
class PlannedCommand:
    """A signal, or a request to cancel where `signal` is None.

    at: when; None until the wait that it answers is reached.
    """

    signal: str | None
    payload: object
    execution_id: str | None
    at: datetime | None
    after: timedelta = timedelta(0)

    def __str__(self) -> str:
        when = "when it is awaited" if self.at is None else f"at {self.at}"
        what = "a request to cancel" if self.signal is None else f"signal {self.signal!r}"
        return f"{what} {when}"


class Plans:
    """Crashes, signals and requests to cancel that are to come, and the crashes that came."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._crashes: list[CrashPlan] = []
        self._planned: list[PlannedCommand] = []
        self._answered: set[tuple[str, str, int]] = set()
        self.crashes: list[str] = []
        self.down_for = timedelta(0)

    @property
    def open(self) -> list[CrashPlan | PlannedCommand]:
        return [*(one for one in self._crashes if one.times_left), *self._planned]

    # Crashes

    def crash_at(self, plan: CrashPlan) -> None:
        if plan.moment not in get_args(Moment):
            raise ValueError(
                f"a crash is {' or '.join(map(repr, get_args(Moment)))}, not {plan.moment!r}"
            )
        if plan.times_left < 1:
            raise ValueError(f"times must be at least 1, not {plan.times_left}")
        self._crashes.append(plan)

    def is_fatal(self, step: StepCheckpoint, moment: Moment) -> bool:
        """Whether a worker dies here; each crash happens once."""
        for plan in self._crashes:
            if plan.meets(step, moment):
                plan.times_left -= 1
                self.down_for = plan.down_for
                self.crashes.append(f"{moment} {step.step_name}")
                return True
        return False

    def take_down_for(self) -> timedelta:
        down_for, self.down_for = self.down_for, timedelta(0)
        return down_for

    # Signals and requests to cancel

    def signal_at(
        self, when: datetime | timedelta, name: str, payload: object, execution_id: str | None
    ) -> None:
        self._planned.append(PlannedCommand(name, payload, execution_id, self._time(when)))

    def signal_when_awaited(
        self, name: str, payload: object, after: timedelta, execution_id: str | None
    ) -> None:
        self._planned.append(PlannedCommand(name, payload, execution_id, None, after))

    def cancel_at(self, when: datetime | timedelta, execution_id: str | None) -> None:
        self._planned.append(PlannedCommand(None, None, execution_id, self._time(when)))

    @property
    def awaits_answers(self) -> bool:
        return any(one.at is None for one in self._planned)

    def answer_waits(self, waits: Iterable[StepCheckpoint]) -> None:
        """Executions are in these waits: give each the first answer that is meant for it."""
        for wait in waits:
            place = (wait.workflow_execution_id, wait.branch, wait.step_index)
            if place in self._answered:
                continue
            for planned in self._planned:
                if (
                    planned.at is None
                    and planned.signal == wait.step_name
                    and planned.execution_id in (None, wait.workflow_execution_id)
                ):
                    self._answered.add(place)
                    planned.execution_id = wait.workflow_execution_id
                    planned.at = (wait.started_at or self._now()) + planned.after
                    break

    @property
    def next_time(self) -> datetime | None:
        return min((one.at for one in self._planned if one.at is not None), default=None)

    def take_due(self) -> PlannedCommand | None:
        """The earliest that is due by now, of those planned first."""
        now = self._now()
        due = [one for one in self._planned if one.at is not None and one.at <= now]
        earliest = min(due, key=lambda one: one.at or now, default=None)
        self._planned = [one for one in self._planned if one is not earliest]
        return earliest

    def _time(self, when: datetime | timedelta) -> datetime:
        if isinstance(when, timedelta):
            return self._now() + when
        if when.utcoffset() is None:
            raise ValueError("when must have a time zone: give datetime(..., tzinfo=UTC)")
        return when


class Plannable:
    """What a test can plan, before anything runs or between two calls."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._plans = Plans(now)

    def crash_at(
        self,
        step: str,
        moment: Moment = "after",
        *,
        execution_id: str | None = None,
        times: int = 1,
        down_for: timedelta = timedelta(0),
    ) -> None:
        """Crash the process at a moment of a step (or a sleep, or a wait), and recover.

        "before": the step's INTENT is committed, and its action has not begun.
        "after": the action has run, and its outcome is not recorded. The step is in doubt.
        "recorded": the outcome is committed, and the workflow has not got it yet.

        step: its name, also of a question; "charge:compensate" for the compensation of "charge".
        times: how often in a row the process crashes there.
        down_for: how long no process runs until the next one starts.

        A crash that never happens fails the test at its end.
        """
        self._plans.crash_at(CrashPlan(step, moment, execution_id, times, down_for))

    def signal_at(
        self,
        when: datetime | timedelta,
        name: str,
        payload: object = None,
        *,
        execution_id: str | None = None,
    ) -> None:
        """Send a signal at a time, or after a duration; without an id, to the only execution."""
        self._plans.signal_at(when, name, payload, execution_id)

    def signal_when_awaited(
        self,
        name: str,
        payload: object = None,
        *,
        after: timedelta = timedelta(0),
        execution_id: str | None = None,
    ) -> None:
        """Answer the next wait for a signal of this name, a duration after the wait began.

        Called twice, it answers the next two waits. If the wait never comes, the test fails at
        its end.
        """
        self._plans.signal_when_awaited(name, payload, after, execution_id)

    def cancel_at(self, when: datetime | timedelta, *, execution_id: str | None = None) -> None:
        """Ask an execution to cancel at a time, or after a duration."""
        self._plans.cancel_at(when, execution_id)

    @property
    def crashes(self) -> list[str]:
        """Where the process has died so far: "after charge"."""
        return self._plans.crashes
