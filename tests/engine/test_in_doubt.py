"""Steps that are in doubt, and do not simply run again: they fail, ask a person, or are probed."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    Client,
    Done,
    DurableEngine,
    ExecutionConflictError,
    ExecutionStatus,
    NotDone,
    RetryPolicy,
    SqliteCheckpointStore,
    StepAmbiguousError,
    StepCheckpoint,
    StepInfo,
    StepStatus,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowFailedError,
    step_info,
    workflow,
)
from durable_workflow_sqlite.records import RESOLVED_SIGNAL, SignalStatus
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import Journal, die, run_until_killed

QUICK = RetryPolicy.fixed(max_attempts=3, delay=timedelta(milliseconds=1))
Definition = WorkflowDefinition[..., Any]


def made(journal: Journal, in_doubt: Any, *, dies: bool, **options: Any) -> Definition:
    """A workflow that pays, and notes what it got; its process dies while it pays, if told so."""

    async def pay() -> int:
        journal.note("pay")
        if dies:
            die()
        return 7

    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> str:
        try:
            paid = await ctx.step("pay", pay, in_doubt=in_doubt, **options)
        except StepAmbiguousError as error:
            return f"ambiguous: {error.step_name}"
        return f"paid {paid}"

    return order


def die_in(order: Definition, file: Path) -> None:
    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.run(order, execution_id="one")

    run_until_killed(main)


async def end(order: Definition, file: Path, **options: Any) -> str:
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, workflows=[order], **options) as engine,
        asyncio.timeout(20),
    ):
        result: str = await engine.run(order, execution_id="one")
        return result


async def steps_of(file: Path) -> list[StepCheckpoint]:
    async with SqliteCheckpointStore.file(file) as store:
        return await store.load_checkpoints("one")


async def until_it_asks(store: Any, name: str = "pay") -> StepCheckpoint:
    while True:
        for one in await store.load_checkpoints("one"):
            if one.step_name == name and one.error_type == ASKS and one.status is StepStatus.INTENT:
                return one
        await asyncio.sleep(0.005)


def claims_in(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        (number,) = connection.execute("select count(*) from workflow_claims").fetchone()
    return int(number)


def by_sql(file: Path, payload: str) -> None:
    """What an administrator writes."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "insert into workflow_signals (workflow_execution_id, signal_name, payload)"
            f" values ('one', '$resolved', {payload})"
        )


ASKS = "durable_workflow_sqlite.errors:StepAmbiguousError"


