"""Simulated processes and crashes of made-up workflows of plain asyncio, and what must hold then.

A world of these dies also when an event is about to be told, or was just told, to the program.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowDefinition,
    workflow,
)
from durable_workflow_sqlite.engine.body import Body
from durable_workflow_sqlite.engine.body_loop import BodyLoop
from durable_workflow_sqlite.engine.error_codec import ErrorCodec
from durable_workflow_sqlite.engine.history import RecordedHistory
from durable_workflow_sqlite.engine.origins import origin_of
from durable_workflow_sqlite.engine.replay import replay_event
from durable_workflow_sqlite.records import (
    Record,
    StepCheckpoint,
    WorkflowClaim,
    WorkflowExecution,
)
from durable_workflow_sqlite.store.rows import time_to_text
from durable_workflow_sqlite.store.statement_store import StatementStore
from durable_workflow_sqlite.testing.contract_base import loaded
from tests import worlds
from tests.oracle import FINAL, TIMERS, Snapshot, violations
from tests.processes import Harm
from tests.properties.asyncio_programs import (
    SIGNALS,
    Do,
    Node,
    Row,
    Walk,
    Way,
    program_of,
    rigid_program_of,
)
from tests.worlds import EXECUTION, Crash, Died, Event

HEARS_OF_OTHERS_S = 0.1
"""In this time an engine has heard of what another connection wrote."""


class Mistake(NamedTuple):
    """An error of the code, at a place of the main line: after so many percent of it."""

    kind: type[Exception]
    percent: int


MISTAKES = (
    NameError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    AssertionError,
    NotImplementedError,
    RecursionError,
    ImportError,
)


@dataclass(frozen=True)
class Schedule:
    """A program, and all that happens to it.

    mistakes: in each of the first processes, the one that the code of this process has, or None.
    parks: whether an execution that waits leaves memory at once.
    is_rigid: whether its result must not depend on when it dies.
    chance: of what is left open: how many turns a thread takes.
    """

    program: Node
    events: tuple[Event, ...] = ()
    crashes: tuple[Crash, ...] = ()
    mistakes: tuple[Mistake | None, ...] = ()
    ttl: int | None = None
    parks: bool = False
    is_rigid: bool = False
    chance: int = 0


class Trial:
    """How a world is disturbed beyond its schedule, for real: slow turns, threads in real time."""

    slow_turns_s: tuple[float, float] | None = None
    is_real = False


class RealLoop(asyncio.SelectorEventLoop):
    """The program's event loop as it is; it knows how many threads are at work for it."""

    at_work = 0

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        future = super().run_in_executor(executor, func, *args)
        self.at_work += 1
        future.add_done_callback(self._done)
        return future

    def _done(self, _: object) -> None:
        self.at_work -= 1


