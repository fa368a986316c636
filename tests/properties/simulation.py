"""Made-up workflows, lived through in a world: what happens to one, and what must hold of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from hypothesis import strategies as st

from durable_workflow_sqlite import DurableEngine, ExecutionConflictError, ExecutionStatus
from tests import worlds
from tests.oracle import GIVEN, GIVING, MENDING, PAUSED, RESUMING, violations
from tests.processes import Harm
from tests.properties.programs import (
    SIGNALS,
    Program,
    definition,
    may_fail,
    must_fail,
    programs,
)
from tests.worlds import EXECUTION, Crash, Event

MOST_LIVES = 5
PAUSES = ("pause", "pause all", "pause workflow", "resume", "resume")


@dataclass(frozen=True)
class Schedule:
    """A workflow, and all that happens to it."""

    program: Program
    events: tuple[Event, ...] = ()
    crashes: tuple[Crash, ...] = ()
    ttl: int | None = None


class World(worlds.World):
    """One of a made-up workflow."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule.events)
        self.schedule = schedule
        self.acknowledged: list[str] = []
        self.values = 0
        self.started_in = MOST_LIVES
        self.definition = definition(schedule.program, self)

    @property
    def life(self) -> int:
        return len(self.processes)

    async def _main(self) -> bool:
        store = self.open_store()
        ttl = None if self.schedule.ttl is None else timedelta(seconds=self.schedule.ttl)
        engine = DurableEngine(store, workflows=[self.definition], clock=self.clock)
        async with store, engine:
            await engine.start(self.definition, execution_id=EXECUTION, ttl=ttl)
            self.started_in = min(self.started_in, len(self.processes))
            is_over = await self._until_over(engine)
            await self._look_at_progress(engine)
            return is_over

    async def _look_at_progress(self, engine: DurableEngine) -> None:
        """What is COMPLETED says that all is done; what a step says is of its last attempt."""
        if (await engine.load(EXECUTION)).status != ExecutionStatus.COMPLETED:
            return
        attempts = self.look().last_attempts()
        found = {(one.branch, one.step_index): one for one in await engine.progress(EXECUTION)}
        whole = found.get(("", -1))
        if whole is None or whole.fraction != 1 or whole.note != "":
            self.problems.append(f"it is COMPLETED, and its progress is {whole}")
        self.problems.extend(
            f"the progress {one} is of another attempt than the last"
            for place, one in found.items()
            if one.step_name and attempts[place].attempt != one.attempt
        )

    async def _give(self, engine: DurableEngine) -> None:
        """To each step that waits for its next attempt, what it would have returned."""
        for step in self.look().last_attempts().values():
            if step.kind == "STEP" and step.due_at is not None:
                self.values += 1
                value = step.step_name
                self.note(f"{MENDING}{step.step_name}")
                self.note(f"{GIVING}{json.dumps([step.step_name, value])}")
                with suppress(ExecutionConflictError):
                    await engine.resolve(EXECUTION, step.step_name, value)
                    self.note(f"{GIVEN}{json.dumps([step.step_name, value])}")

    async def _pause(self, engine: DurableEngine, what: str) -> None:
        """Nothing begins from the note on, in whatever process."""
        if what == "pause all":
            await engine.pause_all()
        elif what == "pause workflow":
            await engine.pause_workflow(self.definition.name)
        else:
            await engine.pause(EXECUTION)
        await self._until_quiet()
        if not (await engine.load(EXECUTION)).status.is_terminal:
            if EXECUTION in engine._working().executions:
                self.problems.append("it is paused, and stays in memory")
            self.note(PAUSED)

    async def _resume(self, engine: DurableEngine) -> None:
        self.note(RESUMING)
        await engine.resume_all()
        await engine.resume_workflow(self.definition.name)
        await engine.resume(EXECUTION)

    async def _is_paused(self, engine: DurableEngine) -> bool:
        record = await engine.load(EXECUTION)
        return bool(record.paused_at or await engine.pauses())

    async def _send_what_is_awaited(self, engine: DurableEngine) -> None:
        if await self._is_paused(engine):
            await self._resume(engine)
        else:
            await super()._send_what_is_awaited(engine)

    async def _do(self, engine: DurableEngine, event: Event) -> None:
        if event.what == "give":
            await self._give(engine)
        elif event.what in ("pause", "pause all", "pause workflow"):
            await self._pause(engine, event.what)
        elif event.what == "resume":
            await self._resume(engine)
        elif event.what == "cancel" and not await engine.pauses():
            self.note(RESUMING)  # it ends the pause of the execution, if there is one
            if await engine.cancel(EXECUTION):
                self.acknowledged.append("cancel")
        elif event.what != "cancel":
            number = len(self.acknowledged)
            # If a process died over it before, it is there, or it is not.
            await engine.send_signal(EXECUTION, event.what, number, key=f"{event.what} {number}")
            self.acknowledged.append(f"signal {number}")
        elif await engine.cancel(EXECUTION):
            self.acknowledged.append("cancel")


