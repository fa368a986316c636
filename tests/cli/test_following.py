"""`durable-workflow follow`: the streams of an execution, in a terminal and in a pipe."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    RetryPolicy,
    WorkflowContext,
    report_progress,
    step_stream,
    workflow,
)
from tests.cli.conftest import lines, on_terminal, refusal, run
from tests.processes import an_engine

tries: list[int] = []


def say() -> None:
    tries.append(1)
    step_stream().put("a line\x1b[31m")
    step_stream().put({"n": len(tries)})
    if len(tries) == 1:
        raise ConnectionError


@workflow
async def talk(ctx: WorkflowContext) -> None:
    retry = RetryPolicy.fixed(max_attempts=2, delay=timedelta(milliseconds=1))
    await ctx.branch("left").step("say", say, retry=retry)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tries.clear()
    path = tmp_path / "workflows.db"

    async def main() -> None:
        async with an_engine(path) as (_, engine):
            await engine.run(talk, execution_id="e")

    asyncio.run(main())
    return path


def test_a_pipe_gets_a_line_for_each_item_and_goes_on_behind_a_cursor(file: Path) -> None:
    found = lines("follow", file, "e")
    assert [one[:5] for one in found] == [
        ["item", "left", "say", "0", "1"],
        ["item", "left", "say", "0", "1"],
        ["reset", "left", "say", "0", "2"],
        ["item", "left", "say", "0", "2"],
        ["item", "left", "say", "0", "2"],
        ["end", "COMPLETED"],
    ]
    assert found[1][5] == '{"n":1}'
    cursor = found[3][6]
    after = lines("follow", file, "e", "--after", cursor)
    assert [one[0] for one in after] == ["item", "end"]
    named = lines("follow", file, "e", "--step", "say", "--branch", "left")
    assert len(named) == len(found)
    assert len(lines("follow", file, "e", "--step", "other")) == 1


def test_json_has_a_line_for_each(file: Path) -> None:
    found = [json.loads(line) for line in run("follow", file, "e", "--json").stdout.splitlines()]
    assert [one["kind"] for one in found] == ["item", "item", "reset", "item", "item", "end"]
    assert found[4]["value"] == {"n": 2}


def test_what_an_item_says_does_nothing_to_a_terminal(file: Path) -> None:
    _, shown = on_terminal("follow", file, "e")
    assert "say: a line" in shown
    assert "\x1b[31m" not in shown
    assert "say runs again: attempt 2" in shown


def test_what_cannot_be_followed_is_refused(file: Path) -> None:
    assert "unknown" in refusal("follow", file, "unknown")
    assert "cursor" in refusal("follow", file, "e", "--after", "x")
    assert run("follow", file, "e", "--branch", "left").returncode == 2
    assert run("follow", file, "e", "--index", "1").returncode == 2


@workflow
async def copy(ctx: WorkflowContext) -> None:
    ctx.progress(1, 3)
    await ctx.branch("left").step("photos", photos)
    ctx.progress(2.5, note="nearly\x1b[31m")


def photos() -> None:
    step_stream().put("a line")
    report_progress(1200, 4800, "x.jpg")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    path = tmp_path / "copied.db"

    async def main() -> None:
        async with an_engine(path) as (_, engine):
            await engine.run(copy, execution_id="e")

    asyncio.run(main())
    return path


def test_progress_is_followed_in_a_pipe_and_as_json(copied: Path) -> None:
    assert lines("follow", copied, "e")[1:] == [
        ["progress", "", "", "-1", "0", "2.5", "", r"nearly\x1b[31m"],
        ["progress", "left", "photos", "0", "1", "1200", "4800", "x.jpg"],
        ["end", "COMPLETED"],
    ]
    found = [json.loads(line) for line in run("follow", copied, "e", "--json").stdout.splitlines()]
    assert [one["kind"] for one in found] == ["item", "progress", "progress", "end"]
    assert (found[2]["done"], found[2]["total"], found[2]["note"]) == (1200, 4800, "x.jpg")


def test_progress_is_a_bar_on_a_terminal(copied: Path) -> None:
    code, shown = on_terminal("follow", copied, "e")
    assert code == 0
    assert re.search(r"left/photos\s.*1,200 of 4,800 \(25 %\) x\.jpg", shown)
    assert re.search(r"workflow\s.*2\.5 nearly\\x1b\[31m", shown)
    assert "photos: a line" in shown
    assert shown.rstrip().endswith("COMPLETED")


def test_show_says_how_much_is_done(copied: Path) -> None:
    _, shown = on_terminal("show", copied, "e")
    assert re.search(r"left/photos\s+1\s+1,200 of 4,800 \(25 %\)\s+━━━━━━─+\s+x\.jpg", shown)
    found = [one[:8] for one in lines("show", copied, "e") if one[0] == "progress"]
    assert found == [
        ["progress", "", "-1", "0", "", "2.5", "", r"nearly\x1b[31m"],
        ["progress", "left", "0", "1", "photos", "1200", "4800", "x.jpg"],
    ]
    (details,) = run("show", copied, "e", "--json").stdout.splitlines()
    assert [one["done"] for one in json.loads(details)["progress"]] == [2.5, 1200]


@workflow
async def twice(ctx: WorkflowContext) -> None:
    for scope in (ctx, ctx.branch("left")):
        for number in range(2):
            await scope.step("say", put, f"{scope.path}{number}")


def put(text: str) -> None:
    step_stream().put(text)


def test_of_several_steps_of_a_name_one_is_followed(tmp_path: Path) -> None:
    file = tmp_path / "twice.db"

    async def main() -> None:
        async with an_engine(file) as (_, engine):
            await engine.run(twice, execution_id="e")

    asyncio.run(main())

    def items(*options: str) -> list[str]:
        found = lines("follow", file, "e", "--step", "say", *options)
        return [one[5] for one in found if one[0] == "item"]

    assert items() == ['"0"', '"1"', '"left0"', '"left1"']
    assert items("--branch", "") == ['"0"', '"1"']
    assert items("--branch", "left") == ['"left0"', '"left1"']
    assert items("--index", "1") == ['"1"']
    assert items("--branch", "left", "--index", "0") == ['"left0"']
    assert items("--index", "7") == []