class World(worlds.World):
    """One of a made-up program.

    ways: what each run of the program saw, over all processes.
    undone: what each compensation was given.
    after_the_end: the steps that began after the program had ended.
    mistake: what is wrong with the code in this process.
    mistaken: how many processes have come to a mistake.
    before_mistake: the length of the journal when this process came to it.
    recorded_before: the steps of which an attempt was recorded by then, or was just being recorded.
        They come to their end.
    """

    finds_damage = False

    def __init__(self, schedule: Schedule, trial: Trial | None = None) -> None:
        super().__init__(schedule.events, schedule.chance)
        self.schedule = schedule
        self.trial = trial or Trial()
        self.ways: list[Way] = []
        self.args: dict[str, set[tuple[object, ...]]] = {}
        self.undone: dict[str, set[str]] = {}
        self.after_the_end: list[tuple[int, str, Snapshot]] = []
        self.sent: list[int] = []
        self.mistake: Mistake | None = None
        self.mistaken = 0
        self.before_mistake: int | None = None
        self.recorded_before: set[str] = set()
        self._beginning: set[str] = set()
        self.events_told = 0
        self.times = 0
        self._lock = threading.Lock()
        self._fatal: Crash | None = None
        self._ways: dict[Body, Way] = {}
        self._parks = False

        @workflow(name="made up")
        async def made_up(ctx: WorkflowContext) -> list[str]:
            way = self.begins(ctx._body)
            return await self.walk(ctx, way)

        self.definition: WorkflowDefinition[Any, Any] = made_up

    @property
    def makes_threads_up(self) -> bool:
        return not self.trial.is_real

    async def walk(self, ctx: WorkflowContext, way: Way) -> list[str]:
        await Walk(self, way).follow(ctx, self.schedule.program)
        return list(way.lines)

    def comes_by(self, way: Way, node: Node, number: int) -> None:
        """The program comes to a place of a row; in the main line, a mistake may be there."""
        if self.connection.is_dead:
            raise asyncio.CancelledError  # its process is gone: what is dropped runs nowhere
        if self.mistake is None or node is not self.schedule.program:
            return
        if number == len(node.kids) * self.mistake.percent // 100:
            way.is_closed = True
            if self.before_mistake is None:
                self.before_mistake = len(self.lines)
                last = self.look().last_attempts().values()
                self.recorded_before = {one.step_name for one in last if one.status == "INTENT"}
                self.recorded_before |= self._beginning
                self.mistaken += 1
            raise self.mistake.kind("a mistake")

    # What the program acts on

    def note(self, line: str) -> int:
        with self._lock:
            return super().note(line)

    def _runs(self, name: str, args: tuple[object, ...]) -> int:
        if self.connection.is_dead:
            raise Died
        self.args.setdefault(name, set()).add(args)
        comes_to_its_end = self.before_mistake is not None and name in self.recorded_before
        if self.ways and self.ways[-1].is_closed and not comes_to_its_end:
            self.after_the_end.append((len(self.processes), name, self.look()))
        return self.note(f"run {name}")

    async def act(self, name: str, args: tuple[object, ...], do: Do) -> str:
        runs = self._runs(name, args)
        try:
            for _ in range(do.turns):
                await asyncio.sleep(0)
            if do.seconds:
                await self.clock.sleep_until(self.clock.now() + timedelta(seconds=do.seconds))
        except asyncio.CancelledError:
            for _ in range(do.cleanup):
                await asyncio.sleep(0)
            if do.yields:
                raise
        return self._ends(name, do, runs)

    def act_at_once(self, name: str, args: tuple[object, ...], do: Do) -> str:
        return self._ends(name, do, self._runs(name, args))

    def _ends(self, name: str, do: Do, runs: int) -> str:
        if runs <= do.failures:
            raise ConnectionError(name)
        return f"did {name}" if self.schedule.is_rigid else f"did {name} at {runs}"

    async def undo(self, name: str, do: Do, value: str) -> None:
        if self.connection.is_dead:
            raise Died
        self.undone.setdefault(name, set()).add(value)
        runs = self.note(f"undo {name}")
        for _ in range(do.turns):
            await asyncio.sleep(0)
        if runs <= do.undo_failures:
            raise ConnectionError(f"undo {name}")

    # What happens to the program's body

    def begins(self, body: Body) -> Way:
        way = self._ways[body] = Way()
        self.ways.append(way)
        return way

    def is_told(self, body: Body, checkpoint: StepCheckpoint) -> None:
        way = self._ways.get(body)
        if way is None or way.is_closed:
            return
        way.told += 1
        way.note(
            f"told event {checkpoint.event} of {checkpoint.branch}:{checkpoint.step_index}"
            f" {checkpoint.status} at {checkpoint.completed_at}"
        )

    def dies_at_event(self, at: str) -> None:
        if (
            self._fatal is not None
            and self._fatal.at == at
            and self._fatal.number == self.events_told
        ):
            self.die()

    def ends(self, body: Body) -> None:
        way = self._ways.get(body)
        if way is not None:
            way.is_closed = True

    # Processes

    def run_until(self, crash: Crash | None = None, mistake: Mistake | None = None) -> bool:
        """One process, until that crash; whether the execution came to its end."""
        self._fatal = crash
        # How it ends is decided where it is being undone: nobody asks its function once more.
        is_decided = self.status() == "COMPENSATING"
        self.mistake, self.before_mistake = None if is_decided else mistake, None
        self.events_told = self.times = 0
        is_at_commit = crash is not None and crash.at in ("before", "after")
        harm = Harm(crash.number, crash.at == "before") if crash and is_at_commit else None
        try:
            return self.run_process(harm)
        finally:
            self.mistake = None

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        return RealLoop() if self.trial.is_real else super()._new_loop()

    def _leave(self) -> None:
        for body, way in self._ways.items():
            way.is_closed = True
            if not body.is_ended:
                body.drop()
        self._ways.clear()

    @contextmanager
    def _patched(self) -> Iterator[pytest.MonkeyPatch]:
        hear, let_time_pass = Body.hear, Body.let_time_pass
        interrupt, end, drop = Body.interrupt, Body.end, Body.drop

        def heard(body: Body, operation: Any, checkpoint: StepCheckpoint) -> None:
            self.events_told += 1
            self.dies_at_event("untold")
            self.is_told(body, checkpoint)
            hear(body, operation, checkpoint)
            self.dies_at_event("told")

        def passed(body: Body, checkpoint: StepCheckpoint) -> None:
            self.events_told += 1
            self.dies_at_event("untold")
            self.is_told(body, checkpoint)
            let_time_pass(body, checkpoint)
            self.dies_at_event("told")

        def closes(method: Callable[[Body], None]) -> Callable[[Body], None]:
            def closing(body: Body) -> None:
                self.ends(body)
                method(body)

            return closing

        begin_step = StatementStore.begin_step

        async def begins(
            store: StatementStore, intent: StepCheckpoint, *beside: Record, claim: WorkflowClaim
        ) -> None:
            self._beginning.add(intent.step_name)
            try:
                await begin_step(store, intent, *beside, claim=claim)
            finally:
                self._beginning.discard(intent.step_name)

        self._beginning.clear()
        with super()._patched() as patch:
            patch.setattr(StatementStore, "begin_step", begins)
            patch.setattr(Body, "hear", heard)
            patch.setattr(Body, "let_time_pass", passed)
            patch.setattr(Body, "interrupt", closes(interrupt))
            patch.setattr(Body, "end", closes(end))
            patch.setattr(Body, "drop", closes(drop))
            if self.trial.slow_turns_s is not None:
                patch.setattr(BodyLoop, "call_soon", self._slowly(BodyLoop.call_soon))
            yield patch

    def _slowly(self, call_soon: Callable[..., Any]) -> Callable[..., Any]:
        least, most = self.trial.slow_turns_s or (0.0, 0.0)

        def slow(loop: BodyLoop, *args: Any, **named: Any) -> Any:
            time.sleep(self.chance.uniform(least, most))
            return call_soon(loop, *args, **named)

        return slow

    async def _main(self) -> bool:
        schedule = self.schedule
        store = self.open_store()
        ttl = None if schedule.ttl is None else timedelta(seconds=schedule.ttl)
        engine = DurableEngine(
            store,
            workflows=[self.definition],
            clock=self.clock,
            park_after=timedelta(0) if schedule.parks else None,
        )
        async with store, engine:
            await engine.start(self.definition, execution_id=EXECUTION, ttl=ttl)
            return await self._until_over(engine)

    def _ends_early(self) -> bool:
        if self.before_mistake is not None and self._has_stopped():
            return True
        if self.status() not in FINAL:
            self.times += 1
        return (
            self._fatal is not None
            and self._fatal.at == "disposed"
            and (self._fatal.number == self.times)
        )

    async def _after_an_event(self) -> None:
        if self.chance.random() < 0.5:
            await self._until_quiet()

    def _has_stopped(self) -> bool:
        """Whether the mistake that the program came to has stopped it, and has done no more."""
        if not self.was_interrupted:
            if any(line.startswith("undo ") for line in self.lines[self.before_mistake :]):
                self.problems.append("something was undone after a mistake")
            if self.status() in FINAL:
                self.problems.append(f"a mistake has ended it: {self._where_it_stands()}")
        _, trouble, *_ = self._where_it_stands() or (None, None)
        return trouble is not None

    async def _until_quiet(self) -> None:
        """Let the engine do all that can be done at this time."""
        loop: Any = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0)
            if not loop._ready:
                if self.trial.is_real and loop.at_work:
                    await asyncio.sleep(0.001)
                elif self.schedule.parks and loop._scheduled and self._has_parked(loop):
                    await asyncio.sleep(HEARS_OF_OTHERS_S)
                else:
                    return

    def _has_parked(self, loop: Any) -> bool:
        """Whether an execution is about to leave memory, or is due to come back to it."""
        self._parks = not self._parks
        return self._parks

    @property
    def was_interrupted(self) -> bool:
        """Whether it was cancelled, or expired, before it came to its end by itself."""
        error = str(self.look().error_type)
        return "WorkflowCancelledError" in error or "WorkflowExpiredError" in error

    def records(self) -> tuple[WorkflowExecution, list[StepCheckpoint]]:
        """What the store holds of the execution."""

        async def load() -> tuple[WorkflowExecution, list[StepCheckpoint]]:
            store = SqliteCheckpointStore(self.connection)
            record = await loaded(store, EXECUTION)
            return record, await store.load_checkpoints(EXECUTION)

        return asyncio.run(load())

    def _where_it_stands(self) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self.connection.execute(
            "select status, trouble, blocked_reason, available_at, recovery_count"
            " from workflow_executions where workflow_execution_id = ?",
            (EXECUTION,),
        ).fetchone()
        return row

    def _more_times(self) -> list[datetime]:
        if not self.schedule.parks:
            return []
        rows = self.connection.execute(
            "select fire_at from workflow_timers where status = 'PENDING'"
        )
        due = [datetime.fromisoformat(text) for (text,) in rows]
        return [at for at in due if at > self.clock.now()]

    async def _do(self, engine: DurableEngine, event: Event) -> None:
        if event.what in ("cancel", "pause", "resume"):
            await getattr(engine, event.what)(EXECUTION)
            return
        number = len(self.sent)
        if self._is_there(number, event.what):
            pass
        elif event.by_another and self.status() not in FINAL:
            await self._insert(event.what, number)
        else:
            await engine.send_signal(EXECUTION, event.what, number, key=f"{event.what} {number}")
        self.sent.append(number)

    async def _send_what_is_awaited(self, engine: DurableEngine) -> None:
        if (await engine.load(EXECUTION)).paused_at is None:
            await super()._send_what_is_awaited(engine)
        else:
            await engine.resume(EXECUTION)

    def _is_there(self, number: int, name: str) -> bool:
        """Under another name, since an earlier process died over it; for its own it has a key."""
        found = self.connection.execute(
            "select 1 from workflow_signals where payload = ? and signal_name != ?"
            " and signal_name not like '$%'",
            (str(number), name),
        )
        return found.fetchone() is not None

    async def _insert(self, name: str, number: int) -> None:
        """As a program of another make does it; the engine hears of that a little later."""
        now = time_to_text(self.clock.now())
        self.connection.execute(
            "insert into workflow_signals"
            " (workflow_execution_id, signal_name, payload, created_at, signal_key)"
            " values (?, ?, ?, ?, ?) on conflict do nothing",
            (EXECUTION, name, str(number), now, f"{name} {number}"),
        )
        if self.chance.random() < 0.5:
            await asyncio.sleep(HEARS_OF_OTHERS_S)


