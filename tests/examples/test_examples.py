"""The examples, run as their readers run them, and the demo's eye for what is wrong."""

from __future__ import annotations

import copy
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import demo_agent
import nightly_crawl
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def play(name: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "checkout_with_refund.py",
            [
                "paid 200 cents",
                "reserved pen, ink",
                "released pen, ink",
                "gave 200 cents of payment-1 back",
                "failed: the truck broke down",
            ],
        ),
        (
            "human_approval.py",
            [
                "dear lead, may we have a plant?",
                "a plant: yes, says the lead",
                "dear boss, may we have a piano?",
                "a piano: no, says the boss",
            ],
        ),
        ("chunked_upload.py", ["uploaded 8000", "sent: 0 1 2 3 4 5 5 6 7"]),
        ("nightly_pipeline.py", ["4 from shop, 4 from mail, 9 from warehouse"]),
        (
            "agent_loop.py",
            [
                "4 people a square kilometre, as I wrote",
                "calls: model population model area area model ask mail model",
            ],
        ),
        (
            "invoice_run.py",
            ["1200 cents; not sent: ['nobody: nobody has no address']", "it ended in run 2"],
        ),
        (
            "nightly_crawl.py",
            [
                "add docs: SENT",
                "add docs: DUPLICATE",
                "docs: 76 bytes",
                "the server answered 25 requests for 25 pages, and refused 0",
            ],
        ),
        ("file_pipeline.py", ["480 cents in 2 files, 1 could not be read"]),
    ],
)
def test_an_example_runs_and_says_what_happened(
    name: str, lines: list[str], tmp_path: Path
) -> None:
    printed = play(name, tmp_path).splitlines()
    for line in lines:
        assert line in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.campaign
def test_the_demo_kills_its_worker_and_every_order_is_finished_and_charged_once(
    tmp_path: Path,
) -> None:
    printed = play("demo.py", tmp_path)
    assert "In the middle of: " in printed
    assert "All 12 orders are finished." in printed
    assert printed.count("COMPLETED") == 12
    assert list(tmp_path.iterdir()) == []


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("example", "module"),
    [
        ("pydantic_ai_agent.py", "pydantic_ai"),
        ("openai_agent.py", "agents"),
        ("langgraph_agent.py", "langgraph.graph"),
    ],
)
def test_the_demo_of_an_agent_kills_it_and_makes_no_completed_call_again(
    example: str, module: str, tmp_path: Path
) -> None:
    pytest.importorskip(module, reason="an extra is not installed")
    printed = play("demo_agent.py", tmp_path, example)
    assert "In the middle of: " in printed
    assert "It says: It is warm: a train to Rome." in printed
    assert printed.count("replayed") >= 2
    assert printed.count("cut off, called again") >= 1
    assert "tokens of input" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("framework", ["pydantic_ai", "openai", "langgraph"])
def test_an_agent_is_an_example_of_less_than_60_lines(framework: str) -> None:
    text = (EXAMPLES / f"{framework}_agent.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60


def test_the_demo_of_an_agent_sees_what_is_wrong() -> None:
    done, cut = demo_agent.Step("a", "COMPLETED", "1"), demo_agent.Step("b", "INTENT", None)
    before = {("x", 0): done, ("x", 1): cut}
    after = {("x", 0): done, ("x", 1): cut._replace(status="COMPLETED", result="2")}
    agent = subprocess.Popen([sys.executable, "-c", ""])
    agent.wait()

    def problems(after: dict[Any, Any], calls: list[str]) -> list[str]:
        return list(demo_agent.find_problems(agent, before, after, calls))

    assert problems(after, ["called: b"]) == []
    assert "1 calls were left to make, and it made 2" in problems(after, ["a", "b"])[0]
    assert "has changed" in problems(after | {("x", 0): done._replace(result="3")}, ["b"])[0]
    assert problems(before, ["b"]) == ["not every step is completed"]
    agent.returncode = 1
    assert problems(after, ["b"]) == ["the agent ended with 1"]


@pytest.mark.campaign
@pytest.mark.skipif(
    not (Path(sys.executable).with_name("litestream").exists() or shutil.which("litestream")),
    reason="there is no litestream on this machine",
)
def test_a_database_that_is_lost_is_restored_from_its_replica_and_nobody_is_charged_twice(
    tmp_path: Path,
) -> None:
    printed = play("restore_drill.py", tmp_path)
    assert "The machine is gone" in printed
    assert "All 12 orders are finished, and nobody was charged twice." in printed


@pytest.mark.campaign
def test_a_script_that_is_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "send_invoices.py", "november.db", "pen", "ink", "nib"]
    outbox = tmp_path / "outbox.txt"
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not outbox.exists() and first.poll() is None:
        time.sleep(0.005)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=30)
    assert said == "stopped; run it again to go on\n"
    second = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    assert second.stdout == "3 invoices are sent; see outbox.txt\n"
    sent = [line.split()[3] for line in outbox.read_text().splitlines()]
    assert sent == ["pen", "ink", "nib"]


