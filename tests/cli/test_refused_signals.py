"""What a shell sees and says of signals that do not fit."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import DurableEngine, WorkflowContext, open_store, workflow
from tests.cli.conftest import lines, on_terminal, refusal, run
from tests.databases import new_database


@workflow
async def count(ctx: WorkflowContext, name: str) -> object:
    if name == "any":
        return await ctx.wait_signal("count")
    return await ctx.wait_signal("count", type=int if name == "int" else int | None)


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """A file in which executions wait."""
    file = new_database(tmp_path / "waiting.db")

    async def begin() -> None:
        async with open_store(file) as store, DurableEngine(store) as engine:
            async with asyncio.timeout(30):
                for name in ("int", "maybe", "any"):
                    await engine.start(count, name, execution_id=name)
                    while not await store.load_open_waits(name, "count"):
                        await asyncio.sleep(0.005)

    asyncio.run(begin())
    return file


def go_on(file: Path, one: str) -> object:
    async def main() -> object:
        async with open_store(file) as store:
            async with DurableEngine(store, workflows=[count]) as engine:
                return await asyncio.wait_for(engine.handle(one).result(), 30)

    return asyncio.run(main())


def signals(file: Path, one: str) -> list[list[str]]:
    return [line[1:] for line in lines("show", file, one) if line[0] == "signal"]


def test_a_signal_without_its_json_says_what_is_missing_and_is_not_sent(waiting: Path) -> None:
    said = refusal("signal", waiting, "int", "count")
    assert "waits for int (as JSON, a number)" in said
    assert f"durable-workflow signal {waiting} int count JSON" in said
    assert signals(waiting, "int") == []
    for name, payload in (("maybe", None), ("any", None), ("int", "7")):
        words = [name, "count", *([] if payload is None else [payload])]
        assert lines("signal", waiting, *words) == [[f"sent count to {name}"]]
        assert go_on(waiting, name) == (None if payload is None else 7)


def test_json_of_another_kind_is_not_sent(waiting: Path) -> None:
    said = refusal("signal", waiting, "int", "count", '"seven"')
    assert "not sent" in said
    assert "the payload is a string" in said
    assert "missing" not in said
    assert signals(waiting, "int") == []


@pytest.mark.parametrize("name", ["$CANCEL", "$cancle", "$cancel", "$"])
def test_a_reserved_name_is_refused_with_the_command_that_cancels(waiting: Path, name: str) -> None:
    assert f"durable-workflow cancel {waiting}" in refusal("signal", waiting, "int", name)
    assert signals(waiting, "int") == []


def test_a_refused_signal_is_shown_with_its_reason(waiting: Path) -> None:
    with closing(sqlite3.connect(waiting, isolation_level=None)) as connection:
        connection.execute(
            "insert into workflow_signals (workflow_execution_id, signal_name, payload)"
            " values ('int', 'count', '7.5')"
        )
    assert lines("signal", waiting, "int", "count", "8")
    assert go_on(waiting, "int") == 8
    refused, delivered = signals(waiting, "int")
    assert (refused[1], refused[3]) == ("REFUSED", "7.5")
    assert "cannot be read as int" in refused[4]
    assert (delivered[1], delivered[4]) == ("DELIVERED", "")
    (one, _) = json.loads(run("show", waiting, "int", "--json").stdout)["signals"]
    assert "cannot be read as int" in one["refused_reason"]
    status, page = on_terminal("show", waiting, "int")
    assert status == 0
    assert "REFUSED" in page
    assert "cannot be read as int" in " ".join(page.split())
