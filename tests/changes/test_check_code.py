"""`check_code`, the command `check-code`, exported histories: what they say and what they leave."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    SerializationError,
    SqliteCheckpointStore,
    StoreError,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.code_check import CodeCheck, check_code, histories_of
from durable_workflow_sqlite.testing import Sandbox
from tests.cli.conftest import lines, on_terminal, refusal, run
from tests.databases import new_database

Body = Callable[..., Awaitable[Any]]

acted: list[str] = []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    acted.clear()
    return new_database(tmp_path / "workflows.db")


async def act(name: str) -> str:
    acted.append(name)
    return name


async def fail() -> None:
    raise ConnectionError("no")


async def undo(_: object) -> None:
    pass


async def order(ctx: WorkflowContext, number: int) -> str:
    await ctx.step("charge", act, "charge")
    await ctx.wait_signal("go")
    return await ctx.step("ship", act, "ship")


async def renamed(ctx: WorkflowContext, number: int) -> str:
    await ctx.step("pay", act, "pay")
    await ctx.wait_signal("go")
    return await ctx.step("ship", act, "ship")


def of(body: Body, name: str = "order", version: int = 1) -> Any:
    return workflow(name=name, version=version)(body)  # type: ignore[arg-type]


def begin(file: Path, body: Body = order, count: int = 3, name: str = "order") -> None:
    """Executions that wait for a signal."""

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            for number in range(count):
                one = f"{name} {number}"
                await engine.start(of(body, name), number, execution_id=one)
            while not await store.load_open_waits(f"{name} {count - 1}", "go"):
                await asyncio.sleep(0.002)

    asyncio.run(main())


def finish(file: Path, body: Body = order, count: int = 3, name: str = "order") -> None:
    async def main() -> None:
        definition = of(body, name)
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, [definition]) as engine,
        ):
            for number in range(count):
                await engine.send_signal(f"{name} {number}", "go")
                await engine.result_of(f"{name} {number}")

    asyncio.run(main())


def digest(file: Path) -> str:
    """Of all that the file holds."""
    with closing(sqlite3.connect(file)) as connection:
        return hashlib.sha256("\n".join(connection.iterdump()).encode()).hexdigest()


def only(check: CodeCheck) -> tuple[str, str | None, str | None, int]:
    (one,) = check.problems
    return one.verdict.value, one.recorded, one.asked, one.count


def test_code_that_fits_goes_on_and_nothing_runs_and_nothing_is_written(file: Path) -> None:
    begin(file)
    before, acted[:] = digest(file), []
    check = check_code(file, [of(order)])
    assert (check.checked, check.is_ok, check.problems) == (3, True, ())
    assert [(one.workflow_type, one.version, one.goes_on) for one in check.workflows] == [
        ("order", 1, 3)
    ]
    check.assert_ok()
    assert (acted, digest(file)) == ([], before)


def test_code_that_differs_says_where_what_is_recorded_and_what_it_asks_for(file: Path) -> None:
    begin(file, count=7)
    check = check_code(file, [of(renamed)])
    assert only(check) == ("stops", "charge", "pay", 7)
    (problem,) = check.problems
    assert len(problem.execution_ids) == 5
    assert problem.message.startswith("execution 'order 0' has step 'charge' recorded at index 0")
    assert problem.message.endswith("its workflow now asks for step 'pay'.")
    with pytest.raises(AssertionError, match=r"7 of order v1 \(stops\), as 'order 0': execution"):
        check.assert_ok()


def test_what_cannot_be_read_any_more_is_told_from_what_stops(file: Path) -> None:
    begin(file)

    async def other_input(ctx: WorkflowContext, number: list[str]) -> None:
        await ctx.wait_signal("go")

    async def number() -> int:
        return 1

    async def other_result(ctx: WorkflowContext, _: int) -> None:
        await ctx.step("charge", number)
        await ctx.wait_signal("go")

    for body in (other_input, other_result):
        check = check_code(file, [of(body)])
        assert only(check) == ("cannot be read", None, None, 3)


async def dice(ctx: WorkflowContext, number: int) -> str:
    """Its steps depend on chance."""
    names = [f"throw {int(ctx.random() * 1000)}" for _ in range(2)]
    await ctx.step(names[0], act, names[0])
    await ctx.wait_signal("go")
    return await ctx.step(names[1], act, names[1])


def test_a_fork_is_replayed_as_what_it_was_forked_from(file: Path) -> None:
    begin(file, dice, count=1)

    async def fork() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await Client(store).fork("order 0", new_id="fork")
            await Client(store).fork("fork", new_id="fork of it")

    asyncio.run(fork())
    check = check_code(file, [of(dice)])
    assert (check.checked, check.problems) == (3, ())
    check = check_code(file, [of(order)])
    assert only(check)[0] == "stops"
    assert check.problems[0].count == 3
    exported = json.loads(run("export", file, "fork").stdout)
    assert exported["execution"]["forked_from"] == "order 0"


def test_a_workflow_that_is_not_here_and_a_version_that_is_not_here_are_named(file: Path) -> None:
    begin(file)
    assert only(check_code(file, [])) == ("no workflow", None, None, 3)
    check = check_code(file, [of(order, version=2), of(order, version=3)])
    assert only(check) == ("no workflow", None, None, 3)
    assert check.problems[0].message == (
        "no workflow 'order' here has version 1; here is version 2, 3"
    )
    assert check_code(file, [of(order), of(renamed, version=2)]).is_ok


def test_only_some_types_are_checked_where_they_are_named(file: Path) -> None:
    begin(file)
    begin(file, name="mail")
    assert check_code(file, [of(order)], types=["order"]).is_ok
    check = check_code(file, [of(order)])
    assert (check.checked, only(check)) == (6, ("no workflow", None, None, 3))
    assert check_code(file, [], types=["nothing"]).checked == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("raise LookupError('x')", "WorkflowCodeError"),
        ("ctx.step('mail', act, 'mail')", "StepNotAwaitedError"),
        ("await asyncio.to_thread(print)", "NonDeterministicCallError"),
        ("await asyncio.Event().wait()", "WorkflowStuckError"),
        ("return object()", "WorkflowCodeError"),
        ("ctx.continue_as_new(1)", "WorkflowCodeError"),
        ("await ctx.step(3, act)", None),
    ],
)
def test_a_mistake_right_behind_the_records_is_found(file: Path, line: str, says: str) -> None:
    async def first(ctx: WorkflowContext, number: int) -> None:
        await ctx.step("charge", act, "charge")
        await ctx.step("hang", asyncio.sleep, 3600)

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(of(first), 1, execution_id="one")
            while len(await store.load_checkpoints("one")) < 2:
                await asyncio.sleep(0.002)

    asyncio.run(main())
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(  # as if the worker had died before it
            "drop trigger trg_step_cp_deleted; delete from step_checkpoints where step_index = 1"
        )
    namespace = dict(globals())
    exec(
        "async def body(ctx, number: int):\n"
        "    await ctx.step('charge', act, 'charge')\n"
        f"    {line}\n",
        namespace,
    )
    check = check_code(file, [of(namespace["body"])])
    assert only(check)[0] == "stops"
    kind = check.problems[0].error_type
    assert kind is not None
    if says is not None:
        assert kind.endswith(says)


def test_an_error_with_which_it_would_just_fail_is_no_problem(file: Path) -> None:
    begin(file)

    async def fails(ctx: WorkflowContext, number: int) -> None:
        await ctx.step("charge", act, "charge")
        await ctx.wait_signal("go")
        raise RuntimeError("no")

    assert check_code(file, [of(fails)]).is_ok


async def undone(ctx: WorkflowContext, number: int) -> None:
    await ctx.step("charge", act, "charge", compensate=undo)
    await ctx.wait_signal("go")


async def not_undone(ctx: WorkflowContext, number: int) -> None:
    await ctx.step("charge", act, "charge")
    await ctx.wait_signal("go")


@pytest.mark.parametrize(("old", "new"), [(undone, not_undone), (not_undone, undone)])
def test_what_would_stop_if_it_had_to_be_undone_is_a_warning(
    file: Path, old: Body, new: Body
) -> None:
    begin(file, old)
    check = check_code(file, [of(new)])
    assert check.is_ok
    (one,) = check.workflows
    assert (one.goes_on, one.cannot_be_undone) == (3, 3)
    (warning,) = check.warnings
    assert (warning.verdict, warning.count) == ("goes on", 3)
    assert "compensation" in warning.message
    assert check_code(file, [of(old)]).warnings == ()


def test_what_is_being_undone_and_cannot_be_stops(file: Path) -> None:
    async def fails(ctx: WorkflowContext) -> None:
        await ctx.step("charge", act, "charge", compensate=hangs)
        await ctx.step("fail", fail)

    async def without(ctx: WorkflowContext) -> None:
        await ctx.step("charge", act, "charge")
        await ctx.step("fail", fail)

    async def hangs(_: object) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.start(of(fails))
            while await handle.status() != "COMPENSATING":
                await asyncio.sleep(0.002)

    asyncio.run(main())
    assert check_code(file, [of(fails)]).is_ok
    check = check_code(file, [of(without)])
    assert only(check) == ("stops", "charge", None, 1)
    assert "must undo 'charge' (index 0)" in check.problems[0].message


def test_the_last_finished_ones_are_replayed_where_that_is_asked(file: Path) -> None:
    begin(file)
    finish(file)
    assert check_code(file, [of(renamed)]).checked == 0
    check = check_code(file, [of(renamed)], finished=2)
    assert (check.checked, only(check)) == (2, ("stops", "charge", "pay", 2))
    assert check_code(file, [of(order)], finished=9).is_ok

    async def goes_further(ctx: WorkflowContext, number: int) -> str:
        await order(ctx, number)
        return await ctx.step("thank", act, "thank")

    assert check_code(file, [of(goes_further)], finished=9).is_ok
    with pytest.raises(ValueError, match="finished"):
        check_code(file, [of(order)], finished=-1)


def test_one_that_has_failed_is_replayed_up_to_its_failure(file: Path) -> None:
    async def fails(ctx: WorkflowContext) -> None:
        await ctx.step("book", act, "book", compensate=undo)
        await ctx.step("pay", fail)

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            with pytest.raises(WorkflowFailedError):
                await engine.run(of(fails))

    asyncio.run(main())
    assert check_code(file, [of(fails)], finished=1).is_ok

    async def other(ctx: WorkflowContext) -> None:
        await ctx.step("pay", fail)

    assert only(check_code(file, [of(other)], finished=1)) == ("stops", "book", "pay", 1)


def test_rows_that_no_code_can_read_are_told_apart(file: Path) -> None:
    begin(file)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("pragma ignore_check_constraints = on")
        connection.execute(
            "update workflow_executions set created_at = 'soon' where workflow_execution_id ="
            " 'order 0'"
        )
        connection.execute(
            "update step_checkpoints set event = 1 where workflow_execution_id = 'order 1'"
        )
    check = check_code(file, [of(order)])
    (one,) = check.workflows
    assert (one.goes_on, one.damaged) == (1, 2)
    assert {problem.verdict for problem in check.problems} == {"damaged"}


def test_a_patch_is_known_to_it(file: Path) -> None:
    begin(file)

    async def patched(ctx: WorkflowContext, number: int) -> None:
        if ctx.patched("check"):
            await ctx.step("check", act, "check")
        await order(ctx, number)

    async def deprecated(ctx: WorkflowContext, number: int) -> None:
        ctx.deprecate_patch("check")
        await ctx.step("check", act, "check")
        await order(ctx, number)

    assert check_code(file, [of(patched)]).is_ok
    check = check_code(file, [of(deprecated)])
    assert only(check) == ("stops", None, "check", 3)
    assert "came to the place of patch 'check' before" in check.problems[0].message
    begin(new_database(file.with_name("new.db")), patched)
    assert check_code(file.with_name("new.db"), [of(deprecated)]).is_ok
    assert only(check_code(file.with_name("new.db"), [of(order)])) == (
        "stops",
        "check",
        "charge",
        3,
    )


def test_it_reads_a_live_file_beside_a_worker(file: Path) -> None:
    """Executions go on and end while they are checked, again and again."""

    async def steps(ctx: WorkflowContext, number: int) -> None:
        for step in range(10):
            await ctx.step(f"step {step}", act, "x")

    async def main() -> None:
        definition = of(steps)
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            running = [asyncio.create_task(engine.run(definition, number)) for number in range(200)]
            while not all(task.done() for task in running):
                check = await asyncio.to_thread(check_code, file, [definition], finished=20)
                check.assert_ok()
            await asyncio.gather(*running)

    asyncio.run(main())


def test_it_says_how_far_it_is(file: Path) -> None:
    begin(file, count=50)
    told: list[tuple[int, int]] = []
    check_code(file, [of(order)], on_progress=lambda *now: told.append(now))
    assert told == [(20, 50), (40, 50)]


def test_there_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no file"):
        check_code(tmp_path / "none.db", [])


# The command


CODE = """
from durable_workflow_sqlite import WorkflowContext, workflow

