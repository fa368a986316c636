"""Replay: the same identity every time, and a history that no longer fits stops everything."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    NonDeterminismError,
    SerializationError,
    SignalTimeoutError,
    SqliteCheckpointStore,
    StepCheckpoint,
    StepNotAwaitedError,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import Journal, die, run_until_killed

Body = Callable[[WorkflowContext], Awaitable[Any]]


def run_and_die(file: Path, body: Body, name: str = "replayed") -> None:
    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.run(workflow(name=name)(body), execution_id="one")

    run_until_killed(main)


def run(file: Path, body: Body, name: str = "replayed") -> Any:
    async def main() -> Any:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            return await engine.run(workflow(name=name)(body), execution_id="one")

    return asyncio.run(main())


def status(file: Path) -> ExecutionStatus:
    async def main() -> ExecutionStatus:
        async with SqliteCheckpointStore.file(file) as store:
            record = await loaded(store, "one")
            return record.status

    return asyncio.run(main())


def checkpoints(file: Path) -> list[StepCheckpoint]:
    async def main() -> list[StepCheckpoint]:
        async with SqliteCheckpointStore.file(file) as store:
            return await store.load_checkpoints("one")

    return asyncio.run(main())


async def price_then_die(ctx: WorkflowContext) -> None:
    await ctx.step("price", lambda: 42)
    die()


async def charge_first(ctx: WorkflowContext) -> Any:
    return await ctx.step("charge", lambda: "charged")


async def sleep_first(ctx: WorkflowContext) -> None:
    await ctx.sleep("price", timedelta(0))


async def wait_first(ctx: WorkflowContext) -> Any:
    return await ctx.wait_signal("price")


async def swallow(ctx: WorkflowContext) -> str:
    try:
        await ctx.step("charge", lambda: "charged")
    except NonDeterminismError:
        await asyncio.sleep(0)
    return "as if nothing had happened"


@pytest.mark.parametrize("changed", [charge_first, sleep_first, wait_first, swallow])
def test_code_that_does_not_match_its_history_stops_the_execution_and_fails_nothing(
    changed: Body, file: Path
) -> None:
    run_and_die(file, price_then_die)
    with pytest.raises(NonDeterminismError) as caught:
        run(file, changed)
    error = caught.value
    assert error.workflow_execution_id == "one"
    assert error.step_index == 0
    assert error.recorded_name == "price"
    assert error.current_name == ("price" if changed in (sleep_first, wait_first) else "charge")
    for part in (
        "'one'",
        "'price'",
        "index 0",
        "a new version",
        "If the code has not changed, it depends on",
    ):
        assert part in str(error)
    assert status(file) is ExecutionStatus.RUNNING

    async def as_it_was(ctx: WorkflowContext) -> int:
        return await ctx.step("price", lambda: -1)

    assert run(file, as_it_was) == 42
    assert status(file) is ExecutionStatus.COMPLETED


@pytest.mark.parametrize("what", ["sleep", "timeout"])
@pytest.mark.parametrize("new", [None, 0.01, 3600.0], ids=["gone", "shorter", "longer"])
def test_a_timer_that_has_ended_may_be_shorter_and_not_longer(
    what: str, new: float | None, file: Path
) -> None:
    def body(seconds: float | None, end: Callable[[], object]) -> Body:
        async def timed(ctx: WorkflowContext) -> str:
            await ctx.step("before", lambda: None)
            if what == "sleep" and seconds is not None:
                await asyncio.sleep(seconds)
            elif what == "timeout":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await ctx.wait_signal("never")
            await ctx.step("after", lambda: None)
            end()
            return "done"

        return timed

    run_and_die(file, body(0.05, die))
    if (new is None and what == "sleep") or new == 0.01:
        assert run(file, body(new, lambda: None)) == "done"
    else:
        with pytest.raises(NonDeterminismError, match="'after' recorded at"):
            run(file, body(new, lambda: None))


def test_it_says_that_the_body_waits_for_a_timer_where_a_step_is_recorded(file: Path) -> None:
    async def quick(ctx: WorkflowContext) -> None:
        await asyncio.sleep(0.01)
        await ctx.step("die", die)

    async def slow(ctx: WorkflowContext) -> None:
        async with asyncio.timeout(7200):
            await asyncio.sleep(3600)
        await ctx.step("die", lambda: None)

    run_and_die(file, quick)
    with pytest.raises(NonDeterminismError) as caught:
        run(file, slow)
    for part in (
        "has step 'die' recorded at index 0, but its workflow has not asked for it by the end of",
        "what is recorded and waits for a timer of asyncio, due at 2",
        "If the code has not changed, it depends on",
    ):
        assert part in str(caught.value)


def test_it_says_that_the_body_waits_for_a_timer_beside_a_step_where_another_has_ended(
    file: Path,
) -> None:
    async def quick(ctx: WorkflowContext) -> None:
        await ctx.step("first", lambda: None)
        die()

    async def slow(ctx: WorkflowContext) -> None:
        async with asyncio.timeout(3600):
            await ctx.branch("other").step("another", lambda: None)

    run_and_die(file, quick)
    with pytest.raises(NonDeterminismError) as caught:
        run(file, slow)
    assert (
        "as event 1, but its workflow has not asked for it and waits for step 'another'"
        " (index 0 of branch 'other'), a timer of asyncio, due at 2"
    ) in str(caught.value)


def test_a_mismatch_starts_no_compensation(file: Path, journal: Journal) -> None:
    async def first(ctx: WorkflowContext) -> None:
        await ctx.step("book", lambda: 1, compensate=lambda _: journal.note("undone"))
        await ctx.step("price", lambda: 42)
        die()

    async def second(ctx: WorkflowContext) -> None:
        await ctx.step("book", lambda: 1, compensate=lambda _: journal.note("undone"))
        await ctx.step("charge", lambda: 42)

    run_and_die(file, first)
    with pytest.raises(NonDeterminismError):
        run(file, second)
    assert journal.lines == []


def test_steps_started_together_keep_their_identity_whatever_order_they_end_in(
    file: Path,
) -> None:
    async def act(name: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return name

    async def body(ctx: WorkflowContext, *, dies: bool, delays: tuple[float, ...]) -> list[str]:
        results = await asyncio.gather(
            *(
                ctx.step("act", act, name, seconds)
                for name, seconds in zip("abc", delays, strict=True)
            )
        )
        if dies:
            die()
        return results

    async def first(ctx: WorkflowContext) -> list[str]:
        return await body(ctx, dies=True, delays=(0.06, 0.03, 0))

    async def second(ctx: WorkflowContext) -> list[str]:
        return await body(ctx, dies=False, delays=(0, 0, 0))

    run_and_die(file, first)
    assert run(file, second) == ["a", "b", "c"]


def test_branches_are_numbered_apart_however_they_interleave(file: Path, journal: Journal) -> None:
    async def act(text: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return text

    async def chain(ctx: WorkflowContext, item: str, seconds: float) -> str:
        seen = ""
        for number in range(3):
            seen += await ctx.step(f"part {number}", act, f"{item}{number} ", seconds)
        inner = await asyncio.gather(
            *(ctx.branch(key).step("inner", act, f"{item}/{key}", 0) for key in "xy")
        )
        return seen + " ".join(inner)

    async def body(ctx: WorkflowContext) -> list[str]:
        is_first = journal.note("process") == 1
        # In the second process, what is not recorded yet goes on at another pace.
        paces = {"a": 0.0, "b": 0.01} if is_first else {"a": 0.02, "b": 0.0}
        a, b = await asyncio.gather(
            *(chain(ctx.branch(item), item, pace) for item, pace in paces.items())
        )
        last = await ctx.step("last", lambda: "last")
        if is_first:
            die()
        return [a, b, last]

    run_and_die(file, body)
    assert run(file, body) == ["a0 a1 a2 a/x a/y", "b0 b1 b2 b/x b/y", "last"]


async def fails_with(match: str, body: Body) -> None:
    """The misuse is told to the workflow, and fails it as any error of its own does."""
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(Exception, match=match):
            await engine.run(workflow(name="misuse")(body))


def test_one_context_may_be_used_by_several_tasks_at_once(file: Path, journal: Journal) -> None:
    async def act(name: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        journal.note(name)
        return name

    async def chain(ctx: WorkflowContext, item: str, seconds: float) -> str:
        first = await ctx.step("first", act, f"{item}1", seconds)
        return first + await ctx.step("second", act, f"{item}2", seconds)

    async def body(ctx: WorkflowContext) -> list[str]:
        # Of b, both steps end before the first of a does: the numbers go to whoever asks first.
        found = await asyncio.gather(chain(ctx, "a", 0.1), chain(ctx, "b", 0.01))
        if journal.note("process") == 1:
            die()
        return found

    run_and_die(file, body)
    assert run(file, body) == ["a1a2", "b1b2"]
    assert [line for line in journal.lines if line != "process"] == ["b1", "b2", "a1", "a2"]


def step(name: str) -> Callable[[WorkflowContext], Awaitable[Any]]:
    return lambda ctx: ctx.step(name, lambda: name)


def sleep(name: str) -> Callable[[WorkflowContext], Awaitable[Any]]:
    return lambda ctx: ctx.sleep(name, timedelta(0))


@pytest.mark.parametrize(
    "last", [step("two"), sleep("two"), lambda ctx: step("x")(ctx.branch("b"))]
)
@pytest.mark.parametrize("error", [None, ValueError("too early")])
def test_code_that_asks_for_fewer_steps_stops_the_execution_and_fails_nothing(
    last: Body, error: Exception | None, file: Path
) -> None:
    async def first_process(ctx: WorkflowContext) -> None:
        await ctx.step("one", lambda: 1)
        await last(ctx)
        die()

    async def second_process(ctx: WorkflowContext) -> None:
        await ctx.step("one", lambda: 1)
        if error is not None:
            raise error

    run_and_die(file, first_process)
    instead = (
        "ended without it"
        if error is None
        else r"raised ValueError: too early at line \d+ of .*test_replay.py, in .* before it asked"
    )
    with pytest.raises(NonDeterminismError, match=f"'one' has .* {instead}") as caught:
        run(file, second_process)
    assert caught.value.recorded_name in ("two", "x")
    assert caught.value.current_name is None
    assert status(file) is ExecutionStatus.RUNNING


def test_a_mistake_that_comes_before_a_recorded_step_is_told_with_its_line(file: Path) -> None:
    async def first_process(ctx: WorkflowContext) -> None:
        await ctx.step("one", lambda: 1)
        await ctx.step("two", lambda: 2)
        die()

    async def with_a_typo(ctx: WorkflowContext) -> str:
        await ctx.step("one", lambda: 1)
        return ctx.uuuid4()  # type: ignore[attr-defined,no-any-return]

    async def with_the_key_of_another_step(ctx: WorkflowContext) -> None:
        await ctx.step("paid", lambda key: key, ctx.idempotency_key("one"))

    async def mended(ctx: WorkflowContext) -> str:
        await ctx.step("one", lambda: 1)
        await ctx.step("two", lambda: 2)
        return "done"

    run_and_die(file, first_process)
    with pytest.raises(WorkflowCodeError, match=r"raised AttributeError: .*'uuuid4' at line \d+"):
        run(file, with_a_typo)
    with pytest.raises(WorkflowCodeError, match="the next call is step 'paid' at line"):
        run(file, with_the_key_of_another_step)
    assert status(file) is ExecutionStatus.RUNNING
    assert run(file, mended) == "done"


def test_a_branch_that_lost_a_race_may_have_steps_left(file: Path, journal: Journal) -> None:
    async def slow(ctx: WorkflowContext) -> None:
        for number in range(5):
            await ctx.step(f"slow {number}", journal.note, f"slow {number}")
        await asyncio.sleep(1)

    async def body(ctx: WorkflowContext) -> str:
        loser = asyncio.create_task(slow(ctx.branch("slow")))
        await ctx.step("fast", lambda: None)
        await asyncio.sleep(0.1)
        loser.cancel()
        await ctx.step("last", lambda: None)
        if journal.note("process") == 1:
            die()
        return "done"

    run_and_die(file, body)
    assert run(file, body) == "done"
    assert len([line for line in journal.lines if line != "process"]) == 5


def test_a_branch_is_taken_once_unless_it_says_that_it_repeats() -> None:
    async def twice(ctx: WorkflowContext) -> None:
        await ctx.branch("a").step("one", lambda: 1)
        await ctx.branch("a").step("one", lambda: 1)

    asyncio.run(fails_with("branch 'a' exists already.*repeat=True", twice))


def test_a_branch_that_repeats_has_a_number_which_is_the_same_on_a_replay(
    file: Path, journal: Journal
) -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        found = [
            await ctx.branch("a", repeat=True).step(f"step {number}", journal.note, "ran")
            for number in range(3)
        ]
        if journal.note("process") == 1:
            die()
        return found

    run_and_die(file, body)
    assert run(file, body) == [1, 2, 3]
    assert journal.lines.count("ran") == 3
    assert {one.branch for one in checkpoints(file)} == {"a", "a#2", "a#3"}


KEYS = [" a", "a\n", "a/b", "x" * 10_000, "a\x00b", "$timers?", "\N{SNOWMAN}", "a#2", "/", "''--"]


def test_any_text_is_the_key_of_a_branch(file: Path, journal: Journal) -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        found = [await ctx.branch(key).step("one", journal.note, repr(key)) for key in KEYS]
        if journal.note("process") == 1:
            die()
        return found

    run_and_die(file, body)
    assert run(file, body) == [1] * len(KEYS)
    assert {one.branch for one in checkpoints(file)} == set(KEYS)


@pytest.mark.parametrize(
    ("key", "match"),
    [
        ("", "must not be empty"),
        (7, "must be a string"),
        ("$timers", "reserved"),
        ("\ud800", "half"),
    ],
)
def test_what_is_no_key_of_a_branch_is_refused(key: Any, match: str) -> None:
    async def body(ctx: WorkflowContext) -> None:
        ctx.branch(key)

    asyncio.run(fails_with(match, body))


async def test_a_task_may_be_handed_a_branch() -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        async def part(branch: WorkflowContext, number: int) -> int:
            return await branch.step("part", lambda: number)

        return [
            await asyncio.create_task(part(ctx.branch(str(number)), number)) for number in range(3)
        ]

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(workflow(name="handed on")(body)) == [0, 1, 2]


async def test_a_task_that_is_left_behind_is_cancelled_and_can_write_nothing_more() -> None:
    trouble: list[BaseException] = []

    @workflow
    async def leaves_a_task_behind(ctx: WorkflowContext) -> str:
        async def late() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                try:
                    await ctx.step("late", lambda: "late")
                except RuntimeError as error:
                    trouble.append(error)

        task = asyncio.create_task(late())
        done = await ctx.step("only", lambda: "done")
        assert not task.done()
        return done

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(leaves_a_task_behind, execution_id="one") == "done"
        assert [c.step_name for c in await store.load_checkpoints("one")] == ["only"]
        assert (await engine.load("one")).status is ExecutionStatus.COMPLETED
    (error,) = trouble
    assert "Await every task" in str(error)


async def test_steps_that_a_finished_body_left_in_the_middle_are_cut_off() -> None:
    @workflow
    async def forgets(ctx: WorkflowContext) -> str:
        task = asyncio.ensure_future(ctx.step("forgotten", asyncio.sleep, 3600))
        await asyncio.sleep(0.02)
        assert not task.done()
        return "done"

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await asyncio.wait_for(engine.run(forgets, execution_id="one"), 5) == "done"


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.campaign)])
def test_a_history_of_thousands_of_steps_replays_and_goes_on(file: Path, count: int) -> None:
    async def body(ctx: WorkflowContext, dies: bool) -> int:
        total = 0
        for number in range(count):
            total += await ctx.step("add", int, number)
        if dies:
            die()
        return total + await ctx.step("last", lambda: 1)

    async def first(ctx: WorkflowContext) -> int:
        return await body(ctx, True)

    async def second(ctx: WorkflowContext) -> int:
        return await body(ctx, False)

    run_and_die(file, first)
    began = time.monotonic()
    assert run(file, second) == sum(range(count)) + 1
    assert time.monotonic() - began < 30


def test_an_action_that_uses_the_context_itself_is_refused_with_nothing_written() -> None:
    async def body(ctx: WorkflowContext) -> None:
        async def outer() -> None:
            await ctx.step("inner", lambda: "inner")

        await ctx.step("outer", outer)

    asyncio.run(fails_with("A step cannot contain other steps", body))


class Unforeseen(Exception):
    """No ValueError, no TypeError: what a class of the user raises where it likes."""


@dataclasses.dataclass
class Strict:
    cents: int
    limit: ClassVar[int] = 100

    def __post_init__(self) -> None:
        if self.cents > self.limit:
            raise Unforeseen("too much")


def test_a_recorded_result_that_its_class_no_longer_takes_stops_the_execution(
    file: Path, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    def price() -> Strict:
        return Strict(100)

    async def body(ctx: WorkflowContext) -> None:
        await ctx.step("price", price, compensate=lambda _: journal.note("undone"))
        if Strict.limit == 100:
            die()

    run_and_die(file, body)
    monkeypatch.setattr(Strict, "limit", 10)
    with pytest.raises(SerializationError, match="too much"):
        run(file, body)
    assert status(file) is ExecutionStatus.RUNNING
    assert journal.lines == []


def test_a_recorded_payload_that_is_no_longer_of_its_type_stops_the_execution(
    file: Path, journal: Journal
) -> None:
    wanted: type = int

    async def body(ctx: WorkflowContext) -> None:
        await ctx.step("charge", lambda: 1, compensate=lambda _: journal.note("undone"))
        await ctx.wait_signal("number", type=wanted)
        die()

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.start(workflow(name="replayed")(body), execution_id="one")
            await handle.signal("number", 5)
            await handle.result()

    run_until_killed(first_process)
    wanted = str
    with pytest.raises(SerializationError, match="number"):
        run(file, body)
    assert status(file) is ExecutionStatus.RUNNING
    assert journal.lines == []


FORGOTTEN: dict[str, Callable[[WorkflowContext, Journal], Awaitable[Any]]] = {
    "step 'ship' (index 1)": lambda ctx, journal: ctx.step("ship", journal.note, "shipped"),
    "sleep 'cooling-off' (index 1)": lambda ctx, _: ctx.sleep("cooling-off", timedelta(0)),
    "signal 'approved' (index 1)": lambda ctx, _: ctx.wait_signal("approved", timedelta(0)),
    "step 'ship' (index 0 of branch 'parcel')": lambda ctx, journal: ctx.branch("parcel").step(
        "ship", journal.note, "shipped"
    ),
}


@pytest.mark.parametrize("is_last", [True, False])
@pytest.mark.parametrize("what", FORGOTTEN)
def test_a_forgotten_await_stops_the_execution_and_mended_code_goes_on(
    what: str, is_last: bool, file: Path, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal")
    call = FORGOTTEN[what]

    async def forgetful(ctx: WorkflowContext) -> Any:
        await ctx.step("charge", journal.note, "charged")
        if is_last:
            return call(ctx, journal)
        called = call(ctx, journal)
        await ctx.step("thank", journal.note, "thanked")
        return f"done with {called}"

    async def mended(ctx: WorkflowContext) -> str:
        await ctx.step("charge", journal.note, "charged")
        called = call(ctx, journal)
        if not is_last:
            await ctx.step("thank", journal.note, "thanked")  # which is recorded before it
        with contextlib.suppress(SignalTimeoutError):
            await called
        return "done"

    with pytest.raises(StepNotAwaitedError, match="ith that code it continues") as caught:
        run(file, forgetful)
    assert what in str(caught.value)
    says_before = "Write `await` before the call" in str(caught.value)
    assert says_before == (is_last and "branch" not in what)
    assert caught.value.workflow_execution_id == "one"
    assert status(file) is ExecutionStatus.RUNNING
    assert run(file, mended) == "done"
    assert journal.lines.count("charged") == 1
    assert journal.lines.count("shipped") == ("ship" in what)


def test_a_forgotten_await_is_not_told_to_go_before_what_is_recorded(file: Path) -> None:
    def body(awaits: str) -> Callable[[WorkflowContext], Awaitable[Any]]:
        async def loop(ctx: WorkflowContext) -> str:
            later = ctx.step("ship", lambda: "shipped")
            if awaits == "at the call":
                await later
            await ctx.step("thank", lambda: "thanked")
            return await later if awaits == "behind" else "forgotten"

        return loop

    with pytest.raises(StepNotAwaitedError, match=r"await it after those steps.*`await later`"):
        run(file, body("nowhere"))
    with pytest.raises(NonDeterminismError, match="step 'thank' recorded"):
        run(file, body("at the call"))
    assert run(file, body("behind")) == "shipped"


def test_two_forgotten_awaits_at_the_end_may_be_written_where_they_are(file: Path) -> None:
    async def forgetful(ctx: WorkflowContext) -> None:
        await ctx.step("charge", lambda: 1)
        ctx.step("ship", lambda: 1)
        ctx.step("thank", lambda: 1)

    async def mended(ctx: WorkflowContext) -> int:
        await ctx.step("charge", lambda: 1)
        return await ctx.step("ship", lambda: 1) + await ctx.step("thank", lambda: 1)

    with pytest.raises(StepNotAwaitedError, match=r"'ship'.*'thank'.*Write `await` before"):
        run(file, forgetful)
    assert run(file, mended) == 2


def test_of_many_steps_that_start_together_the_forgotten_one_is_found(file: Path) -> None:
    async def forgetful(ctx: WorkflowContext) -> None:
        calls = [ctx.step(f"step {number}", lambda: None) for number in range(300)]
        forgotten = calls.pop(7)
        await asyncio.gather(*calls)
        assert asyncio.iscoroutine(forgotten)

    with pytest.raises(StepNotAwaitedError, match=r"called step 'step 7' \(index 7\) and never"):
        run(file, forgetful)


def test_an_error_of_the_body_is_its_end_whatever_it_has_not_awaited(file: Path) -> None:
    async def fails(ctx: WorkflowContext) -> None:
        later = ctx.step("later", lambda: None)
        try:
            await ctx.step("first", refuse)
        finally:
            later.close()

    def refuse() -> None:
        raise ValueError("no")

    with pytest.raises(WorkflowFailedError, match="no"):
        run(file, fails)
