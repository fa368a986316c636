"""`ctx.patched`: a replay of what came there before takes the old way, all else the new one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    NonDeterminismError,
    SqliteCheckpointStore,
    TakenExecution,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.engine.checking import check_replay
from durable_workflow_sqlite.store.statement_store import StatementStore
from durable_workflow_sqlite.testing import Sandbox
from tests.databases import new_database
from tests.migrations.content import migrate_to

Body = Callable[[WorkflowContext], Awaitable[Any]]

ran: list[str] = []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    ran.clear()
    return new_database(tmp_path / "workflows.db")


async def act(name: str) -> str:
    ran.append(name)
    return name


def until_signal(file: Path, body: Body, name: str = "order") -> None:
    """A life that ends while the workflow waits."""

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.start(workflow(name=name)(body), execution_id="one")
            while not await store.load_open_waits(handle.execution_id, "go"):
                await asyncio.sleep(0.002)

    asyncio.run(main())


def resume(file: Path, body: Body, name: str = "order", *, signal: bool = True) -> Any:
    async def main() -> Any:
        definition = workflow(name=name)(body)
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[definition]) as engine,
        ):
            if signal:
                await engine.send_signal("one", "go")
            return await engine.result_of("one")

    return asyncio.run(main())


def run(file: Path, body: Body, *workflows: WorkflowDefinition[..., Any]) -> Any:
    async def main() -> Any:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=workflows) as engine,
        ):
            return await engine.run(workflow(name="order")(body), execution_id="one")

    return asyncio.run(main())


def taken(file: Path, execution_id: str = "one") -> TakenExecution:
    async def main() -> TakenExecution:
        async with SqliteCheckpointStore.file(file) as store:
            found = await store.take_execution(execution_id)
            assert found is not None
            return found

    return asyncio.run(main())


def passed(file: Path, execution_id: str = "one") -> list[tuple[str, str, int]]:
    return [(one.branch, one.patch_name, one.event) for one in taken(file, execution_id).patches]


async def before(ctx: WorkflowContext) -> list[str]:
    made = [await ctx.step("price", act, "price")]
    await ctx.wait_signal("go")
    made.append(await ctx.step("charge", act, "charge"))
    return made


async def after(ctx: WorkflowContext) -> list[str]:
    made = [await ctx.step("price", act, "price")]
    if ctx.patched("add-tax"):
        made.append(await ctx.step("tax", act, "tax"))
    await ctx.wait_signal("go")
    if ctx.patched("send-mail"):
        made.append(await ctx.step("mail", act, "mail"))
    made.append(await ctx.step("charge", act, "charge"))
    return made


def test_a_new_execution_takes_the_new_way_and_keeps_it(file: Path) -> None:
    until_signal(file, after)
    assert passed(file) == [("", "add-tax", 1)]
    assert resume(file, after) == ["price", "tax", "mail", "charge"]
    assert passed(file) == [("", "add-tax", 1), ("", "send-mail", 3)]
    assert ran == ["price", "tax", "mail", "charge"]


def test_one_that_came_there_before_takes_the_old_way_and_later_the_new_one(file: Path) -> None:
    until_signal(file, before)
    assert resume(file, after) == ["price", "mail", "charge"]
    assert passed(file) == [("", "send-mail", 2)]
    assert ran == ["price", "mail", "charge"]


def test_a_later_life_gives_the_same_answer(file: Path) -> None:
    """It stops between the patch and the end, once with each answer."""

    async def dies(ctx: WorkflowContext) -> str:
        assert not ctx.patched("old")
        await ctx.wait_signal("go")
        assert ctx.patched("new")
        await ctx.step("stop", act, "stop")
        await ctx.wait_signal("go")
        assert not ctx.patched("old")
        assert ctx.patched("new")
        return "ended"

    async def old(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("go")

    until_signal(file, old)

    async def go_on() -> None:
        definition = workflow(name="order")(dies)
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[definition]) as engine,
        ):
            await engine.send_signal("one", "go")
            while not (await taken_in(store)).patches or not await store.load_open_waits(
                "one", "go"
            ):
                await asyncio.sleep(0.002)

    async def taken_in(store: SqliteCheckpointStore) -> TakenExecution:
        found = await store.take_execution("one")
        assert found is not None
        return found

    asyncio.run(go_on())
    assert resume(file, dies) == "ended"
    assert passed(file) == [("", "new", 1)]


def test_its_place_may_move_and_it_may_be_deleted_once_all_have_passed_it(file: Path) -> None:
    until_signal(file, after)

    async def moved(ctx: WorkflowContext) -> list[Any]:
        with_mail = ctx.patched("send-mail-2")
        with_tax = ctx.patched("add-tax")
        made = [await ctx.step("price", act, "price")]
        if with_tax:
            made.append(await ctx.step("tax", act, "tax"))
        await ctx.wait_signal("go")
        return [*made, with_mail]

    assert resume(file, moved) == ["price", "tax", False]
    found = taken(file)

    async def without(ctx: WorkflowContext) -> list[Any]:
        made = [await ctx.step("price", act, "price")]
        made.append(await ctx.step("tax", act, "tax"))
        await ctx.wait_signal("go")
        return [*made, False]

    for body in (moved, without):
        check_replay(
            workflow(name="order")(body), found.execution, found.checkpoints, found.patches
        )


def test_the_name_belongs_to_a_branch(file: Path) -> None:
    async def old(ctx: WorkflowContext) -> None:
        await ctx.branch("first").step("do", act, "first")
        await ctx.wait_signal("go")

    async def new(ctx: WorkflowContext) -> list[bool]:
        first = ctx.branch("first")
        answers = [first.patched("p")]
        await first.step("do", act, "first")
        await ctx.wait_signal("go")
        second = ctx.branch("second")
        answers += [second.patched("p"), first.patched("p"), ctx.patched("p")]
        await second.step("do", act, "second")
        return answers

    until_signal(file, old)
    assert resume(file, new) == [False, True, False, True]
    assert passed(file) == [("", "p", 2), ("second", "p", 2)]


def test_a_step_that_had_begun_and_not_ended_tells_that_it_came_there(file: Path) -> None:
    """No event follows, but the step that was in doubt follows."""

    async def old(ctx: WorkflowContext) -> None:
        await ctx.step("first", act, "first")
        await ctx.step("second", hangs)

    async def hangs() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(workflow(name="order")(old), execution_id="one")
            while len(await store.load_checkpoints("one")) < 2:
                await asyncio.sleep(0.002)

    async def new(ctx: WorkflowContext) -> bool:
        await ctx.step("first", act, "first")
        if answer := ctx.patched("p"):
            await ctx.step("between", act, "between")
        await ctx.step("second", act, "second")
        return answer

    asyncio.run(main())
    assert resume(file, new, signal=False) is False
    assert ran == ["first", "second"]


def test_the_first_answer_stays_in_a_loop(file: Path) -> None:
    async def old(ctx: WorkflowContext) -> None:
        while True:
            await ctx.step("work", act, "work")
            await ctx.wait_signal("go")

    async def new(ctx: WorkflowContext) -> list[bool]:
        answers = []
        for turn in range(2):
            answers += [ctx.patched("p"), ctx.patched(f"p {turn}")]
            await ctx.step("work", act, "work")
            if turn == 0:
                await ctx.wait_signal("go")
        return answers

    until_signal(file, old)
    assert resume(file, new) == [False, False, False, True]


def test_a_patch_that_is_deprecated_stops_what_needs_the_old_way(file: Path) -> None:
    async def later(ctx: WorkflowContext) -> list[str]:
        made = [await ctx.step("price", act, "price")]
        ctx.deprecate_patch("add-tax")
        made.append(await ctx.step("tax", act, "tax"))
        await ctx.wait_signal("go")
        return made

    until_signal(file, before)
    with pytest.raises(NonDeterminismError, match="came to the place of patch 'add-tax' before"):
        resume(file, later)
    assert resume(file, after, signal=False) == ["price", "mail", "charge"]


def test_a_patch_that_is_deprecated_lets_all_others_pass_and_is_recorded(file: Path) -> None:
    async def later(ctx: WorkflowContext) -> list[str]:
        made = [await ctx.step("price", act, "price")]
        ctx.deprecate_patch("add-tax")
        made.append(await ctx.step("tax", act, "tax"))
        await ctx.wait_signal("go")
        made.append(await ctx.step("charge", act, "charge"))
        return made

    until_signal(file, after)
    assert resume(file, later) == ["price", "tax", "charge"]
    ran.clear()
    new_database(file.with_name("two.db"))
    until_signal(file.with_name("two.db"), later)
    assert passed(file.with_name("two.db")) == [("", "add-tax", 1)]
    # Back to the code before: it finds that the execution took the new way.
    assert resume(file.with_name("two.db"), after) == ["price", "tax", "mail", "charge"]


def test_undoing_finds_the_way_that_the_execution_took(file: Path) -> None:
    """A replay that only undoes takes no new way behind what is recorded."""

    async def undo(name: str) -> None:
        ran.append(f"undo {name}")

    async def old(ctx: WorkflowContext) -> None:
        await ctx.step("book", act, "book", compensate=undo)
        await ctx.wait_signal("go")
        await ctx.step("pay", fails)

    async def fails() -> None:
        raise ConnectionError("no money")

    async def new(ctx: WorkflowContext) -> None:
        await ctx.step("book", act, "book", compensate=undo)
        await ctx.wait_signal("go")
        try:
            await ctx.step("pay", fails)
        finally:
            if ctx.patched("note"):
                await ctx.step("note", act, "note")

    until_signal(file, old)
    with pytest.raises(WorkflowFailedError):
        resume(file, old)
    found = taken(file)
    check_replay(workflow(name="order")(new), found.execution, found.checkpoints, found.patches)
    assert ran == ["book", "undo book"]


def test_continuing_as_new_forgets_the_patches(file: Path) -> None:
    async def body(ctx: WorkflowContext, turn: int = 0) -> Any:
        answer = ctx.patched("p")
        await ctx.step("work", act, "work")
        if turn == 0:
            return ctx.continue_as_new(1)
        await ctx.wait_signal("go")
        return answer

    until_signal(file, body)
    assert passed(file) == [("", "p", 0)]
    assert resume(file, body) is True


def test_a_child_has_patches_of_its_own(file: Path) -> None:
    @workflow
    async def child(ctx: WorkflowContext) -> bool:
        return ctx.patched("p")

    async def parent(ctx: WorkflowContext) -> list[bool]:
        return [ctx.patched("p"), await ctx.child("child", child)]

    assert run(file, parent, child) == [True, True]
    (step,) = [one for one in taken(file).checkpoints if one.kind == "STEP"]
    assert step.output_data is not None
    assert passed(file, step.output_data.strip('"')) == [("", "p", 0)]


def test_it_is_asked_in_any_task_of_the_body(file: Path) -> None:
    async def body(ctx: WorkflowContext) -> list[bool]:
        async def one(name: str) -> bool:
            answer = ctx.patched(name)
            await ctx.branch(name).step("do", act, name)
            return answer

        return list(await asyncio.gather(one("a"), one("b"), one("a2")))

    assert run(file, body) == [True, True, True]
    assert [name for _, name, _ in passed(file)] == ["a", "a2", "b"]


def test_a_name_that_is_none_is_refused(file: Path) -> None:
    async def body(ctx: WorkflowContext) -> None:
        for name in ("", "x" * 257):
            with pytest.raises(ValueError, match="patch"):
                ctx.patched(name)
        with pytest.raises(TypeError, match="patch"):
            ctx.deprecate_patch(3)  # type: ignore[arg-type]

    run(file, body)
    assert passed(file) == []


def test_outside_of_the_workflow_function_it_is_refused(file: Path) -> None:
    async def body(ctx: WorkflowContext) -> None:
        async def action() -> None:
            ctx.patched("p")

        await ctx.step("asks", action)

    with pytest.raises(WorkflowFailedError, match="used outside of its workflow function"):
        run(file, body)


def test_a_patch_is_in_the_sandbox_as_in_an_engine() -> None:
    """Each suspension and the end are replayed from the records there."""

    @workflow
    async def order(ctx: WorkflowContext) -> list[bool]:
        answers = [ctx.patched("first")]
        await ctx.step("one", act, "one")
        await ctx.wait_signal("go")
        answers.append(ctx.branch("side").patched("first"))
        await ctx.sleep("rest", timedelta(days=1))
        return [*answers, ctx.patched("last")]

    with Sandbox() as durable:
        durable.crash_at("one", "recorded")
        handle = durable.start(order)
        handle.signal("go")
        assert handle.result() == [True, True, True]


def test_an_execution_of_a_file_of_before_takes_the_old_way_where_it_was(file: Path) -> None:
    until_signal(file, before)
    old = file.with_name("old.db")
    migrate_to(old, 30)
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("attach ? as newest", (str(file),))
        of_old = "select name from sqlite_schema where type = 'table' and name glob 'workflow*'"
        for table in ("step_checkpoints", *(name for (name,) in connection.execute(of_old))):
            columns = ", ".join(
                name for (_, name, *_) in connection.execute(f"pragma main.table_info({table})")
            )
            connection.execute(
                f"insert into main.{table} ({columns}) select {columns} from newest.{table}"
            )
    assert resume(old, after) == ["price", "mail", "charge"]


@pytest.mark.parametrize("what", ["steps", "children", "sleeps"])
def test_thousands_of_branches_that_pass_it_at_once_write_each_once(
    file: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    insert = StatementStore._insert_patch

    def counting(self: StatementStore, *of: Any) -> int:
        nonlocal written
        written += 1
        return insert(self, *of)

    monkeypatch.setattr(StatementStore, "_insert_patch", counting)

    @workflow
    async def child(ctx: WorkflowContext) -> None:
        await ctx.sleep("rest", timedelta(0))

    async def one(ctx: WorkflowContext) -> bool:
        answer = ctx.patched("p")
        if what == "steps":
            await ctx.step("do", act, "x")
        elif what == "children":
            await ctx.start_child("child", child, on_parent_end="detach")
        else:
            await ctx.sleep("rest", timedelta(0))
        return answer

    count = 300

    async def body(ctx: WorkflowContext) -> list[bool]:
        return await asyncio.gather(*(one(ctx.branch(f"{n}")) for n in range(count)))

    assert run(file, body, child) == [True] * count
    assert len(passed(file)) == count
    assert written < 3 * count