# What must hold


def problems_of(world: World) -> Iterator[str]:
    """All that did not hold in the processes of a world."""
    yield from world.problems
    yield from violations(world.processes)
    yield from _of_the_ways(world)
    yield from _of_the_steps(world)
    yield from _of_the_signals(world)
    yield from _of_undoing(world)
    yield from _of_the_events(world)
    yield from _of_a_replay_of_the_records(world)


def _of_the_ways(world: World) -> Iterator[str]:
    longest = max(world.ways, key=lambda way: len(way.lines), default=Way())
    for number, way in enumerate(world.ways):
        for mine, other in zip(way.lines, longest.lines, strict=False):
            if mine != other:
                yield f"run {number} took another way: {mine!r}, not {other!r}"
                break
    asked: dict[tuple[str, int], set[str]] = {}
    for way in world.ways:
        for place, what in way.asked.items():
            asked.setdefault(place, set()).add(what)
    for place, whats in asked.items():
        if len(whats) > 1:
            yield f"asked for different things at {place}: {whats}"


def _of_the_steps(world: World) -> Iterator[str]:
    for name, args in world.args.items():
        if len(args) > 1:
            yield f"{name} ran with different arguments: {args}"
    for process, name, then in world.after_the_end:
        step = next((one for one in then.last_attempts().values() if one.step_name == name), None)
        before = [line for one in world.processes[: process + 1] for line in one.journal]
        if step is None or step.compensate_ref is None or f"run {name}" not in before:
            yield f"{name} began after the program had ended"
    for number, process in enumerate(world.processes):
        cut_off = {
            step.step_name for step in process.after.last_attempts().values() if step.is_cut_off
        }
        undoing = {name for at, name, _ in world.after_the_end if at > number}
        for later in world.processes[number + 1 :]:
            for name in cut_off - undoing:
                if f"run {name}" in later.journal:
                    yield f"{name} was given up, and ran in a later process"


