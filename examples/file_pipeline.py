"""Every file of a folder, side by side, then one report of them all.

    python file_pipeline.py [FOLDER]

A file that cannot be read is tried again, and then reported; it does not hold up the others. Stop
it in the middle and start it again: what was done of each file is not done again. Without a folder
it makes one with a few files.
"""

from __future__ import annotations

import asyncio
import csv
import sys
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from durable_workflow_sqlite import (
    DurableEngine,
    RetryPolicy,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)

TWICE = RetryPolicy.fixed(max_attempts=2, delay=timedelta(milliseconds=50))


@dataclass
class Sales:
    """What a file says: cents by product."""

    file: str
    cents: dict[str, int]


@workflow
async def pipeline(ctx: WorkflowContext, folder: str) -> str:
    # What a workflow goes by must be the same on every replay: the list of files is a step, too.
    files = await ctx.step("list", list_files, folder)
    # A branch numbers its steps for itself. So what is done of one file may get another step at
    # its end one day, and executions that are under way go on. Nothing else needs a branch.
    found = await asyncio.gather(*(load(ctx.branch(file), folder, file) for file in files))
    good = [sales for sales in found if sales is not None]
    return await ctx.step("report", report, folder, good, len(files) - len(good))


async def load(ctx: WorkflowContext, folder: str, file: str) -> Sales | None:
    try:
        sales = await ctx.step("read", read, folder, file, retry=TWICE)
    except ValueError as error:
        await ctx.step("complain", complain, folder, file, str(error))
        return None
    await ctx.step("archive", archive, folder, file)
    return sales


def list_files(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).glob("*.csv"))


def read(folder: str, file: str) -> Sales:
    cents: dict[str, int] = {}
    with Path(folder, file).open(encoding="utf-8", newline="") as lines:
        for product, amount in csv.reader(lines):
            cents[product] = cents.get(product, 0) + int(amount)
    return Sales(file, cents)


def archive(folder: str, file: str) -> None:
    """Move a file away. After a crash in the middle it may have been moved: that is fine, too."""
    done = Path(folder, "done")
    done.mkdir(exist_ok=True)
    if Path(folder, file).exists():
        Path(folder, file).rename(done / file)


def complain(folder: str, file: str, why: str) -> None:
    Path(folder, f"{file}.error").write_text(f"{why}\n", encoding="utf-8")


def report(folder: str, sales: list[Sales], failures: int) -> str:
    total = sum(sum(one.cents.values()) for one in sales)
    text = f"{total} cents in {len(sales)} files, {failures} could not be read"
    Path(folder, "report.txt").write_text(f"{text}\n", encoding="utf-8")
    return text


def make_files(folder: Path) -> None:
    for name, text in {
        "monday.csv": "pen,120\nink,300\n",
        "tuesday.csv": "pen,60\n",
        "wednesday.csv": "pen,many\n",
    }.items():
        Path(folder, name).write_text(text, encoding="utf-8")


async def main(folder: Path) -> None:
    async with (
        SqliteCheckpointStore.file(folder / "workflows.db") as store,
        DurableEngine(store, workflows=[pipeline]) as engine,
    ):
        print(await engine.run(pipeline, str(folder), execution_id="today"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as name:
            make_files(Path(name))
            asyncio.run(main(Path(name)))
            print(*sorted(path.name for path in Path(name).glob("*.*") if path.suffix != ".db"))
