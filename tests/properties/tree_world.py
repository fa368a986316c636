"""Made-up trees of executions in a time that stands still: killed, cancelled, expired, paused.

`tests.crash.made_up_trees` says what a tree does, and which rules hold at its end. A world lets
things happen to it, and looks at every moment at which nothing runs: no limit is exceeded, and
nothing begins of what is paused.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from durable_workflow_sqlite import (
    DurableEngine,
    DurableWorkflowError,
    ExecutionFinishedError,
    SignalStatus,
    WorkflowSignal,
)
from durable_workflow_sqlite.records import PAUSED_SIGNAL
from tests import worlds
from tests.crash.made_up_trees import (
    LIMITS,
    WITH_CHILDREN,
    Spec,
    broken_rules,
    made_up,
    spec_of,
)
from tests.processes import Harm
from tests.worlds import EXECUTION, Event

MOST_LIVES = 4
TREE_TURNS = 100_000
"""Of the event loop in a process that runs a tree."""

WHOLES = ("pause all", "pause queue", "pause workflow")
ACTS = (
    "pause",
    "pause",
    "pause elsewhere",
    "pause elsewhere",
    "resume",
    "resume",
    *WHOLES,
    "resume all",
    "cancel",
    "cancel one",
)


PROGRESS = (
    "select status, count(*), max(updated_at) from workflow_executions group by status"
    " union all select 'steps', count(*), max(completed_at) from step_checkpoints"
)


HELD_STEPS = """
    with recursive held (id) as (
        select workflow_execution_id from workflow_executions
        where paused_at is not null and status not in ('COMPLETED', 'FAILED', 'CANCELLED')
        union
        select child.workflow_execution_id from held join workflow_executions as child
            on child.parent_execution_id = held.id
        where child.on_parent_end = 'cancel'
        and child.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
    )
    select step.workflow_execution_id, branch, step_index, attempt, step.status
    from step_checkpoints as step join workflow_executions as execution
        using (workflow_execution_id)
    where execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED') and (
        step.workflow_execution_id in (select id from held)
        or exists (
            select 1 from workflow_pauses as pause where pause.scope = 'ALL'
            or (pause.scope = 'QUEUE' and pause.name = execution.queue)
            or (pause.scope = 'WORKFLOW' and pause.name || '@1' = execution.workflow_id)))
    order by step.id"""
"""The steps of what somebody has paused, in whatever way: by what a pause means."""


OF_A_NODE = (
    "select workflow_execution_id, input_data -> '$[0].acts' from workflow_executions"
    " where json_extract(input_data, '$[0].name') = ?"
)


@dataclass(frozen=True)
class Life:
    """A tree, and what happens to it."""

    spec: Spec
    events: tuple[Event, ...]
    harms: tuple[Harm, ...]
    ttl: int | None
    chance: int


def life_of(seed: int, number: int) -> Life:
    chance = random.Random(f"life {seed} {number}")
    events = tuple(
        Event(chance.randint(0, 8), chance.choice(ACTS)) for _ in range(chance.randint(0, 6))
    )
    harms = tuple(
        Harm(chance.randint(1, 40), chance.random() < 0.5)
        for _ in range(chance.randint(0, MOST_LIVES - 1))
    )
    ttl = chance.choice([None, None, None, 2, 5])
    return Life(spec_of(chance), events, harms, ttl, number)


class TreeWorld(worlds.World):
    def __init__(self, life: Life) -> None:
        super().__init__(life.events, life.chance)
        self.life = life
        self.held: list[Any] | None = None
        """The steps of what is paused, as they were when all that ran had ended."""
        self.executions: dict[str, Any] = {}
        """Those in memory."""
        self.pauses_elsewhere = self.is_unheard = False
        """Whether the next step that ends finds itself paused; whether its worker is to hear it."""

    async def _main(self) -> bool:
        store = self.store = self.open_store()
        workflows = made_up(self.life.spec, self, self.act)  # type: ignore[arg-type]  # it notes
        ttl = None if self.life.ttl is None else timedelta(seconds=self.life.ttl)
        async with store, DurableEngine(store, workflows=workflows, clock=self.clock) as engine:
            self.executions = engine._working().executions
            await engine.declare(*LIMITS)
            await engine.start(workflows[0], execution_id=EXECUTION, ttl=ttl)
            return await self._until_over(engine)

    def _leave(self) -> None:
        for one in self.executions.values():
            if not one._body.is_ended:
                one._body.drop()
        self.executions = {}
        self.pauses_elsewhere = self.is_unheard = False

    async def act(self, _: object, name: str) -> str:
        """What a step does: it takes a while, so that something may happen meanwhile."""
        self.note(f"run {name}")
        seconds = timedelta(seconds=self.chance.choice([0, 1, 1, 2]))
        await self.clock.sleep_until(self.clock.now() + seconds)
        if self.pauses_elsewhere and (one := self._starts_a_child_after(name)):
            self.pauses_elsewhere = False
            await self._pause_elsewhere(one)
        return name

    # What there is

    def rows(self, statement: str, *values: object) -> list[Any]:
        return list(self.connection.execute(statement, values).fetchall())

    def unfinished(self) -> list[str]:
        found = self.rows(
            "select workflow_execution_id from workflow_executions"
            " where status not in ('COMPLETED', 'FAILED', 'CANCELLED') order by rowid"
        )
        return [one for (one,) in found]

    def status(self) -> str | None:
        """Of the tree: it is over when nothing of it is unfinished."""
        root = super().status()
        return "RUNNING" if root is not None and self.unfinished() else root

    def held_steps(self) -> list[Any]:
        return self.rows(HELD_STEPS)

    # What happens

    async def _until_quiet(self) -> None:
        await super()._until_quiet()
        if self.is_unheard:
            await asyncio.sleep(worlds.LOOKS_AGAIN_S)
            await super()._until_quiet()
            self.is_unheard, self.held = False, self.held_steps()
        self._look_at_limits()
        self._look_at_what_is_paused()

    def _look_at_limits(self) -> None:
        claims = "select count(*) from workflow_claims where queue = 'one'"
        slots = (
            "select count(*) from workflow_step_slots where name = 'api' and fencing_token in"
            " (select fencing_token from workflow_claims)"
        )
        for statement in (claims, slots):
            if self.rows(statement)[0][0] > 1:
                self.problems.append(f"a limit of 1 is exceeded: {statement}")

    def _look_at_what_is_paused(self) -> None:
        if self.held is None:
            return
        known = {row[:-1] for row in self.held}
        new = [row for row in self.held_steps() if row[:-1] not in known]
        if new:
            self.problems.append(f"it began while it was paused: {new}")
            self.held = None

    async def _do(self, engine: DurableEngine, event: Event) -> None:
        self._look_at_what_is_paused()
        self.held = None
        unfinished = self.unfinished()
        if not unfinished:
            return
        one = self.chance.choice(unfinished)
        acts: dict[str, Callable[[], Any]] = {
            "pause": lambda: engine.pause(one),
            "resume": lambda: engine.resume(one),
            "pause all": engine.pause_all,
            "pause queue": lambda: engine.pause_queue("one"),
            "pause workflow": lambda: engine.pause_workflow("node"),
            "resume all": lambda: self._resume_all(engine),
            "cancel": lambda: engine.cancel(EXECUTION),
            "cancel one": lambda: engine.cancel(one),
        }
        if event.what == "pause elsewhere":
            self.pauses_elsewhere = True
            return
        try:
            await acts[event.what]()
        except ExecutionFinishedError:
            return
        await self._until_quiet()
        self.held = self.held_steps()

    def _starts_a_child_after(self, step: str) -> str | None:
        """The execution of a step, if the next that it does is to start a child."""
        node, number, *item = step.split()
        for one, acts in self.rows(OF_A_NODE, node):
            following = [kind for kind, *_ in json.loads(acts)][int(number) + 1 :]
            if not item and following and following[0] in WITH_CHILDREN:
                return str(one)
        return None

    async def _pause_elsewhere(self, one: str) -> None:
        """As a client in another process does it: the worker hears of that a little later."""
        store, now = self.store, self.clock.now()
        told = WorkflowSignal(
            workflow_execution_id=one,
            signal_name=PAUSED_SIGNAL,
            status=SignalStatus.DELIVERED,
            created_at=now,
        )
        self.held, self.is_unheard = None, True
        with suppress(ExecutionFinishedError):
            await store.pause_execution(one, told, by="kim", now=now)
        while await store.spread_pauses(now):
            pass

    async def _has_looked_again(self) -> bool:
        """A parent that is to be undone looks at its children every second."""
        for _ in range(8):
            before = self.rows(PROGRESS)
            if await super()._has_looked_again() or self.rows(PROGRESS) != before:
                return True
        return False

    async def _resume_all(self, engine: DurableEngine) -> None:
        await engine.resume_all()
        await engine.resume_queue("one")
        await engine.resume_workflow("node")
        for (one,) in self.rows(
            "select workflow_execution_id from workflow_executions where paused_at is not null"
        ):
            await engine.resume(one)

    async def _send_what_is_awaited(self, engine: DurableEngine) -> None:
        """Nothing is to come: what is paused is resumed."""
        if not self.unfinished():
            return
        if not self.rows("select 1 from workflow_pauses") and not self.rows(
            "select 1 from workflow_executions where paused_at is not null"
        ):
            self.problems.append(f"it sleeps for ever: {self.unfinished()}")
        self._look_at_what_is_paused()
        self.held = None
        await self._try(self._resume_all(engine))

    async def _try(self, work: Any) -> None:
        try:
            await work
        except DurableWorkflowError as error:
            self.problems.append(f"{type(error).__name__}: {error}")


def lived_through(
    life: Life, kind: Callable[[Life], TreeWorld] = TreeWorld
) -> tuple[TreeWorld, list[str]]:
    world = kind(life)
    for harm in life.harms:
        if world.run_process(harm):
            break
        if world.problems:
            break
    else:
        world.run_process()
    return world, [*world.problems, *of_the_end(world)]


WENT_ON = """
    select child.workflow_execution_id from workflow_executions as child
    join workflow_executions as parent
        on parent.workflow_execution_id = child.parent_execution_id
    where child.on_parent_end = 'cancel' and child.status = 'COMPLETED'
    and child.status_since > parent.status_since and not exists (
        select 1 from workflow_signals as asked
        where asked.workflow_execution_id = child.workflow_execution_id
        and asked.signal_name = '$cancel')"""
"""Children that ended later than their parent, which had not asked them to cancel."""


def of_the_end(world: TreeWorld) -> Iterator[str]:
    connection = world.connection
    yield from broken_rules(connection)
    yield from (f"a child was not asked to cancel: {one}" for (one,) in world.rows(WENT_ON))
    undone = [line for line in world.lines if line.startswith("undo ")]
    yield from (f"undone twice: {one}" for one in undone if undone.count(one) > 1 + MOST_LIVES)
