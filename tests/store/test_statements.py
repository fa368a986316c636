"""Every statement that is sent stands in sql/, and every write is in a `begin immediate`."""

from __future__ import annotations

import asyncio
import itertools
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from durable_workflow_sqlite import (
    AesGcmCodec,
    AuditEntry,
    ChangeEntry,
    ChangeScope,
    ExecutionConflictError,
    ExecutionFinishedError,
    ExecutionStatus,
    Limit,
    NewExecution,
    OnParentEnd,
    Pause,
    PauseScope,
    Progress,
    Queue,
    Rate,
    RetryPolicy,
    Schedule,
    SignalStatus,
    SqliteCheckpointStore,
    StepSlot,
    StepStatus,
    StreamItems,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowFailedError,
    WorkflowPatch,
    WorkflowSignal,
    workflow,
)
from durable_workflow_sqlite.store.adapter import number_parameters
from durable_workflow_sqlite.store.available import LOOKED_AT
from durable_workflow_sqlite.store.sql import MIGRATIONS_DIR, QUERIES_DIR, VIEWS_DIR
from durable_workflow_sqlite.testing.contract_base import (
    FINAL,
    NOON,
    WORKFLOW,
    created,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
    queued,
    taken,
)
from tests.processes import an_engine

CONTROL = re.compile(
    r"begin|begin immediate|(commit|rollback)( -- of the library)?"
    r"|savepoint one|rollback to one|release one"
    r"|pragma [a-z_.]+( = -?\w+|\([a-z_\"]+\))?"
)
WRITES = re.compile(r"(insert|update|delete|replace|create|drop|alter)\b")


async def recode() -> None:
    """Decode a value of each kind."""
    codec = AesGcmCodec([("first", b"k" * 32)])
    async with SqliteCheckpointStore.in_memory(codec=codec) as store:
        await store.save(WORKFLOW, new_execution("e", input_data="[1]"))
        await store.save(
            new_checkpoint("e", 0, output_data="1"), new_signal("e", "go", payload="1")
        )
        await store.save(
            StreamItems(workflow_execution_id="e", step_index=0, step_name="say", items=("1",)),
            Progress(workflow_execution_id="e", done=1, note="x"),
            AuditEntry(
                workflow_execution_id="e",
                act="retry",
                actor="kim",
                details='{"error": "x"}',
                created_at=NOON,
            ),
        )
        assert await store.save_schedule(
            Schedule(
                schedule_name="s",
                workflow_type="order",
                input_data="[1]",
                every_seconds=60,
                created_at=NOON,
                updated_at=NOON,
            ),
            seen=None,
        )
        assert (await store.recode(to_plain=True)).rows == 7


def plain(sql: str) -> str:
    """A statement without comments, in one line."""
    lines = [line for line in sql.splitlines() if not line.lstrip().startswith("--")]
    return " ".join(" ".join(lines).split()).rstrip(" ;")


def statements_in(directory: Path) -> set[str]:
    """Every statement of a folder, with its parameters numbered, as they are sent."""
    return {one for path in directory.glob("*.sql") for one in statements_of(path)}


def statements_of(path: Path) -> set[str]:
    statements: set[str] = set()
    unfinished = ""
    for line in path.read_text().splitlines(keepends=True):
        unfinished += line
        if sqlite3.complete_statement(unfinished):  # one of a trigger holds semicolons
            statements.add(number_parameters(plain(unfinished))[0])
            unfinished = ""
    return statements - {""}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[str]]:
    """What every connection of this process is sent, from now on."""
    by_connection: dict[int, list[str]] = {}
    numbers = itertools.count()

    class Recording(sqlite3.Connection):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.statements = by_connection[next(numbers)] = []

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            self.statements.append(plain(sql))
            return super().execute(sql, *parameters)

        def executemany(self, sql: str, *rows: Any) -> sqlite3.Cursor:
            self.statements.append(plain(sql))
            return super().executemany(sql, *rows)

        def executescript(self, *_: Any) -> Any:
            raise AssertionError("another way to send a statement")

    connect = sqlite3.connect

    def recording(*arguments: Any, **named: Any) -> sqlite3.Connection:
        return connect(*arguments, **named | {"factory": Recording})

    monkeypatch.setattr(sqlite3, "connect", recording)
    return by_connection


