"""A workflow that survives kill -9, on twelve orders.

    python demo.py

It starts a payment service and a worker, kills the worker with SIGKILL in the middle of its steps,
starts it again, and checks, from the database and from the payment service's ledger, that every
order was finished and that nobody was charged twice. Exits with 1 if one of these is not true.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orders import price, read_orders

HERE = Path(__file__).parent
ORDERS = HERE / "orders.json"
STEPS = ("price", "charge", "pack", "ship")
KILL_AFTER = 14
"""Completed steps; of 12 orders with 4 steps each."""


@dataclass
class Report:
    """What became of one order."""

    status: str = "not started"
    replayed: list[str] = field(default_factory=list)
    run: list[str] = field(default_factory=list)
    run_again: list[str] = field(default_factory=list)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database, ledger = folder / "workflows.db", folder / "ledger.jsonl"
        service = start("payment_service.py", ledger, stdout=subprocess.PIPE)
        try:
            assert service.stdout is not None
            payments = f"http://127.0.0.1:{service.stdout.readline().strip()}/charges"
            before = run_and_kill(database, payments)
            print("Started it again.\n")
            worker = start("order_worker.py", database, ORDERS, payments)
            if worker.wait(timeout=30) != 0:
                print("the second worker failed")
                return 1
        finally:
            service.kill()
            service.communicate()
        charges = [json.loads(line) for line in ledger.read_text().splitlines()]
        reports = make_reports(before, read_steps(database), read_statuses(database))
    print_table(reports, charges)
    problems = list(find_problems(reports, charges))
    for problem in problems:
        print(f"WRONG: {problem}")
    if not problems:
        replayed = sum(len(report.replayed) for report in reports.values())
        print(
            f"\nAll {len(reports)} orders are finished. {replayed} steps were replayed from the"
            "\ndatabase, the others ran after the kill, and nobody was charged twice."
        )
    return 1 if problems else 0


def run_and_kill(database: Path, payments: str) -> dict[tuple[str, str], str]:
    """Start a worker, kill it in the middle, and return how far each step had got."""
    worker = start("order_worker.py", database, ORDERS, payments)
    give_up_at = time.monotonic() + 20
    steps: dict[tuple[str, str], str] = {}
    while True:
        time.sleep(0.005)
        if worker.poll() is not None or time.monotonic() > give_up_at:
            raise SystemExit("the first worker ended before it could be killed")
        if list(read_steps(database).values()).count("COMPLETED") < KILL_AFTER:
            continue
        worker.send_signal(signal.SIGSTOP)  # hold still, to see what it is in the middle of
        time.sleep(0.02)
        steps = read_steps(database)
        if "INTENT" in steps.values():
            break
        worker.send_signal(signal.SIGCONT)
    worker.kill()  # SIGKILL: it has no chance to tidy up
    worker.wait()
    done = list(steps.values()).count("COMPLETED")
    in_the_middle = [step for step, status in steps.items() if status == "INTENT"]
    print(f"Killed the worker after {done} steps of {len(read_orders(ORDERS)) * len(STEPS)}.")
    print("In the middle of: " + ", ".join(f"{step} of {order}" for order, step in in_the_middle))
    return steps


def start(script: str, *arguments: object, stdout: int | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=stdout, text=True)


def read_steps(database: Path) -> dict[tuple[str, str], str]:
    """The status of each step's last attempt, by order and step."""
    rows = query(
        database,
        "select workflow_execution_id, step_name, status from step_checkpoints"
        " order by workflow_execution_id, step_index, attempt",
    )
    return {(order, step): status for order, step, status in rows}


def read_statuses(database: Path) -> dict[str, str]:
    return dict(query(database, "select workflow_execution_id, status from workflow_executions"))


def query(database: Path, sql: str) -> list[Any]:
    """Look at the database as anybody may, while workers write to it."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()
    except sqlite3.OperationalError:
        return []  # the worker has not made it yet


def make_reports(
    before: dict[tuple[str, str], str],
    after: dict[tuple[str, str], str],
    statuses: dict[str, str],
) -> dict[str, Report]:
    """What became of each order, from the steps before the second life and after it."""
    reports = {f"order-{order.number}": Report() for order in read_orders(ORDERS)}
    for order, status in statuses.items():
        reports[order].status = status
    for (order, step), status in after.items():
        if status == "COMPLETED":
            match before.get((order, step)):
                case "COMPLETED":
                    reports[order].replayed.append(step)
                case "INTENT":
                    reports[order].run_again.append(step)
                case _:
                    reports[order].run.append(step)
    return reports


def find_problems(reports: dict[str, Report], charges: list[dict[str, Any]]) -> Iterable[str]:
    """Everything that does not hold of what the demo promises."""
    amounts = {f"order-{order.number}": str(price(order)) for order in read_orders(ORDERS)}
    for order, report in reports.items():
        if report.status != "COMPLETED":
            yield f"{order} is {report.status}"
        elif sorted(report.replayed + report.run + report.run_again) != sorted(STEPS):
            yield f"{order} has not done all of its steps"
        paid = [charge["amount"] for charge in charges if f"order-{charge['order']}" == order]
        if paid != [amounts[order]]:
            yield f"{order} costs {amounts[order]}, and was charged {', '.join(paid) or 'nothing'}"
    if not any(report.replayed for report in reports.values()):
        yield "nothing was replayed: the kill came too early to show anything"
    if not any(report.run_again for report in reports.values()):
        yield "no step was interrupted: the kill came too late to show anything"


def print_table(reports: dict[str, Report], charges: list[dict[str, Any]]) -> None:
    headings = ("order", "status", "replayed", "cut off, run again", "run after", "charges")
    rows = [
        (
            order,
            report.status,
            " ".join(report.replayed),
            " ".join(report.run_again),
            " ".join(report.run),
            str(sum(f"order-{charge['order']}" == order for charge in charges)),
        )
        for order, report in reports.items()
    ]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, tuple("-" * width for width in widths), *rows):
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


if __name__ == "__main__":
    sys.exit(main())