def _of_the_signals(world: World) -> Iterator[str]:
    end = world.processes[-1].after
    taken: dict[Any, list[str]] = {}
    for step in end.forward():
        if step.kind == "SIGNAL" and step.status == "COMPLETED":
            taken.setdefault(json.loads(step.output_data or "null"), []).append(step.step_name)
    received = [way.received for way in world.ways]
    signals = {}
    for _, name, payload, status in end.signals:
        if name.startswith("$"):
            continue
        number = json.loads(payload or "null")
        signals[number] = status
        waits = taken.get(number, [])
        if status == "DELIVERED":
            if waits != [name]:
                yield f"signal {number} is DELIVERED, to {waits}"
            elif not any(number in one for one in received) and not world.was_interrupted:
                yield f"signal {number} is DELIVERED, and the program never received it"
        elif waits:
            yield f"signal {number} is {status}, and went to {waits}"
    for number in world.sent:
        if number not in signals:
            yield f"signal {number} was sent, and is gone"
    for one in received:
        if len(one) != len(set(one)):
            yield f"a signal was received twice: {one}"


def _of_undoing(world: World) -> Iterator[str]:
    end = world.processes[-1].after
    for step in end.last_attempts().values():
        values = world.undone.get(step.step_name, set())
        if values and step.status == "COMPLETED":
            returned = {json.loads(step.output_data or "null")}
            if values != returned:
                yield f"{step.step_name} returned {returned}, and {values} was undone"