def test_fail_raises_in_the_workflow_function_and_on_each_replay(
    file: Path, journal: Journal
) -> None:
    die_in(made(journal, "fail", dies=True), file)
    assert asyncio.run(end(made(journal, "fail", dies=False), file)) == "ambiguous: pay"
    assert journal.lines == ["pay"]
    (step,) = asyncio.run(steps_of(file))
    assert (step.status, step.error_type, step.event) == (StepStatus.FAILED, ASKS, 1)


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("answer", "result", "runs"),
    [
        ({"value": 5}, "paid 5", 1),
        ({"not_done": True}, "paid 7", 2),
        ({"failed": "the bank is closed"}, "ambiguous: pay", 1),
    ],
    ids=["a value", "not done", "failed"],
)
@pytest.mark.parametrize("where", ["in memory", "parked", "no worker"])
def test_ask_waits_for_a_person(
    where: str, answer: dict[str, Any], result: str, runs: int, file: Path, journal: Journal
) -> None:
    die_in(made(journal, "ask", dies=True), file)
    order = made(journal, "ask", dies=False)

    async def main() -> str:
        park_after = timedelta(milliseconds=1) if where == "parked" else timedelta(hours=1)
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[order], park_after=park_after) as engine,
            asyncio.timeout(20),
        ):
            question = await until_it_asks(store)
            assert question.completed_at is not None
            assert "must say" in (question.error_message or "")
            while (await loaded(store, "one")).status is not ExecutionStatus.SUSPENDED:
                await asyncio.sleep(0.005)
            if where == "parked":
                while claims_in(file):
                    await asyncio.sleep(0.005)
                assert (await loaded(store, "one")).available_at is None
            if where != "no worker":
                async with SqliteCheckpointStore.file(file) as others:
                    await Client(others).resolve("one", "pay", **answer)
                got: str = await engine.handle("one").result()
                return got
        async with SqliteCheckpointStore.file(file) as store:
            await Client(store).resolve("one", "pay", **answer)
        return await end(order, file)

    assert asyncio.run(main()) == result
    assert journal.lines == ["pay"] * runs


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("payload", "result", "runs"),
    [
        ("json_object('step', 'pay', 'value', 5)", "paid 5", 1),
        ("json_object('step', 'pay', 'not_done', json('true'))", "paid 7", 2),
        ("json_object('step', 'pay', 'failed', 'closed')", "ambiguous: pay", 1),
    ],
    ids=["a value", "not done", "failed"],
)
@pytest.mark.parametrize("is_parked", [True, False], ids=["parked", "in memory"])
def test_a_row_is_an_answer_and_one_that_fits_nothing_is_refused(
    is_parked: bool, payload: str, result: str, runs: int, file: Path, journal: Journal
) -> None:
    die_in(made(journal, "ask", dies=True), file)
    order = made(journal, "ask", dies=False)
    unfit = {
        "json_object('step', 'pya', 'value', 5)": "no step named 'pya' waits",
        "json_object('step', 'pay', 'branch', 'x', 'value', 5)": "in branch 'x'",
        "json_object('step', 'pay')": "give one of",
        "json_object('step', 'pay', 'value', 5, 'failed', 'no')": "give one of",
        "json_object('step', 'pay', 'notdone', json('true'))": "notdone",
        "json_object('value', 5)": "the name of the step",
        "json_object('step', 'pay', 'value', 'five')": "int",
    }

    async def main() -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(
                store,
                workflows=[order],
                park_after=timedelta(milliseconds=1 if is_parked else 3_600_000),
            ) as engine,
            asyncio.timeout(20),
        ):
            await until_it_asks(store)
            for number, (wrong, why) in enumerate(unfit.items()):
                by_sql(file, wrong)
                while True:
                    signals = await store.load_signals("one")
                    if len(signals) > number and signals[number].status is SignalStatus.REFUSED:
                        break
                    await asyncio.sleep(0.005)
                assert why in (signals[number].refused_reason or "")
            await until_it_asks(store)
            by_sql(file, payload)
            assert await engine.handle("one").result() == result
            *_, last = await store.load_signals("one")
            assert (last.signal_name, last.status) == (RESOLVED_SIGNAL, SignalStatus.DELIVERED)

    asyncio.run(main())
    assert journal.lines == ["pay"] * runs


def test_a_question_stays_over_restarts_and_nothing_is_written(
    file: Path, journal: Journal
) -> None:
    die_in(made(journal, "ask", dies=True), file)
    order = made(journal, "ask", dies=False)

    async def ask() -> tuple[StepCheckpoint, Any]:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[order]),
            asyncio.timeout(20),
        ):
            question = await until_it_asks(store)
            while (await loaded(store, "one")).status is not ExecutionStatus.SUSPENDED:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            return question, await loaded(store, "one")

    first, record = asyncio.run(ask())
    again, record_again = asyncio.run(ask())
    assert first == again
    assert record == record_again
    assert journal.lines == ["pay"]


