"""What a query costs does not grow with the history that the file holds.

The cost is counted in SQLite's own instructions, so it is the same on every machine and under any
load. `make plans` shows by which index each query finds its rows; this shows that it stops there.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping, Set
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from benchmarks import big_file, sleepers

from durable_workflow_sqlite import (
    ExecutionStatus,
    OnParentEnd,
    Pause,
    PauseScope,
    Queue,
    SignalStatus,
    SqliteCheckpointStore,
    Workflow,
    WorkflowGuarantee,
)
from durable_workflow_sqlite.store.sql import load_queries
from durable_workflow_sqlite.testing.contract_base import (
    FINAL,
    WORKFLOW,
    new_execution,
    new_signal,
    queued,
)
from query_plans import add_unfinished
from tests.sql_files import QUERIES

FEW, MANY = 300, 6_000

READ_HISTORY = {
    "count_executions",
    "count_prunable",
    "load_edited",
    "load_open_of_completed",
    "load_stray_signals",
    "load_suspect_executions",
    "load_untaken_signals",
    "pick_with_error",
}
"""What people ask of all of a file; the engine does not."""

READ_UNFINISHED = {
    "count_by_hour",
    "count_pending_timers",
    "count_unfinished",
    "load_executions_by_status",
    "load_gaps",
    "load_numbered_intents",
    "load_pending_timers",
    "load_stranded",
    "load_suspect_checkpoints",
    "load_suspect_signals",
    "load_suspect_timers",
}
"""What people ask of all that is unfinished; the engine does not."""

READ_QUEUED = {"load_due_by_queue", "load_named_queues", "load_queues", "pick_newest"}
"""What people ask of all that is in a named queue, or of a workflow; the engine does not."""

BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
"""When the first execution of `big_file` began; each next one began half a minute later."""

NAMED = {query.name: query for query in QUERIES}

WHATEVER: Mapping[str, Any] = {
    "direction": "IN",
    "move_id": "m",
    "other": "another database",
    "moved_by": "somebody",
    "workflow_execution_id": "unfinished-1",  # it is claimed, with the first token
    "workflow_execution_ids": '["unfinished-4", "unfinished-8"]',
    "workflow_id": "order@1",
    "parent_execution_id": "unfinished-1",
    "workflow_ids": '["order@1"]',
    "workflow_type": "order",
    "types": '["order"]',
    "queues": '["mail"]',
    "version": 1,
    "run_number": 1,
    "forked_from": "unfinished-1",
    "forked_before": None,
    "replay_origin": None,
    "workflow_timer_id": "a timer",
    "workflow_signal_id": 10**9,
    "workflow_stream_item_id": 10**9,
    "written_under": 1,
    "workflow_progress_report_id": 10**9,
    "done": 1.0,
    "total": None,
    "note": None,
    "former_note": "x",
    "reported_at": "2030-01-01T00:00:00.000000Z",
    "item": "1",
    "items": '["1", "2"]',
    "checkpoint_ids": "[1, 2]",
    "cancel_signal": "$cancel",
    "child_signal": "$child:",
    "signal_name": "approved",
    "signal_names": '["approved", "refused"]',
    "payload": "1",
    "act": "retry",
    "actor": "kim",
    "tags": '{"customer": "7"}',
    "acknowledged_at": "2026-02-01T00:00:00.000000Z",
    "statuses": '["PENDING", "RUNNING", "SUSPENDED", "COMPENSATING"]',
    "scope": "WORKFLOW",
    "name": "order",
    "paused_by": "kim",
    "kind": "STEP",
    "branch": "",
    "step_index": 0,
    "attempt": 1,
    "step_name": "step",
    "guarantee": "BEST_EFFORT_BACKGROUND",
    "fencing_token": 1,
    "worker_id": "worker-1",
    "worker_ids": '["worker-1"]',
    "worker_number": 1,
    "worker_numbers": "[1]",
    "workflows": '[["order", 1]]',
    "host": "here",
    "process_id": 1,
    "program": "worker",
    "priority": 0,
    "recovery_count": 0,
    "current_step": 0,
    "queue": "mail",
    "queue_key": "kim",
    "dedup_id": "one",
    "debounced": 0,
    "limit_key": "kim",
    "until": "9999-12-31T00:00:00.000000Z",
    "after": "",
    "passed_over": "[]",
    "batch_size": 10,
    "row_limit": 10,
    "at_most": 10,
    "living": "[]",
    "id_from": "unfinished-",
    "id_before": "unfinished.",
    "before_time": "9999-12-31T00:00:00.000000Z",
    "before_rowid": 10**9,
    "max_recoveries": 3,
    "now": "2026-02-01T00:00:00.000000Z",
    "created_from": "",
    # Since the last day of a file: nothing of `big_file`, and all that is unfinished.
    "since": "2026-01-01T00:00:00.000000Z",
    "failed_since": "2026-01-01T00:00:00.000000Z",
    "hours": '["2026-01-01T00", "2026-01-01T01"]',
    "due_at": "2026-02-01T00:00:00.000000Z",
    # Ten of those that `big_file` begins with, and no more, whatever comes after them.
    "before": "2025-01-01T00:05:00.000000Z",
}


CHANGED: Mapping[str, Mapping[str, Any]] = {
    "insert_claim": {"workflow_execution_id": "unfinished-6"},
    "insert_worker": {"worker_id": "a new one"},
    "upsert_schedule": {
        "schedule_name": "nightly",
        "input_data": "[]",
        "cron": "0 3 * * *",
        "tz": "UTC",
        "overlap": "skip",
        "missed": "last",
        "jitter_seconds": 0,
        "queue": None,
        "queue_key": None,
        "tags": "{}",
    },
    "delete_workers": {"worker_numbers": "[-1]"},
    "load_limit": {"kind": "QUEUE"},
    "delete_old_limit_uses": {"kind": "QUEUE", "after": "9999-12-31T00:00:00.000000Z"},
    "upsert_limit": {"kind": "QUEUE"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[sqlite3.Connection]]:
    """Two files with the same work left to do, and with little history and much."""
    connections: list[sqlite3.Connection] = []
    for executions in (FEW, MANY):
        file = tmp_path_factory.mktemp("history") / "workflows.db"
        big_file.build(file, executions, checkpoints_each=5)
        connection = sqlite3.connect(file, isolation_level=None)
        connection.execute("pragma foreign_keys = on")
        add_unfinished(connection)
        connections.append(connection)
    yield connections
    for connection in connections:
        connection.close()


def that_cost_more(names: Set[str], files: list[sqlite3.Connection]) -> dict[str, list[int]]:
    """The costs of those queries that cost more in the second file, or nothing."""
    found: dict[str, list[int]] = {}
    for name in sorted(names):
        costs = [cost(connection, name, CHANGED.get(name, {})) for connection in files]
        if not 0 < costs[1] <= 1.02 * costs[0] + 10:
            found[name] = costs
    return found


def test_a_query_costs_the_same_however_much_history_there_is(
    files: list[sqlite3.Connection],
) -> None:
    assert that_cost_more(NAMED.keys() - READ_HISTORY, files) == {}


@pytest.fixture(scope="module")
def files_of_sleepers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[sqlite3.Connection]]:
    """Two files with the same work left to do, where few executions are asleep and where many."""
    connections: list[sqlite3.Connection] = []
    for asleep in (FEW, MANY):
        file = tmp_path_factory.mktemp("asleep") / "workflows.db"
        big_file.build(file, FEW, checkpoints_each=5)
        asyncio.run(sleepers.fall_asleep(file))
        connection = sqlite3.connect(file, isolation_level=None)
        sleepers.add(connection, "asleep", asleep, BEGIN + timedelta(days=9999), timedelta(hours=1))
        connection.execute("pragma foreign_keys = on")
        add_unfinished(connection)
        connections.append(connection)
    yield connections
    for connection in connections:
        connection.close()


@pytest.mark.campaign
def test_a_query_costs_the_same_however_many_executions_are_asleep(
    files_of_sleepers: list[sqlite3.Connection],
) -> None:
    names = NAMED.keys() - READ_HISTORY - READ_UNFINISHED
    assert that_cost_more(names, files_of_sleepers) == {}


@pytest.mark.parametrize("status", FINAL)
def test_retention_costs_what_it_deletes(
    status: ExecutionStatus, files: list[sqlite3.Connection]
) -> None:
    changed = {"status": status.value, "workflow_id": "order@1"}
    little, much = (cost(connection, "load_ids_to_prune", changed) for connection in files)
    assert 0 < much <= 1.02 * little + 10


def test_the_measure_sees_a_cost_that_grows(files: list[sqlite3.Connection]) -> None:
    changed = {"statuses": '["COMPLETED"]'}
    little, much = (cost(connection, "load_executions_by_status", changed) for connection in files)
    assert much > 10 * little


def test_a_wait_costs_the_same_however_many_signals_came_before(file: Path) -> None:
    async def send(count: int) -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(WORKFLOW, new_execution("e"))
            for _ in range(count):
                await store.save(new_signal("e", "go", status=SignalStatus.DELIVERED))
            await store.save(new_signal("e", "go"))

    costs: list[dict[str, int]] = []
    wanted = {"workflow_execution_id": "e", "signal_name": "go"}
    for count in (10, 1000):
        asyncio.run(send(count))
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            costs.append(
                {
                    name: cost(connection, name, wanted)
                    for name in ("load_pending_signals", "put_into_queue")
                }
            )
    # Another one is pending now.
    for name, before in costs[0].items():
        assert costs[1][name] < before + 50


@pytest.mark.campaign
def test_the_next_signals_cost_the_same_however_many_are_pending(file: Path) -> None:
    wanted = {"workflow_execution_id": "e", "signal_names": '["go", "stop", "never"]'}
    asyncio.run(_begin(file))
    costs: list[int] = []
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for count in (1, 100_000):
            connection.execute("begin")
            for name in ("other", "go", "stop"):
                connection.execute(
                    "with recursive numbers (n) as (select 1 union all select n + 1 from numbers"
                    " where n < :count) insert into workflow_signals (workflow_execution_id,"
                    " signal_name) select 'e', :name from numbers",
                    {"name": name, "count": count},
                )
            connection.execute("commit")
            costs.append(cost(connection, "load_next_signals", wanted))
    few, many = costs
    assert 0 < many <= few + 10


def test_a_signal_with_a_key_costs_the_same_however_many_keys_there_are(file: Path) -> None:
    sent = {
        "workflow_execution_id": "e",
        "signal_name": "go",
        "payload": None,
        "created_at": "2030-01-01T12:00:00.000000Z",
        "signal_key": "new",
    }
    asyncio.run(_begin(file))
    costs: list[int] = []
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for count in (1, 50_000):
            connection.execute(
                "with recursive numbers (n) as (select 1 union all select n + 1 from numbers"
                " where n < :count) insert into workflow_signals (workflow_execution_id,"
                " signal_name, signal_key) select 'e', 'go', :count || ' ' || n from numbers",
                {"count": count},
            )
            found = {"workflow_execution_id": "e", "signal_key": "new"}
            costs.append(
                cost(connection, "send_signal", {**sent, "signal_key": f"new {count}"})
                + cost(connection, "load_keyed_signal", found)
            )
    few, many = costs
    assert 0 < many <= few + 10


STEPS = """
with recursive numbers (n) as (select :first union all select n + 1 from numbers where n < :last)
insert into step_checkpoints (
    workflow_execution_id, branch, step_index, attempt, step_name, kind, status
)
select 'e', 'map/' || n, 0, 1, 'one of many', 'STEP', 'COMPLETED'
from numbers
"""


@pytest.mark.parametrize("kind", ["SIGNAL", "SLEEP"])
@pytest.mark.parametrize("status", ["SUSPENDED", "RUNNING"])
def test_a_release_costs_the_same_however_many_steps_there_are(
    file: Path, kind: str, status: str
) -> None:
    of_it = {"workflow_execution_ids": '["e"]', "now": "2026-01-01T00:00:00.000000Z"}
    asyncio.run(_begin(file))
    costs: list[int] = []
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("update workflow_executions set status = ?", (status,))
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, branch, step_index, attempt,"
            " step_name, kind, status) values ('e', 'zzz', 0, 1, 'waits', ?, 'INTENT')",
            (kind,),
        )
        for first, last in ((1, 10), (11, 20_000)):
            connection.execute(STEPS, {"first": first, "last": last})
            names = ("put_into_queue", "count_recoveries", "delete_claims")
            costs.append(sum(cost(connection, name, of_it) for name in names))
    few, many = costs
    assert 0 < many <= few + 10


async def _begin(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        await store.save(WORKFLOW, new_execution("e"))


QUEUED = """
with recursive numbers (n) as (select :first union all select n + 1 from numbers where n < :last)
insert into workflow_executions (
    workflow_execution_id, workflow_id, guarantee, queue, queue_key, priority, available_at
)
select
    n, 'order:1', 'BEST_EFFORT_BACKGROUND', iif(n % 2, 'mail', 'stuck'), 'kim', n % 3,
    '2026-01-01T00:00:00.000000Z'
