"""Pauses across processes: of a worker that lives, and of one that is killed in each state."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from durable_workflow_sqlite import Client, Queue, SqliteCheckpointStore, WorkflowContext, workflow
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import Child, Journal, a_process, an_engine, until


class Place:
    """A folder with a file of workflows, a journal, and the files that let steps end."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "workflows.db"
        self.journal = Journal(folder / "journal")
        self._folder = folder

    async def act(self, name: str) -> str:
        """The action of a step: it ends once that is allowed."""
        self.journal.note(f"run {name}")
        while not (self._folder / name).exists():
            await asyncio.sleep(0.005)
        self.journal.note(f"over {name}")
        return name

    def let_end(self, name: str) -> None:
        (self._folder / name).touch()

    @contextmanager
    def a_worker(self) -> Iterator[Child]:
        @workflow
        async def order(ctx: WorkflowContext) -> list[str]:
            return [await ctx.step(name, self.act, name) for name in ("first", "second")]

        async def work() -> None:
            async with an_engine(self.file, workflows=[order]) as (_, engine):
                while True:
                    for one in engine._working().executions.values():
                        if one.stops_after_steps is not None:
                            (self._folder / "heard").touch()
                    await asyncio.sleep(0.002)

        def body(_: Callable[[str], None]) -> None:
            asyncio.run(work())

        with a_process(body) as process:
            yield process

    async def has_heard(self) -> None:
        """Until the worker that runs a step knows of the pause."""
        await until((self._folder / "heard").exists)

    async def has_noted(self, line: str) -> None:
        await until(lambda: line in self.journal.lines)

    async def is_claimed(self, *, by_somebody: bool) -> None:
        def found() -> bool:
            with closing(sqlite3.connect(self.file)) as connection:
                (claims,) = connection.execute("select count(*) from workflow_claims").fetchone()
            return bool(claims) is by_somebody

        await until(found)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def enqueued(client: Client) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> list[str]:
        raise AssertionError("only its name is needed here")

    await client.declare(Queue("mail", concurrency=1))
    await client.enqueue(order, execution_id="e", queue="mail")


@pytest.mark.few(2)
@pytest.mark.parametrize("whole", ["", "order", "mail", "everything"])
async def test_a_pause_reaches_a_worker_in_another_process(place: Place, whole: str) -> None:
    async with SqliteCheckpointStore.file(place.file) as store:
        client = Client(store)
        await enqueued(client)
        with place.a_worker():
            await place.has_noted("run first")
            await pause(client, whole)
            await place.has_heard()
            place.let_end("first")
            await place.is_claimed(by_somebody=False)
            (first,) = await store.load_checkpoints("e")
            assert (first.status, first.output_data) == ("COMPLETED", '"first"')
            place.let_end("second")
            await asyncio.sleep(0.3)
            assert place.journal.lines == ["run first", "over first"]
            await resume(client, whole)
            assert await client.result_of("e") == ["first", "second"]
    assert place.journal.lines == ["run first", "over first", "run second", "over second"]


@pytest.mark.few(1)
@pytest.mark.parametrize("whole", ["", "order", "mail", "everything"])
@pytest.mark.parametrize("killed", ["in its step", "when it has left", "once it is resumed"])
async def test_a_worker_that_is_killed_takes_no_pause_with_it(
    place: Place, whole: str, killed: str
) -> None:
    async with SqliteCheckpointStore.file(place.file) as store:
        client = Client(store)
        await enqueued(client)
        with place.a_worker() as worker:
            await place.has_noted("run first")
            await pause(client, whole)
            if killed != "in its step":
                await place.has_heard()
                place.let_end("first")
                await place.is_claimed(by_somebody=False)
            if killed == "once it is resumed":
                await resume(client, whole)
                await place.has_noted("run second")
            worker.kill()
        place.let_end("first")
        place.let_end("second")
        before = place.journal.lines
        with place.a_worker():
            if killed != "once it is resumed":
                await place.is_claimed(by_somebody=False)
                await asyncio.sleep(0.3)
                record = await loaded(store, "e")
                assert record.status == "RUNNING"
                assert (record.paused_at is None) is bool(whole)
                assert place.journal.lines == before
                await resume(client, whole)
            assert await client.result_of("e") == ["first", "second"]
        runs = place.journal.lines.count("run first")
        assert runs == (2 if killed == "in its step" else 1)


@pytest.mark.campaign
async def test_a_killed_client_has_paused_or_has_not(place: Place) -> None:
    """The pause, its entry in the audit log and the signal to the worker are one transaction."""
    async with SqliteCheckpointStore.file(place.file) as store:
        await enqueued(Client(store))

    async def pause_again_and_again() -> None:
        async with SqliteCheckpointStore.file(place.file) as store:
            client = Client(store)
            while True:
                await client.pause("e", reason="why")
                await client.resume("e")

    def entries() -> int:
        with closing(sqlite3.connect(place.file)) as connection:
            (number,) = connection.execute("select count(*) from workflow_audit_log").fetchone()
        return int(number)

    for _ in range(5):
        before = entries()
        with a_process(lambda _: asyncio.run(pause_again_and_again())) as process:
            await until(lambda most=before + 3: entries() > most)
            process.kill()
        async with SqliteCheckpointStore.file(place.file) as store:
            record = await loaded(store, "e")
            acts = [one.act for one in await store.load_audit_log("e")]
            names = [one.signal_name for one in await store.load_signals("e")]
            assert len(acts) == len(names)
            assert acts.count("pause") - acts.count("resume") == (record.paused_at is not None)
            assert (record.available_at is None) is (record.paused_at is not None)


async def pause(client: Client, whole: str) -> None:
    if whole == "everything":
        await client.pause_all()
    elif whole == "mail":
        await client.pause_queue("mail")
    elif whole:
        await client.pause_workflow(whole)
    else:
        await client.pause("e")


async def resume(client: Client, whole: str) -> None:
    if whole == "everything":
        await client.resume_all()
    elif whole == "mail":
        await client.resume_queue("mail")
    elif whole:
        await client.resume_workflow(whole)
    else:
        await client.resume("e")