@pytest.mark.few(3)
@pytest.mark.parametrize("in_thread", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize(
    ("verdicts", "result", "runs"),
    [
        ([Done(5)], "paid 5", 1),
        ([NotDone()], "paid 7", 2),
        ([ConnectionError("down"), Done(6)], "paid 6", 1),
        ([ConnectionError("down")] * 3, "ambiguous: pay", 1),
        ([None] * 3, "ambiguous: pay", 1),
    ],
    ids=["done", "not done", "the second time", "never", "no verdict"],
)
def test_a_probe_tells_what_became_of_it(
    in_thread: bool, verdicts: list[Any], result: str, runs: int, file: Path, journal: Journal
) -> None:
    left = list(verdicts)
    keys: list[str] = []

    def probe(key: str) -> Any:
        keys.append(key)
        verdict = left.pop(0)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    async def probe_async(key: str) -> Any:
        return probe(key)

    asked = probe if in_thread else probe_async
    die_in(made(journal, asked, dies=True, retry=QUICK), file)
    assert asyncio.run(end(made(journal, asked, dies=False, retry=QUICK), file)) == result
    assert journal.lines == ["pay"] * runs
    assert len(keys) == len(verdicts)
    assert len(set(keys)) == 1
    assert left == []


def test_the_error_of_the_probe_is_told(file: Path, journal: Journal) -> None:
    def probe(key: str) -> Done[int]:
        raise ConnectionError("no route to the bank")

    die_in(made(journal, probe, dies=True), file)
    asyncio.run(end(made(journal, probe, dies=False), file))
    (step,) = asyncio.run(steps_of(file))
    assert "its probe failed with ConnectionError" in (step.error_message or "")
    assert "no route to the bank" in (step.error_message or "")


@pytest.mark.parametrize("in_doubt", ["fail", "ask", "probe"])
@pytest.mark.parametrize("in_thread", [False, True], ids=["async", "sync"])
def test_a_timeout_is_a_doubt_too(
    in_thread: bool, in_doubt: str, file: Path, journal: Journal
) -> None:
    release = threading.Event()

    async def slow() -> int:
        journal.note("pay")
        await asyncio.sleep(30)
        return 7

    def slow_in_thread() -> int:
        journal.note("pay")
        release.wait(30)
        return 7

    async def probe(key: str) -> Done[int]:
        return Done(5)

    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> str:
        policy: Any = probe if in_doubt == "probe" else in_doubt
        action: Any = slow_in_thread if in_thread else slow
        try:
            paid = await ctx.step(
                "pay",
                action,
                in_doubt=policy,
                timeout=timedelta(milliseconds=20),
                retry=QUICK,
            )
        except StepAmbiguousError as error:
            return str(error)
        return f"paid {paid}"

    async def main() -> str:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(
                store, workflows=[order], cancel_grace=timedelta(milliseconds=20)
            ) as engine,
            asyncio.timeout(20),
        ):
            handle = await engine.start(order, execution_id="one")
            if in_doubt == "ask":
                question = await until_it_asks(store)
                assert "timed out" in (question.error_message or "")
                await engine.resolve("one", "pay", 5)
            result: str = await handle.result()
            release.set()
            return result

    result = asyncio.run(main())
    assert result == "paid 5" if in_doubt != "fail" else "timed out at attempt 1" in result
    assert journal.lines == ["pay"]


def test_a_thread_that_returns_after_its_timeout_ends_the_doubt(
    file: Path, journal: Journal
) -> None:
    def slow() -> int:
        journal.note("pay")
        time.sleep(0.1)
        return 7

    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> int:
        timeout = timedelta(milliseconds=10)
        return await ctx.step("pay", slow, in_doubt="ask", timeout=timeout, retry=QUICK)

    assert asyncio.run(end(order, file)) == 7  # type: ignore[comparison-overlap]
    assert journal.lines == ["pay"]


def test_a_step_that_asks_is_cut_off_where_its_branch_is_cancelled(
    file: Path, journal: Journal
) -> None:
    def asking(dies: bool) -> Definition:
        async def pay() -> int:
            journal.note("pay")
            if dies:
                die()
            return 7

        @workflow(name="order")
        async def order(ctx: WorkflowContext) -> str:
            try:
                async with asyncio.timeout(0.2):
                    await ctx.step("pay", pay, in_doubt="ask")
            except TimeoutError:
                return "given up"
            return "paid"

        return order

    die_in(asking(True), file)
    assert asyncio.run(end(asking(False), file)) == "given up"
    step, _ = asyncio.run(steps_of(file))  # and the timer of the timeout
    assert step.status is StepStatus.FAILED
    assert step.error_message == "it was cut off and may have taken effect"
    assert journal.lines == ["pay"]


@pytest.mark.few(3)
@pytest.mark.parametrize("how", ["done", "not done", "failed"])
@pytest.mark.parametrize("in_doubt", ["ask", "probe", "fail"])
def test_an_execution_that_is_undone_asks_what_is_to_be_undone(
    in_doubt: str, how: str, file: Path, journal: Journal
) -> None:
    async def probe(key: str) -> Done[int] | NotDone:
        if how == "failed":
            raise ConnectionError
        return Done(5) if how == "done" else NotDone()

    policy = probe if in_doubt == "probe" else in_doubt

    def undo(paid: int) -> None:
        journal.note(f"undo {paid}")

    die_in(made(journal, policy, dies=True, compensate=undo), file)
    order = made(journal, policy, dies=False, compensate=undo)

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await Client(store).cancel("one")
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[order]),
            asyncio.timeout(20),
        ):
            if in_doubt == "ask":
                await until_it_asks(store)
                answer: dict[str, Any] = {
                    "done": {"value": 5},
                    "not done": {"not_done": True},
                    "failed": {"failed": "closed"},
                }[how]
                async with SqliteCheckpointStore.file(file) as others:
                    await Client(others).resolve("one", "pay", **answer)
            while not (await loaded(store, "one")).status.is_terminal:
                await asyncio.sleep(0.005)
            assert (await loaded(store, "one")).status is ExecutionStatus.CANCELLED

    asyncio.run(main())
    is_undone = how == "done" and in_doubt != "fail"
    assert journal.lines == ["pay", "undo 5"] if is_undone else ["pay"]