def broken_promises(schedule: Schedule, kind: Callable[[Schedule], World] = World) -> list[str]:
    """Live through a schedule, and say what did not hold."""
    undisturbed = kind(schedule)
    undisturbed.run_process()
    left = undisturbed.connection.commits
    world = kind(schedule)
    for crash in schedule.crashes:
        commit = 1 + max(left, 3) * crash.percent // 100
        left -= commit
        if world.run_process(Harm(commit, crash.at == "before")):
            break
        world.clock.set(world.clock.now() + timedelta(seconds=crash.seconds_down))
    else:
        world.run_process()
    return [
        text
        for one in (undisturbed, world)
        for text in (*one.problems, *violations(one.processes), *of_this_world(one))
    ]


def of_this_world(world: World) -> list[str]:
    """What must hold beyond the promises that the oracle knows of, since the program is known."""
    end, schedule = world.processes[-1].after, world.schedule
    found: list[str] = []
    if any(process.after.status is None for process in world.processes[world.started_in :]):
        found.append("it was started, and is gone")
    sent = [signal[1:3] for signal in end.signals if not signal[1].startswith("$")]
    payloads = {payload for _, payload in sent}
    if len(set(sent)) < len(sent):  # each has a key
        found.append(f"a signal came twice: {sent}")
    found.extend(
        f"{one} was acknowledged, and is gone"
        for one in world.acknowledged
        if one.startswith("signal ") and one.removeprefix("signal ") not in payloads
    )
    if "cancel" in world.acknowledged and end.status != "CANCELLED":
        found.append(f"a cancel was acknowledged, and it ended {end.status}")
    may_be_stopped = schedule.ttl is not None or any(e.what == "cancel" for e in schedule.events)
    if not may_be_stopped:
        if must_fail(schedule.program) and not world.values and end.status != "FAILED":
            found.append(f"it had to fail, and ended {end.status}")
        if not may_fail(schedule.program) and end.status != "COMPLETED":
            found.append(f"nothing fails in it, and it ended {end.status}: {end.error_type}")
    return found


_events = st.lists(
    st.builds(
        Event,
        st.integers(0, 60),
        st.sampled_from([*SIGNALS * 3, "cancel", *["give"] * 3, *PAUSES]),
    ),
    max_size=5,
).map(tuple)
_crashes = st.lists(
    st.builds(
        Crash,
        st.sampled_from(["before", "after"]),
        st.integers(0, 99),
        st.sampled_from([0, 0, 3, 30]),
    ),
    min_size=1,
    max_size=MOST_LIVES - 1,
).map(tuple)

schedules: st.SearchStrategy[Schedule] = st.builds(
    Schedule,
    program=programs,
    events=_events,
    crashes=_crashes,
    ttl=st.one_of(st.none(), st.none(), st.none(), st.integers(1, 60)),
)