def _of_the_events(world: World) -> Iterator[str]:
    known: dict[int, tuple[Any, ...]] = {}
    for process in world.processes:
        now = {
            step.event: (step.place, step.attempt, step.status, step.completed_at)
            for step in process.after.steps
            if step.event is not None
        }
        for number, what in known.items():
            if now.get(number) != what:
                yield f"event {number} was {what}, and is {now.get(number)}"
        known.update(now)
    if sorted(known) != list(range(1, len(known) + 1)):
        yield f"the events are not numbered 1, 2, 3 ...: {sorted(known)}"


def _of_a_replay_of_the_records(world: World) -> Iterator[str]:
    """A body that runs by itself, with nothing but the records, comes to the same."""
    record, checkpoints = world.records()
    way = Way()
    body = Body("made up", EXECUTION, origin_of(record), RecordedHistory(checkpoints))

    async def again(ctx: WorkflowContext) -> list[str]:
        return await world.walk(ctx, way)

    variables = Context()
    context = WorkflowContext(body)
    last = record.last_event
    try:
        body.begin(again, context, (), variables)
        for checkpoint in list(body.history.events):
            if body.is_over or (last is not None and (checkpoint.event or 0) > last):
                break
            way.note(
                f"told event {checkpoint.event} of {checkpoint.branch}:{checkpoint.step_index}"
                f" {checkpoint.status} at {checkpoint.completed_at}"
            )
            replay_event(body, checkpoint, ErrorCodec())
        way.is_closed = True
        if body.trouble is not None:
            yield f"its records do not fit it: {body.trouble}"
            return
        lines = way.lines
        if record.status == "COMPLETED":
            if not body.is_over:
                yield "it is COMPLETED, and its records do not bring it to its end"
                return
            result, error = body.result()
            if error is not None or json.loads(record.output_data or "null") != result:
                yield f"its records bring it to {result} {error!r}, not {record.output_data}"
        elif not world.was_interrupted and (not body.is_over or body.result()[1] is None):
            yield f"it is {record.status}, and its records do not bring it there"
        for number, run in enumerate(world.ways):
            if run.lines != lines[: len(run.lines)]:
                differ = [one for one in zip(run.lines, lines, strict=False) if one[0] != one[1]]
                more = differ[:1] or run.lines[len(lines) :]
                yield f"run {number} took another way than its records tell: {more}"
        for step in world.processes[-1].after.forward():
            what = way.asked.get(step.place)
            if step.branch != TIMERS and (what is None or step.step_name not in what):
                yield f"{step.step_name} is recorded at {step.place}, and it asks for {what}"
    except Exception as error:
        yield f"its records cannot be replayed: {error!r}"
    finally:
        way.is_closed = True
        body.drop()