from numbers
"""


@pytest.mark.campaign
def test_a_claim_costs_the_same_however_many_executions_are_queued(file: Path) -> None:
    wanted = {"workflow_id": "order:1"}
    asyncio.run(_begin(file))
    costs: list[dict[str, int]] = []
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for first, last in ((1, 100), (101, 100_000)):
            connection.execute(QUEUED, {"first": first, "last": last})
            costs.append(
                {
                    name: cost(connection, name, wanted)
                    for name in (
                        "load_waiting_queues",
                        "load_heads_of_queue",
                        "load_available_in_queue",
                        "load_available_of_key",
                        "load_next_key",
                        "load_queue_heads",
                    )
                }
            )
    for name, before in costs[0].items():
        assert 0 < costs[1][name] < before + 50, name


@pytest.mark.campaign
def test_a_query_costs_the_same_however_many_executions_are_queued(file: Path) -> None:
    names = NAMED.keys() - READ_HISTORY - READ_UNFINISHED - READ_QUEUED
    asyncio.run(_begin(file))
    costs: list[dict[str, int]] = []
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("insert into workflow_limits (kind, name) values ('QUEUE', 'mail')")
        for first, last in ((1, 1_000), (1_001, 20_000)):
            connection.execute(QUEUED, {"first": first, "last": last})
            asked = {"workflow_id": "order:1", "workflow_execution_id": "e"}
            costs.append(
                {name: cost(connection, name, asked | {**CHANGED.get(name, {})}) for name in names}
            )
    few, many = costs
    assert {name: few[name] for name in names if many[name] > 1.02 * few[name] + 50} == {}


CHILDREN = """
with recursive numbers (n) as (select :first union all select n + 1 from numbers where n < :last)
insert into workflow_executions (
    workflow_execution_id, workflow_id, guarantee, status, parent_execution_id, root_execution_id,
    on_parent_end
)
select
    'c' || n, 'order:1', 'BEST_EFFORT_BACKGROUND',
    iif(n % 3 = 0, 'COMPLETED', iif(n % 3 = 1, 'FAILED', 'SUSPENDED')), 'e', 'e', 'cancel'