async def act(name: str) -> str:
    raise AssertionError("no action runs")

@workflow
async def order(ctx: WorkflowContext, number: int) -> str:
    await ctx.step("{step}", act, "x")
    await ctx.wait_signal("go")
    return await ctx.step("ship", act, "ship")
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def write(step: str) -> str:
        (folder / f"code_of_{step}.py").write_text(CODE.format(step=step))
        return f"code_of_{step}"

    return write


def test_the_command_exits_with_0_where_all_go_on(file: Path, app: Callable[[str], str]) -> None:
    begin(file)
    fits = app("charge")
    assert lines("check-code", file, "--app", fits) == [
        ["workflow", "order", "1", "3", "0", "0", "0", "0", "0"]
    ]
    code, text = on_terminal("check-code", file, "--app", fits)
    assert code == 0
    assert "3 executions replayed" in text
    assert "all of them go on with this code" in text


def test_the_command_exits_with_1_and_says_where(file: Path, app: Callable[[str], str]) -> None:
    begin(file)
    other = app("pay")
    done = run("check-code", file, "--app", other, "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["ok"], found["checked"]) == (False, 3)
    (problem,) = found["problems"]
    assert (problem["recorded"], problem["asked"]) == ("charge", "pay")
    code, text = on_terminal("check-code", file, "--app", other)
    assert code == 1
    assert "3 of order v1 (stops): order 0, order 1, order 2" in text
    assert "now asks for step 'pay'" in text
    done = run("check-code", file, "--app", other)
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].split("\t")[:7] == [
        "problem",
        "stops",
        "order",
        "1",
        "3",
        "charge",
        "pay",
    ]
    assert "there is no module 'nowhere'" in refusal("check-code", file, "--app", "nowhere")