def undone(journal: Journal, policy: Any, *, dies: bool) -> Definition:
    """A workflow that fails, and whose process dies while it undoes, if told so."""

    async def pay() -> int:
        return 7

    def undo(paid: int) -> None:
        journal.note(f"undo {paid}")
        if dies:
            die()

    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step(
            "pay",
            pay,
            compensate=undo,
            compensate_in_doubt=policy,
            compensate_retry=QUICK,
        )
        raise ValueError("sold out")

    return order


@pytest.mark.few(6)
@pytest.mark.parametrize(
    ("policy", "answer", "runs", "status"),
    [
        ("fail", None, 1, StepStatus.FAILED),
        ("ask", {"value": None}, 1, StepStatus.COMPENSATED),
        ("ask", {"not_done": True}, 2, StepStatus.COMPENSATED),
        ("ask", {"failed": "closed"}, 1, StepStatus.FAILED),
        ("ask", "acknowledge", 1, StepStatus.COMPENSATED),
        ([Done()], None, 1, StepStatus.COMPENSATED),
        ([NotDone()], None, 2, StepStatus.COMPENSATED),
        ([ConnectionError(), Done()], None, 1, StepStatus.COMPENSATED),
        ([ConnectionError()] * 3, None, 1, StepStatus.FAILED),
    ],
)
@pytest.mark.parametrize("by_sql_row", [False, True], ids=["client", "row"])
def test_a_compensation_that_is_in_doubt(
    by_sql_row: bool,
    policy: Any,
    answer: Any,
    runs: int,
    status: StepStatus,
    file: Path,
    journal: Journal,
) -> None:
    keys: list[str] = []
    verdicts = list(policy) if isinstance(policy, list) else []

    def probe(key: str) -> Done[None] | NotDone:
        keys.append(key)
        verdict = verdicts.pop(0)
        if isinstance(verdict, Exception):
            raise verdict
        assert isinstance(verdict, Done | NotDone)
        return verdict

    to_ask = probe if isinstance(policy, list) else policy
    die_in(undone(journal, to_ask, dies=True), file)
    order = undone(journal, to_ask, dies=False)

    async def main() -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[order]),
            asyncio.timeout(20),
        ):
            if answer is not None:
                await until_it_asks(store, "pay:compensate")
                assert (await loaded(store, "one")).status is ExecutionStatus.COMPENSATING
                if answer == "acknowledge":
                    async with SqliteCheckpointStore.file(file) as others:
                        await Client(others).acknowledge("one", step="pay")
                elif by_sql_row:
                    (name,) = answer
                    text = {"value": "null", "not_done": "true", "failed": '"closed"'}[name]
                    by_sql(file, f"json_object('step', 'pay:compensate', '{name}', json('{text}'))")
                else:
                    async with SqliteCheckpointStore.file(file) as others:
                        await Client(others).resolve("one", "pay:compensate", **answer)
            while not (await loaded(store, "one")).status.is_terminal:
                await asyncio.sleep(0.005)
            undoing = (await store.load_checkpoints("one"))[0]
            assert (undoing.attempt, undoing.status) == (0, status)

    asyncio.run(main())
    assert journal.lines == ["undo 7"] * runs
    assert all(one.endswith(":compensate") for one in keys)
    assert verdicts == []


def test_bad_policies_are_refused_at_the_call(file: Path) -> None:
    async def pay() -> int:
        return 7

    bad: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"in_doubt": "stop"}, ValueError, "in_doubt of step"),
        ({"in_doubt": None}, TypeError, "in_doubt of step"),
        ({"in_doubt": "fail", "idempotent": True}, ValueError, "never in doubt"),
        ({"compensate_in_doubt": "ask"}, ValueError, "no `compensate`"),
        ({"compensate_in_doubt": 3, "compensate": print}, TypeError, "compensate_in_doubt of"),
    ]

    @workflow
    async def asks(ctx: WorkflowContext) -> None:
        for options, kind, text in bad:
            with pytest.raises(kind, match=text):
                await ctx.step("pay", pay, **options)

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.run(asks, execution_id="one")
            assert await store.load_checkpoints("one") == []

    asyncio.run(main())


