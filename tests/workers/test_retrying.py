"""An operator runs a failed execution again: from the step that failed it, and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    ExecutionConflictError,
    ExecutionNotFoundError,
    ExecutionStatus,
    RetryPolicy,
    SignalStatus,
    SignalTimeoutError,
    SqliteCheckpointStore,
    StepStatus,
    TakenExecution,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowFailedError,
    WorkflowGuarantee,
    workflow,
)
from durable_workflow_sqlite.cli import timeline
from durable_workflow_sqlite.stores import open_reader
from durable_workflow_sqlite.testing.contract_base import (
    WORKFLOW,
    new_checkpoint,
    new_execution,
    new_signal,
    taken,
)
from tests.commands import run_command
from tests.processes import Journal, until


@pytest.mark.parametrize("in_a_group", [False, True], ids=["alone", "in a group"])
async def test_it_goes_on_from_the_step_that_failed(
    in_a_group: bool, file: Path, journal: Journal
) -> None:
    def ship() -> str:
        if journal.note("ship") < 3:
            error = ConnectionError("the carrier is down")
            raise ExceptionGroup("two", [error, KeyError("x")]) if in_a_group else error
        return "shipped"

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step("charge", journal.note, "charge")
        return await ctx.step("ship", ship)

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[order]) as engine:
            for _ in range(2):
                with pytest.raises(WorkflowFailedError, match="carrier"):
                    await engine.run(order, execution_id="one")
                await engine.retry("one")
            assert await engine.handle("one").result() == "shipped"
            attempts = [
                one.attempt
                for one in await store.load_checkpoints("one")
                if one.step_name == "ship"
            ]
            assert attempts == [1, 2, 3]
    assert journal.lines == ["charge", "ship", "ship", "ship"]


async def test_a_client_retries_what_a_worker_runs(file: Path, journal: Journal) -> None:
    def fail_once() -> int:
        if journal.note("try") == 1:
            raise ValueError("once")
        return 1

    @workflow
    async def job(ctx: WorkflowContext) -> int:
        return await ctx.step("try", fail_once)

    async with SqliteCheckpointStore.file(file) as one, SqliteCheckpointStore.file(file) as two:
        async with DurableEngine(one) as client, DurableEngine(two, workflows=[job]):
            handle = await client.enqueue(job)
            with pytest.raises(WorkflowFailedError):
                await handle.result()
            await client.retry(handle.execution_id)
            assert await handle.result() == 1


async def test_a_step_whose_error_was_caught_stays_as_it_is(file: Path, journal: Journal) -> None:
    def fail() -> None:
        journal.note("caught")
        raise ValueError("caught")

    @workflow
    async def job(ctx: WorkflowContext) -> str:
        with suppress(ValueError):
            await ctx.step("optional", fail)
        if journal.note("body") == 1:
            raise RuntimeError("a bug, mended in the meantime")
        return await ctx.step("rest", lambda: "done")

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[job]) as engine:
            with pytest.raises(WorkflowFailedError, match="bug"):
                await engine.run(job, execution_id="one")
            await engine.retry("one")
            assert await engine.handle("one").result() == "done"
    assert journal.lines == ["caught", "body", "body"]


def test_of_two_steps_that_failed_side_by_side_the_one_that_failed_it_runs_again(
    file: Path, journal: Journal
) -> None:
    async def fail_once(name: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        if journal.note(name) == 1:
            raise ValueError(f"{name} failed")
        return name

    @workflow
    async def both(ctx: WorkflowContext) -> list[str]:
        one = ctx.branch("one").step("one", fail_once, "one", 0.0)
        two = ctx.branch("two").step("two", fail_once, "two", 0.0)
        found = await asyncio.gather(one, two, return_exceptions=True)
        for value in found:
            if isinstance(value, BaseException):
                raise value
        return [str(value) for value in found]

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[both]) as engine:
                for name in ("one", "two"):
                    with pytest.raises(WorkflowFailedError, match=f"{name} failed"):
                        await engine.run(both, execution_id="it")
                    await engine.retry("it")
                assert await engine.handle("it").result() == ["one", "two"]

    asyncio.run(main())
    assert sorted(journal.lines) == ["one", "one", "two", "two"]


async def test_a_wait_that_timed_out_waits_as_long_once_more(file: Path) -> None:
    @workflow
    async def approval(ctx: WorkflowContext) -> str:
        return str(await ctx.wait_signal("approved", timeout=timedelta(milliseconds=200)))

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[approval]) as engine:
            for _ in range(2):
                with pytest.raises(WorkflowFailedError) as failed:
                    await engine.run(approval, execution_id="one")
                assert SignalTimeoutError.__name__ in str(failed.value.error_type)
                await engine.retry("one")
            await engine.send_signal("one", "approved", "kim")
            assert await engine.handle("one").result() == "kim"


async def test_what_was_compensated_or_did_not_fail_is_refused(file: Path) -> None:
    @workflow
    async def booking(ctx: WorkflowContext) -> None:
        await ctx.step("book", lambda: 1, compensate=lambda _: None)
        await ctx.wait_signal("go", timeout=timedelta(0))

    @workflow
    async def fine(ctx: WorkflowContext) -> None:
        pass

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError):
            await engine.run(booking, execution_id="undone")
        await engine.run(fine, execution_id="fine")
        for one, why in (("undone", "compensated"), ("fine", "COMPLETED")):
            before = await engine.load(one)
            with pytest.raises(ExecutionConflictError, match=why):
                await engine.retry(one)
            assert await engine.load(one) == before
        with pytest.raises(ExecutionNotFoundError):
            await engine.retry("unknown")
        assert (await engine.load("undone")).status is ExecutionStatus.FAILED


RAN = timedelta(minutes=1)


async def test_only_what_failed_and_was_not_undone_is_run_again(file: Path) -> None:
    noon = datetime(2024, 2, 29, 12, tzinfo=UTC)
    ended: dict[str, Any] = {
        "guarantee": WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
        "error_type": "builtins:ValueError",
        "error_message": "it broke",
        "ttl_expires_at": noon,
        "recovery_count": 3,
        "last_event": 2,
        "started_at": noon - RAN,
    }
    async with SqliteCheckpointStore.file(file) as store:
        client = Client(store)
        await store.save(WORKFLOW)
        for status in ExecutionStatus:
            for undone in (None, StepStatus.FAILED, StepStatus.COMPENSATED):
                one = f"{status} {undone}"
                await store.save(new_execution(one, status=status, **ended))
                await store.save(new_signal(one, "ok", status=SignalStatus.EXPIRED))
                if undone is not None:
                    await store.save(new_checkpoint(one, 0, attempt=0, status=undone))
                before = await store.take_execution(one)
                failed, cancelled = status == "FAILED", status == "CANCELLED"
                if not (failed and undone is None) and not (
                    (failed or cancelled) and undone is StepStatus.FAILED
                ):
                    with pytest.raises(ExecutionConflictError):
                        await client.retry(one)
                    assert await store.take_execution(one) == before
                    assert await store.load_audit_log(one) == []
                    continue
                await client.retry(one)
                again = await taken(store, one)
                execution = again.execution
                assert (execution.ttl_expires_at, execution.recovery_count) == (None, 0)
                assert (execution.started_at, execution.blocked_reason) == (noon - RAN, None)
                assert execution.available_at is not None
                assert [one.act for one in await store.load_audit_log(one)] == ["retry"]
                assert len(await store.load_pending_signals(one)) == 1
                # What could not be undone is undone first, and the execution ends as before.
                if undone is None:
                    assert execution.status is ExecutionStatus.PENDING
                    assert (execution.error_type, execution.last_event) == (None, None)
                else:
                    assert execution.status is ExecutionStatus.COMPENSATING
                    assert (execution.error_type, execution.last_event) == (ended["error_type"], 2)
                    assert [one.status for one in again.checkpoints] == [StepStatus.INTENT]


# The next attempt, at once

HOURLY = RetryPolicy.fixed(max_attempts=9, delay=timedelta(hours=1))


async def until_paused(store: SqliteCheckpointStore, execution_id: str = "one") -> None:
    async with asyncio.timeout(30):
        soon = datetime.now(UTC) + timedelta(minutes=1)
        while not any(
            one.due_at is not None and one.due_at > soon
            for one in await store.load_checkpoints(execution_id)
        ):
            await asyncio.sleep(0.005)


def impatient(journal: Journal) -> WorkflowDefinition[[], Any]:
    """Its payment fails once, and so does its refund: each is tried again an hour later."""

    def once(what: str) -> str:
        if journal.note(what) == 1:
            raise ConnectionError(f"{what} is down")
        return what

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        undone: Any = {"compensate": lambda _: once("refund"), "compensate_retry": HOURLY}
        await ctx.step("charge", once, "charge", retry=HOURLY, **undone)
        await ctx.step("ship", once, "ship")

    return order


PAID = ["charge", "charge", "ship", "refund", "refund"]


async def test_the_next_attempt_is_made_at_once_by_the_worker_that_waits_for_it(
    file: Path, journal: Journal
) -> None:
    async with SqliteCheckpointStore.file(file) as one, SqliteCheckpointStore.file(file) as two:
        async with DurableEngine(one) as client:
            order = impatient(journal)
            async with DurableEngine(two, workflows=[order]) as worker:
                handle = await worker.start(order, execution_id="one")
                for tried in (1, 4):
                    await until_paused(one)
                    assert len(journal.lines) == tried
                    await client.retry("one", by="kim")
                with pytest.raises(WorkflowFailedError, match="ship is down"):
                    await asyncio.wait_for(handle.result(), 30)
        log = await one.load_audit_log("one")
        assert [(entry.act, entry.actor, entry.details) for entry in log] == [
            ("retry", "kim", """{"now":"step 'charge' (index 0)"}"""),
            ("retry", "kim", """{"now":"step 'charge:compensate' (index 0)"}"""),
        ]
    assert journal.lines == PAID


def test_the_next_attempt_is_made_at_once_by_whoever_comes_next(
    file: Path, journal: Journal
) -> None:
    """No worker lives when it is asked for: what is stored does not wait either."""
    order = impatient(journal)

    async def worker(*, starts: bool) -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[order]) as engine:
                if starts:
                    await engine.enqueue(order, execution_id="one")
                await until_paused(store)

    async def client() -> None:
        with open_reader(file) as reader:
            details = reader.execution("one")
        assert details is not None
        hint = timeline.hint(details, file)
        assert hint is not None
        assert hint.startswith(
            f"to start the next attempt at once: durable-workflow retry {file} one; if charge took"
            f" effect: durable-workflow resolve {file} one charge JSON"
        )
        said = run_command("retry", file, "one", env={}).stdout
        assert said == "one does not wait for its next attempt any more\n"
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store) as engine:
                # Nothing waits any more: there is nothing to ask for, and nothing is written.
                before = await store.take_execution("one")
                with pytest.raises(ExecutionConflictError, match="waits for no later attempt"):
                    await engine.retry("one")
                assert await store.take_execution("one") == before
                assert len(await store.load_audit_log("one")) == 1

    async def last_worker() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[order]) as engine:
                await until(lambda: "refund" in journal.lines)
                await until_paused(store)
                await engine.retry("one")
                with pytest.raises(WorkflowFailedError, match="ship is down"):
                    await asyncio.wait_for(engine.handle("one").result(), 30)

    asyncio.run(worker(starts=True))
    asyncio.run(client())
    asyncio.run(last_worker())
    assert journal.lines == PAID


async def test_a_worker_without_room_makes_the_next_attempt_all_the_same(
    file: Path, journal: Journal
) -> None:
    ends, began = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        began.set()
        await ends.wait()

    @workflow
    async def long(ctx: WorkflowContext) -> None:
        await ctx.step("hold", hold)

    order = impatient(journal)
    async with SqliteCheckpointStore.file(file) as one, SqliteCheckpointStore.file(file) as two:
        async with DurableEngine(one) as client:
            async with DurableEngine(two, workflows=[order, long], max_concurrent=1):
                await client.enqueue(order, execution_id="one")
                await until_paused(one)
                await client.enqueue(long)
                await began.wait()  # the only slot
                await client.retry("one")
                await until(lambda: journal.lines == PAID[:4])
                ends.set()


def test_what_is_asked_for_while_a_worker_takes_it_on_is_not_lost(
    file: Path, journal: Journal
) -> None:
    """Its records were loaded before, and whoever is told finds nothing that waits."""
    order = impatient(journal)

    class Slow(SqliteCheckpointStore):
        async def take_execution(self, workflow_execution_id: str) -> TakenExecution | None:
            taken = await super().take_execution(workflow_execution_id)
            if journal.lines == ["charge"]:
                await client.retry("one")
            return taken

    async def begin() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[order]) as engine:
                await engine.enqueue(order, execution_id="one")
                await until_paused(store)

    async def go_on() -> None:
        nonlocal client
        async with SqliteCheckpointStore.file(file) as one, Slow.file(file) as two:
            async with DurableEngine(one) as client:
                async with DurableEngine(two, workflows=[order]):
                    await until(lambda: journal.lines == PAID[:4])

    client: DurableEngine
    asyncio.run(begin())
    asyncio.run(go_on())