def every_crash_of(schedule: Schedule) -> Iterator[Schedule]:
    """The schedule with one crash each, at every write, event and time of the undisturbed run."""
    undisturbed = World(schedule)
    undisturbed.run_until()
    for at, number in _units(undisturbed).items():
        for one in range(1, number + 1):
            yield replace(schedule, crashes=(Crash(at, 0, number=one),))


def _units(undisturbed: World) -> dict[str, int]:
    return {
        "before": undisturbed.connection.commits,
        "after": undisturbed.connection.commits,
        "untold": undisturbed.events_told,
        "told": undisturbed.events_told,
        "disposed": undisturbed.times,
    }


def worlds_of(schedule: Schedule, trial: Trial | None = None) -> Iterator[World]:
    """Worlds in which a schedule is lived through: without a crash first, then with its own."""
    trial = trial or Trial()
    undisturbed = World(schedule, trial)
    undisturbed.run_until()
    yield undisturbed
    units = _units(undisturbed)
    if schedule.crashes:
        world = World(schedule, trial)
        mistakes = iter(schedule.mistakes)
        for crash in schedule.crashes:
            number = crash.number or 1 + max(units[crash.at] - 1, 0) * crash.percent // 100
            if world.run_until(crash._replace(number=number), next(mistakes, None)):
                break
            world.clock.set(world.clock.now() + timedelta(seconds=crash.seconds_down))
        else:
            while (
                not world.run_until(None, next(mistakes, None)) and world.before_mistake is not None
            ):
                pass  # the next process has the code without this mistake
        yield world


def broken_promises(schedule: Schedule, trial: Trial | None = None) -> list[str]:
    """What did not hold when a schedule was lived through."""
    found: list[str] = []
    results: list[Any] = []
    for world in worlds_of(schedule, trial):
        found.extend(problems_of(world))
        end = world.processes[-1].after
        results.append((end.status, _what_it_saw(end.output_data), end.error_type))
    if schedule.is_rigid and results[0] != results[-1]:
        found.append(f"undisturbed it ended {results[0]}, and otherwise {results[-1]}")
    return found


