"""Failures and trouble by error: in `status`, in SQL, and the options that choose one group."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import DurableEngine, SqliteCheckpointStore, WorkflowContext, workflow
from durable_workflow_sqlite.reading.overview import Problem
from durable_workflow_sqlite.store.rows import time_to_text
from durable_workflow_sqlite.stores import open_reader
from tests.cli.conftest import lines, on_terminal, run

CHARGED, SHIPPED, REFUNDED = 4, 2, 3


def no_answer(number: int) -> None:
    raise ConnectionError(f"no answer about {number}")


async def nothing() -> None:
    pass


@workflow(name="order", version=2)
async def order(ctx: WorkflowContext, number: int) -> None:
    step = "charge" if number < CHARGED else "ship"
    await ctx.step("price", nothing)
    await ctx.step(step, no_answer, number)


@workflow(name="refund")
async def refund(ctx: WorkflowContext, number: int) -> None:
    await ctx.step("pay back", no_answer, number)


@workflow(name="plain")
async def plain(ctx: WorkflowContext) -> None:
    raise OverflowError("too much")


@workflow(name="mistaken")
async def mistaken(ctx: WorkflowContext) -> None:
    raise KeyError("there is no such key")


async def fill(path: Path) -> None:
    async with (
        SqliteCheckpointStore.file(path) as store,
        DurableEngine(store, workflows=[order, refund, plain, mistaken]) as engine,
    ):
        for number in range(CHARGED + SHIPPED):
            await engine.start(order, number, execution_id=f"order-{number}")
        for number in range(REFUNDED):
            await engine.start(refund, number, execution_id=f"refund-{number}")
        await engine.start(plain, execution_id="plain-1")
        await engine.start(mistaken, execution_id="mistaken-1")
        for one in ("order", "refund", "plain"):
            for number in range({"order": CHARGED + SHIPPED, "refund": REFUNDED}.get(one, 1)):
                name = f"{one}-{number if one != 'plain' else 1}"
                while (await engine.load(name)).status != "FAILED":
                    await asyncio.sleep(0.01)
        while (await engine.load("mistaken-1")).trouble is None:
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("problems") / "shop.db"
    asyncio.run(fill(path))
    with closing(sqlite3.connect(path)) as connection, connection:
        # One after the other, so that the order is known.
        for minute, name in enumerate(("plain-%", "refund-%", "order-4", "order-5", "order-0")):
            connection.execute(
                "update workflow_executions set status_since = ?"
                " where workflow_execution_id like ?",
                (f"2030-01-01T00:0{minute}:00.000000Z", name),
            )
        connection.execute(
            "update workflow_executions set status_since = '2030-01-01T00:09:00.000000Z'"
            " where workflow_execution_id in ('order-1', 'order-2', 'order-3')"
        )
        connection.execute(
            "update workflow_executions set trouble_since = '2030-01-01T00:00:30.000000Z'"
            " where trouble is not null"
        )
    return path


@pytest.fixture
def shop(filled: Path, tmp_path: Path, placed: Callable[[Path], Path]) -> Path:
    return placed(Path(shutil.copy(filled, tmp_path / "shop.db")))


CONNECTION = "builtins:ConnectionError"
GROUPS = [
    ("FAILED", "order", "charge", CONNECTION, CHARGED, "00:04", "00:09", "order-3"),
    ("FAILED", "order", "ship", CONNECTION, SHIPPED, "00:02", "00:03", "order-5"),
    ("FAILED", "refund", "pay back", CONNECTION, REFUNDED, "00:01", "00:01", "refund-2"),
    ("IN TROUBLE", "mistaken", None, "WorkflowCodeError", 1, "00:00", "00:00", "mistaken-1"),
    ("FAILED", "plain", None, "builtins:OverflowError", 1, "00:00", "00:00", "plain-1"),
]


def shortly(one: Problem) -> tuple[object, ...]:
    assert one.first_at is not None
    assert one.last_at is not None
    return (
        one.problem,
        one.workflow_type,
        one.step_name,
        one.error_type,
        one.executions,
        f"{one.first_at:%H:%M}",
        f"{one.last_at:%H:%M}",
        one.last_execution_id,
    )


def test_problems_are_grouped_by_error_workflow_and_step(shop: Path) -> None:
    with open_reader(shop) as reader:
        found = reader.problems()
        assert [shortly(one) for one in found] == GROUPS
        assert found[0].last_message == "no answer about 3"
        assert reader.problems(limit=2) == found[:2]
        since = datetime(2030, 1, 1, 0, 3, tzinfo=UTC)
        late = reader.problems(since)
        assert [shortly(one)[:5] for one in late] == [
            GROUPS[0][:5],
            ("FAILED", "order", "ship", CONNECTION, 1),
            GROUPS[3][:5],  # what is in trouble, is so now
        ]


def test_the_view_says_the_same(shop: Path) -> None:
    with closing(sqlite3.connect(shop)) as connection:
        rows = connection.execute(
            "select problem, workflow_type, step_name, error_type, place, executions, first_at,"
            " last_at, last_execution_id, last_message from workflow_problems"
            " order by last_at desc"
        ).fetchall()
    with open_reader(shop) as reader:
        assert rows == [
            (
                one.problem,
                one.workflow_type,
                one.step_name,
                one.error_type,
                one.place,
                one.executions,
                one.first_at and time_to_text(one.first_at),
                one.last_at and time_to_text(one.last_at),
                one.last_execution_id,
                one.last_message,
            )
            for one in reader.problems()
        ]


@workflow(name="two mistakes")
async def two_mistakes(ctx: WorkflowContext, number: int) -> None:
    if number == 0:
        degrees  # type: ignore[name-defined] # noqa: B018, F821  # pyright: ignore[reportUndefinedVariable, reportUnusedExpression]
    raise KeyError(f"there is no order-{number}. It is gone")


async def make_mistakes(path: Path) -> None:
    async with (
        SqliteCheckpointStore.file(path) as store,
        DurableEngine(store, workflows=[two_mistakes]) as engine,
    ):
        for number in range(3):
            await engine.start(two_mistakes, number, execution_id=f"order-{number}")
            while (await engine.load(f"order-{number}")).trouble is None:
                await asyncio.sleep(0.01)


def test_a_group_of_trouble_is_one_line_of_code(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    asyncio.run(make_mistakes(file))
    first = two_mistakes.function.__code__.co_firstlineno  # of its decorator
    with open_reader(file) as reader:
        found = reader.problems()
    assert [(one.executions, one.error_type, one.place) for one in found] == [
        (2, "WorkflowCodeError", f"line {first + 4} of {__file__}, in two_mistakes"),
        (1, "WorkflowCodeError", f"line {first + 3} of {__file__}, in two_mistakes"),
    ]
    test_the_view_says_the_same(file)
    text = on_terminal("status", file, columns=200)[1]
    assert f"line {first + 4} of test_problems.py, in two_mistakes" in text
    (words,) = [
        one.split(maxsplit=1)[1]
        for one in text.splitlines()
        if "--in-trouble" in one and f"line {first + 4} " in one
    ]
    assert run(*shlex.split(words)[1:], "-o", "id").stdout.split() == ["order-2", "order-1"]
    assert f"order-0 (WorkflowCodeError at line {first + 3} of test_problems.py, in" in doubted(
        file
    )


def test_mistakes_whose_line_is_not_known_are_grouped_by_their_class(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    asyncio.run(make_mistakes(file))
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for one, raised in enumerate(("StopIteration", "KeyError: 'a: b. c'", "KeyError: 1")):
            text = f"WorkflowCodeError: the workflow function of execution 'order-{one}' raised"
            connection.execute(
                "update workflow_executions set trouble = ? where workflow_execution_id = ?",
                (f"{text} {raised}. No step raised it", f"order-{one}"),
            )
    with open_reader(file) as reader:
        found = [(one.executions, one.place) for one in reader.problems()]
    assert found == [(2, "KeyError"), (1, "StopIteration")]
    test_the_view_says_the_same(file)
    assert "order-0 (WorkflowCodeError: StopIteration, since" in doubted(file)


def doubted(file: Path) -> str:
    """What doctor says of what is in trouble."""
    with open_reader(file) as reader:
        (one,) = [one for one in reader.check_up(datetime.now(UTC)) if one.check == "trouble"]
    return one.message


LATER = "2099-01-01T00:00:00.000000Z"


def put_in_back_off(file: Path, *names: str) -> None:
    """As if another attempt of what failed these were to come, after an error of its own."""
    marks = ", ".join("?" * len(names))
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "update workflow_executions set status = 'RUNNING', error_type = null,"
            f" error_message = null where workflow_execution_id in ({marks})",
            names,
        )
        connection.execute(
            f"update step_checkpoints set due_at = ?, event = null, error_message = 'try later'"
            f" where status = 'FAILED' and workflow_execution_id in ({marks})",
            (LATER, *names),
        )


def test_those_in_a_back_off_with_the_same_error_are_a_group(shop: Path) -> None:
    put_in_back_off(shop, "order-0", "order-1")
    with open_reader(shop) as reader:
        assert {one.problem for one in reader.problems()} == {"FAILED", "IN TROUBLE"}
    put_in_back_off(shop, "order-2", "refund-1")
    with open_reader(shop) as reader:
        (group,) = [one for one in reader.problems() if one.problem == "BACK-OFF"]
    assert shortly(group)[1:5] == ("order", "charge", CONNECTION, 3)
    assert group.last_message == "try later"
    test_the_view_says_the_same(shop)
    (line,) = [one for one in lines("status", shop) if one[:2] == ["problem", "BACK-OFF"]]
    assert line[5] == "3"
    text = on_terminal("status", shop, columns=400)[1]
    (retry,) = [one[3:] for one in text.splitlines() if "running,pending" in one]
    assert retry.startswith("durable-workflow retry ")
    (found,) = [one for one in doctor(shop) if one[1] == "back-off"]
    assert "3 executions of order wait for the next attempt of charge" in found[2]
    assert " ".join(retry.split()[1:3]) in found[3]
    done = run(*shlex.split(retry)[1:], "--yes")
    assert (done.stdout, done.stderr) == ("retried 3\n", "")


def test_what_waits_for_its_next_attempt_is_found_by_its_error(shop: Path) -> None:
    put_in_back_off(shop, "order-0", "refund-1")
    assert ids(shop, "--error", "TRY later") == ["refund-1", "order-0"]
    assert ids(shop, "--error", "try later", "--id", "order-") == ["order-0"]
    assert ids(shop, "--error", "try later", "--status", "failed") == []
    assert ids(shop, "--error", "try later", "--type", "refund") == ["refund-1"]
    with closing(sqlite3.connect(shop)) as connection, connection:
        # A later attempt has begun; and a compensation is tried again.
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, step_name, attempt,"
            " status) values ('order-0', 1, 'charge', 2, 'INTENT')"
        )
        connection.execute(
            "update workflow_executions set status = 'COMPENSATING'"
            " where workflow_execution_id = 'order-1'"
        )
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, step_name, attempt,"
            " status, error_message, due_at) values"
            " ('order-1', 0, 'price:compensate', 0, 'INTENT', 'try later', ?)",
            (LATER,),
        )
    assert ids(shop, "--error", "try later") == ["refund-1", "order-1"]
    assert ids(shop, "--error", "try later", "--id", "o") == ["order-1"]


def ids(file: Path, *options: str) -> list[str]:
    return [line[0] for line in lines("list", file, *options)]


def doctor(file: Path) -> list[list[str]]:
    return [line.split("\t") for line in run("doctor", file).stdout.splitlines()]


def test_fresh_failures_with_the_same_error_are_a_warning_with_two_commands(shop: Path) -> None:
    with open_reader(shop) as reader:  # they are said to have failed in 2030
        assert [one.kind for one in reader.alarms(NEXT_DAY) if one.name == "failed"] == []
    now = time_to_text(datetime.now(UTC))
    with closing(sqlite3.connect(shop)) as connection, connection:
        connection.execute(
            "update workflow_executions set status_since = '2020' || substr(?, 5),"
            " updated_at = '2020' || substr(?, 5)",
            (now, now),
        )
        connection.execute(
            "update workflow_executions set status_since = ?, updated_at = ?"
            " where workflow_execution_id in ('order-0', 'order-4', 'refund-0', 'refund-1')",
            (now, now),
        )
    assert not [one for one in doctor(shop) if one[1] == "failed"]
    with open_reader(shop) as reader:
        assert [one.kind for one in reader.alarms(datetime.now(UTC)) if one.name == "failed"] == [
            "info"
        ]
    with closing(sqlite3.connect(shop)) as connection, connection:
        connection.execute(
            "update workflow_executions set status_since = ?, updated_at = ?"
            " where workflow_execution_id = 'order-1'",
            (now, now),
        )
    assert run("doctor", shop).returncode == 3
    (found,) = [one for one in doctor(shop) if one[1] == "failed"]
    assert f"3 executions of order FAILED within an hour with {CONNECTION}" in found[2]
    listed, retried = re.findall("`(.*?)`", found[3])[:2]
    assert len(run(*shlex.split(listed)[1:]).stdout.splitlines()) == 3
    with open_reader(shop) as reader:
        alarms = {one.name: one for one in reader.alarms(datetime.now(UTC))}
    assert (alarms["failed"].kind, alarms["failed"].count) == ("warning", 5)
    # Once more started is dealt with; and so is what was retried.
    assert lines("rerun", shop, "order-0")
    assert not [one for one in doctor(shop) if one[1] == "failed"]
    assert run(*shlex.split(retried)[1:], "--yes").stdout == "retried 3\n"


NEXT_DAY = datetime(2030, 1, 2, tzinfo=UTC)


def test_doctor_names_who_holds_the_write_lock(shop: Path) -> None:
    assert not [one for one in doctor(shop) if one[1] == "lock"]
    before = shop.read_bytes()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
            " c.execute('begin immediate'); print('held', flush=True); sys.stdin.read()",
            shop,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        (found,) = [one for one in doctor(shop) if one[1] == "lock"]
        assert f"by process {holder.pid}:" in found[2]
        assert f"ps -p {holder.pid} " in found[3]
    finally:
        holder.kill()
        holder.communicate()
    assert shop.read_bytes() == before


def test_status_has_them_in_all_its_forms(shop: Path) -> None:
    found = [line for line in lines("status", shop) if line[0] == "problem"]
    assert found[0] == [
        *("problem", "FAILED", "order", "charge", CONNECTION, str(CHARGED)),
        *("2030-01-01T00:04:00.000Z", "2030-01-01T00:09:00.000Z", "order-3", "no answer about 3"),
        "",
    ]
    assert len(found) == len(GROUPS)
    as_json = json.loads(run("status", shop, "--json").stdout)["problems"]
    assert [one["executions"] for one in as_json] == [one[4] for one in GROUPS]
    code, seen = on_terminal("status", shop, columns=200)
    assert code == 0
    assert "failures and trouble by error: 5 (the newest first)" in seen
    assert f"durable-workflow retry {shop} --type order --step charge --error {CONNECTION}" in seen


@pytest.mark.parametrize("group", GROUPS, ids=lambda one: f"{one[1]}-{one[2]}")
def test_the_command_of_a_group_is_about_that_group(
    shop: Path, group: tuple[str, str, str | None, str, int]
) -> None:
    _, seen = on_terminal("status", shop, columns=200)
    (number,) = [place for place, one in enumerate(GROUPS, 1) if one == group]
    (line,) = [one for one in seen.splitlines() if one.startswith(f"{number}  durable-workflow")]
    _, name, *options = shlex.split(line.partition("  ")[2])
    if name == "retry":
        done = run(name, *options, "--dry-run")
        assert f"would retry {group[4]} execution" in done.stderr
    else:
        done = run(name, *options, "-o", "id")
    ids = done.stdout.split()
    assert len(ids) == group[4]
    assert all(one.startswith(group[1]) for one in ids)


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--step", "ship"], {"order-4", "order-5"}),
        (["--step", "pay back", "--error", "about 2"], {"refund-2"}),
        (["--step", "price"], set[str]()),
        (["--workflow-version", "2", "--error", "ABOUT 1"], {"order-1"}),
        (["--workflow-version", "3"], set[str]()),
        (["--error", "there is no such key"], {"mistaken-1"}),  # in trouble
        (["--error", "about", "--id", "refund"], {"refund-0", "refund-1", "refund-2"}),
        (["--error", "no answer", "--status", "completed"], set[str]()),
        (["--error", "KeyError", "--status", "failed"], set[str]()),
        (["--error", "about", "--older-than", "1h"], set[str]()),
        (["--ended-since", "1h", "--type", "refund"], {"refund-0", "refund-1", "refund-2"}),
        (["--ended-before", "1h"], set[str]()),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_what_options_choose(shop: Path, options: list[str], ids: set[str]) -> None:
    assert set(run("list", shop, *options, "-o", "id").stdout.split()) == ids


def test_an_age_of_ends_is_about_what_is_over(shop: Path) -> None:
    """Not of executions that have just been written, whatever they are."""
    ended = run("list", shop, "--ended-since", "1h", "-o", "id").stdout.split()
    assert "mistaken-1" not in ended
    assert len(ended) == CHARGED + SHIPPED + REFUNDED + 1
    done = run("list", shop, "--ended-since", "1h", "--failed-since", "1h")
    assert done.returncode == 1
    assert "mean the same" in done.stderr


def test_pages_of_a_search_by_error_lead_through_all_of_them_once(shop: Path) -> None:
    with closing(sqlite3.connect(shop)) as connection, connection:
        begun = datetime(2031, 1, 1, tzinfo=UTC)
        connection.executemany(
            "insert into workflow_executions (workflow_execution_id, workflow_id, status,"
            " error_type, error_message, trouble, input_data, created_at) select ?, workflow_id,"
            " ?, ?, ?, ?, '[]', ? from workflows where workflow_type = 'plain'",
            [
                (
                    f"e-{number:04}",
                    "RUNNING" if number % 3 == 0 else "FAILED",
                    None if number % 3 == 0 else "a:B",
                    None if number % 3 == 0 else f"gone {number}",
                    f"Gone: {number}" if number % 3 == 0 else None,
                    time_to_text(begun + timedelta(seconds=number // 2)),
                )
                for number in range(300)
            ],
        )
    done = run("list", shop, "--error", "gone", "--limit", "7", "--all", "-o", "id")
    assert done.stdout.split() == [f"e-{number:04}" for number in reversed(range(300))]
