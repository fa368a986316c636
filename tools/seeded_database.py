"""A small database with rows of every kind, and arguments for which each query gives rows of it.

Each column that may be null is null in one row of a query, and not null in another.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from durable_workflow_sqlite import (
    ExecutionStatus,
    NewExecution,
    Schedule,
    SignalStatus,
    SqliteCheckpointStore,
    StepCheckpoint,
    StepKind,
    StepStatus,
    TimerStatus,
    Workflow,
    WorkflowExecution,
    WorkflowGuarantee,
    WorkflowSignal,
    WorkflowTimer,
)

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
NOON_TEXT = "2024-02-29T12:00:00.000000Z"
LONG_AGO = "2000-01-01T00:00:00.000000Z"
FAR_OFF = "9999-12-31T00:00:00.000000Z"
WHATEVER_STATUS = json.dumps(list(ExecutionStatus))

EVERYTHING = {
    "types": None,
    "version": None,
    "id_from": "",
    "id_before": "~",
    "created_from": "",
    "before_time": "~",
    "before_rowid": 0,
    "row_limit": 99,
}

ABOUT_QUEUED = {
    "workflow_id": "order:1",
    "priority": 0,
    "now": FAR_OFF,
    "passed_over": "[]",
    "suspect_at": 2,
    "with_suspects": 1,
    "batch_size": 99,
}

ABOUT_USES = {
    "kind": "QUEUE",
    "since": LONG_AGO,
    "until": FAR_OFF,
    "row_limit": 99,
}

WHOEVER = object()
"""Stands for the worker that has claims."""

SEVERAL = json.dumps(
    ["by hand", *(f"{status}, {how}" for status in ExecutionStatus for how in ("empty", "full"))]
)

SELECTS: dict[str, list[dict[str, Any]]] = {
    "load_checkpoints": [{"workflow_execution_id": "RUNNING, full"}],
    "load_checkpoints_after": [
        {
            "workflow_execution_id": "RUNNING, full",
            "branch": "",
            "step_index": -1,
            "attempt": 0,
            "row_limit": 99,
        }
    ],
    **{
        f"load_values_of_{one}": [{"after": 0, "row_limit": 999}]
        for one in ("stream_items", "progress", "executions", "steps", "signals", "acts")
    },
    "load_values_of_schedules": [{}],
    "load_claim": [{"workflow_execution_id": "RUNNING, full"}],
    "load_claim_of": [{"workflow_execution_id": "RUNNING, full"}],
    "load_pending": [{"workflow_execution_id": "RUNNING, full"}],
    "take_execution": [
        {"workflow_execution_id": f"{status}, {how}", "cancel_signal": "$cancel"}
        for status in ExecutionStatus
        for how in ("empty", "full")
    ],
    "load_execution": [
        {"workflow_execution_id": f"{status}, {how}"}
        for status in ExecutionStatus
        for how in ("empty", "full")
    ],
    "load_executions_by_status": [{"statuses": WHATEVER_STATUS}],
    "load_stopped": [{"workflow_execution_ids": '["PENDING, full", "SUSPENDED, full"]'}],
    "load_troubles": [{"workflow_execution_ids": '["PENDING, full", "SUSPENDED, full"]'}],
    "load_statuses": [{"workflow_execution_ids": '["RUNNING, full", "FAILED, empty"]'}],
    "load_queue_heads": [{}],
    "load_available": [
        {
            "workflow_id": "order:1",
            "priority": 3,
            "now": FAR_OFF,
            "passed_over": "[]",
            "suspect_at": 2,
            "with_suspects": 1,
            "batch_size": 99,
        }
    ],
    "load_waiting_queues": [{}],
    "load_heads_of_queue": [{"queue": "mail"}],
    "load_available_in_queue": [{**ABOUT_QUEUED, "queue": "mail"}],
    "load_available_of_key": [
        {**ABOUT_QUEUED, "queue": "mail", "queue_key": key} for key in ("kim", None)
    ],
    "load_next_key": [{"queue": "mail", "after": after} for after in ("", "kim")],
    "load_spreading": [{}],
    "load_holder": [{"workflow_execution_id": one} for one in ("asleep", "queued")],
    "load_to_hold": [{"parent_execution_id": "asleep", "holder": "asleep", "row_limit": 99}],
    "load_to_let_go": [{"parent_execution_id": "asleep", "row_limit": 99}],
    "load_unclaimed": [{"workflow_execution_ids": '["RUNNING, full", "queued"]'}],
    "load_queue_of": [{"workflow_execution_id": one} for one in ("queued", "PENDING, empty")],
    "load_open_steps": [{"workflow_execution_id": one} for one in ("queued", "PENDING, empty")],
    "load_limit": [{"kind": "QUEUE", "name": name} for name in ("mail", "unlimited")],
    "load_limits": [{}],
    "load_named_queues": [{}],
    "load_step_limits": [{}],
    "load_held_slots": [
        {"kind": kind, "name": name, "row_limit": 99}
        for kind, name in (("QUEUE", "mail"), ("STEP", "openai"))
    ],
    "load_due_by_queue": [{"now": FAR_OFF}],
    "load_latest_acts": [{"row_limit": 99}],
    "load_acts_on": [{"scopes": '["QUEUE", "ALL"]', "name": None, "row_limit": 99}],
    "load_duplicate": [{"queue": queue, "dedup_id": "one"} for queue in ("mail", None)],
    "load_limit_uses": [{**ABOUT_USES, "name": "mail"}],
    "load_limit_uses_of_key": [{**ABOUT_USES, "name": "mail", "limit_key": "kim"}],
    "count_step_slots": [{"name": "openai", "limit_key": "kim"}],
    "count_slots": [{"queue": "mail", "worker_id": WHOEVER}],
    "count_slots_of_keys": [{"queue": "mail"}],
    "load_unqueued": [{}],
    "load_unregistered": [{"workflow_ids": '["order:1"]', "row_limit": 99}],
    "load_claiming_workers": [{}],
    "load_claims_of": [{"worker_id": WHOEVER}],
    "load_at_work": [{"workflow_execution_ids": '["RUNNING, full"]', "suspect_at": 1}],
    "count_recoveries": [
        {"workflow_execution_ids": '["RUNNING, empty"]', "max_recoveries": most} for most in (9, 0)
    ],
    "load_ids_to_prune": [
        {
            "workflow_id": "order:1",
            "status": status,
            "created_from": "",
            "before": FAR_OFF,
            "batch_size": 99,
        }
        for status in ("COMPLETED", "FAILED", "CANCELLED")
    ],
    "load_pending_signals": [
        {"workflow_execution_id": one, "signal_name": name}
        for one, name in (("RUNNING, full", None), ("RUNNING, full", "go"), ("by hand", None))
    ],
    "load_keyed_signal": [
        {"workflow_execution_id": "RUNNING, full", "signal_key": f"mail PENDING {payload}"}
        for payload in (None, "17")
    ],
    "load_next_signals": [
        {"workflow_execution_id": one, "signal_names": '["go", "stop"]'}
        for one in ("RUNNING, full", "by hand")
    ],
    "load_open_waits": [{"workflow_execution_id": "asleep", "signal_name": "go"}],
    "load_questions": [{"row_limit": 99}],
    "load_questions_to": [{"asked_of": "finance", "row_limit": 99}],
    "load_questions_of": [
        {"workflow_execution_id": one, "row_limit": 99} for one in ("asleep", "by hand")
    ],
    "load_signals_after": [{"workflow_signal_id": 0}],
    "load_pending_timers": [{}],
    "load_timers": [{"workflow_execution_id": "RUNNING, full"}],
    "load_workflow": [{"workflow_id": "order:1"}],
    "count_executions": [{}],
    "pick_newest": [{**EVERYTHING, "statuses": None, "id_from": None, "id_before": None}],
    "pick_in_trouble": [{**EVERYTHING, "statuses": WHATEVER_STATUS}],
    "pick_among": [
        {
            **EVERYTHING,
            "statuses": WHATEVER_STATUS,
            "among": among,
            "tag_name": "customer",
            "tag_value": "7",
            "relative": "parent",
        }
        for among in ("blocked", "not undone", "tagged", "child", "tree", "in range")
    ],
    "pick_with_error": [{**EVERYTHING, "statuses": WHATEVER_STATUS, "error_text": ""}],
    "load_problems": [{"now": LONG_AGO, "failed_since": "", "row_limit": 99}],
    "count_by_hour": [{"hours": '["2024-02-29T12"]'}],
    "match_rows": [
        {
            "workflow_execution_ids": '["RUNNING, full", "FAILED, full"]',
            "changed_from": "",
            "changed_before": FAR_OFF,
            "step_name": None,
            "error_text": None,
            "parent": None,
            "root": None,
            "queues": None,
            "inputs": "[]",
            "tags": "{}",
        }
    ],
    "load_finished": [
        {
            "workflow_execution_ids": '["RUNNING, full", "FAILED, full"]',
            "before": FAR_OFF,
        }
    ],
    "pick_oldest_unfinished": [{"row_limit": 99}],
    "load_summaries": [
        {
            "workflow_execution_ids": json.dumps(
                ["by hand", "asleep", "child of asleep"]
                + [f"{status}, {how}" for status in ExecutionStatus for how in ("empty", "full")]
            )
        }
    ],
    "load_execution_data": [
        {"workflow_execution_id": f"{status}, {how}"}
        for status in ExecutionStatus
        for how in ("empty", "full")
    ],
    "load_children": [{"parent_execution_id": "parent", "row_limit": 9}],
    "load_forks": [{"forked_from": "parent", "row_limit": 9}],
    "count_children": [{"parent_execution_id": "parent", "at_most": 9}],
    "load_signals": [{"workflow_execution_id": "RUNNING, full"}],
    "load_next_timers": [{"row_limit": 99}],
    "load_steps_in_doubt": [{"living": "[]", "row_limit": 99}],
    "load_steps_cut_off": [{"row_limit": 99}],
    "load_unresolved": [{"row_limit": 99}],
    "load_blocked": [{"row_limit": 99}],
    "load_taken_over": [{"least": 2, "row_limit": 99}],
    "load_in_trouble": [{"row_limit": 99}],
    "load_schema_objects": [{}],
    "count_prunable": [{"statuses": WHATEVER_STATUS, "before": FAR_OFF}],
    "load_suspect_executions": [{"row_limit": 99}],
    "load_suspect_checkpoints": [{"row_limit": 99}],
    "load_suspect_timers": [{"row_limit": 99}],
    "load_suspect_signals": [{"row_limit": 99}],
    "load_gaps": [{"statuses": WHATEVER_STATUS, "row_limit": 99}],
    "load_refused_signals": [{"row_limit": 99}],
    "load_stray_signals": [
        {"cancel_signal": "$cancel", "resolved_signal": "$resolved", "row_limit": 99}
    ],
    "load_workflows": [{}],
    "load_workflows_of_workers": [{}],
    "load_token_sequence": [{}],
    "load_workers_of": [{"workflow_execution_id": "between steps"}],
    "load_edited": [{"statuses": WHATEVER_STATUS, "row_limit": 9999}],
    "load_numbered_intents": [{"row_limit": 99}],
    "load_stranded": [{"child_signal": "$child:", "row_limit": 99}],
    "load_fresh_failures": [{"since": "", "least": 1, "at_most": 99}],
    "load_untaken_signals": [{"before": FAR_OFF, "row_limit": 99}],
    "load_claimed_by": [{"worker_id": WHOEVER, "row_limit": 99}],
    "load_unblocked_without_rows": [{"row_limit": 99}],
    "load_open_of_completed": [{"row_limit": 99}],
    "load_executions_among": [{"workflow_execution_ids": SEVERAL}],
    "load_checkpoints_among": [{"workflow_execution_ids": SEVERAL}],
    "load_patches_among": [{"workflow_execution_ids": '["by hand"]'}],
    "load_patches": [{"workflow_execution_id": "by hand"}],
    "load_stream_items": [
        {"workflow_execution_id": "by hand", "workflow_stream_item_id": 0, "row_limit": 9}
    ],
    "load_last_stream_items": [{"workflow_execution_id": "by hand", "row_limit": 9}],
    "load_stream_heads": [{"workflow_execution_id": "by hand", "workflow_stream_item_id": 9}],
    "load_stream_ends": [{"workflow_execution_id": "by hand", "step_name": "pay"}],
    "load_progress": [{"workflow_execution_id": "by hand"}],
    "load_tags": [{"workflow_execution_ids": '["by hand"]'}],
    "load_audit_log": [{"workflow_execution_id": "by hand"}],
    "load_changes": [{"scope": "QUEUE", "name": "mail"}],
    "load_not_undone": [{"row_limit": 99}],
    "load_undoing": [{"row_limit": 99}],
    "load_workers": [{"worker_ids": '["joined", "dead"]'}],
    "load_served": [{"worker_numbers": "[1, 2, 3]"}],
    "load_served_queues": [{"worker_numbers": "[1, 2, 3]"}],
    "load_unmarked_workers": [{}],
    "load_forgettable_workers": [{"before": FAR_OFF, "batch_size": 9}],
    "count_claims_by_worker": [{}],
    "load_work_under_way": [{}],
    "load_queues": [{}],
    "count_unfinished": [{}],
    "load_schedule": [{"schedule_name": "full"}, {"schedule_name": "empty"}],
    "load_schedules": [{}],
    "load_schedule_states": [{}],
    "load_due_schedules": [{"now": FAR_OFF}],
    "load_buffered_schedules": [{}],
    "load_next_fire_at": [{"now": LONG_AGO}],
    "load_unfinished_of_schedule": [{"schedule_name": "awake"}],
    "load_pauses": [{}],
    "load_moves": [{}],
    "pick_paused": [{**EVERYTHING, "statuses": WHATEVER_STATUS}],
    "load_paused": [{"row_limit": 99, "at_most": 99}],
    "load_attempt_workers": [{"workflow_execution_id": "undoing 7"}],
}


@contextmanager
def seeded_database(folder: Path) -> Generator[sqlite3.Connection]:
    """The database, made in a folder."""
    file = folder / "workflows.db"
    # An execution is claimed while its store is open, and let go when it is closed.
    store = asyncio.run(_fill(file))
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            _add_by_hand(connection)
            _add_workers(connection)
            _add_pauses(connection)
            _write_otherwise(connection)
            _add_moves(connection)
            yield connection
    finally:
        asyncio.run(store.close())


async def _fill(file: Path) -> SqliteCheckpointStore:
    store = SqliteCheckpointStore.file(file)
    await store.save_workflow(Workflow(workflow_id="order:1", workflow_type="order"))
    for status in ExecutionStatus:
        for execution in (_empty_execution(status), _full_execution(status)):
            one = execution.workflow_execution_id
            await store.save_execution(execution)
            await store.save(*_checkpoints(one), *_timers(one), *_signals(one))
    await store.save_checkpoint(
        StepCheckpoint(
            workflow_execution_id="COMPLETED, full",
            step_index=9,
            step_name="open",
            kind=StepKind.SLEEP,
            status=StepStatus.INTENT,
        )
    )
    assert await store.claim_execution("RUNNING, full") is not None
    await _add_schedules(store)
    return store


async def _add_schedules(store: SqliteCheckpointStore) -> None:
    """One with as little as there can be, one with everything, and one that fires."""
    await store.save_schedule(
        Schedule(schedule_name="empty", workflow_type="order", every_seconds=60), seen=None
    )
    due = Schedule(schedule_name="due", workflow_type="order", cron="0 3 * * *", next_fire_at=NOON)
    await store.save_schedule(due, seen=None)
    full = Schedule(
        schedule_name="full",
        workflow_type="order",
        cron="0 3 * * *",
        within_seconds=60,
        ends_at=NOON,
        ttl_seconds=60,
        queue="llm",
        queue_key="7",
        next_fire_at=NOON,
        last_fired_at=NOON,
        last_execution_id="RUNNING, full",
        last_skipped_at=NOON,
        buffered_at=NOON,
        paused_at=NOON,
        paused_by="kim",
        paused_reason="holidays",
        ended_at=NOON,
        trouble="no such zone",
        declared="{}",
    )
    await store.save_schedule(full, seen=None)
    awake = msgspec.structs.replace(
        full,
        schedule_name="awake",
        queue=None,
        queue_key=None,
        paused_at=None,
        ended_at=None,
        trouble=None,
    )
    new = NewExecution(
        workflow=Workflow(workflow_id="order:1", workflow_type="order"),
        execution=WorkflowExecution(workflow_execution_id="awake@1", workflow_id="order:1"),
    )
    await store.save_schedule(awake, seen=None, start=[new])


def _empty_execution(status: ExecutionStatus) -> WorkflowExecution:
    return WorkflowExecution(
        workflow_execution_id=f"{status}, empty", workflow_id="order:1", status=status
    )


def _full_execution(status: ExecutionStatus) -> WorkflowExecution:
    is_paused = status is ExecutionStatus.SUSPENDED
    return WorkflowExecution(
        workflow_execution_id=f"{status}, full",
        workflow_id="order:1",
        status=status,
        current_step=3,
        input_data="[1]",
        output_data="2.5",
        error_type="builtins:ValueError",
        error_message="it broke",
        ttl_expires_at=NOON,
        guarantee=WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
        priority=3,
        recovery_count=2,
        blocked_reason="not yet" if status is ExecutionStatus.PENDING else None,
        trouble="not now" if status is ExecutionStatus.SUSPENDED else None,
        available_at=NOON,
        last_event=2,
        started_at=NOON,
        created_at=NOON,
        updated_at=NOON,
        paused_at=NOON if is_paused else None,
        paused_by="kim" if is_paused else None,
        paused_reason="the bank" if is_paused else None,
    )


def _checkpoints(one: str) -> Iterator[StepCheckpoint]:
    for index, status in enumerate(StepStatus):
        yield StepCheckpoint(
            workflow_execution_id=one, step_index=index, step_name=f"{status}", status=status
        )
    for index, kind in enumerate(StepKind):
        yield StepCheckpoint(
            workflow_execution_id=one,
            step_index=index,
            step_name=f"{kind}",
            status=StepStatus.FAILED,
            branch="left",
            attempt=2,
            kind=kind,
            input_data="1",
            output_data="null",
            error_type="builtins:ValueError",
            error_message="",
            idempotency_key="0",
            compensate_ref="shop:refund",
            started_at=NOON,
            completed_at=NOON,
            due_at=NOON,
            event=index + 1,
        )


def _timers(one: str) -> Iterator[WorkflowTimer]:
    # One execution has none.
    for status in TimerStatus if one != "PENDING, empty" else ():
        yield WorkflowTimer(
            workflow_timer_id=f"{one}: {status}",
            workflow_execution_id=one,
            step_name="rest",
            fire_at=NOON + timedelta(days=1),
            status=status,
        )


def _signals(one: str) -> Iterator[WorkflowSignal]:
    for status in SignalStatus if one != "PENDING, empty" else ():
        for payload in (None, "17"):
            yield WorkflowSignal(
                workflow_execution_id=one,
                signal_name="go",
                payload=payload,
                status=status,
                refused_reason=None if payload is None else "it is no string",
                signal_key=None if status == "EXPIRED" else f"mail {status} {payload}",
            )


def _add_by_hand(connection: sqlite3.Connection) -> None:
    """An execution of a workflow that is not in the file, blocked in the middle of a step."""
    connection.execute(
        "insert into workflow_executions (workflow_execution_id, workflow_id, status,"
        " blocked_reason, trouble) values ('by hand', 'gone', 'RUNNING', 'edited', 'edited')"
    )
    connection.execute(
        "insert into step_checkpoints (workflow_execution_id, step_index, step_name, status,"
        " idempotency_key, started_at) values ('by hand', 0, 'pay', 'INTENT', 'k', ?)",
        (NOON_TEXT,),
    )
    for execution, key in (("by hand", "k"), ("RUNNING, full", None)):
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, step_name, status,"
            " error_type, idempotency_key, started_at)"
            " values (?, 9, 'ship', 'FAILED', 'asyncio.exceptions:CancelledError', ?, ?)",
            (execution, key, NOON_TEXT),
        )
    for execution, question, at in (
        ("by hand", None, None),
        ("RUNNING, full", "was it paid?", NOON_TEXT),
    ):
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, step_name, status,"
            " error_type, error_message, started_at, completed_at) values (?, 8, 'charge',"
            " 'INTENT', 'durable_workflow_sqlite.errors:StepAmbiguousError', ?, ?, ?)",
            (execution, question, at, at),
        )
    connection.execute(
        "insert into workflow_timers (workflow_timer_id, workflow_execution_id, step_name,"
        " fire_at) values ('t', 'by hand', 'rest', ?)",
        (NOON_TEXT,),
    )
    connection.execute(
        "insert into workflow_signals (workflow_execution_id, signal_name, payload,"
        " refused_reason) values ('by hand', 'stop', '17', 'no string')"
    )
    connection.execute(
        "insert into workflow_executions (workflow_execution_id, workflow_id, status)"
        " values ('gone', 'gone', 'COMPLETED')"
    )
    connection.execute(
        "insert into workflow_executions (workflow_execution_id, workflow_id, status)"
        " values ('asleep', 'order:1', 'SUSPENDED')"
    )
    connection.execute(
        "insert into workflow_executions (workflow_execution_id, workflow_id, guarantee)"
        " values ('stranded', 'order:1', 'BEST_EFFORT_BACKGROUND')"
    )
    for child, workflow, policy, error in (
        ("by hand", "gone", None, None),
        ("asleep", "order:1", "cancel", "it broke"),
    ):
        connection.execute(
            "insert into workflow_executions (workflow_execution_id, workflow_id, status,"
            " parent_execution_id, root_execution_id, on_parent_end, error_message, forked_from,"
            " forked_before) values (?, ?, 'FAILED', 'parent', 'parent', ?, ?, 'parent', ?)",
            (f"child of {child}", workflow, policy, error, error and "step 'pay' (index 0)"),
        )
    connection.execute(
        "insert into step_checkpoints (workflow_execution_id, step_index, step_name, kind, status,"
        " started_at, due_at) values ('asleep', 0, 'rest', 'SLEEP', 'INTENT', ?, ?)",
        (NOON_TEXT, NOON_TEXT),
    )
    question = '{"type":"bool","json":["boolean"],"name":"go","to":"finance","asked":{}}'
    for execution, index, record, asked_at, due_at in (
        ("asleep", 21, question, NOON_TEXT, NOON_TEXT),
        ("asleep", 22, None, None, None),
        ("by hand", 23, question, NOON_TEXT, None),
    ):
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, step_name, kind,"
            " status, input_data, started_at, due_at)"
            " values (?, ?, ?, 'SIGNAL', 'INTENT', ?, ?, ?)",
            (execution, index, f"$answer:go@1.{index}", record, asked_at, due_at),
        )
    connection.execute(
        "update workflow_executions set trouble_since = created_at where trouble is not null"
        " and workflow_execution_id = 'SUSPENDED, full'"
    )
    for execution, error, failed_at in (("by hand", None, None), ("FAILED, full", "E", NOON_TEXT)):
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, attempt, step_name,"
            " status, error_type, error_message, completed_at)"
            " values (?, 0, 0, 'pay:compensate', 'FAILED', ?, ?, ?)",
            (execution, error, error, failed_at),
        )
    for index, workflow, data, error, due_at in (
        (7, "order:1", '{"attempt": 2}', "it broke", NOON_TEXT),
        (8, "gone", None, None, None),
    ):
        one = f"undoing {index}"
        connection.execute(
            "insert into workflow_executions (workflow_execution_id, workflow_id, status)"
            " values (?, ?, 'COMPENSATING')",
            (one, workflow),
        )
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, attempt, step_name,"
            " status, input_data, error_type, error_message, due_at)"
            " values (?, 0, 0, 'pay:compensate', 'INTENT', ?, 'E', ?, ?)",
            (one, data, error, due_at),
        )
    connection.execute(
        "insert into workflow_tags (workflow_execution_id, name, value)"
        " values ('by hand', 'customer', '7')"
    )
    connection.executemany(
        "insert into workflow_stream_items (workflow_execution_id, step_index, step_name, item)"
        " values ('by hand', ?, 'step', ?)",
        [(0, "1"), (0, "2"), (1, '{"a": 1}')],
    )
    connection.executemany(
        "insert into workflow_progress_reports"
        " (workflow_execution_id, step_index, step_name, attempt, done, total, note)"
        " values ('by hand', ?, ?, ?, 1, ?, ?)",
        [(-1, "", 0, None, None), (0, "step", 1, 2.5, "halfway")],
    )
    connection.execute(
        "insert into workflow_patches (workflow_execution_id, patch_name)"
        " values ('by hand', 'add-tax')"
    )
    for details in (None, "{}"):
        connection.execute(
            "insert into workflow_audit_log (workflow_execution_id, act, actor, details)"
            " values ('by hand', 'retry', 'kim', ?)",
            (details,),
        )
    connection.execute(
        "insert into workflow_audit_log (workflow_execution_id, act, actor, details)"
        " values ('asleep', 'unblock', 'kim', '{\"missing\":\"step ''pay''\"}')"
    )
    for index, wants in enumerate((None, '{"type":"int","json":["number"]}')):
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, step_name, kind,"
            " status, branch, input_data, idempotency_key, compensate_ref, output_data, error_type,"
            " error_message, started_at, completed_at, due_at, event)"
            f" values ('asleep', ?, 'go', 'SIGNAL', 'INTENT', 'waits'{', ?' * 10})",
            (index, wants, *(wants,) * 7, wants and NOON_TEXT, wants and 1),
        )
    connection.execute(
        "insert into step_checkpoints (workflow_execution_id, step_index, step_name, kind, status)"
        " values ('asleep', 1, 'stop', 'SIGNAL', 'INTENT')"
    )
    connection.executemany(
        "insert into workflow_signals (workflow_execution_id, signal_name, status, refused_reason)"
        " values ('asleep', ?, 'REFUSED', ?)",
        (("go", "it is no integer"), ("stop", None)),
    )


def _add_pauses(connection: sqlite3.Connection) -> None:
    """Two workflows that are paused, and an execution that somebody has paused by hand: of its
    children, one is held with it, and one does not know it yet."""
    for scope, name, reason in (
        ("WORKFLOW", "other", "the bank"),
        ("WORKFLOW", "gone", None),
        ("QUEUE", "idle", "the bank"),
    ):
        connection.execute(
            "insert into workflow_pauses (scope, name, paused_by, paused_reason)"
            " values (?, ?, 'kim', ?)",
            (scope, name, reason),
        )
    child = (
        "insert into workflow_executions (workflow_execution_id, workflow_id, status,"
        " parent_execution_id, root_execution_id, on_parent_end)"
        " values (?, 'order:1', 'SUSPENDED', 'asleep', 'asleep', 'cancel')"
    )
    connection.execute(child, ("not held",))
    connection.execute(
        "update workflow_executions set paused_at = ?"
        " where workflow_execution_id in ('asleep', 'undoing 8')",
        (NOON_TEXT,),
    )
    connection.execute(child, ("held",))


def _add_workers(connection: sqlite3.Connection) -> None:
    """One that joined, one that is dead, and more in the hands of the one with claims."""
    for worker, most, seen_dead_at in (("joined", 7, None), ("dead", None, NOON_TEXT)):
        connection.execute(
            "insert into workflow_workers (worker_id, host, process_id, program, max_concurrent,"
            " seen_dead_at) values (?, 'here', 42, 'python', ?, ?)",
            (worker, most, seen_dead_at),
        )
        connection.execute(
            "insert into workflow_worker_workflows select worker_number, 'order', 1"
            " from workflow_workers where worker_id = ?",
            (worker,),
        )
    connection.execute(
        "insert into workflow_executions (workflow_execution_id, workflow_id, status)"
        " values ('between steps', 'order:1', 'RUNNING')"
    )
    connection.execute(
        "insert into workflows (workflow_id, workflow_type) values ('other:1', 'other')"
    )
    connection.execute(
        "insert into workflow_executions (workflow_execution_id, workflow_id, status)"
        " values ('elsewhere', 'other:1', 'SUSPENDED')"
    )
    for execution in ("between steps", "undoing 7", "undoing 8", "asleep"):
        connection.execute(
            "insert into workflow_claims (workflow_execution_id, worker_id, claimed_at)"
            " select ?, worker_id, claimed_at from workflow_claims limit 1",
            (execution,),
        )
    connection.execute(
        "insert into workflow_limits (kind, name, concurrency, per_worker, per_key, rate,"
        " rate_seconds, key_rate, key_rate_seconds, declared) values"
        " ('QUEUE', 'mail', 3, 2, 1, 5, 1.5, 2, 60.0, '{}'),"
        " ('QUEUE', 'unlimited', null, null, null, null, null, null, null, null),"
        " ('QUEUE', 'idle', 1, null, null, null, null, null, null, null),"
        " ('STEP', 'openai', 5, null, 1, 5, 1.5, null, null, '{}'),"
        " ('STEP', 'unlimited', null, null, null, null, null, null, null, null)"
    )
    connection.execute(
        "insert into workflow_worker_queues select worker_number, 'mail' from workflow_workers"
        " where worker_id = 'joined'"
    )
    connection.executemany(
        "insert into workflow_audit_log (scope, name, act, actor, details)"
        " values (?, ?, ?, 'kim', ?)",
        (
            ("QUEUE", "mail", "pause", None),
            ("QUEUE", "mail", "set", "{}"),
            ("ALL", "", "pause", None),
        ),
    )
    for execution, queue, key in (
        ("queued", "mail", "kim"),
        ("queued without a key", "mail", None),
        ("queued elsewhere", "unlimited", None),
        ("queued where nobody knows", "undeclared", None),
    ):
        connection.execute(
            "insert into workflow_executions (workflow_execution_id, workflow_id, guarantee, queue,"
            " queue_key, available_at) values (?, 'order:1', 'BEST_EFFORT_BACKGROUND', ?, ?, ?)",
            (execution, queue, key, NOON_TEXT),
        )
    connection.execute(
        "update workflow_executions set dedup_id = 'one'"
        " where workflow_execution_id in ('queued', 'between steps')"
    )
    connection.execute(
        "insert into workflow_limit_uses (kind, name, limit_key, used_at)"
        " values ('QUEUE', 'mail', 'kim', ?), ('QUEUE', 'mail', null, ?)",
        (NOON_TEXT, NOON_TEXT),
    )
    for index, key in enumerate(("kim", None)):
        connection.execute(
            "insert into workflow_step_slots (name, limit_key, fencing_token,"
            " workflow_execution_id, branch, step_index, taken_at)"
            " select 'openai', ?, fencing_token, workflow_execution_id, '', ?, claimed_at"
            " from workflow_claims limit 1",
            (key, index),
        )
    connection.execute(
        "update workflow_claims set queue = 'mail', queue_key = 'lee'"
        " where workflow_execution_id = 'between steps'"
    )
    connection.execute(
        "update workflow_claims set queue = 'mail' where workflow_execution_id = 'undoing 8'"
    )
    connection.execute(
        "insert into workflow_step_slots (name, fencing_token, workflow_execution_id, branch,"
        " step_index, taken_at) select 'undeclared', fencing_token, workflow_execution_id, '', 0,"
        " claimed_at from workflow_claims where workflow_execution_id = 'undoing 8'"
    )
    for execution in ("asleep", "elsewhere"):
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, step_name, kind,"
            " status) values (?, 9, 'come', 'SIGNAL', 'INTENT')",
            (execution,),
        )
        connection.execute(
            "insert into workflow_signals (workflow_execution_id, signal_name) values (?, 'come')",
            (execution,),
        )
    connection.execute(
        "update workflow_executions set guarantee = 'BEST_EFFORT_BACKGROUND', available_at = null"
        " where workflow_execution_id = 'elsewhere'"
    )
    connection.execute(
        "update step_checkpoints set worker_number = 1, started_at = ?"
        " where workflow_execution_id = 'undoing 7'",
        (NOON_TEXT,),
    )


def _write_otherwise(connection: sqlite3.Connection) -> None:
    """Times that can be read, though the library writes them in another way; and no JSON."""
    connection.execute("pragma ignore_check_constraints = on")
    for table, column, rows in (
        ("workflow_executions", "created_at", "true"),
        ("workflow_timers", "created_at", "true"),
        ("workflow_signals", "created_at", "true"),
        ("step_checkpoints", "started_at", "kind != 'SLEEP'"),
    ):
        connection.execute(
            f"update {table} set {column} = replace({column}, 'T', ' ') where {rows}"
        )
    connection.execute(
        "update step_checkpoints set output_data = null where branch = 'left' and kind = 'STEP'"
    )
    connection.execute("update step_checkpoints set output_data = '?' where branch = ''")


def _add_moves(connection: sqlite3.Connection) -> None:
    """The last thing: a database that was moved takes nothing more."""
    connection.execute(
        "insert into workflow_moves values"
        f" ('IN', 'a', 'a.db', '{NOON_TEXT}', null, 'me@here', '[]'),"
        f" ('OUT', 'b', 'b.db', '{NOON_TEXT}', '{NOON_TEXT}', 'me@here', null)"
    )