def _what_it_saw(output: str | None) -> list[str]:
    return [line for line in json.loads(output or "[]") if line.startswith("saw ")]


# What is made up


def _mistake(chance: random.Random) -> Mistake | None:
    is_one = chance.random() < 0.5
    return Mistake(chance.choice(MISTAKES), chance.randrange(101)) if is_one else None


def schedule_of(seed: int, number: int) -> Schedule:
    """The schedule of this number: always the same one."""
    chance = random.Random(f"{seed}:{number}")
    pick = chance.choice
    is_rigid = chance.random() < 0.15
    chance_of_mistakes = random.Random(f"mistakes {seed}:{number}")
    mistakes: tuple[Mistake | None, ...] = ()
    if chance_of_mistakes.random() < 0.3:
        mistakes = tuple(_mistake(chance_of_mistakes) for _ in range(5))
    ats = ["before", "after", "after", "untold", "told", "disposed"]
    crashes = tuple(
        Crash(pick(ats), chance.randrange(100), 0 if is_rigid else pick([0, 0, 0, 2, 10]))
        for _ in range(chance.randint(1, 4))
    )
    if is_rigid:
        return Schedule(
            rigid_program_of(chance), (), crashes, mistakes, is_rigid=True, chance=number
        )
    events = [
        Event(chance.randint(0, 12), pick(SIGNALS), pick([True, False, False]))
        for _ in range(chance.randint(0, 5))
    ]
    if events and pick([True, False]):  # two at the same moment
        events.append(events[0]._replace(what=pick(SIGNALS), by_another=pick([True, False])))
    if chance.random() < 0.12:
        events.append(Event(chance.randint(0, 8), "cancel"))
    chance_of_pauses = random.Random(f"pauses {seed}:{number}")
    if chance_of_pauses.random() < 0.25:
        second = chance_of_pauses.randint(0, 8)
        later = second + chance_of_pauses.randint(0, 5)
        events += [Event(second, "pause"), Event(later, "resume")]
    return Schedule(
        program_of(chance, pick([6, 12, 20])),
        tuple(events),
        crashes,
        mistakes,
        ttl=chance.randint(1, 8) if chance.random() < 0.08 else None,
        parks=chance.random() < 0.5,
        chance=number,
    )


# The smallest that shows it


def smaller(schedule: Schedule) -> Iterator[Schedule]:
    """Schedules that are a little smaller."""
    for name in ("crashes", "events", "mistakes"):
        of_it = getattr(schedule, name)
        for number in range(len(of_it)):
            yield replace(schedule, **{name: of_it[:number] + of_it[number + 1 :]})
    if schedule.ttl is not None:
        yield replace(schedule, ttl=None)
    if schedule.parks:
        yield replace(schedule, parks=False)
    for program in _smaller(schedule.program):
        yield replace(schedule, program=program)


def _smaller(node: Node) -> Iterator[Node]:
    yield from node.kids
    least = 0 if isinstance(node, Row) else 2 if len(node.kids) > 2 else len(node.kids)
    for number, kid in enumerate(node.kids):
        if len(node.kids) > least:
            yield replace(node, kids=node.kids[:number] + node.kids[number + 1 :])
        for less in _smaller(kid):
            yield replace(node, kids=(*node.kids[:number], less, *node.kids[number + 1 :]))
    if not node.kids:
        for name, value in vars(node).items():
            default = type(node).__dataclass_fields__[name].default
            if value != default and name != "kids":
                yield replace(node, **{name: default})


def smallest(schedule: Schedule, is_so: Callable[[Schedule], bool], tries: int = 400) -> Schedule:
    """A schedule of which it is so, and of no smaller one that was tried."""
    goes_on = True
    while goes_on:
        goes_on = False
        for less in smaller(schedule):
            tries -= 1
            if tries < 0:
                return schedule
            if is_so(less):
                schedule, goes_on = less, True
                break
    return schedule
