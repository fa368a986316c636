"""A step that took longer than its timeout may have taken effect: it is undone, or in doubt."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    ExecutionStatus,
    RetryPolicy,
    SqliteCheckpointStore,
    StepStatus,
    StepTimeoutError,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.records import TIMED_OUT
from durable_workflow_sqlite.stores import open_reader
from tests.processes import Journal, die, run_until_killed

SHORT = timedelta(milliseconds=40)
LONG_S = 0.3
HOURS = timedelta(hours=1)


def in_doubt(file: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("select step_name, attempt from workflow_in_doubt").fetchall()


def alarms(file: Path) -> list[str]:
    """The steps that `status` names, as do `doctor` and the dashboard."""
    now = datetime.now(UTC)
    with open_reader(file) as reader:
        cut_off = reader.overview(now).cut_off
        for found in (
            [one.check for one in reader.check_up(now, quick=True)],
            [one.name for one in reader.alarms(now) if one.count],
        ):
            assert ("cut-off" in found) is bool(cut_off)
    return [one.step_name for one in cut_off]


class Bank:
    """Takes money, says so late, and gives back what it is told to."""

    def __init__(self, journal: Journal, *, seconds: float = LONG_S, fails: bool = False) -> None:
        self.journal = journal
        self.seconds = seconds
        self.fails = fails

    async def charge(self, key: str) -> int:
        self.journal.note(f"charge {key}")
        await asyncio.sleep(self.seconds)
        return 42

    async def charge_slow_at_first(self, key: str) -> int:
        self.journal.note(f"charge {key}")
        if len(self.journal.lines) == 1:
            await asyncio.sleep(3600)
        if self.fails:
            raise ConnectionError("the bank refused")
        return 42

    def charge_in_thread(self, key: str) -> int:
        time.sleep(self.seconds)
        if self.fails:
            raise ConnectionError("the bank refused")
        self.journal.note(f"charge {key}")
        return 42

    def refund(self, cents: int) -> None:
        self.journal.note(f"refund {cents}")

    def order(self, action: Callable[[str], Any], **options: Any) -> WorkflowDefinition[[], str]:
        @workflow(name="order")
        async def order(ctx: WorkflowContext) -> str:
            key = ctx.idempotency_key("charge")
            await ctx.step("charge", action, key, **({"timeout": SHORT} | options))
            return "paid"

        return order

    @property
    def lines(self) -> list[str]:
        """What it did, with the same word for each key."""
        lines = [line.split() for line in self.journal.lines]
        keys = list(dict.fromkeys(what for kind, what in lines if kind == "charge"))
        return [
            f"{kind} key {keys.index(what) + 1}" if kind == "charge" else f"{kind} {what}"
            for kind, what in lines
        ]


async def rows(store: SqliteCheckpointStore) -> list[tuple[str, int, str]]:
    found = sorted(await store.load_checkpoints("one"), key=lambda one: one.attempt or 99)
    return [(one.step_name, one.attempt, one.status) for one in found]


UNDONE = [
    ("charge", 1, "FAILED"),
    ("charge", 2, "COMPLETED"),
    ("charge:compensate", 0, "COMPENSATED"),
]


def test_the_error_is_recorded_under_its_name() -> None:
    assert f"{StepTimeoutError.__module__}:{StepTimeoutError.__qualname__}" == TIMED_OUT


@pytest.mark.parametrize("ends_first", [False, True], ids=["goes on", "has ended"])
def test_what_a_thread_returns_after_its_timeout_is_undone(
    file: Path, journal: Journal, caplog: pytest.LogCaptureFixture, ends_first: bool
) -> None:
    """It is not run again: what it returned is known."""
    bank = Bank(journal)

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        charge = bank.charge_in_thread
        try:
            await ctx.step("charge", charge, "once", compensate=bank.refund, timeout=SHORT)
        except StepTimeoutError:
            if ends_first:
                await ctx.step("wait", time.sleep, 2 * LONG_S)
            raise

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            with pytest.raises(WorkflowFailedError, match="took longer"):
                await engine.run(order, execution_id="one")
            assert [row for row in await rows(store) if row[0] != "wait"] == UNDONE

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert bank.lines == ["charge key 1", "refund 42"]
    assert in_doubt(file) == []
    (late,) = [one for one in caplog.records if "ended after its timeout" in one.message]
    assert "returned 42" in late.message
    assert (late.workflow_execution_id, late.step_name, late.attempt) == ("one", "charge", 1)  # type: ignore[attr-defined]


def test_what_a_thread_raises_after_its_timeout_is_its_outcome(
    file: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    bank = Bank(journal, fails=True)
    order = bank.order(bank.charge_in_thread, compensate=bank.refund)

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            with pytest.raises(WorkflowFailedError, match="took longer"):
                await engine.run(order, execution_id="one")
            found = await store.load_checkpoints("one")
            assert [one.error_type for one in found] == [TIMED_OUT, "builtins:ConnectionError"]

    asyncio.run(main())
    assert (bank.lines, in_doubt(file)) == ([], [])
    assert "it raised ConnectionError: the bank refused" in caplog.text


def test_what_was_cancelled_by_its_timeout_runs_again_under_its_key_and_is_undone(
    file: Path, journal: Journal
) -> None:
    """Also if it takes as long as the first time: `cancel_grace` is its timeout then."""
    bank = Bank(journal)
    order = bank.order(bank.charge, compensate=bank.refund)

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            with pytest.raises(WorkflowFailedError, match=r"took longer than 0:00:00\.04"):
                await engine.run(order, execution_id="one")
            assert await rows(store) == UNDONE

    asyncio.run(main())
    assert bank.lines == ["charge key 1", "charge key 1", "refund 42"]
    assert in_doubt(file) == []


@pytest.mark.parametrize("kind", ["charge", "charge_in_thread"])
def test_what_times_out_again_is_in_doubt_and_a_retry_runs_it_once_more(
    file: Path, journal: Journal, kind: str
) -> None:
    bank = Bank(journal)
    order = bank.order(getattr(bank, kind), compensate=bank.refund)

    async def main() -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, [order], cancel_grace=timedelta(milliseconds=1)) as engine,
        ):
            with pytest.raises(WorkflowFailedError, match="took longer"):
                await engine.run(order, execution_id="one")
            assert in_doubt(file) == [("charge", 2)]
            assert alarms(file) == ["charge"]
            bank.seconds = 0
            await engine.retry("one")
            assert await engine.handle("one").result() == "paid"
            events = [one.event for one in await store.load_checkpoints("one")]
            assert events == [None, None, 1]

    asyncio.run(main())
    assert in_doubt(file) == []
    assert "refund 42" not in bank.lines


def test_a_step_that_timed_out_twice_goes_on_with_the_value_that_somebody_gives(
    file: Path, journal: Journal
) -> None:
    bank = Bank(journal)
    order = bank.order(bank.charge, compensate=bank.refund)

    async def main() -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, [order], cancel_grace=timedelta(milliseconds=1)) as engine,
        ):
            with pytest.raises(WorkflowFailedError):
                await engine.run(order, execution_id="one")
            await engine.resolve("one", "charge", 42)
            assert await engine.handle("one").result() == "paid"
            events = [one.event for one in await store.load_checkpoints("one")]
            assert events == [None, None, 1]

    asyncio.run(main())
    assert in_doubt(file) == []


@pytest.mark.parametrize("kind", ["charge", "charge_in_thread"])
@pytest.mark.parametrize("is_caught", [False, True], ids=["fails", "is caught"])
def test_what_nothing_undoes_is_listed_until_somebody_acknowledges_it(
    file: Path, journal: Journal, caplog: pytest.LogCaptureFixture, kind: str, is_caught: bool
) -> None:
    bank = Bank(journal)

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        undo = bank.refund if is_caught else None
        try:
            await ctx.step("charge", getattr(bank, kind), "x", compensate=undo, timeout=SHORT)
        except StepTimeoutError:
            if not is_caught:
                raise

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.start(order, execution_id="one")
            if is_caught:
                await handle.result()
            else:
                with pytest.raises(WorkflowFailedError):
                    await handle.result()
            assert in_doubt(file) == [("charge", 1)]
            assert alarms(file) == ["charge"]
            assert await engine.acknowledge("one") == 1
            assert await engine.acknowledge("one") == 0

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert (in_doubt(file), alarms(file)) == ([], [])
    said = [one for one in caplog.messages if "may have taken effect" in one]
    assert said == [
        "step 'charge' of execution 'one' timed out at attempt 1 and may have taken effect"
    ]


def test_a_later_attempt_that_completes_is_the_outcome(file: Path, journal: Journal) -> None:
    bank = Bank(journal)
    listed: list[tuple[str, int]] = []

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        options: Any = {"timeout": timedelta(seconds=0.2), "compensate": bank.refund}
        twice = RetryPolicy.fixed(max_attempts=2, delay=timedelta(milliseconds=1))
        await ctx.step("charge", bank.charge_slow_at_first, "x", retry=twice, **options)
        await ctx.step("fail", fail)

    def fail() -> None:
        listed.extend(in_doubt(file))
        raise LookupError("sold out")

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            with pytest.raises(WorkflowFailedError, match="sold out"):
                await engine.run(order, execution_id="one")

    asyncio.run(main())
    assert bank.lines == ["charge key 1", "charge key 1", "refund 42"]
    assert listed == [("fail", 1)]
    assert in_doubt(file) == []


def test_a_later_attempt_that_fails_is_the_outcome(file: Path, journal: Journal) -> None:
    """Under the same key, an error says that the step did not take effect, and never did."""
    bank = Bank(journal, fails=True)
    twice = RetryPolicy.fixed(max_attempts=2, delay=timedelta(milliseconds=1))
    options: Any = {"timeout": timedelta(seconds=0.2), "compensate": bank.refund, "retry": twice}
    order = bank.order(bank.charge_slow_at_first, **options)

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            with pytest.raises(WorkflowFailedError, match="the bank refused"):
                await engine.run(order, execution_id="one")

    asyncio.run(main())
    assert bank.lines == ["charge key 1", "charge key 1"]
    assert in_doubt(file) == []


@pytest.mark.parametrize("is_undone", [False, True], ids=["nothing undoes it", "it is undone"])
@pytest.mark.parametrize("in_another_process", [False, True], ids=["at once", "after a crash"])
def test_a_back_off_after_a_timeout_ends_in_doubt(
    file: Path, journal: Journal, is_undone: bool, in_another_process: bool
) -> None:
    """The next attempt never began; what the one before did, it may have done still."""
    bank = Bank(journal)
    order = bank.order(
        bank.charge,
        retry=RetryPolicy.fixed(max_attempts=2, delay=HOURS),
        compensate=bank.refund if is_undone else None,
    )

    async def until_it_waits() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(order, execution_id="one")
            await _until_it_pauses(store)
            assert in_doubt(file) == []
            if in_another_process:
                die()
            await cancel(engine)

    async def cancel(engine: DurableEngine) -> None:
        await engine.cancel("one")
        with pytest.raises(WorkflowCancelledError):
            await engine.handle("one").result()

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store, [order]) as one:
            await cancel(one)

    if in_another_process:
        run_until_killed(until_it_waits)
        asyncio.run(main())
    else:
        asyncio.run(until_it_waits())
    if is_undone:
        assert bank.lines == ["charge key 1", "charge key 1", "refund 42"]
        assert in_doubt(file) == []
    else:
        assert bank.lines == ["charge key 1"]
        assert in_doubt(file) == [("charge", 2)]


async def _until_it_pauses(store: SqliteCheckpointStore) -> None:
    while True:
        found = await store.load_checkpoints("one")
        if any(one.due_at is not None for one in found):
            return
        await asyncio.sleep(0.01)


def test_a_blocked_execution_that_is_cancelled_at_once_leaves_it_in_doubt(
    file: Path, journal: Journal
) -> None:
    bank = Bank(journal)
    order = bank.order(bank.charge, retry=RetryPolicy.fixed(max_attempts=2, delay=HOURS))

    async def until_it_waits() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(order, execution_id="one")
            await _until_it_pauses(store)
            die()

    async def main() -> None:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("update workflow_executions set blocked_reason = 'x'")
            connection.commit()
        async with SqliteCheckpointStore.file(file) as store:
            await Client(store).cancel("one")
            record = await store.load_execution("one")
            assert record is not None
            assert record.status is ExecutionStatus.CANCELLED

    run_until_killed(until_it_waits)
    asyncio.run(main())
    assert in_doubt(file) == [("charge", 2)]


def test_a_crash_forgets_the_thread_and_the_step_runs_again_under_its_key(
    file: Path, journal: Journal
) -> None:
    bank = Bank(journal)
    order = bank.order(bank.charge_in_thread, compensate=bank.refund)

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(order, execution_id="one")
            while not (found := await store.load_checkpoints("one")) or found[0].event is None:
                await asyncio.sleep(0.001)
            while not journal.lines:
                await asyncio.sleep(0)
            die()

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store, [order]) as one:
            with pytest.raises(WorkflowFailedError, match="took longer"):
                await one.handle("one").result()
            last = (await rows(store))[-1]
            assert last == ("charge:compensate", 0, StepStatus.COMPENSATED)

    run_until_killed(first_process)
    asyncio.run(main())
    assert bank.lines == ["charge key 1", "charge key 1", "refund 42"]
    assert in_doubt(file) == []


@pytest.mark.parametrize("step", ["charge", "ship"])
def test_it_runs_again_from_a_step_though_undoing_has_tried_it_since(
    file: Path, journal: Journal, step: str
) -> None:
    """The workflow function has heard of the timeout, and of nothing that came after its end."""
    bank = Bank(journal)
    sold_out = [True]

    def ship() -> None:
        if sold_out:
            raise LookupError("sold out")

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        paid = True
        try:
            undo = bank.refund if step == "charge" else None
            await ctx.step("charge", bank.charge, "x", compensate=undo, timeout=SHORT)
        except StepTimeoutError:
            paid = False
        await ctx.step("ship", ship)
        return f"paid: {paid}"

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store, [order]) as one:
            with pytest.raises(WorkflowFailedError, match="sold out"):
                await one.run(order, execution_id="one")
            bank.seconds = 0
            sold_out.clear()
            await one.retry("one", from_step=step)
            assert await one.handle("one").result() == f"paid: {step == 'charge'}"

    asyncio.run(main())


def test_what_undoing_has_tried_is_forgotten_with_what_came_after_a_step(
    file: Path, journal: Journal
) -> None:
    bank = Bank(journal)
    sold_out = [True]

    def ship() -> None:
        if sold_out:
            raise LookupError("sold out")

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        try:
            await ctx.step("charge", bank.charge, "x", compensate=bank.refund, timeout=SHORT)
        except StepTimeoutError:
            await ctx.step("ship", ship)
        return "shipped"

    async def main() -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, [order], cancel_grace=timedelta(milliseconds=1)) as engine,
        ):
            with pytest.raises(WorkflowFailedError, match="sold out"):
                await engine.run(order, execution_id="one")
            found = await store.load_checkpoints("one")
            assert [(one.step_name, one.event) for one in found] == [
                ("charge", 1),
                ("charge", 3),
                ("ship", 2),
            ]
            sold_out.clear()
            await engine.retry("one", from_step="ship")
            assert await engine.handle("one").result() == "shipped"
            found = await store.load_checkpoints("one")
            assert [(one.step_name, one.event) for one in found] == [("charge", 1), ("ship", 2)]

    asyncio.run(main())
    assert in_doubt(file) == [("charge", 1)]


def test_an_engine_that_stops_does_not_wait_for_the_thread(file: Path, journal: Journal) -> None:
    bank = Bank(journal, seconds=0)
    hangs, end = [True], threading.Event()

    def charge(key: str) -> int:
        if hangs:
            hangs.clear()
            end.wait()
            raise ConnectionError("too late for anybody")
        return bank.charge_in_thread(key)

    order = bank.order(charge, compensate=bank.refund)

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, [order]) as engine:
                await engine.start(order, execution_id="one")
                while (await engine.load("one")).status is not ExecutionStatus.COMPENSATING:
                    await asyncio.sleep(0.01)
                assert bank.lines == []
            async with DurableEngine(store, [order]) as engine:
                with pytest.raises(WorkflowFailedError, match="took longer"):
                    await engine.handle("one").result()
            assert await rows(store) == UNDONE

    try:
        asyncio.run(main())
    finally:
        end.set()
    assert bank.lines == ["charge key 1", "refund 42"]
