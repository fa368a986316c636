"""One command for many executions: what it shows, asks, does, and sums up."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from tests.cli.conftest import ENVIRONMENT, lines, on_terminal, piped, refusal, run, wait_until
from tests.commands import COMMAND

FAILED, WAITING = 30, 5


def refuse(order_id: str) -> None:
    raise ValueError(f"no stock for {order_id}")


@workflow(name="stock")
async def stock(ctx: WorkflowContext, order_id: str, customer: dict[str, object]) -> None:
    if order_id.startswith("W"):
        await ctx.wait_signal("approved")
    await ctx.step("ship", refuse, order_id)


async def fill(path: Path) -> None:
    async with (
        SqliteCheckpointStore.file(path) as store,
        DurableEngine(store, workflows=[stock]) as engine,
    ):
        for number in range(FAILED):
            customer = {"id": number % 10, "vip": number < 3, "home": {"city": "Köln"}}
            with pytest.raises(WorkflowFailedError):
                await engine.run(stock, f"A-{number}", customer, execution_id=f"stock-A-{number}")
        for number in range(WAITING):
            await engine.start(
                stock, f"W-{number}", {"id": number}, execution_id=f"stock-W-{number}"
            )
        for number in range(WAITING):
            while (await engine.load(f"stock-W-{number}")).status != "SUSPENDED":
                await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stock") / "stock.db"
    asyncio.run(fill(path))
    return path


@pytest.fixture
def stocks(filled: Path, tmp_path: Path, placed: Callable[[Path], Path]) -> Path:
    with (
        closing(sqlite3.connect(filled)) as source,
        closing(sqlite3.connect(tmp_path / "stock.db")) as copy,
    ):
        source.backup(copy)
    return placed(tmp_path / "stock.db")


def statuses(file: Path) -> Counter[str]:
    return Counter(line[3] for line in lines("list", file, "--all"))


def ids(file: Path, *options: str) -> list[str]:
    return run("list", file, "--all", "-o", "id", *options).stdout.split()


BEFORE = Counter(FAILED=FAILED, SUSPENDED=WAITING)


# What is chosen


@pytest.mark.few(6)
@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--all"], FAILED),
        (["--status", "failed"], FAILED),
        (["--status", "failed,suspended"], FAILED + WAITING),
        (["--status", "failed", "--status", "suspended"], FAILED + WAITING),
        (["--type", "stock"], FAILED),
        (["--id", "stock-A-1"], 11),
        (["--error", "STOCK FOR a-1"], 11),
        (["--error", "ValueError"], FAILED),
        (["--error", "100%"], 0),
        (["--failed-since", "1h"], FAILED),
        (["--failed-since", "0s"], 0),
        (["--older-than", "1h"], 0),
        (["--input", "id=7"], 3),
        (["--input", "id=7", "--input", "1=A-17"], 1),
        (["--input", "vip=true"], 3),
        (["--input", "home.city=Köln", "--input", "vip=false"], FAILED - 3),
        (["--input", "2=A-17"], 0),
        (["--input", "city=Köln"], 0),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_a_dry_run_shows_whom_it_would_be_done_to(
    stocks: Path, options: list[str], count: int
) -> None:
    done = run("retry", stocks, *options, "--dry-run")
    assert done.returncode == 0
    if count:
        assert f"would retry {count} execution" in done.stderr
        assert len(set(done.stdout.split())) == count
    else:
        assert done.stdout == "nothing to retry\n"
    assert statuses(stocks) == BEFORE


def test_list_shows_those_that_a_bulk_would_take(stocks: Path) -> None:
    options = ["--status", "failed", "--error", "a-2", "--input", "id=7"]
    assert ids(stocks, *options) == ["stock-A-27"]
    assert run("retry", stocks, *options, "--dry-run").stdout.split() == ["stock-A-27"]


@pytest.mark.parametrize("command", ["retry", "cancel", "unblock", "prune", "signal"])
def test_nobody_is_meant_when_nobody_is_named(stocks: Path, command: str) -> None:
    done = run(command, stocks, "--yes", *(["approved"] if command == "signal" else []))
    assert (done.returncode, done.stdout) == (2, "")
    assert statuses(stocks) == BEFORE


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["retry", "stock-A-1", "--all"], "not both"),
        (["retry", "-", "stock-A-1"], "-"),
        (["retry", "--input", "id"], "KEY=VALUE"),
        (["retry", "--input", "0=A-1"], "number 1"),
        (["retry", "--input", 'a"b=1'], "not a key"),
        (["retry", "--status", "faild"], "did you mean 'FAILED'?"),
        (["retry", "--status", "failed,"], "empty"),
        (["retry", "--type", "stok"], "no workflow type 'stok'; did you mean 'stock'?"),
        (["retry", "--id", ""], "--id is empty"),
        (["retry", "--error", ""], "--error is empty"),
        (["retry", "--type", ""], "--type holds an empty name"),
        (["retry", ""], "must not be empty"),
        (["retry", "--failed-since", "soon"], "30d"),
        (["retry", "--failed-since", "1h", "--status", "suspended"], "--failed-since"),
        (["retry", "--blocked", "--in-trouble"], "exclude each other"),
        (["prune", "--type", "stock"], "--older-than"),
        (["signal", "--all"], "NAME"),
        (["signal", "--all", "stock-W-1", "approved", "1"], "NAME [JSON]"),
        (["signal", "--all", "approved", '{"by"'], "JSON"),
    ],
)
def test_what_makes_no_sense_is_refused(stocks: Path, arguments: list[str], says: str) -> None:
    done = run(arguments[0], stocks, *arguments[1:], "--yes")
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert says in done.stderr
    assert statuses(stocks) == BEFORE


# What is asked


def test_without_a_terminal_nothing_is_done_without_a_yes(stocks: Path) -> None:
    done = run("retry", stocks, "--all")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 10
    assert done.stderr == f"nothing was done; add --yes to retry {FAILED} executions\n"
    assert statuses(stocks) == BEFORE


def test_on_a_terminal_the_number_and_ten_of_them_are_shown_and_it_asks(stocks: Path) -> None:
    code, text = on_terminal("retry", stocks, "--all", answer="n\n")
    assert code == 1
    assert f"would retry {FAILED} executions; the first 10:" in text
    assert f"retry {FAILED} executions? [y/N]" in text
    assert len([line for line in text.splitlines() if line.startswith("stock-A-")]) == 10
    assert statuses(stocks) == BEFORE
    code, text = on_terminal("retry", stocks, "--all", answer="y\n")
    assert code == 0
    assert f"retried {FAILED}" in text
    assert statuses(stocks) == Counter(PENDING=FAILED, SUSPENDED=WAITING)


def test_ids_that_are_named_need_no_question(stocks: Path) -> None:
    assert lines("retry", stocks, "stock-A-1", "stock-A-2", "stock-A-1") == [
        ["stock-A-1 continues from what failed when a worker claims it"],
        ["stock-A-2 continues from what failed when a worker claims it"],
        ["retried 2"],
    ]
    assert statuses(stocks)["PENDING"] == 2


def test_a_dry_run_of_named_ids_does_nothing(stocks: Path) -> None:
    done = run("cancel", stocks, "stock-W-1", "--dry-run")
    assert (done.returncode, done.stdout) == (0, "stock-W-1\n")
    code, text = on_terminal("cancel", stocks, "stock-W-1", "--dry-run")
    assert (code, "would cancel 1 execution:" in text) == (0, True)
    assert lines("cancel", stocks, "stock-W-1")


# What is done


def test_ids_come_from_a_pipe(stocks: Path) -> None:
    for number, form in enumerate((["-o", "id"], [])):
        found = run("list", stocks, "--input", f"id={number}", "-s", "failed", *form).stdout
        done = piped(found + "\n", "retry", stocks, "-")
        assert (done.returncode, done.stdout) == (0, "retried 3\n")
    assert statuses(stocks)["PENDING"] == 6


def test_those_that_refuse_are_named_and_the_others_done(stocks: Path) -> None:
    done = piped("stock-A-1\nnobody\nstock-W-1\nstock-A-2\n", "retry", stocks, "-")
    assert (done.returncode, done.stdout) == (1, "retried 2, refused 2\n")
    refused = sorted(done.stderr.splitlines())
    assert [line.partition(": ")[0] for line in refused] == ["nobody", "stock-W-1"]
    assert statuses(stocks)["PENDING"] == 2
    assert refusal("retry", stocks, "nobody").startswith("no execution has the id 'nobody'")


def test_on_a_terminal_ten_that_refuse_are_named_and_all_are_counted(stocks: Path) -> None:
    code, text = on_terminal("cancel", stocks, "--status", "failed", "--yes", columns=400)
    assert code == 1
    assert text.count("is finished (FAILED)") == 10
    assert f"asked to cancel: 0, refused {FAILED}" in text


def test_a_signal_goes_to_all_that_are_chosen(stocks: Path) -> None:
    done = run("signal", stocks, "--type", "stock", "--yes", "approved", '{"by": "kim"}')
    assert (done.returncode, done.stdout) == (0, f"sent approved to {WAITING}\n")
    done = piped("stock-W-1\n", "signal", stocks, "-", "other")
    assert (done.returncode, done.stdout) == (0, "sent other to 1\n")
    came = [line[1:5:3] for line in lines("show", stocks, "stock-W-1") if line[0] == "signal"]
    assert came == [["approved", '{"by": "kim"}'], ["other", "null"]]


def test_unblock_is_for_blocked_ones_alone(stocks: Path) -> None:
    assert "is not blocked" in refusal("unblock", stocks, "stock-W-1")
    with closing(sqlite3.connect(stocks)) as connection, connection:
        connection.execute(
            "update workflow_executions set blocked_reason = 'killed its workers'"
            " where workflow_execution_id in ('stock-W-1', 'stock-W-3')"
        )
    assert ids(stocks, "--blocked") == ["stock-W-3", "stock-W-1"]
    assert ids(stocks, "--blocked", "--id", "stock-W-1", "--input", "id=1") == ["stock-W-1"]
    done = run("unblock", stocks, "--all", "--yes")
    assert (done.returncode, done.stdout) == (0, "unblocked 2\n")
    assert ids(stocks, "--blocked") == []


def test_prune_deletes_what_is_chosen_and_finished(stocks: Path) -> None:
    before = ids(stocks)
    done = run("prune", stocks, "--all", "--status", "failed", "--error", "A-1", "--yes")
    assert (done.returncode, done.stdout) == (0, "deleted 11\n")
    assert set(before) - set(ids(stocks)) == {f"stock-A-{number}" for number in (1, *range(10, 20))}
    done = run("prune", stocks, "stock-A-2", "stock-W-1", "stock-A-1")
    assert (done.returncode, done.stdout) == (1, "deleted 1, refused 2\n")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "stock-W-1",
        "stock-A-1",
    ]
    assert len(ids(stocks)) == len(before) - 12
    with closing(sqlite3.connect(stocks)) as connection:
        assert connection.execute("pragma foreign_key_check").fetchall() == []


def test_trouble_with_the_file_ends_it_and_says_how_far_it_came(stocks: Path) -> None:
    with closing(sqlite3.connect(stocks)) as connection, connection:
        connection.execute(
            "create trigger full before update on workflow_executions"
            " when new.workflow_execution_id = 'stock-A-12'"
            " begin select raise(fail, 'out of order'); end"
        )
    done = run("retry", stocks, "--all", "--yes")
    assert done.returncode == 1
    retried = statuses(stocks)["PENDING"]
    assert done.stdout == f"retried {retried}, not tried {FAILED - retried}\n"
    assert "out of order" in done.stderr


HANGS = """
import asyncio, sys
from pathlib import Path
from durable_workflow_sqlite.cli import bulk
from durable_workflow_sqlite.choosing import Chosen

