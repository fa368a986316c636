"""What happens at the same moment in several processes, or in the next life of one."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    CheckpointStore,
    Client,
    DuplicateExecutionError,
    DurableEngine,
    Limit,
    Queue,
    Rate,
    SqliteCheckpointStore,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowDefinition,
    workflow,
)
from durable_workflow_sqlite.engine import changes, dispatcher, queue_slot, step_limits
from durable_workflow_sqlite.engine.worker_changes import WorkerChangePoller
from durable_workflow_sqlite.store import membership
from tests import postgres_server
from tests.databases import new_database
from tests.faults.crew import needs_linux
from tests.processes import Child, Journal, until

NEVER_S = 10_000.0
ROUNDS = 20
LONG_S = 0.3
"""In this time a worker that may begin something has begun it."""


class Place:
    """A folder, a store in it or on a server, and the worker processes that share both."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.journal = Journal(folder / "journal")
        self.crew: list[Child] = []
        self._url = postgres_server.url() if kind == "postgres" else ""
        self._schema = postgres_server.schema_of(folder)
        self._file = folder / "workflows.db"
        if not self._url:
            new_database(self._file)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """To be closed before the next process is forked: SQLite's locks do not outlive a fork."""
        async with self.store() as store:
            yield Client(store)

    def store(self) -> AbstractAsyncContextManager[CheckpointStore]:
        if not self._url:
            return SqliteCheckpointStore.file(self._file)
        from durable_workflow_sqlite.postgres.store import PostgresStore

        return PostgresStore(self._url, schema=self._schema)

    def by_hand(self, statement: str) -> list[Any]:
        """The rows that a statement of SQL gives, if it gives any."""
        if not self._url:
            with closing(sqlite3.connect(self._file, isolation_level=None)) as connection:
                return connection.execute(statement).fetchall()
        import psycopg

        with closing(psycopg.connect(self._url, autocommit=True)) as server:
            server.execute(f"set search_path to {self._schema}".encode())
            cursor = server.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def unfinished(self) -> list[Any]:
        return self.by_hand(
            "select workflow_execution_id, status from workflow_executions"
            " where status not in ('COMPLETED', 'FAILED', 'CANCELLED')"
        )

    def hire(self, *workflows: WorkflowDefinition[..., Any], **options: Any) -> Child:
        """A worker in a process of its own."""

        async def work(say: Callable[[str], None]) -> None:
            async with self.store() as store, DurableEngine(store, workflows, **options):
                say("ready")
                await asyncio.Event().wait()

        return self.run(work)

    def run(self, work: Callable[[Callable[[str], None]], Any]) -> Child:
        """A coroutine in a process of its own, which says when it begins."""
        child = Child(lambda say: asyncio.run(work(say)))
        self.crew.append(child)
        assert child.hear() == "ready"
        return child

    async def act(self, name: str) -> None:
        """The action of a step that ends once that is allowed."""
        self.journal.note(f"begin {name}")
        while not (self.folder / name).exists():
            await asyncio.sleep(0.002)
        self.journal.note(f"end {name}")

    def let_end(self, name: str) -> None:
        (self.folder / name).touch()

    async def has_noted(self, line: str, times: int = 1) -> None:
        await until(lambda: self.journal.lines.count(line) >= times)

    async def has_lines(self, number: int) -> None:
        await until(lambda: len(self.journal.lines) >= number)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, request.param)
    yield place
    for one in place.crew:
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGCONT)
        one.kill()