def test_an_answer_that_nobody_asked_for_is_refused_and_nothing_is_written(
    file: Path, journal: Journal
) -> None:
    die_in(made(journal, "rerun", dies=True), file)

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            client = Client(store)
            for options in ({"not_done": True}, {"failed": "closed"}):
                with pytest.raises(ExecutionConflictError, match="asks nobody"):
                    await client.resolve("one", "pay", **options)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="one of"):
                await client.resolve("one", "pay", 5, not_done=True)
            with pytest.raises(TypeError, match="must be a text"):
                await client.resolve("one", "pay", failed=3)  # type: ignore[arg-type]
            assert await store.load_signals("one") == []
            assert await store.load_audit_log("one") == []

    asyncio.run(main())


def test_map_takes_the_policy_for_each_item(file: Path, journal: Journal) -> None:
    def paying(dies: bool) -> Definition:
        async def pay(number: int) -> int:
            journal.note(f"pay {number}")
            if dies and number == 2:
                die()
            return number

        async def probe(key: str) -> Done[int]:
            return Done(20)

        @workflow(name="order")
        async def order(ctx: WorkflowContext) -> list[int]:
            return await ctx.map("pay", pay, [1, 2], max_concurrency=1, in_doubt=probe)

        return order

    die_in(paying(True), file)
    assert asyncio.run(end(paying(False), file)) == [1, 20]  # type: ignore[comparison-overlap]
    assert journal.lines == ["pay 1", "pay 2"]


@pytest.mark.parametrize("answer", [None, {"value": 5}])
def test_code_that_asks_no_more_runs_the_step_again_or_takes_the_answer(
    answer: dict[str, Any] | None, file: Path, journal: Journal
) -> None:
    die_in(made(journal, "ask", dies=True), file)

    async def ask() -> None:
        order = made(journal, "ask", dies=False)
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[order]),
            asyncio.timeout(20),
        ):
            await until_it_asks(store)
        if answer is not None:
            by_sql(file, "json_object('branch', '', 'step_index', 0, 'value', 5)")

    asyncio.run(ask())
    result = asyncio.run(end(made(journal, "rerun", dies=False), file))
    assert result == ("paid 7" if answer is None else "paid 5")
    assert journal.lines == ["pay"] * (2 if answer is None else 1)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("select count(*) from workflow_unresolved").fetchone() == (0,)


def test_an_action_learns_its_attempt_its_key_and_the_token_of_the_claim(
    file: Path, journal: Journal
) -> None:
    seen: list[StepInfo] = []
    keys: list[str] = []

    async def inner() -> None:
        seen.append(step_info())

    async def flaky() -> None:
        await asyncio.gather(inner())
        if step_info().attempt == 1:
            raise ConnectionError

    def in_thread() -> None:
        seen.append(step_info())

    async def within_time() -> None:
        seen.append(step_info())

    def undo(_: None) -> None:
        seen.append(step_info())

    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> None:
        with pytest.raises(RuntimeError, match="outside of an action"):
            step_info()
        keys.append(ctx.idempotency_key("flaky"))
        await ctx.step("flaky", flaky, retry=QUICK)
        keys.append(ctx.idempotency_key("sync"))
        await ctx.step("sync", in_thread, compensate=undo)
        branch = ctx.branch("b")
        keys.append(branch.idempotency_key("timed"))
        await branch.step("timed", within_time, timeout=timedelta(seconds=9))
        with pytest.raises(RuntimeError, match="outside of an action"):
            step_info()
        raise ValueError("undone")

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            with pytest.raises(WorkflowFailedError):
                await engine.run(order, execution_id="one")
            tokens = {one.fencing_token for one in seen}
            assert len(tokens) == 1
            assert tokens.pop() > 0

    asyncio.run(main())
    with pytest.raises(RuntimeError, match="outside of an action"):
        step_info()
    first, second, sync, timed, undone = seen
    assert [(one.step_name, one.branch, one.attempt) for one in seen] == [
        ("flaky", "", 1),
        ("flaky", "", 2),
        ("sync", "", 1),
        ("timed", "b", 1),
        ("sync", "", 1),
    ]
    assert [one.idempotency_key for one in (first, second, sync, timed)] == [keys[0], *keys]
    assert undone.idempotency_key == f"{keys[1]}:compensate"
    assert [one.is_compensation for one in seen] == [False] * 4 + [True]
    assert {one.execution_id for one in seen} == {"one"}
