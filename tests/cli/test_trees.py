"""What the commands say of parents, children, and executions that continued as new."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import WorkflowContext, workflow
from tests.cli.conftest import lines, on_terminal, run
from tests.processes import an_engine, until


@workflow
async def part(ctx: WorkflowContext, number: int) -> int:
    if number == 1:
        await ctx.step("fail", fail)
    if number == 2:
        return await ctx.child("deep", wait)
    await ctx.step("do", lambda: number)
    return number


@workflow
async def wait(ctx: WorkflowContext) -> int:
    return await ctx.wait_signal("go", type=int)


@workflow
async def whole(ctx: WorkflowContext) -> object:
    await ctx.start_child("free", wait, on_parent_end="detach")
    return await ctx.map("part", part, [0, 1, 2], key=str, on_error="collect")


@workflow
async def fails_by_its_child(ctx: WorkflowContext) -> None:
    await ctx.child("part", part, 1)


@workflow
async def counts(ctx: WorkflowContext, number: int) -> int:
    return ctx.continue_as_new(number + 1) if number < 3 else number


@workflow
async def many(ctx: WorkflowContext) -> None:
    for number in range(30):
        await ctx.start_child(f"wait {number}", wait)
    await ctx.wait_signal("never")


def fail() -> None:
    raise ValueError("no paper")


async def fill(file: Path) -> None:
    workflows = [whole, part, wait, fails_by_its_child, counts, many]
    async with an_engine(file, workflows=workflows) as (store, engine):
        await engine.start(whole, execution_id="w")
        await engine.start(many, execution_id="many")
        await engine.run(counts, 1, execution_id="c")
        with pytest.raises(Exception, match="no paper"):
            await engine.run(fails_by_its_child, execution_id="f")

        async def is_asleep() -> bool:
            found = [
                await store.load_execution(one)
                for one in ("w", "many", DEEP, "w/free-0", "many/wait 29-29")
            ]
            return all(one is not None and one.status == "SUSPENDED" for one in found)

        await until(is_asleep)


CHILD = "w/part.2:part-0"
DEEP = f"{CHILD}/deep-0"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("trees") / "trees.db"
    asyncio.run(fill(file))
    return file


@pytest.fixture
def file(filled: Path, tmp_path: Path, placed: Callable[[Path], Path]) -> Path:
    return placed(Path(shutil.copy(filled, tmp_path / "trees.db")))


def shown(file: Path, execution_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("show", file, execution_id, "--json").stdout)
    return found


def ids(file: Path, *options: str) -> list[str]:
    return sorted(run("list", file, "--all", "-o", "id", *options).stdout.split("\n")[:-1])


def test_show_has_the_tree_below_an_execution(file: Path) -> None:
    _, text = on_terminal("show", file, "w")
    assert "children: 1 COMPLETED, 1 FAILED, 2 SUSPENDED" in text
    tree = text.partition("children: ")[2].partition("signals")[0]
    order = ["├ w/free-0", f"├ {CHILD}", f"│ └ {DEEP}", "├ w/part.1:part-0", "└ w/part.0:part-0"]
    assert [tree.index(one) for one in order] == sorted(tree.index(one) for one in order)
    assert "detached" in tree
    assert "no paper" in tree
    (free,) = [line for line in tree.splitlines() if "w/free-0" in line]
    assert "waits for signal go" in " ".join(free.split())
    children = shown(file, "w")["children"]
    assert children["counts"] == {"COMPLETED": 1, "FAILED": 1, "SUSPENDED": 2}
    below = next(one for one in children["shown"] if one["id"] == CHILD)
    assert [one["id"] for one in below["children"]["shown"]] == [DEEP]
    assert below["waiting_for"] == f"child {DEEP}"
    assert below["children"]["shown"][0]["waiting_for"] == "signal go"
    piped = lines("show", file, "w")
    assert ["children", "w", "FAILED", "1"] in piped
    assert [line[1:3] for line in piped if line[0] == "child"] == [
        ["w", "w/free-0"],
        ["w", CHILD],
        [CHILD, DEEP],
        ["w", "w/part.1:part-0"],
        ["w", "w/part.0:part-0"],
    ]


def test_the_tree_says_what_is_in_the_way_of_a_child(file: Path) -> None:
    run("pause", file, DEEP, "--reason", "why")
    with closing(sqlite3.connect(file)) as shell, shell:
        shell.execute(
            "update workflow_executions set blocked_reason = 'CRASH_LOOP'"
            " where workflow_execution_id = 'w/free-0'"
        )
    found = {line[2]: line[9:] for line in lines("show", file, "w") if line[0] == "child"}
    assert found["w/free-0"] == ["signal go", "blocked"]
    assert found[DEEP] == ["signal go", "paused"]
    assert found["w/part.0:part-0"] == ["", ""]


def test_show_has_the_parent_and_the_root(file: Path) -> None:
    summary = shown(file, DEEP)["summary"]
    assert summary["parent_execution_id"] == CHILD
    assert (summary["root_execution_id"], summary["on_parent_end"]) == ("w", "cancel")
    assert ["execution", "parent_execution_id", CHILD] in lines("show", file, DEEP)
    _, text = on_terminal("show", file, DEEP)
    assert f"{CHILD}, in the tree of w" in text
    _, text = on_terminal("show", file, "w/free-0")
    assert "w; detached: it goes on when that is over" in text


def test_a_wait_for_a_child_is_named_as_such_and_the_hint_is_to_look_at_the_child(
    file: Path,
) -> None:
    assert shown(file, CHILD)["summary"]["waiting_for"] == f"child {DEEP}"
    _, text = on_terminal("show", file, CHILD)
    assert f"end of child {DEEP}" in text
    assert "$child:" not in text
    assert (
        f"it goes on when its child is over; to look at that child:"
        f" durable-workflow show {file} {DEEP}" in text
    )
    (row,) = [line for line in lines("list", file) if line[0] == CHILD]
    assert f"child {DEEP}" in row
    _, text = on_terminal("list", file, "--id", CHILD)
    assert "$child:" not in text
    _, text = on_terminal("status", file)
    assert "$child:" not in text
    assert f"child {DEEP}" in " ".join(text.split())


def test_the_hint_of_a_parent_that_a_child_failed_says_that_retry_is_for_both(file: Path) -> None:
    _, text = on_terminal("show", file, "f")
    assert f"and its failed child, too: durable-workflow retry {file} f;" in text
    assert f"durable-workflow show {file} f/part-0" in text
    assert "end of child f/part-0" in text
    assert "$child:" not in text


def test_the_run_is_told(file: Path) -> None:
    assert shown(file, "c")["summary"]["run_number"] == 3
    _, text = on_terminal("show", file, "c")
    assert "3: it continued as new" in text


def test_of_many_children_some_are_shown_and_all_are_counted(file: Path) -> None:
    children = shown(file, "many")["children"]
    assert len(children["shown"]) == 20
    assert children["counts"] == {"SUSPENDED": 30}
    _, text = on_terminal("show", file, "many")
    assert "└ … 30 SUSPENDED; 20 of these are shown" in text


def test_list_chooses_children_and_trees(file: Path) -> None:
    parts = [f"w/part.{number}:part-0" for number in range(3)]
    assert ids(file, "--parent", "w") == sorted(["w/free-0", *parts])
    assert ids(file, "--root", "w") == sorted(["w", "w/free-0", *parts, DEEP])
    assert ids(file, "--root", CHILD) == sorted([CHILD, DEEP])
    assert ids(file, "--parent", "w", "--status", "failed") == ["w/part.1:part-0"]
    assert ids(file, "--parent", "w", "--root", CHILD) == [CHILD]
    assert ids(file, "--root", "w", "--type", "wait", "--step", "go") == sorted([DEEP, "w/free-0"])
    assert ids(file, "--parent", "nobody") == []
    assert ids(file, "--root", "nobody") == []
    for option in ("--parent", "--root"):
        assert f"{option} is empty" in run("list", file, option, "").stderr


def test_a_parent_in_trouble_is_found_by_its_tree(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "update workflow_executions set trouble = 'odd'"
            " where workflow_execution_id in (?, 'many')",
            (CHILD,),
        )
    assert ids(file, "--in-trouble", "--root", "w") == [CHILD]
    assert ids(file, "--in-trouble", "--parent", "w") == [CHILD]
    assert ids(file, "--in-trouble") == sorted([CHILD, "many"])


def test_a_pause_holds_what_is_below_and_every_command_says_by_which_execution(file: Path) -> None:
    said = run("pause", file, "w", "--reason", "the bank").stdout
    assert said.startswith("w is paused, with what is below it")
    assert ids(file, "--paused") == ["w"]
    found = shown(file, DEEP)["summary"]
    assert (found["paused_scope"], found["paused_with"]) == ("TREE", "w")
    assert (found["paused_reason"], found["status"]) == ("the bank", "SUSPENDED")
    assert ["execution", "paused_with", "w"] in lines("show", file, DEEP)
    code, text = on_terminal("show", file, DEEP)
    assert code == 0
    assert "the tree of w since" in text and "the bank" in text
    assert f"durable-workflow resume {file} w" in text
    assert shown(file, "w/free-0")["summary"]["paused_at"] is None
    (paused,) = (one for one in lines("status", file) if one[0] == "paused")
    assert (paused[2], paused[-1]) == ("w", "2")
    refused = run("resume", file, DEEP).stderr
    assert "is not paused itself, but with w" in refused
    asked = run("cancel", file, DEEP).stdout
    assert f"when `durable-workflow resume {file} w` lets it go on" in asked
    run("pause", file, CHILD)
    assert "waits until" in run("resume", file, CHILD).stdout
    run("resume", file, "w")
    found = shown(file, DEEP)["summary"]
    assert (found["paused_scope"], found["paused_with"]) == (None, None)


def test_nobody_is_told_to_send_the_end_of_a_child(file: Path) -> None:
    done = run("signal", file, CHILD, f"$child:{DEEP}", "1")
    assert "reserved for the library" in done.stderr


def test_an_end_that_is_not_awaited_is_nothing_strange(file: Path) -> None:
    run("cancel", file, "many/wait 0-0")

    async def end_it() -> None:
        async with an_engine(file, workflows=[whole, part, wait, many]) as (store, _):

            async def is_told() -> bool:
                return bool(await store.load_pending_signals("many", "$child:many/wait 0-0"))

            await until(is_told)

    asyncio.run(end_it())
    assert shown(file, "many")["summary"]["signals_pending"] == 0
    assert not any(
        "signal" in line[1]
        for line in lines("doctor", file, "--verbose")
        if line[0] in ("warning", "error")
    )
    _, text = on_terminal("show", file, "many")
    assert "end of child many/wait 0-0" in text


def test_a_ring_that_somebody_made_by_hand_is_shown_once(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "update workflow_executions set parent_execution_id = ?"
            " where workflow_execution_id = 'w'",
            (DEEP,),
        )
    children = shown(file, "w")["children"]
    assert {one["id"] for one in children["shown"]} == set(ids(file, "--parent", "w"))
    assert len(ids(file, "--root", "w")) == 6


def test_a_child_is_deleted_before_its_parent_and_the_parent_keeps_its_end(file: Path) -> None:
    run("prune", file, "w/part.0:part-0", "w/part.1:part-0", "--yes")
    assert ids(file, "--parent", "w") == sorted(["w/free-0", CHILD])
    _, text = on_terminal("show", file, "w")
    assert "end of child w/part.1:part-0" in text
    assert "no paper" in text


def test_the_view_of_children_has_a_row_for_each(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute(
            "select workflow_execution_id, status, on_parent_end, parent_status, parent_waits"
            " from workflow_children where root_execution_id = 'w' order by 1"
        ).fetchall()
    assert found == [
        ("w/free-0", "SUSPENDED", "detach", "SUSPENDED", 0),
        ("w/part.0:part-0", "COMPLETED", "cancel", "SUSPENDED", 0),
        ("w/part.1:part-0", "FAILED", "cancel", "SUSPENDED", 0),
        (CHILD, "SUSPENDED", "cancel", "SUSPENDED", 1),
        (DEEP, "SUSPENDED", "cancel", "SUSPENDED", 1),
    ]