from numbers
"""


@pytest.mark.campaign
def test_a_look_at_a_tree_costs_the_same_however_many_children_there_are(file: Path) -> None:
    names = ("count_children", "load_children", "load_summaries", "load_work_under_way")
    asyncio.run(_begin(file))
    costs: list[dict[str, int]] = []
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("update workflow_executions set status = 'COMPENSATING'")
        connection.execute(
            "insert into workflow_claims (workflow_execution_id, worker_id, claimed_at)"
            " values ('e', 'w', '2026-01-01T00:00:00.000000Z')"
        )
        for first, last in ((1, 1_000), (1_001, 20_000)):
            connection.execute(CHILDREN, {"first": first, "last": last})
            asked = {"parent_execution_id": "e", "workflow_execution_ids": '["e", "c2", "c3"]'}
            costs.append({name: cost(connection, name, asked) for name in names})
    few, many = costs
    for name in names:
        assert 0 < many[name] <= few[name] + 50, name


@pytest.mark.campaign
@pytest.mark.parametrize("analyzed", [False, True])
def test_an_engine_that_starts_costs_the_same_however_much_is_queued_or_waits(
    file: Path, analyzed: bool
) -> None:
    async def fill(first: int, end: int) -> None:
        async with SqliteCheckpointStore.file(file) as store:
            for number in range(first, end):
                queued, waiting = (
                    new_execution(
                        f"{status}-{number}",
                        status=status,
                        guarantee=WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
                        available_at=BEGIN,
                    )
                    for status in (ExecutionStatus.PENDING, ExecutionStatus.SUSPENDED)
                )
                await store.save(WORKFLOW, queued, waiting)

    costs: list[dict[str, int]] = []
    for first, end in ((0, 10), (10, 500)):
        asyncio.run(fill(first, end))
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            if analyzed:
                connection.execute("analyze")
            costs.append(
                {
                    name: cost(connection, name, {"workflow_ids": '["retired@1"]'})
                    for name in ("load_unqueued", "load_blocked", "load_unregistered")
                }
            )
    for name, before in costs[0].items():
        assert costs[1][name] < before + 50


async def test_claims_cost_the_same_however_many_are_paused(file: Path) -> None:
    queries = ("load_queue_heads", "load_available", "insert_claim", "load_unqueued")
    costs: list[dict[str, int]] = []
    for first, end in ((0, 10), (10, 500)):
        async with SqliteCheckpointStore.file(file) as store:
            for number in range(first, end):
                status = (ExecutionStatus.PENDING, ExecutionStatus.SUSPENDED)[number % 2]
                await store.save(
                    WORKFLOW, queued(f"paused-{number}", BEGIN, status=status, priority=number)
                )
                await store.pause_execution(f"paused-{number}", by="kim")
            await store.save(queued("free", BEGIN))
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            changed = {"workflow_id": "order:1", "workflow_execution_id": "free"}
            costs.append({name: cost(connection, name, changed) for name in queries})
    for name, before in costs[0].items():
        assert costs[1][name] < before + 50


@pytest.mark.campaign
async def test_a_pause_reaches_the_next_children_at_the_same_cost_however_many_it_has_reached(
    file: Path,
) -> None:
    costs: list[dict[str, int]] = []
    for first, end in ((0, 300), (300, 6_000)):
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(WORKFLOW, queued("p", BEGIN))
            await store.pause_execution("p", by="kim")
            child = {"parent_execution_id": "p", "on_parent_end": OnParentEnd.CANCEL}
            await store.save(*(queued(f"c{one}", BEGIN, **child) for one in range(first, end)))
            await store.save(queued("free", BEGIN, workflow_id="order:1"))
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute(
                "update workflow_executions set paused_with = null"
                " where workflow_execution_id in ('c1', 'c200', 'c299')"
            )
            changed = {"parent_execution_id": "p", "holder": "p", "workflow_execution_id": "p"}
            queries = ("load_to_hold", "load_holder", "load_spreading")
            found = {name: cost(connection, name, changed) for name in queries}
            changed = {"workflow_id": "order:1", "workflow_execution_id": "free"}
            queries = ("load_queue_heads", "load_available", "insert_claim", "load_unqueued")
            found |= {name: cost(connection, name, changed) for name in queries}
            costs.append(found)
    for name, before in costs[0].items():
        assert costs[1][name] < before + 50


async def test_claims_cost_the_same_however_many_wait_for_a_paused_workflow(file: Path) -> None:
    other = Workflow(workflow_id="other:1", workflow_type="other")
    costs: list[dict[str, int]] = []
    for first, end in ((0, 10), (10, 500)):
        async with SqliteCheckpointStore.file(file) as store:
            await store.begin_pause(
                Pause(scope=PauseScope.WORKFLOW, name="order", paused_at=BEGIN, paused_by="kim")
            )
            for number in range(first, end):
                await store.save(WORKFLOW, queued(f"held-{number}", BEGIN, priority=number))
            await store.save(other, queued("free", BEGIN, workflow_id="other:1"))
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            changed = {"workflow_id": "other:1", "workflow_execution_id": "free"}
            costs.append(
                {
                    name: cost(connection, name, changed)
                    for name in ("load_queue_heads", "load_available", "insert_claim")
                }
            )
    for name, before in costs[0].items():
        assert costs[1][name] < before + 50


async def test_claims_cost_the_same_however_many_wait_in_a_paused_queue(file: Path) -> None:
    costs: list[dict[str, int]] = []
    for first, end in ((0, 10), (10, 500)):
        async with SqliteCheckpointStore.file(file) as store:
            await store.declare_limits([Queue("mail", concurrency=9), Queue("other")])
            await store.begin_pause(
                Pause(scope=PauseScope.QUEUE, name="mail", paused_at=BEGIN, paused_by="kim")
            )
            for number in range(first, end):
                held = queued(f"held-{number}", BEGIN, priority=number, queue="mail")
                await store.save(WORKFLOW, held)
            await store.save(queued("free", BEGIN, queue="other"))
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            changed = {"queue": "other", "workflow_execution_id": "free"}
            names = ("load_waiting_queues", "load_heads_of_queue", "insert_claim")
            costs.append({name: cost(connection, name, changed) for name in names})
    for name, before in costs[0].items():
        assert costs[1][name] < before + 50


@pytest.mark.campaign
async def test_retention_passes_over_what_it_keeps_once(file: Path) -> None:
    """Every other execution was changed late, and stays."""

    async def delete(executions: int) -> int:
        path = file.with_name(f"{executions}.db")
        big_file.build(path, executions, checkpoints_each=1)
        instructions = 0

        def count() -> int:
            nonlocal instructions
            instructions += 100
            return 0

        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute(
            "update workflow_executions set updated_at = '2030-01-01T00:00:00.000000Z'"
            " where rowid % 2"
        )
        async with SqliteCheckpointStore(connection) as store:
            connection.set_progress_handler(count, 100)
            before = BEGIN + timedelta(seconds=30 * executions)
            deleted = await store.delete_completed_before(before, FINAL, batch_size=50)
            connection.set_progress_handler(None, 0)
        connection.close()
        assert deleted == executions // 2
        return instructions

    some, many = await delete(1_000), await delete(4_000)
    assert many < 5 * some


def cost(connection: sqlite3.Connection, name: str, changed: Mapping[str, Any] = {}) -> int:
    """How many instructions SQLite runs for a query, all of its rows read; changes nothing."""
    query = NAMED[name]
    status = "INTENT" if query.path.stem == "step_checkpoints" else "PENDING"
    values = {"status": status, **WHATEVER, **changed}
    parameters = {
        parameter: values.get(
            parameter, "2026-02-01T00:00:00.000000Z" if "_at" in parameter else None
        )
        for parameter in query.parameters
    }
    instructions = 0

    def count() -> int:
        nonlocal instructions
        instructions += 1
        return 0

    connection.execute("begin immediate")
    connection.set_progress_handler(count, 1)
    try:
        connection.execute(query.statement, parameters).fetchall()
    finally:
        connection.set_progress_handler(None, 0)
        connection.execute("rollback")
    return instructions


@pytest.mark.campaign
@pytest.mark.parametrize("children", [FEW, MANY])
def test_a_tree_costs_the_same_however_many_children_there_are(
    children: int, tmp_path: Path
) -> None:
    file = tmp_path / "workflows.db"
    asyncio.run(_begin(file))
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(
            "with recursive number (n) as (select 1 union all select n + 1 from number"
            " where n < ?) insert into workflow_executions (workflow_execution_id, workflow_id,"
            " status, parent_execution_id, root_execution_id, on_parent_end) select 'child ' || n,"
            " 'w', iif(n % 3, 'COMPLETED', 'FAILED'), 'parent', 'parent', 'cancel' from number",
            (children,),
        )
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        connection.set_progress_handler(count, 1)
        for name, limit in (
            ("load_children", {"row_limit": 20}),
            ("count_children", {"at_most": 100}),
        ):
            query = getattr(load_queries(), name).sql
            connection.execute(query, {"parent_execution_id": "parent", **limit}).fetchall()
        assert 0 < steps < 5_000
