"""Clocks that jump by hours and zones that change, while workflows sleep, wait and back off."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    SystemClock,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.testing import ManualClock
from tests.faults.crew import Crew, run_until_done
from tests.faults.reliability import FULL
from tests.oracle import violations
from tests.processes import Harm
from tests.properties.simulation import Schedule, World, of_this_world, schedules
from tests.worlds import Event

SEED = int(os.environ.get("DURABLE_SEED", "0"))
JUMPS = (-7200, -3600, -600, 600, 3600, 7200)
SCHEDULES = 3000 if FULL else 20
ROUNDS = 60 if FULL else 1


class JumpyWorld(World):
    """As the world, and its clock is set to another time now and then."""

    was_set_back = False

    async def _do(self, engine: DurableEngine, event: Event) -> None:
        if event.what.startswith("jump "):
            self.was_set_back |= event.what.startswith("jump -")
            self.clock.set(self.clock.now() + timedelta(seconds=int(event.what[5:])))
        else:
            await super()._do(engine, event)


jumps = st.lists(
    st.builds(Event, st.integers(0, 60), st.sampled_from([f"jump {seconds}" for seconds in JUMPS])),
    min_size=1,
    max_size=3,
).map(tuple)


@pytest.mark.campaign
@pytest.mark.faults
def test_a_clock_that_jumps_by_hours_breaks_no_promise(counts: Counter[str]) -> None:
    """Generated workflows, signals, cancels and crashes, and a clock that is set among them."""

    @seed(SEED)
    @settings(
        max_examples=SCHEDULES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(schedule=schedules, at=jumps)
    def run_schedules(schedule: Schedule, at: tuple[Event, ...]) -> None:
        world = JumpyWorld(
            Schedule(schedule.program, (*schedule.events, *at), schedule.crashes, schedule.ttl)
        )
        for crash in world.schedule.crashes:
            if world.run_process(Harm(3 + crash.percent // 8, crash.at == "before")):
                break
            world.clock.set(world.clock.now() + timedelta(seconds=crash.seconds_down))
        else:
            world.run_process()
        found = [*world.problems, *violations(world.processes), *of_this_world(world)]
        if world.was_set_back:
            # It may be, between the end of a sleep and the look at the clock that is recorded.
            found = [text for text in found if "woke before its deadline" not in text]
        assert not found, f"{world.schedule}:\n" + "\n".join(found)
        counts["schedules with jumps"] += 1
        counts["jumps of a clock"] += len(at)

    run_schedules()


class ShiftedClock(SystemClock):
    """The machine's clock, off by an hour or right, and the other way after a while."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._shift = timedelta(0)
        self._until = 0.0

    def now(self) -> datetime:
        if time.monotonic() > self._until:
            self._shift = timedelta(hours=self._dice.choice((-1, 0, 1)))
            self._until = time.monotonic() + self._dice.uniform(0.02, 0.2)
        return super().now() + self._shift

    async def sleep_until(self, deadline: datetime) -> None:
        while (left := (deadline - self.now()).total_seconds()) > 0:
            await asyncio.sleep(min(left, 0.02))


@pytest.mark.campaign
@pytest.mark.faults
def test_workers_whose_clocks_differ_and_jump_take_over_from_one_another(
    tmp_path: Path, counts: Counter[str]
) -> None:
    dice = random.Random(SEED)
    for _ in range(ROUNDS):
        folder = tmp_path / "world"
        folder.mkdir()
        crew = Crew(folder, 3, new_clock=lambda name: ShiftedClock(random.Random(f"{SEED}{name}")))

        def next_harm() -> Harm | None:
            return Harm(dice.randint(1, 25), dice.random() < 0.5) if dice.random() < 0.6 else None

        run_until_done(crew, next_harm, 60)
        # Whether a sleep is over is for the clock of whoever looks: those that differ by
        # hours end one early. Everything else must hold.
        found = [text for text in crew.violations() if "woke before its deadline" not in text]
        assert not found, "\n".join(found)
        counts["workers with clocks of their own"] += crew.born
        counts["of those killed"] += crew.killed
        shutil.rmtree(folder)


@contextmanager
def zone(name: str) -> Iterator[None]:
    """The zone of this process is another one."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


TURNS = {
    "Europe/Berlin": (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)),
    "America/New_York": (
        datetime(2026, 3, 8, 7, tzinfo=UTC),
        datetime(2026, 11, 1, 6, tzinfo=UTC),
    ),
    "Australia/Lord_Howe": (
        datetime(2026, 4, 4, 15, tzinfo=UTC),
        datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    ),
}
"""When clocks go back or forward there."""


@pytest.mark.faults
@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize("turn", [0, 1])
def test_a_day_is_24_hours_long_when_the_clocks_change(
    file: Path, name: str, turn: int, counts: Counter[str]
) -> None:
    """A sleep over the change, a time given in local hours, and a zone that changes in between."""
    changes_at = TURNS[name][turn]
    began = changes_at - timedelta(minutes=30)
    local = (changes_at + timedelta(minutes=30)).astimezone(ZoneInfo(name))
    woke: dict[str, datetime] = {}

    @workflow(name="over the change")
    async def over_the_change(ctx: WorkflowContext) -> None:
        await ctx.sleep("a minute", timedelta(minutes=1))
        woke.setdefault("a minute", clock.now())
        await ctx.sleep_until("in local time", local)
        woke.setdefault("in local time", clock.now())
        await ctx.sleep("a day", timedelta(hours=24))
        woke.setdefault("a day", clock.now())

    async def main(until: datetime) -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[over_the_change], clock=clock) as engine,
        ):
            handle = await engine.start(over_the_change, execution_id="one")
            await clock.advance(until - clock.now())
            if until > changes_at + timedelta(hours=2):
                await handle.result()

    clock = ManualClock(began)
    with zone(name):
        asyncio.run(main(changes_at - timedelta(minutes=10)))
    clock = ManualClock(clock.now())
    with zone("UTC"):
        asyncio.run(main(changes_at + timedelta(hours=1)))
    clock = ManualClock(clock.now())
    with zone("Pacific/Auckland"):
        asyncio.run(main(changes_at + timedelta(days=2)))
    expected = [
        began + timedelta(minutes=1),
        changes_at + timedelta(minutes=30),
        changes_at + timedelta(hours=24, minutes=30),
    ]
    assert list(woke.values()) == expected
    counts["changes between summer and winter"] += 1


@pytest.mark.faults
async def test_a_sleep_whose_clock_goes_back_keeps_its_deadline(file: Path) -> None:
    clock: Any = ManualClock(datetime(2030, 1, 1, 12, tzinfo=UTC))

    @workflow(name="sleeper")
    async def sleeper(ctx: WorkflowContext) -> None:
        await ctx.sleep("an hour", timedelta(hours=1))

    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, workflows=[sleeper], clock=clock) as engine,
    ):
        handle = await engine.start(sleeper, execution_id="one")
        await clock.advance(timedelta(minutes=59))
        clock.set(clock.now() - timedelta(hours=1))
        await clock.advance(timedelta(minutes=59))
        assert not (await engine.load("one")).status.is_terminal
        await clock.advance(timedelta(minutes=3))
        await handle.result()