@pytest.fixture
def only_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks from time to time: whoever is not told of something waits for ever."""
    monkeypatch.setattr(changes, "LOOK_AROUND_S", NEVER_S)
    monkeypatch.setattr(dispatcher, "TRY_AGAIN_AFTER_S", NEVER_S)
    monkeypatch.setattr(queue_slot, "TRY_AGAIN_AFTER_S", NEVER_S)
    monkeypatch.setattr(step_limits, "LOOK_AGAIN_S", NEVER_S)


# Children


@pytest.mark.campaign
@pytest.mark.usefixtures("only_told")
@pytest.mark.parametrize("park_after", [timedelta(0), timedelta(seconds=60)])
async def test_two_children_that_end_at_once_wake_their_parent_once_each(
    place: Place, park_after: timedelta
) -> None:
    async def meet(number: int, name: str, other: str) -> str:
        (place.folder / f"{number} {name}").touch()
        async with asyncio.timeout(60):
            while not (place.folder / f"{number} {other}").exists():
                await asyncio.sleep(0)
        return f"{name} {number}"

    @workflow
    async def meets(ctx: WorkflowContext, number: int, name: str, other: str) -> str:
        return await ctx.step("meet", meet, number, name, other)

    @workflow
    async def parent(ctx: WorkflowContext) -> list[str]:
        got: list[str] = []
        for number in range(ROUNDS):
            both = [
                await ctx.start_child("child", meets, number, name, other, queue=name)
                for name, other in ("ab", "ba")
            ]
            if number % 2:
                await ctx.wait_any(*both)
            got += [await one.result() for one in both]
        return got

    async with place.client() as client:
        await client.declare(Queue("a"), Queue("b"), Queue("parents"))
    for queue in ("a", "b"):
        place.hire(meets, queues=[queue])
    place.hire(parent, queues=["parents"], park_after=park_after)
    async with place.client() as client:
        handle = await client.enqueue(parent, queue="parents")
        async with asyncio.timeout(60):
            got = await handle.result()
    assert got == [f"{name} {number}" for number in range(ROUNDS) for name in "ab"]
    told = place.by_hand(
        "select signal_name, status from workflow_signals where signal_name like '$child:%'"
    )
    assert len(told) == len({name for name, _ in told}) == 2 * ROUNDS
    assert {status for _, status in told} == {"DELIVERED"}


@pytest.mark.few(1)
@pytest.mark.parametrize("depth", [1, 2])
async def test_what_a_descendant_starts_while_its_tree_is_cancelled_is_cancelled_too(
    place: Place, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker hears of the cancel when it has started one more."""
    hears = WorkerChangePoller._on_change

    async def hears_late(poller: WorkerChangePoller) -> None:
        is_deaf = (place.folder / "is deaf").exists
        await until(lambda: not is_deaf() or (place.folder / "hears").exists())
        await hears(poller)

    @workflow
    async def leaf(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("never")

    @workflow
    async def starts(ctx: WorkflowContext) -> None:
        await ctx.start_child("early", leaf)
        await ctx.step("is deaf", lambda: place.let_end("is deaf"))
        await ctx.step("act", place.act, "late")
        await ctx.start_child("late", leaf)
        await ctx.step("hears", lambda: place.let_end("hears"))
        await ctx.wait_signal("never")

    @workflow
    async def between(ctx: WorkflowContext, below: int) -> None:
        if below > 1:
            await ctx.child("between", between, below - 1)
        else:
            await ctx.child("starts", starts, queue="low")

    async with place.client() as client:
        await client.declare(Queue("top"), Queue("low"))
    place.hire(between, queues=["top"])
    with monkeypatch.context() as patch:
        patch.setattr(WorkerChangePoller, "_on_change", hears_late)
        place.hire(starts, leaf, queues=["low"])
    async with place.client() as client:
        handle = await client.enqueue(between, depth, queue="top", execution_id="root")
        await place.has_noted("begin late")
        await handle.cancel()
        parent = "root" + "/between-0" * (depth - 1) + "/starts-0"
        asked = (
            "select created_at from workflow_signals where signal_name = '$cancel'"
            f" and workflow_execution_id = '{parent}'"
        )
        await until(lambda: place.by_hand(asked))
        place.let_end("late")
        async with asyncio.timeout(60):
            with pytest.raises(WorkflowCancelledError):
                await handle.result()
        assert place.unfinished() == []
    times = place.by_hand(
        f"select created_at from workflow_executions where parent_execution_id = '{parent}'"
    )
    assert len(times) == 2
    assert max(times) > min(place.by_hand(asked))
    ends = place.by_hand("select distinct status from workflow_executions")
    assert ends == [("CANCELLED",)]


@pytest.mark.campaign
@pytest.mark.usefixtures("only_told")
async def test_a_tree_that_grows_while_it_is_cancelled_is_over_as_a_whole(place: Place) -> None:
    @workflow
    async def grows(ctx: WorkflowContext, depth: int) -> None:
        await ctx.step("note", place.journal.note, "more")
        for number in range(3 if depth else 0):
            await ctx.start_child(f"{number}", grows, depth - 1, queue="ab"[number % 2])
        await ctx.wait_signal("never")

    async with place.client() as client:
        await client.declare(Queue("a"), Queue("b"))
    for queue in ("a", "b"):
        place.hire(grows, queues=[queue])
    async with place.client() as client:
        for number in range(3):
            before = len(place.journal.lines)
            handle = await client.enqueue(grows, 3, queue="a", execution_id=f"root{number}")
            await place.has_lines(before + 4 + 12 * number)
            await handle.cancel()
            async with asyncio.timeout(60):
                with pytest.raises(WorkflowCancelledError):
                    await handle.result()
            assert place.unfinished() == []
    ends = place.by_hand("select distinct status from workflow_executions")
    assert ends == [("CANCELLED",)]


# Slots


def limited(place: Place, by: str) -> WorkflowDefinition[..., Any]:
    @workflow
    async def works(ctx: WorkflowContext, name: str) -> None:
        await ctx.step("act", place.act, name, limit="api" if by == "limit" else None)

    return works


@pytest.mark.few(1)
@needs_linux
@pytest.mark.parametrize("by", ["queue", "limit"])
async def test_a_frozen_holder_keeps_its_slot_and_a_late_one_frees_no_second(
    place: Place, by: str
) -> None:
    works = limited(place, by)
    async with place.client() as client:
        await client.declare(
            Queue("mail", concurrency=1 if by == "queue" else None), Limit("api", concurrency=1)
        )
        await client.enqueue(works, "first", queue="mail", execution_id="first")
    frozen = place.hire(works)
    await place.has_noted("begin first")
    os.kill(frozen.pid, signal.SIGSTOP)
    place.hire(works)
    async with place.client() as client:
        for name in ("second", "third"):
            await client.enqueue(works, name, queue="mail", execution_id=name)
        await asyncio.sleep(LONG_S + 2 * changes.LOOK_AROUND_S)
        assert place.journal.lines == ["begin first"]

        # Somebody takes its claim away: what waits has the slot then, and it knows nothing of it.
        place.by_hand("delete from workflow_claims where workflow_execution_id = 'first'")
        await client.send_signal("third", "wakes the others")
        await place.has_lines(2)
        (begun,) = place.journal.lines[1:]
        place.let_end("first")
        os.kill(frozen.pid, signal.SIGCONT)
        await place.has_noted("end first")
        await asyncio.sleep(LONG_S)
        assert place.journal.lines == ["begin first", begun, "end first"]
        for name in ("second", "third"):
            place.let_end(name)
        await place.has_lines(6)
    ran = [line for line in place.journal.lines if not line.endswith("first")]
    assert ran in (
        ["begin second", "end second", "begin third", "end third"],
        ["begin third", "end third", "begin second", "end second"],
    )


@pytest.mark.few(1)
@pytest.mark.usefixtures("only_told")
@pytest.mark.parametrize("by", ["queue", "limit"])
async def test_what_is_enqueued_as_a_slot_is_freed_has_it(place: Place, by: str) -> None:
    """The step that ends lets the next one be enqueued: its slot is freed at that moment."""

    @workflow
    async def works(ctx: WorkflowContext, name: str) -> None:
        await ctx.step("note", place.journal.note, name, limit="api" if by == "limit" else None)

    async with place.client() as client:
        await client.declare(
            Queue("mail", concurrency=1 if by == "queue" else None), Limit("api", concurrency=1)
        )
    for _ in range(2):
        place.hire(works)
    async with place.client() as client:
        handles = [await client.enqueue(works, "0", queue="mail")]
        for number in range(1, 5 * ROUNDS):
            async with asyncio.timeout(60):
                while f"{number - 1}" not in place.journal.lines:
                    await asyncio.sleep(number % 3 / 1000)
            handles.append(await client.enqueue(works, f"{number}", queue="mail"))
        async with asyncio.timeout(60):
            for handle in handles:
                await handle.result()
    assert place.journal.lines == [f"{number}" for number in range(5 * ROUNDS)]


# One of many


PROCESSES = 8


@pytest.mark.campaign
@pytest.mark.parametrize("on_duplicate", ["existing", "reject"])
async def test_eight_processes_that_enqueue_one_dedup_id_start_one_execution(
    place: Place, on_duplicate: str
) -> None:
    @workflow
    async def works(ctx: WorkflowContext, number: int) -> int:
        await ctx.wait_signal("go")
        return number

    async def enqueue(say: Callable[[str], None]) -> None:
        async with place.store() as store:
            client = Client(store)
            say("ready")
            for number in range(ROUNDS):
                meeting = place.folder / f"meet {number}"
                async with asyncio.timeout(60):
                    while not meeting.exists():
                        await asyncio.sleep(0)
                try:
                    handle = await client.enqueue(
                        works,
                        os.getpid(),
                        queue="mail",
                        dedup_id=f"{number}",
                        on_duplicate=on_duplicate,  # type: ignore[arg-type]
                    )
                except DuplicateExecutionError as error:
                    assert on_duplicate == "reject"
                    place.journal.note(f"{number} refused {error.workflow_execution_id}")
                else:
                    place.journal.note(f"{number} {os.getpid()} {handle.execution_id}")

    async with place.client() as client:
        await client.declare(Queue("mail"))
    for _ in range(PROCESSES):
        place.run(enqueue)
    for number in range(ROUNDS):
        place.let_end(f"meet {number}")
        await place.has_lines(PROCESSES * (number + 1))
    started = place.by_hand("select dedup_id, workflow_execution_id from workflow_executions")
    assert len(started) == len(dict(started)) == ROUNDS
    told = Counter(tuple(line.split()[::2]) for line in place.journal.lines)
    assert told == dict.fromkeys(started, PROCESSES)
    if on_duplicate == "reject":
        refused = Counter(line.split()[1] for line in place.journal.lines)["refused"]
        assert refused == (PROCESSES - 1) * ROUNDS


# The next life


RATE = Rate(5, timedelta(seconds=0.5))


@pytest.mark.campaign
async def test_the_rate_of_a_queue_holds_over_a_kill_of_its_worker(place: Place) -> None:
    @workflow
    async def works(ctx: WorkflowContext, number: int) -> None:
        await ctx.step("note", place.journal.note, f"{number}")

    async with place.client() as client:
        await client.declare(Queue("mail", rate=RATE))
        ids = [(await client.enqueue(works, n, queue="mail")).execution_id for n in range(20)]
    for number in (3, 8, 12):
        worker = place.hire(works)
        await place.has_lines(number + 1)
        worker.kill()
    place.hire(works)
    async with place.client() as client, asyncio.timeout(60):
        for one in ids:
            await client.result_of(one)
    begun = place.by_hand("select started_at from workflow_executions order by started_at")
    times = [datetime.fromisoformat(str(at)) for (at,) in begun]
    assert len(times) == 20
    for first, later in zip(times, times[RATE.number :], strict=False):
        assert later - first >= 0.98 * RATE.period


@pytest.mark.few(1)
@pytest.mark.parametrize("by", ["queue", "limit"])
async def test_a_worker_of_another_name_goes_on_with_what_the_last_one_had(
    place: Place, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container has another name, and another process id, in each of its lives."""
    works = limited(place, by)
    async with place.client() as client:
        await client.declare(
            Queue("mail", concurrency=1, per_worker=1), Limit("api", concurrency=1)
        )
        await client.enqueue(works, "one", queue="mail", execution_id="one")
    for number, life in enumerate(("blue", "green", "red")):
        monkeypatch.setattr(membership, "host_name", partial(str, life))
        worker = place.hire(works)
        await place.has_noted("begin one", number + 1)
        if life != "red":
            worker.kill()
    for name in ("one", "two"):
        place.let_end(name)
    async with place.client() as client, asyncio.timeout(60):
        await client.result_of("one")
        await client.enqueue(works, "two", queue="mail", execution_id="two")
        await client.result_of("two")
    hosts = place.by_hand("select host from workflow_workers")
    assert {name for (name,) in hosts} >= {"blue", "green", "red"}
    assert place.by_hand("select count(*) from workflow_claims") == [(0,)]