def fetched_in(database: Path) -> int:
    """How many pages the crawl has; 0 if its worker has not made the file yet."""
    query = "select count(*) from step_checkpoints where step_name glob 'fetch *' and status = ?"
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            (count,) = connection.execute(query, ["COMPLETED"]).fetchone()
    except sqlite3.OperationalError:
        return 0
    return int(count)


@pytest.mark.campaign
def test_a_crawl_that_is_killed_fetches_only_the_pages_that_are_missing(tmp_path: Path) -> None:
    database = tmp_path / "crawl.db"
    command = [sys.executable, "-W", "error", EXAMPLES / "nightly_crawl.py", database]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while fetched_in(database) < 5 and first.poll() is None:
        time.sleep(0.005)
    first.kill()
    assert first.wait(30) == -signal.SIGKILL
    missing = 25 - fetched_in(database)
    assert missing > 0
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert " goes on\n" in second.stdout
    assert second.stdout.count(": 76 bytes\n") == 5
    answers = f"the server answered {missing} requests for {missing} pages, and refused 0\n"
    assert second.stdout.endswith(answers)
    assert fetched_in(database) == 25


def test_the_server_of_the_crawl_refuses_and_counts_what_is_too_fast() -> None:
    web = nightly_crawl.Web()
    answers = [web.is_allowed("/news/1", now) for now in (0.0, *[0.4] * 20, 0.51)]
    assert answers == [True] * 20 + [False, True]
    assert (web.answered.total(), web.refused) == (21, 1)


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLES)
    import demo

    return demo


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("charged twice", "was charged 26.60, 26.60"),
        ("not charged", "was charged nothing"),
        ("charged too much", "was charged 1000.00"),
        ("not finished", "order-1001 is RUNNING"),
        ("a step is missing", "order-1001 has not done all of its steps"),
        ("killed too early", "nothing was replayed"),
        ("killed too late", "no step was interrupted"),
    ],
)
def test_the_demo_fails_when_a_promise_is_broken(demo: Any, wrong: str, words: str) -> None:
    orders = demo.read_orders(demo.ORDERS)
    charges = [{"order": o.number, "amount": str(demo.price(o))} for o in orders]
    after = {(f"order-{o.number}", step): "COMPLETED" for o in orders for step in demo.STEPS}
    statuses = {f"order-{o.number}": "COMPLETED" for o in orders}
    before = {("order-1001", "price"): "COMPLETED", ("order-1001", "charge"): "INTENT"}

    def problems() -> str:
        reports = demo.make_reports(before, after, statuses)
        return "\n".join(demo.find_problems(reports, charges))

    assert problems() == ""
    match wrong:
        case "charged twice":
            charges.append(copy.copy(charges[0]))
            charges[0]["amount"] = charges[-1]["amount"] = "26.60"
        case "not charged":
            del charges[0]
        case "charged too much":
            charges[0]["amount"] = "1000.00"
        case "not finished":
            statuses["order-1001"] = "RUNNING"
        case "a step is missing":
            del after["order-1001", "ship"]
        case "killed too early":
            before.clear()
        case "killed too late":
            before["order-1001", "charge"] = "COMPLETED"
    assert words in problems(), json.dumps(problems())