def check(sent: dict[int, list[str]]) -> set[str]:
    """Look at what was sent; return the statements of sql/queries among it."""
    queries = statements_in(QUERIES_DIR)
    migrations = statements_in(MIGRATIONS_DIR) | statements_in(VIEWS_DIR)
    seen: set[str] = set()
    for statements in sent.values():
        transaction = None
        for statement in statements:
            if statement in ("begin", "begin immediate"):
                assert transaction is None
                transaction = statement
            elif statement.split(" -- ")[0] in ("commit", "rollback"):
                assert transaction is not None
                transaction = None
            if not CONTROL.fullmatch(statement):
                assert statement in queries | migrations, statement
                seen.add(statement)
            if WRITES.match(statement) and statement not in migrations:
                assert transaction == "begin immediate", statement
        assert transaction is None
    return seen & queries


def test_a_store_sends_what_stands_in_sql(file: Path, sent: dict[int, list[str]]) -> None:
    async def main(opened: Callable[[], SqliteCheckpointStore]) -> None:
        async with opened() as store:
            claim = await created(store, new_execution("e"))
            intent = new_checkpoint("e", 1, status=StepStatus.INTENT, started_at=NOON)
            await store.begin_step(intent, claim=claim)
            completed = msgspec.structs.replace(intent, status=StepStatus.COMPLETED)
            await store.finish_step(completed, claim=claim)
            read = new_checkpoint("e", 2, status=StepStatus.COMPLETED, started_at=NOON, event=9)
            await store.finish_step(read, claim=claim, has_begun=False)
            await store.save(new_execution("e", status=ExecutionStatus.RUNNING), claim=claim)
            await store.save(
                new_checkpoint("e", 0, error_message="it broke"),
                new_timer("e", "t", NOON),
                new_signal("e", "go"),
                claim=claim,
            )
            signal = await store.send_signal(new_signal("e", "go"))
            anew = await created(store, new_execution("anew"))
            await store.continue_as_new(new_execution("anew", run_number=2), claim=anew)
            await store.save_signal(signal)
            refused = await store.send_signal(new_signal("e", "no"))
            await store.save(
                msgspec.structs.replace(
                    refused, status=SignalStatus.REFUSED, refused_reason="no integer"
                ),
                claim=claim,
            )
            await store.save(new_execution("e", status=ExecutionStatus.RUNNING), claim=claim)
            await store.release_claims([claim], trouble="it does not fit")
            await store.claim_execution("e")
            claimed = await taken(store, "e")
            with pytest.raises(ExecutionConflictError, match="claimed by worker"):
                await store.mend_execution(claimed, claimed.execution)
            async with opened() as other:
                await other.save_workflow(WORKFLOW)
                of_other = await created(other, new_execution("h"))
                await other.mark_as_stopping([of_other])
            async with opened() as another:
                await another.create_execution(WORKFLOW, new_execution("i"))
            await store.save_execution(new_execution("e", status=ExecutionStatus.FAILED))
            await store.save(WORKFLOW, new_execution("f"))
            await asyncio.gather(
                store.save_checkpoint(new_checkpoint("f", 0)),
                store.save_checkpoint(new_checkpoint("unknown", 0)),
                return_exceptions=True,
            )
            await store.load_workflow("order:1")
            await store.load_execution("e")
            await store.load_executions_by_status(FINAL)
            await store.load_checkpoints("e")
            await store.take_execution("e")
            await store.load_pending_timers()
            await store.load_timers("e")
            await store.load_pending_signals("e")
            await store.load_next_signals("e", ["go"])
            await store.load_open_waits("e", "go")
            await store.load_keyed_signal("e", "mail")
            await store.load_questions()
            await store.load_questions("finance")
            await store.load_questions(workflow_execution_id="e")
            answer = WorkflowSignal(workflow_execution_id="e", signal_name="$answer:go@1.0")
            assert await store.answer_question(answer) is None
            with pytest.raises(ExecutionFinishedError):
                await store.request_cancel("e")
            await store.hasten_attempts("e")
            await store.load_served()
            await store.load_last_signal_id()
            await store.load_signals_after(0)
            await store.load_statuses(["e"])
            await store.load_stopped(["e"])
            await store.enqueue_execution(WORKFLOW, new_execution("g", available_at=NOON))
            await store.load_next_available_at([("order", 1)])
            await store.claim_available([("order", 1)], 9)
            mail = f"mail of {store.worker_id}"
            rate = Rate(9, timedelta(hours=1))
            await store.declare_limits([Queue(mail, per_worker=5, per_key=1)])
            await store.save_limit(Queue(mail, concurrency=5, per_key=1, rate=rate, key_rate=rate))
            await store.declare_limits([Limit("api", concurrency=9), Limit("slow", rate=rate)])
            twin = queued(f"{mail}, twin", NOON, dedup_id=mail, debounced=True)
            await store.debounce_execution(WORKFLOW, twin)
            await store.debounce_execution(WORKFLOW, twin)
            await store.load_limits()
            for number in range(LOOKED_AT + 1):
                one = queued(f"{mail}, {number}", NOON, queue=mail, queue_key="kim")
                await store.enqueue_execution(WORKFLOW, one)
            (sending,) = await store.claim_available([("order", 1)], 9, queues=[mail])
            suspended = queued(
                sending.workflow_execution_id,
                None,
                status=ExecutionStatus.SUSPENDED,
                queue=mail,
                queue_key="kim",
            )
            slot = StepSlot(
                workflow_execution_id=sending.workflow_execution_id,
                branch="",
                step_index=0,
                limit="api",
                key=None,
                is_held=True,
                at=NOON,
            )
            await store.save(slot, claim=sending)
            await store.save(msgspec.structs.replace(slot, is_held=False), claim=sending)
            await store.load_limit_room("api", None)
            await store.save(msgspec.structs.replace(slot, limit="slow"), claim=sending)
            await store.save(suspended, claim=sending)
            await store.leave_slot(sending)
            assert await store.take_slot(sending, mail, "kim")
            assert await store.claim_available([("order", 1)], 9, queues=[mail]) == []
            await store.release_claims([sending])
            running = msgspec.structs.replace(suspended, status=ExecutionStatus.RUNNING)
            await store.save_execution(running)
            assert await store.claim_execution(sending.workflow_execution_id) is not None
            await store.put_into_queue(["f"])
            await store.release_claims_of_the_dead(9)
            await store.load_unqueued_executions()
            await store.load_unregistered([], 9)
            await store.load_blocked()
            await store.unblock_execution("f")
            below = new_execution(
                "below", parent_execution_id="f", on_parent_end=OnParentEnd.CANCEL
            )
            await store.save(below)
            await store.pause_execution("f", by="kim", reason="why")
            await store.spread_pauses()
            await store.resume_execution("f")
            await store.spread_pauses()
            await store.pause_execution("below", by="kim")
            below = (await taken(store, "below")).execution
            await store.save(msgspec.structs.replace(below, status=ExecutionStatus.FAILED))
            pause = Pause(scope=PauseScope.ALL, paused_at=NOON, paused_by="kim", paused_reason="?")
            await store.begin_pause(pause)
            await store.begin_pause(pause)
            await store.load_pauses()
            await store.create_execution(WORKFLOW, new_execution("p"))
            await store.end_pause(PauseScope.ALL)
            await store.save(
                new_execution("n", status=ExecutionStatus.FAILED),
                new_checkpoint("n", 0, attempt=0, status=StepStatus.FAILED),
            )
            await store.acknowledge("n")
            seen = await taken(store, "e")
            await store.mend_execution(seen, seen.execution, forget=seen.checkpoints)
            seen = await taken(store, "n")
            await store.mend_execution(seen, new_execution("n"))
            await store.load_signals("e")
            await store.enqueue_execution(WORKFLOW, new_execution("t"), {"customer": "7"})
            await store.load_tags("t")
            await store.save(WorkflowPatch(workflow_execution_id="t", patch_name="add-tax"))
            assert len((await taken(store, "t")).patches) == 1
            await store.save(
                StreamItems(workflow_execution_id="t", step_index=0, step_name="say", items=("1",))
            )
            await store.save(Progress(workflow_execution_id="t", done=1))
            assert len(await store.load_progress("t")) == 1
            assert len(await store.load_stream_items("t")) == 1
            assert len(await store.load_stream_heads("t", 99)) == 1
            assert await store.load_stream_ends("t", "say") == []
            await store.save(AuditEntry(workflow_execution_id="t", act="retry", actor="kim"))
            await store.load_audit_log("t")
            await store.save(
                ChangeEntry(scope=ChangeScope.QUEUE, name=mail, act="set", actor="kim")
            )
            await store.load_changes(ChangeScope.QUEUE, mail)
            store.change_counter()
            nightly = Schedule(schedule_name="s", workflow_type="order", every_seconds=60)
            new = NewExecution(workflow=WORKFLOW, execution=new_execution("s@1"))
            assert await store.save_schedule(nightly, seen=None, start=[new])
            await store.load_schedules()
            await store.load_due_schedules(NOON)
            await store.load_unfinished_of_schedule("s")
            await store.delete_schedule("s")
            await store.delete_execution("s@1")
            later = datetime.now(UTC) + timedelta(days=1)
            await store.delete_old_timers(later)
            await store.delete_old_signals(later)
            await store.delete_finished(["e"], later)
            await store.join([("order", 2)], 5, queues=[mail])
            await store.join([("order", 2)], 5)
            await store.delete_completed_before(later, FINAL)  # finds the others dead
            await store.delete_completed_before(later, FINAL)
            with closing(sqlite3.Connection(file)) as shell:  # as one that may have restored it
                shell.execute("create table if not exists of_mine (name text)")
            for one in ("anew", "below", "e", "f", "g", "h", "i", "n", "p", "t"):
                await store.delete_execution(one)

    for opened in (
        lambda: SqliteCheckpointStore.file(file),
        lambda: SqliteCheckpointStore.file(file, synchronous="full"),
        SqliteCheckpointStore.in_memory,
    ):
        asyncio.run(main(opened))
    asyncio.run(recode())
    seen = check(sent)
    # Each query is there for a store method; those for people are sent by the inspector, and
    # those about a move by the move.
    of_people = {
        one
        for name in ("inspection", "overview", "workflow_moves")
        for one in statements_of(QUERIES_DIR / f"{name}.sql")
    }
    # All steps at once, for a page and for `doctor`; the store reads them in parts.
    of_people |= {
        one
        for one in statements_of(QUERIES_DIR / "step_checkpoints.sql")
        if one.endswith("where workflow_execution_id = ? order by branch, step_index, attempt")
    }
    # The newest items, for a page.
    of_people |= {
        one
        for one in statements_of(QUERIES_DIR / "workflow_stream_items.sql")
        if "order by workflow_stream_item_id desc" in one
    }
    assert statements_in(QUERIES_DIR) - of_people <= seen


