"""What doctor finds in histories and among signals: `check_up`."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    RetryPolicy,
    SqliteCheckpointStore,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.reading.findings import Finding, Level
from durable_workflow_sqlite.stores import open_reader
from tests.databases import new_database
from tests.processes import until

begun: set[str] = set()


def act(name: str, execution_id: str = "") -> str:
    if name == "flaky" and execution_id not in begun:
        begun.add(execution_id)
        raise ConnectionError(name)  # at the first attempt
    if name == "bad":
        raise ValueError(name)
    return name


def undo(_: str) -> None:
    pass


@workflow
async def order(ctx: WorkflowContext, end: str) -> None:
    again = RetryPolicy.fixed(max_attempts=3, delay=timedelta(milliseconds=1))
    await ctx.step("reserve", act, "reserve", compensate=undo)
    await asyncio.gather(
        ctx.step("flaky", act, "flaky", ctx.execution_id, retry=again),
        ctx.branch("side").step("pack", act, "pack"),
    )
    await asyncio.sleep(0.001)
    if end == "bad":
        await ctx.step("bad", act, "bad")
    await ctx.wait_signal("go", type=int)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """With an execution that waits, one that has failed, and one that has ended."""
    begun.clear()
    file = new_database(tmp_path / "orders.db")

    async def live() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            async with asyncio.timeout(30):
                with pytest.raises(WorkflowFailedError):
                    await engine.run(order, "bad", execution_id="failed")
                for one in ("waits", "done"):
                    await engine.start(order, "", execution_id=one)
                    await until(partial(store.load_open_waits, one, "go"))
                await engine.send_signal("done", "go", 7)
                await engine.handle("done").result()

    asyncio.run(live())
    return file


@pytest.fixture
def shell(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        yield connection


def findings(file: Path, check: str, *, quick: bool = False) -> list[Finding]:
    with open_reader(file) as reader:
        found = list(reader.check_up(datetime.now(UTC), quick=quick))
        assert all(finding.hint for finding in found if finding.level is not Level.OK)
        return [finding for finding in found if finding.check == check]


@pytest.mark.parametrize("quick", [False, True])
def test_nothing_is_found_where_nothing_is_wrong(file: Path, quick: bool) -> None:
    for check in ("history", "signals"):
        (finding,) = findings(file, check, quick=quick)
        assert finding.level is Level.OK


BROKEN = {
    "delete from step_checkpoints where step_name = 'flaky' and attempt = 1": "'flaky' (index 1)"
    " and not its attempt 1",
    "update step_checkpoints set event = 2 where event = 3": "has event 2 twice",
    "update workflow_executions set last_event = 99": "ended after event 99, which is not recorded",
    "update step_checkpoints set attempt = 0 where step_name = 'pack'": "'pack' (index 0 of branch"
    " 'side') and not the step that it undoes",
}


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("edit", BROKEN)
def test_a_row_that_is_gone_or_changed_is_an_error_that_names_it(
    file: Path, shell: sqlite3.Connection, edit: str, quick: bool
) -> None:
    where = " and " if " where " in edit else " where "
    shell.execute(f"{edit}{where}workflow_execution_id = 'waits'")
    error = findings(file, "history", quick=quick)[0]
    assert error.level is Level.ERROR
    assert "execution 'waits'" in error.message
    assert BROKEN[edit] in error.message


@pytest.mark.parametrize("step", ["reserve", "flaky", "pack", "$timer"])
def test_an_event_that_is_missing_is_named(
    file: Path, shell: sqlite3.Connection, step: str
) -> None:
    shell.execute(
        "delete from step_checkpoints where workflow_execution_id = 'waits'"
        + (" and branch = '$timers'" if step == "$timer" else f" and step_name = '{step}'")
    )
    numbers = {
        event
        for (event,) in shell.execute(
            "select event from step_checkpoints where workflow_execution_id = 'waits'"
        )
    }
    if step == "$timer":
        assert numbers == {1, 2, 3, None}  # the newest row of all leaves no trace
        assert findings(file, "history")[0].level is Level.OK
        return
    (missing,) = {1, 2, 3, 4} - numbers
    (finding,) = findings(file, "history")
    assert finding.level is Level.WARNING
    assert finding.message == f"execution 'waits' lacks event {missing} of 4"


def test_of_what_is_over_only_what_may_be_run_or_undone_again_is_looked_at(
    file: Path, shell: sqlite3.Connection
) -> None:
    shell.execute("delete from step_checkpoints where step_name = 'reserve' and attempt = 1")
    (error, warning) = findings(file, "history")
    assert error.message == (
        "execution 'failed' has 'reserve:compensate' (index 0) and not the step that it undoes"
    )
    assert warning.message == (
        "execution 'failed' lacks event 1 of 5; execution 'waits' lacks event 1 of 4"
    )
    (warning,) = findings(file, "history", quick=True)
    assert warning.message == "execution 'waits' lacks event 1 of 4"


def test_a_refused_signal_is_named_until_one_that_fits_has_come(
    file: Path, shell: sqlite3.Connection
) -> None:
    insert = (
        "insert into workflow_signals (workflow_execution_id, signal_name, payload, status,"
        " refused_reason) values ('waits', 'go', '\"x\"', ?, ?)"
    )
    shell.execute(insert, ("REFUSED", "an older one"))
    shell.execute(insert, ("REFUSED", "it is no JSON"))
    (finding,) = findings(file, "signals")
    assert finding.level is Level.WARNING
    assert (
        finding.message
        == "refused signals, while their executions still wait: go of waits (it is no JSON)"
    )
    assert "send them again" in (finding.hint or "")
    shell.execute(insert, ("DELIVERED", None))
    (finding,) = findings(file, "signals")
    assert finding.level is Level.OK


def test_signals_that_nothing_will_take_are_named(file: Path, shell: sqlite3.Connection) -> None:
    for one, name in (("done", "go"), ("waits", "$cancle"), ("waits", "other")):
        shell.execute(
            "insert into workflow_signals (workflow_execution_id, signal_name) values (?, ?)",
            (one, name),
        )
    (finding,) = findings(file, "signals", quick=True)
    assert finding.level is Level.WARNING
    assert sorted(finding.message.partition(": ")[2].split("; ")) == [
        "$cancle of waits (no such name is known)",
        "go of done (the execution is COMPLETED)",
    ]


def test_a_status_that_was_set_by_hand_is_named(file: Path, shell: sqlite3.Connection) -> None:
    assert findings(file, "completed") == []
    shell.execute("update workflow_executions set status = 'COMPLETED'")
    shell.execute(
        "update step_checkpoints set status = 'INTENT'"
        " where workflow_execution_id = 'done' and step_name in ('pack', 'flaky') and attempt = 1"
    )
    (finding,) = findings(file, "completed")
    assert finding.level is Level.WARNING
    heading, _, named = finding.message.partition(": ")
    assert heading == "COMPLETED, with steps, sleeps or waits that have not ended"
    # The first attempt of `flaky` has a second one.
    assert sorted(named.split("; ")) == ["done (pack)", "waits (go)"]
    assert findings(file, "completed", quick=True) == []


@pytest.mark.parametrize(
    "edit",
    [
        "delete from sqlite_sequence where name = 'workflow_claims'",
        "update sqlite_sequence set seq = 1 where name = 'workflow_claims'",
    ],
)
def test_fencing_tokens_that_come_again_are_an_error(
    file: Path, shell: sqlite3.Connection, edit: str
) -> None:
    assert findings(file, "tokens") == []
    shell.execute(
        "insert into workflow_claims (workflow_execution_id, worker_id, claimed_at)"
        " values ('waits', 'w', '2026-01-01T00:00:00.000000Z')"
    )
    assert findings(file, "tokens") == []
    shell.execute(edit)
    (finding,) = findings(file, "tokens", quick=True)
    assert finding.level is Level.ERROR
    assert "stop all workers" in (finding.hint or "")
    if edit.startswith("delete"):
        shell.execute("delete from workflow_claims")  # what has begun tells of it, too
        assert findings(file, "tokens")[0].level is Level.ERROR


def test_many_are_counted_and_a_few_are_named(file: Path, shell: sqlite3.Connection) -> None:
    for _ in range(9):
        shell.execute(
            "insert into workflow_signals (workflow_execution_id, signal_name)"
            " values ('done', 'go')"
        )
    (finding,) = findings(file, "signals")
    assert finding.message.count("go of done") == 5
    assert finding.message.endswith("; and 4 more")


def test_of_a_view_that_cannot_be_read_the_schema_is_named_and_the_rest_left(
    file: Path, shell: sqlite3.Connection
) -> None:
    shell.execute("drop view workflow_in_trouble")
    shell.execute("create view workflow_in_trouble as select 1 as one")
    edited, rest = findings(file, "schema")
    assert (edited.level, rest.level) == (Level.WARNING, Level.ERROR)
    assert "workflow_in_trouble" in edited.message
    assert rest.message.startswith("the other checks were not done: ")


HAND_EDITS = {
    "update workflow_executions set status = 'FAILED', error_type = 'x:Y', blocked_reason = null"
    " where workflow_execution_id = 'waits'": (
        "edited",
        Level.WARNING,
        "waits (FAILED or CANCELLED with the open wait or sleep go)",
        "waits (reserve is neither undone nor acknowledged)",
    ),
    "update workflow_executions set status = 'CANCELLED' where workflow_execution_id = 'waits'": (
        "edited",
        Level.WARNING,
        "waits (FAILED or CANCELLED with the open wait or sleep go)",
    ),
    "update workflow_executions set status = 'FAILED' where workflow_execution_id = 'done'": (
        "edited",
        Level.WARNING,
        "done (reserve is neither undone nor acknowledged)",
        "done (FAILED without an error)",
    ),
    "update step_checkpoints set status = 'INTENT' where step_name = 'pack'"
    " and workflow_execution_id = 'waits'": ("edited", Level.ERROR, "pack of waits"),
}


@pytest.mark.parametrize("edit", HAND_EDITS)
def test_a_status_that_was_set_by_hand_is_found(
    file: Path, shell: sqlite3.Connection, edit: str
) -> None:
    assert findings(file, "edited") == []
    shell.execute(edit)
    check, level, *words = HAND_EDITS[edit]
    (found,) = findings(file, check)
    assert found.level is level
    for one in words:
        assert one in found.message


def test_a_compensation_with_an_error_is_not_said_twice(
    file: Path, shell: sqlite3.Connection
) -> None:
    shell.execute("update step_checkpoints set status = 'FAILED' where attempt = 0")
    assert findings(file, "edited") == []
    assert findings(file, "not-undone") != []


def test_a_wait_that_no_signal_wakes_is_found(file: Path, shell: sqlite3.Connection) -> None:
    def put(at: str) -> None:
        shell.execute(
            "insert into workflow_signals (workflow_execution_id, signal_name, created_at)"
            " values ('waits', 'go', ?)",
            (at,),
        )

    shell.execute("update workflow_executions set guarantee = 'BEST_EFFORT_BACKGROUND'")
    put("2020-01-01T00:00:00.000000Z")
    assert findings(file, "asleep") == []  # a worker that comes takes it
    shell.execute("update workflow_executions set available_at = null")
    (found,) = findings(file, "asleep", quick=True)
    assert found.message.endswith(": go of waits")
    shell.execute("update workflow_signals set created_at = '2099-01-01T00:00:00.000000Z'")
    assert findings(file, "asleep") == []


@workflow
async def whole(ctx: WorkflowContext) -> None:
    await ctx.child("part", order, "")


STRANDS = {
    "update workflow_executions set parent_execution_id = 'done'"
    " where parent_execution_id = 'top'": ("top (end of child top/part-0)"),
    "update workflow_executions set status = 'COMPLETED' where parent_execution_id = 'top';"
    " delete from workflow_signals where signal_name = '$child:top/part-0'": (
        "top (end of child top/part-0)"
    ),
    "delete from workflow_executions where parent_execution_id = 'top';"
    " delete from workflow_signals where signal_name = '$child:top/part-0'": (
        "top (end of child top/part-0)"
    ),
    "update step_checkpoints set status = 'COMPLETED', completed_at = started_at"
    " where workflow_execution_id = 'waits' and step_name = 'go'": "waits (go)",
    "update step_checkpoints set event = null"
    " where workflow_execution_id = 'waits' and step_name = 'pack'": "waits (pack)",
    "update workflow_executions set available_at = null where workflow_execution_id = 'late'": (
        "late"
    ),
    "update workflow_executions set available_at = null, status = 'RUNNING'"
    " where workflow_execution_id = 'waits'": "waits",
}


@pytest.mark.parametrize("edit", STRANDS)
def test_an_execution_that_nothing_brings_further_is_an_error(
    file: Path, shell: sqlite3.Connection, edit: str
) -> None:
    async def more() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[order, whole]) as engine:
                await engine.enqueue(whole, execution_id="top")
                await until(partial(store.load_open_waits, "top/part-0", "go"))
                await engine.enqueue(order, "", execution_id="late", delay=timedelta(days=1))

    asyncio.run(more())
    assert findings(file, "stranded") == []
    shell.executescript(edit)
    (found,) = findings(file, "stranded", quick=True)
    assert found.level is Level.ERROR
    assert found.message.partition(": ")[2] == STRANDS[edit]


def test_a_parent_that_is_told_of_the_end_is_not_stranded(
    file: Path, shell: sqlite3.Connection
) -> None:
    async def live() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[order, whole]) as engine:
                await engine.start(whole, execution_id="top")
                await until(partial(store.load_open_waits, "top/part-0", "go"))

    asyncio.run(live())
    shell.execute(
        "update workflow_executions set status = 'COMPLETED' where parent_execution_id = 'top'"
    )
    assert findings(file, "stranded") == []  # its signal is there, and a worker takes it


async def test_a_stranded_parent_can_be_cancelled(file: Path, shell: sqlite3.Connection) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[order, whole]) as engine:
            await engine.enqueue(whole, execution_id="top")
            await until(partial(store.load_open_waits, "top/part-0", "go"))
    shell.executescript(
        "update workflow_executions set status = 'COMPLETED' where parent_execution_id = 'top';"
        " delete from workflow_signals where signal_name = '$child:top/part-0'"
    )
    (found,) = findings(file, "stranded")
    assert "`durable-workflow cancel FILE ID`" in (found.hint or "")
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[order, whole]) as engine:
            await engine.cancel("top")
            async with asyncio.timeout(30):
                with pytest.raises(WorkflowCancelledError):
                    await engine.handle("top").result()
    assert findings(file, "stranded") == []
