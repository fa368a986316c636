"""Damaged files, rows edited by hand, huge and deep payloads, awkward ids.

Each ends in an error of its own, or works. Nothing hangs, ends the interpreter, or harms another
execution.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    DurableWorkflowError,
    ExecutionStatus,
    SqliteCheckpointStore,
    StoreError,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.store.checkpointer import checkpoint
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.faults.reliability import FULL
from tests.processes import a_process, an_engine

LIMIT_S = 30
FLIPS = 4000 if FULL else 30
CUTS = 1000 if FULL else 10
AT_ONCE = 50
"""How many damaged files one process opens, one after the other."""


async def answer(value: str) -> str:
    return value


@workflow(name="waits")
async def waits(ctx: WorkflowContext, name: str) -> str:
    """Three steps and a sleep are behind it; then it waits for a signal, and does three more."""
    for number in range(3):
        await ctx.step(f"before {number}", answer, name * 20)
    await ctx.sleep("nap", timedelta(milliseconds=1))
    await ctx.wait_signal("go", timeout=timedelta(days=1))
    for number in range(3):
        await ctx.step(f"after {number}", answer, name * 20)
    return name


async def write_world(file: Path, names: tuple[str, ...], crashed: Path | None = None) -> None:
    """Executions that all wait for their signal, which is there.

    crashed: a folder for the files as a crash would leave them, with a log.
    """
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[waits]) as engine:
            for name in names:
                await engine.start(waits, name, execution_id=name)
            async with asyncio.timeout(LIMIT_S):
                for name in names:
                    while (await engine.load(name)).status is not ExecutionStatus.SUSPENDED:
                        await asyncio.sleep(0.002)
        # As a shell would: nobody is there to notice.
        for name in names:
            store._connection.execute(
                "insert into workflow_signals (workflow_execution_id, signal_name, payload)"
                " values (?, 'go', '1')",
                (name,),
            )
        if crashed is not None:
            for path in (file, file.with_name(f"{file.name}-wal")):
                shutil.copy(path, crashed)


async def use(file: Path, names: tuple[str, ...]) -> dict[str, str]:
    """How each execution ended for who asked: its result, or the name of an error of ours."""
    ends: dict[str, str] = {}
    try:
        async with an_engine(file, workflows=[waits]) as (_, engine):
            for name in names:
                try:
                    # Damage may have taken its signal, and that is no harm of ours.
                    async with asyncio.timeout(0.4):
                        ends[name] = str(await engine.handle(name).result())
                except TimeoutError:
                    ends[name] = "it goes on waiting"
                except DurableWorkflowError as error:
                    ends[name] = type(error).__name__
    except StoreError as error:
        return {"": type(error).__name__}
    return ends


def damaged(whole: bytes, dice: random.Random, *, is_cut: bool) -> bytes:
    if is_cut:
        return whole[: dice.randrange(len(whole))]
    harmed = bytearray(whole)
    for _ in range(dice.choice((1, 1, 2, 8, 64))):
        at = dice.randrange(len(harmed)) if dice.random() < 0.8 else dice.randrange(100)
        harmed[at] ^= 1 << dice.randrange(8)
    return bytes(harmed)


@pytest.mark.faults
@pytest.mark.parametrize("is_cut", [False, True], ids=["bits flipped", "cut off"])
@pytest.mark.parametrize(
    "part", ["workflows.db", pytest.param("workflows.db-wal", marks=pytest.mark.campaign)]
)
def test_a_damaged_file_is_a_store_error_or_works(
    tmp_path: Path, part: str, is_cut: bool, counts: Counter[str]
) -> None:
    """Many files, each damaged at random, in processes that must not die of them."""
    names = ("a", "b", "c")
    world, crashed = tmp_path / "world", tmp_path / "crashed"
    world.mkdir()
    crashed.mkdir()
    asyncio.run(write_world(world / "workflows.db", names, crashed))
    if part == "workflows.db-wal":
        world = crashed
    whole = (world / part).read_bytes()
    total = (CUTS if is_cut else FLIPS) // 2
    for start in range(0, total, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, total))

        def open_all(say: Callable[[str], None], numbers: range = numbers) -> None:
            for number in numbers:
                folder = tmp_path / f"ruin {number}"
                shutil.copytree(world, folder, ignore=shutil.ignore_patterns("*-shm", "*worker*"))
                dice = random.Random(f"{os.environ['DURABLE_SEED']} {number}")
                (folder / part).write_bytes(damaged(whole, dice, is_cut=is_cut))
                signal.alarm(LIMIT_S)  # ends this process, and the test says at which number
                ends = asyncio.run(use(folder / "workflows.db", names))
                signal.alarm(0)
                say(f"{number} {sorted(Counter(ends.values()).items())}")
                shutil.rmtree(folder)

        with a_process(open_all) as opener:
            for number in numbers:
                heard = opener.hear()
                assert heard.startswith(f"{number} "), f"file {number}: {heard or 'it died'}"
                counts["damaged files opened"] += 1
                counts["of those refused or left with an error of the store"] += "Store" in heard
                assert "WorkflowFailedError" not in heard or part != "workflows.db-wal", heard


BAD_VALUES: dict[str, Any] = {
    "nothing": None,
    "no text": "",
    "a word": "nonsense",
    "a number": 12345,
    "a large number": 2**63 - 1,
    "a negative number": -1,
    "a fraction": 1.5e308,
    "bytes": b"\x00\xff\xfe",
    "text that is no UTF-8": "text",
    "broken JSON": '{"a": [1, 2',
    "deep JSON": "[" * 100_000 + "]" * 100_000,
    "a year too far": "99999-01-01T00:00:00Z",
    "a zero byte": "a\x00b",
    "half a surrogate pair": '"\\ud800"',
    "a huge number in JSON": "1" * 5000,
}
EDITED_TABLES = (
    "workflow_executions",
    "step_checkpoints",
    "workflow_timers",
    "workflow_signals",
    "workflow_claims",
)


def columns_of(file: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(file)) as connection:
        return [
            (table, row[1])
            for table in EDITED_TABLES
            for row in connection.execute(f"pragma table_info({table})")
        ]


def edit(file: Path, table: str, column: str, what: str) -> bool:
    """Give the rows of one execution another value; False if SQLite itself refuses."""
    value = BAD_VALUES[what]
    with closing(sqlite3.connect(file)) as dba, dba:
        dba.execute("pragma ignore_check_constraints = on")
        if table == "workflow_claims":
            dba.execute(
                "insert into workflow_claims (workflow_execution_id, worker_id, claimed_at)"
                " values ('bad', 'nobody', '2026-01-01T00:00:00.000000Z')"
            )
        new = "cast(x'61ff62' as text)" if what == "text that is no UTF-8" else "?"
        try:
            dba.execute(
                f"update {table} set {column} = {new} where workflow_execution_id = 'bad'",
                () if new != "?" else (value,),
            )
        except (sqlite3.IntegrityError, sqlite3.OperationalError):
            return False
    return True


async def the_good_one_ends(file: Path) -> str:
    """The other execution comes to its end; what became of the edited one."""
    async with an_engine(file, workflows=[waits]) as (_, engine):
        assert await asyncio.wait_for(engine.handle("good").result(), LIMIT_S) == "good"
        try:
            async with asyncio.timeout(0.05):
                await engine.handle("bad").result()
        except TimeoutError:
            return "it goes on waiting"
        except WorkflowFailedError as error:
            # Its own code may fail on what it was given, or its time be over. The store and the
            # engine may not fail.
            kind = str(error.error_type)
            assert "durable_workflow_sqlite" not in kind or any(
                one in kind for one in ("Timeout", "Serialization", "Expired")
            ), error
            return "failed"
        except DurableWorkflowError as error:
            return type(error).__name__
        return "ended"


@pytest.mark.campaign
@pytest.mark.faults
def test_a_row_that_was_edited_by_hand_harms_no_other_execution(
    tmp_path: Path, counts: Counter[str]
) -> None:
    whole = tmp_path / "whole.db"
    asyncio.run(write_world(whole, ("bad", "good")))
    cases = [(t, c, what) for t, c in columns_of(whole) for what in BAD_VALUES]
    if not FULL:
        cases = random.Random(os.environ["DURABLE_SEED"]).sample(cases, 16)
    file = tmp_path / "workflows.db"
    for table, column, what in cases:
        shutil.copy(whole, file)
        if not edit(file, table, column, what):
            counts["edits that SQLite refuses"] += 1
            continue

        def run(say: Callable[[str], None]) -> None:
            signal.alarm(LIMIT_S)
            say(asyncio.run(the_good_one_ends(file)))

        with a_process(run) as process:
            heard = process.hear()
        assert heard, (
            f"{table}.{column} = {what}: the process died, or the other execution did not end"
        )
        counts["rows edited by hand"] += 1
        counts["of those that were not changed, with an error"] += heard.endswith("Error")
        for path in tmp_path.glob("workflows.db*"):
            path.unlink()


@pytest.mark.faults
@pytest.mark.parametrize("megabytes", [100 if FULL else 5])
def test_a_huge_payload_comes_back_whole_and_holds_up_nobody_for_long(
    file: Path, megabytes: int, counts: Counter[str]
) -> None:
    size = megabytes << 20

    @workflow(name="huge")
    async def huge(ctx: WorkflowContext, text: str) -> int:
        result: str = await ctx.step("huge", answer, text)
        signal_text: str = await ctx.wait_signal("huge", type=str)
        return len(result) + len(signal_text)

    @workflow(name="small")
    async def small(ctx: WorkflowContext) -> str:
        for number in range(50):
            await ctx.step(f"step {number}", answer, "x")
        return "done"

    async def main() -> None:
        text = "x" * size
        async with (
            SqliteCheckpointStore.file(file, max_payload_bytes=2**30) as store,
            DurableEngine(store, workflows=[huge, small]) as engine,
        ):
            handle = await engine.start(huge, text, execution_id="huge")
            other = await engine.start(small)
            assert await asyncio.wait_for(other.result(), LIMIT_S) == "done"
            await handle.signal("huge", text)
            assert await asyncio.wait_for(handle.result(), LIMIT_S) == 2 * size
        async with (
            SqliteCheckpointStore.file(file, max_payload_bytes=2**30) as store,
            DurableEngine(store, workflows=[huge, small]) as engine,
        ):
            assert await engine.run(huge, text, execution_id="huge") == 2 * size

    asyncio.run(main())
    counts[f"payloads of {megabytes} MB"] += 3


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.faults
@pytest.mark.parametrize("levels", [500, 2_000, 100_000])
def test_a_deep_value_works_or_is_an_error_of_its_own(
    file: Path, levels: int, counts: Counter[str]
) -> None:
    def run(say: Callable[[str], None]) -> None:
        signal.alarm(LIMIT_S)

        @workflow(name="deep")
        async def deep_one(ctx: WorkflowContext) -> Any:
            return await ctx.step("deep", lambda: deep(levels))

        async def main() -> str:
            async with (
                SqliteCheckpointStore.file(file) as store,
                DurableEngine(store, workflows=[deep_one]) as engine,
            ):
                try:
                    await engine.run(deep_one, execution_id="one")
                except WorkflowFailedError as error:
                    return str(error.error_type)
                return "done"

        say(asyncio.run(main()))

    with a_process(run) as process:
        heard = process.hear()
    assert heard in ("done", "durable_workflow_sqlite.errors:SerializationError"), heard or "died"
    counts["deep values"] += 1


AWKWARD = {
    "quotes": 'it\'s "quoted" `and` more',
    "sql": "'; drop table workflow_executions; --",
    "percent": "100%_of%s{}{0}$1?",
    "newline": "a\nb\r\nc",
    "tab": "a\tb",
    "zero byte": "a\x00b",
    "control": "a\x1b[31mb\x7f",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈",
    "right to left": "\u202egnp.exe",
    "composed": "caf\u00e9",
    "decomposed": "cafe\u0301",
    "fullwidth": "\uff46\uff55\uff4c\uff4c",
    "no-break space": "a\u00a0b",
    "zero width": "a\u200bb",
    "byte order mark": "\ufeffa",
    "half a pair": "\ud800",
    "not a character": "a\uffffb",
    "beyond the plane": "\U0010ffff",
    "slashes": "../../etc/passwd",
    "json": '{"a": ["b"]}',
    "long": "x" * 256,
    "too long": "x" * 257,
    "far too long": "x" * 1_000_000,
    "empty": "",
    "spaces": "   ",
    "leading space": " a",
    "dollar": "$cancel",
    "case": "Case",
    "other case": "case",
    "dotted": "i\u0307\u0130\u0131I",
}


@pytest.mark.few(1)
@pytest.mark.faults
@pytest.mark.parametrize("kind", ["execution", "step", "signal", "workflow"])
def test_an_awkward_id_is_refused_at_the_call_or_works_and_stays_apart(
    file: Path, kind: str, counts: Counter[str]
) -> None:
    accepted: list[str] = []

    async def one(engine: DurableEngine, text: str, number: int) -> None:
        @workflow(name=text if kind == "workflow" else "awkward")
        async def awkward(ctx: WorkflowContext) -> str:
            if kind == "step":
                return await ctx.step(text, answer, text)
            if kind == "signal":
                return str(await ctx.wait_signal(text, type=str))
            return await ctx.step("echo", answer, text)

        execution_id = text if kind == "execution" else f"number {number}"
        handle = await engine.start(awkward, execution_id=execution_id)
        if kind == "signal":
            await handle.signal(text, text)
        assert await asyncio.wait_for(handle.result(), LIMIT_S) == text

    async def main() -> None:
        for number, text in enumerate(AWKWARD.values()):
            async with (
                SqliteCheckpointStore.file(file) as store,
                DurableEngine(store) as engine,
            ):
                try:
                    await one(engine, text, number)
                except (ValueError, TypeError, WorkflowCodeError) as error:
                    # A step with a bad name stops its workflow: its code is wrong.
                    assert kind == "step" or not isinstance(error, WorkflowCodeError), error
                    counts["awkward ids refused"] += 1
                else:
                    accepted.append(text)
                    counts["awkward ids that work"] += 1
        async with SqliteCheckpointStore.file(file) as store:
            for text in accepted if kind == "execution" else []:
                found = await loaded(store, text)
                assert found.workflow_execution_id == text

    asyncio.run(main())
    assert len(accepted) == len(set(accepted)) > 5


@pytest.mark.few(3)
@pytest.mark.faults
@pytest.mark.parametrize(
    "name",
    [
        "a b.db",
        "per%20cent%.db",
        "what?.db",
        "hash#.db",
        "file:x.db",
        "ünï.db",
        "new\nline.db",
        "'.db",
    ],
)
async def test_a_file_with_an_awkward_name_works(tmp_path: Path, name: str) -> None:
    async with (
        SqliteCheckpointStore.file(tmp_path / name) as store,
        DurableEngine(store, workflows=[waits]) as engine,
    ):
        handle = await engine.start(waits, "x", execution_id="x")
        await handle.signal("go", 1)
        assert await asyncio.wait_for(handle.result(), LIMIT_S) == "x"
        checkpoint(str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == [name]