async def test_an_engine_sends_what_stands_in_sql(file: Path, sent: dict[int, list[str]]) -> None:
    tries: list[int] = []

    def fail_once() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("once")
        return "done"

    def fail() -> None:
        raise ValueError("always")

    @workflow
    async def everything(ctx: WorkflowContext, how: str) -> str:
        await ctx.step("book", lambda: how, compensate=lambda _: None)
        await ctx.step(
            "retry", fail_once, retry=RetryPolicy.fixed(max_attempts=2, delay=timedelta(0))
        )
        await ctx.sleep("rest", timedelta(milliseconds=20))
        if how == "fail":
            await ctx.step("fail", fail)
        return str(await ctx.wait_signal("go", timeout=timedelta(hours=1)))

    async with an_engine(file, workflows=[everything]) as (_, engine):
        signalled = await engine.start(everything, "signal", execution_id="signalled")
        await engine.send_signal("signalled", "go", "now")
        assert await signalled.result() == "now"
        with pytest.raises(WorkflowFailedError):
            await engine.run(everything, "fail")
        cancelled = await engine.start(everything, "cancel", execution_id="cancelled")
        await asyncio.sleep(0.1)
        await engine.cancel("cancelled")
        with pytest.raises(WorkflowCancelledError):
            await cancelled.result()
        await engine.start(everything, "recover", execution_id="recovered")
        await asyncio.sleep(0.1)
    async with an_engine(file, workflows=[everything]) as (_, engine):
        await engine.send_signal("recovered", "go", "again")
        assert await engine.run(everything, "recover", execution_id="recovered") == "again"
    assert len(check(sent)) > 12


def test_nothing_in_sql_replaces_a_row() -> None:
    for directory in (QUERIES_DIR, MIGRATIONS_DIR):
        for path in directory.glob("*.sql"):
            text = plain(path.read_text()).lower()
            assert "or replace" not in text
            assert "replace into" not in text
