"""Several workflow types and named queues in one option, with commas between them."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    Queue,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)
from tests.cli.conftest import lines, refusal, run

TYPES = ("order", "gift", "refund", "order,gift")
QUEUES = {"order": "mail", "gift": "llm", "refund": None, "order,gift": "mail,llm"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("several") / "several.db"
    asyncio.run(fill(path))
    return path


async def fill(path: Path) -> None:
    async def nothing(ctx: WorkflowContext) -> None:
        pass

    workflows = [workflow(name=name)(nothing) for name in TYPES]
    async with (
        SqliteCheckpointStore.file(path) as store,
        DurableEngine(store, workflows=workflows, queues=["nothing else"]) as engine,
    ):
        await engine.declare(*map(Queue, filter(None, QUEUES.values())))
        for name, queue in QUEUES.items():
            await engine.enqueue_named(name, queue=queue, execution_id=f"an {name}")


@pytest.fixture
def stocks(filled: Path, tmp_path: Path, placed: Callable[[Path], Path]) -> Path:
    return placed(Path(shutil.copy(filled, tmp_path / "several.db")))


def named(file: Path, *options: str) -> set[str]:
    return {line[0].removeprefix("an ") for line in lines("list", file, *options, "-o", "id")}


def test_several_types_and_queues_are_given_with_commas(stocks: Path) -> None:
    for several in ("order,refund", "refund , order", "order,refund,order"):
        assert named(stocks, "--type", several) == {"order", "refund"}
    assert named(stocks, "-t", "order,refund", "-t", "gift") == {"order", "gift", "refund"}
    assert named(stocks, "--in-queue", "llm,mail") == {"order", "gift"}
    assert named(stocks, "--in-queue", "llm,nothing") == {"gift"}
    assert named(stocks, "--in-queue", "mail", "--type", "gift,refund") == set()
    assert named(stocks, "--error", "order,refund") == set()


def test_a_name_that_holds_a_comma_is_that_name(stocks: Path) -> None:
    assert named(stocks, "--type", "order,gift") == {"order,gift"}
    assert named(stocks, "--type", "order", "--type", "gift") == {"order", "gift"}
    assert named(stocks, "--in-queue", "mail,llm") == {"order,gift"}


@pytest.mark.parametrize("option", ["--type", "--in-queue"])
@pytest.mark.parametrize("names", ["", "order,", "order, ,refund"])
def test_an_empty_name_is_refused_and_chooses_nobody(stocks: Path, option: str, names: str) -> None:
    for words in (["list"], ["cancel", "--yes"]):
        refused = refusal(words[0], stocks, *words[1:], option, names)
        assert f"{option} holds an empty name; give one, or several: NAME,NAME" in refused
    assert named(stocks, "--status", "pending") == set(TYPES)


def test_an_unknown_type_among_several_is_named(stocks: Path) -> None:
    for words in (["list"], ["cancel", "--yes"]):
        refused = refusal(words[0], stocks, *words[1:], "--type", "order,refnud")
        assert "no workflow type 'refnud'; did you mean 'refund'?" in refused
    assert named(stocks, "--status", "pending") == set(TYPES)


def test_commands_act_on_several_types_and_queues(stocks: Path) -> None:
    for command in ("signal", "pause", "cancel"):
        words = ["ok"] if command == "signal" else []
        for options in (["--type", "order,refund"], ["--in-queue", "mail,other", "-t", "order"]):
            asked = run(command, stocks, *words, *options, "--dry-run")
            wanted = ["an refund", "an order"] if "order,refund" in options else ["an order"]
            assert asked.stdout.splitlines() == wanted
    assert run("cancel", stocks, "--type", "order,refund", "--yes").returncode == 0
    assert named(stocks, "--status", "cancelled") == {"order", "refund"}
    for command in ("rerun", "acknowledge"):
        asked = run(command, stocks, "-s", "cancelled", "-t", "refund,gift", "--dry-run")
        assert asked.stdout.splitlines() == ["an refund"], asked.stderr
    assert run("retry", stocks, "-t", "refund,gift", "--dry-run").stdout == "nothing to retry\n"
    assert run("unblock", stocks, "-t", "refund,gift", "--yes").stdout == "nothing to unblock\n"
    done = run("prune", stocks, "--all", "-s", "cancelled", "-t", "refund,gift", "--yes")
    assert done.returncode == 0, done.stderr
    assert named(stocks, "--all") == {"order", "gift", "order,gift"}


def test_check_code_takes_several_types(stocks: Path) -> None:
    words = ["check-code", stocks, "--app", "tests.cli.orders:order", "--json"]
    checked = json.loads(run(*words, "--type", "gift,refund").stdout)["workflows"]
    assert {one["workflow_type"] for one in checked} == {"gift", "refund"}
    assert "--type holds an empty name" in refusal(*words, "--type", "gift,")


def test_check_code_refuses_a_type_that_neither_the_code_nor_the_file_knows(stocks: Path) -> None:
    words = ["check-code", stocks, "--app", "tests.cli.orders:refund_order"]
    said = refusal(*words, "--type", "gift,refnud")
    assert "no workflow type 'refnud'; did you mean 'refund'?" in said
    assert run(*words, "--type", "refund_order").returncode == 0, "it is new in the code"