def test_an_exported_history_is_replayed_by_a_sandbox(file: Path, tmp_path: Path) -> None:
    begin(file)
    exported = run("export", file, "order 0", "order 2").stdout
    ids = [one.execution.workflow_execution_id for one in histories_of(exported)]
    assert ids == ["order 0", "order 2"]
    path = tmp_path / "history.json"
    path.write_text(exported)
    with Sandbox([of(order)]) as durable:
        durable.replay(path)
        durable.replay(exported)
        durable.replay(histories_of(exported)[0])
    with Sandbox() as durable:
        with pytest.raises(AssertionError, match=r"'order 0' would not go on .*\n.*'pay'"):
            durable.replay(path, of(renamed))
        with pytest.raises(AssertionError, match="no workflow here has the name 'order'"):
            durable.replay(path)
        for wrong in ("{}", "[1]", exported.replace('"format":1', '"format":2')):
            with pytest.raises(SerializationError, match="histor"):
                durable.replay(wrong, of(order))
    assert "'nobody'" in refusal("export", file, "nobody")
    assert acted == ["charge"] * 3


@pytest.mark.campaign
def test_ten_thousand_executions_of_twenty_steps_take_less_than_ten_seconds_of_work(
    file: Path, record_property: pytest.RecordProperty
) -> None:
    async def steps(ctx: WorkflowContext, number: int) -> None:
        for step in range(20):
            await ctx.step(f"step {step}", act, "x")
        await ctx.wait_signal("go")

    begin(file, steps, count=1000, name="steps")
    with closing(sqlite3.connect(file)) as connection, connection:
        for table, names in (
            ("workflow_executions", "workflow_execution_id"),
            ("step_checkpoints", "workflow_execution_id"),
        ):
            columns = [
                row[1]
                for row in connection.execute(f"pragma table_info({table})")
                if row[1] != "id"
            ]
            others = ", ".join(name for name in columns if name != names)
            connection.execute(
                f"insert into {table} ({names}, {others}) with recursive copies (n) as (select 1"
                f" union all select n + 1 from copies where n < 9) select {names} || ' ' || n,"
                f" {others} from {table}, copies"
            )
    definition = of(steps, "steps")
    began = time.process_time()
    check = check_code(file, [definition])
    took = time.process_time() - began
    assert (check.checked, check.is_ok) == (10_000, True)
    record_property("seconds", f"{took:.1f}")
    assert took < 10


@pytest.mark.campaign
def test_its_imports_do_not_need_the_extra_for_the_command_line() -> None:
    code = (
        "import sys; sys.modules['rich'] = sys.modules['typer'] = None;"
        " import durable_workflow_sqlite.testing"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