async def hang(engine, execution_id):
    if execution_id == "stock-A-1":
        return "did it"
    print("hangs", flush=True)
    await asyncio.Event().wait()

wanted = bulk.Command(name="hang", done="hung", act=hang)
how = bulk.How(yes=True, dry_run=False)
bulk.perform(sys.argv[1], wanted, ["stock-A-1", "stock-A-2"], Chosen(), how)
"""


@pytest.mark.campaign
def test_ctrl_c_says_how_far_it_came(stocks: Path) -> None:
    hanging = subprocess.Popen(
        [sys.executable, "-c", HANGS, stocks],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert hanging.stdout is not None
    assert hanging.stdout.readline() == "did it\n"
    assert hanging.stdout.readline() == "hangs\n"
    hanging.send_signal(signal.SIGINT)
    assert hanging.stdout.read() == "hung 1, not tried 1\n"
    assert hanging.wait(30) == 1
    hanging.stdout.close()


@pytest.mark.campaign
def test_what_a_killed_bulk_did_not_do_the_next_one_does(stocks: Path) -> None:
    bulk = subprocess.Popen([*COMMAND, "retry", stocks, "--all", "--yes"], env=ENVIRONMENT)
    wait_until(lambda: bulk.poll() is not None or statuses(stocks)["PENDING"])
    bulk.kill()
    bulk.wait()
    left = statuses(stocks)["FAILED"]
    done = run("retry", stocks, "--all", "--yes")
    assert (done.returncode, done.stdout) == (
        0,
        f"retried {left}\n" if left else "nothing to retry\n",
    )
    assert statuses(stocks) == Counter(PENDING=FAILED, SUSPENDED=WAITING)
    assert run("doctor", stocks).returncode in (0, 3)
