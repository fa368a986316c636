"""What `ctx.transaction` costs, and what it costs the steps beside it; prints a table.

    python -m benchmarks.transactions [--rounds N] [--tiny]

A transaction inserts one row into a table of its own. It is compared with a plain step, whose
action does nothing, and with an idempotent one, which writes once, too. Then fifty executions take
plain steps, alone and beside one execution that runs one transaction after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from benchmarks.ours import nothing, steps
from benchmarks.report import machine, number, table
from benchmarks.rounds import fresh_folder
from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowCancelledError,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.store.connection import Synchronous


class Sizes(NamedTuple):
    steps: int = 500
    at_once: int = 50
    each: int = 40


WHOLE: Final = Sizes()
TINY: Final = Sizes(steps=3, at_once=2, each=2)


def insert(connection: sqlite3.Connection, value: int, held_s: float) -> int:
    connection.execute("insert into own_rows (value) values (?)", (value,))
    if held_s:
        time.sleep(held_s)
    return value


@workflow
async def idempotent_steps(ctx: WorkflowContext, count: int) -> int:
    for index in range(count):
        await ctx.step("step", nothing, index, idempotent=True)
    return count


@workflow
async def transactions(ctx: WorkflowContext, count: int, held_s: float = 0) -> int:
    for index in range(count):
        await ctx.transaction("insert", insert, index, held_s)
    return count


async def _sequential(engine: DurableEngine, kind: Any, count: int) -> float:
    await engine.run(kind, max(1, count // 20))
    began = time.perf_counter()
    await engine.run(kind, count)
    return count / (time.perf_counter() - began)


async def _at_once(engine: DurableEngine, kind: Any, sizes: Sizes) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(engine.run(kind, sizes.each) for _ in range(sizes.at_once)))
    return sizes.at_once * sizes.each / (time.perf_counter() - began)


async def _beside(engine: DurableEngine, sizes: Sizes, held_s: float) -> tuple[float, float]:
    """Plain steps/s of the others, and transactions/s, while both run."""
    began = time.perf_counter()
    done = 0

    def counted(connection: sqlite3.Connection, value: int) -> int:
        nonlocal done
        insert(connection, value, held_s)
        done += 1
        return value

    @workflow(name=f"transactions of {held_s} s")
    async def endless(ctx: WorkflowContext) -> None:
        for index in range(1_000_000):
            await ctx.transaction("insert", counted, index)

    handle = await engine.start(endless)
    rate = await _at_once(engine, steps, sizes)
    transactions_a_second = done / (time.perf_counter() - began)
    await handle.cancel()
    with suppress(WorkflowCancelledError):
        await handle.result()
    return rate, transactions_a_second


async def _all(file: Path, synchronous: Synchronous, sizes: Sizes) -> dict[str, float]:
    found: dict[str, float] = {}
    async with (
        SqliteCheckpointStore.file(file, synchronous=synchronous) as store,
        DurableEngine(store) as engine,
    ):
        await store.write(lambda one: one.execute("create table own_rows (value integer)"))
        found["plain, one after another"] = await _sequential(engine, steps, sizes.steps)
        found["idempotent, one after another"] = await _sequential(
            engine, idempotent_steps, sizes.steps
        )
        found["transactions, one after another"] = await _sequential(
            engine, transactions, sizes.steps
        )
        found["plain, 50 at once"] = await _at_once(engine, steps, sizes)
        found["transactions, 50 at once"] = await _at_once(engine, transactions, sizes)
        for held_s in (0, 0.001, 0.01):
            what = f"that take {held_s * 1000:g} ms" if held_s else "of one row"
            plain, own = await _beside(engine, sizes, held_s)
            found[f"plain, 50 at once, beside transactions {what}"] = plain
            found[f"... and these transactions {what}"] = own
    return found


def measured(rounds: int, sizes: Sizes) -> str:
    """The table: medians of steps/s, and the ratio to plain steps of the same kind."""
    rows: list[list[str]] = []
    kinds: tuple[Synchronous, ...] = ("normal", "full")
    took: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for kind in kinds:
            with fresh_folder() as folder:
                for what, rate in asyncio.run(_all(folder / "steps.db", kind, sizes)).items():
                    took.setdefault(what, {}).setdefault(kind, []).append(rate)
    compared: Callable[[str], str] = lambda what: (  # noqa: E731
        "plain, 50 at once" if "50 at once" in what else "plain, one after another"
    )
    for what, by_kind in took.items():
        row = [what]
        for kind in kinds:
            rates = by_kind[kind]
            against = took[compared(what)][kind]
            ratio = median(one / other for one, other in zip(rates, against, strict=True))
            row += [number(round(median(rates))), "" if what[:3] == "..." else f"{ratio:.2f}"]
        rows.append(row)
    head = ["steps", "steps/s, normal", "to plain", "steps/s, full", "to plain"]
    return table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="little of it: does it run?")
    given = parser.parse_args()
    print(machine())
    print(measured(given.rounds, TINY if given.tiny else WHOLE))


if __name__ == "__main__":
    main()
