"""Steps: run once, recorded before and after, answered from their records."""

from __future__ import annotations

import asyncio
import dataclasses
import decimal
import enum
import functools
import gc
import sqlite3
import sys
import threading
import traceback
import uuid
import weakref
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    RetryPolicy,
    SerializationError,
    SqliteCheckpointStore,
    StepStatus,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import Journal, an_engine, die, run_until_killed


@dataclasses.dataclass
class Item:
    name: str
    price: decimal.Decimal


class Colour(enum.Enum):
    RED = "red"


class Address(TypedDict):
    city: str


class Point(msgspec.Struct):
    x: int


VALUES: list[tuple[Any, Any]] = [
    (int, 3),
    (str, "grün ☕"),
    (float, 0.1),
    (bool, True),
    (type(None), None),
    (list[int], [1, 2]),
    (tuple[int, str], (1, "a")),
    (dict[str, Item], {"a": Item("pen", decimal.Decimal("1.10"))}),
    (datetime, datetime(2026, 3, 1, 12, tzinfo=UTC)),
    (timedelta, timedelta(hours=3)),
    (uuid.UUID, uuid.UUID(int=7)),
    (decimal.Decimal, decimal.Decimal("1.10")),
    (bytes, b"\x00\xff"),
    (set[int], {1, 2}),
    (Colour, Colour.RED),
    (Address, {"city": "Oslo"}),
    (Point, Point(3)),
    (Item | None, None),
]


@pytest.mark.parametrize(("type_", "value"), VALUES, ids=[str(type_) for type_, _ in VALUES])
def test_a_result_has_the_type_of_its_annotation_live_and_on_replay(
    file: Path, type_: Any, value: Any
) -> None:
    def act() -> Any:
        return value

    act.__annotations__["return"] = type_
    seen: list[Any] = []

    @workflow
    async def remember(ctx: WorkflowContext) -> None:
        seen.append(await ctx.step("act", act))
        await ctx.wait_signal("go on")

    async def live() -> None:
        async with an_engine(file, workflows=[remember]) as (_, engine):
            handle = await engine.start(remember, execution_id="one")
            await _until(lambda: len(seen) > 0)
            if len(seen) > 1:
                await handle.signal("go on")
                await handle.result()

    asyncio.run(live())
    asyncio.run(_resume_and_signal(file, remember))
    assert seen == [value, value]
    assert type(seen[0]) is type(seen[1]) is type(value)


async def _resume_and_signal(file: Path, definition: Any) -> None:
    async with an_engine(file, workflows=[definition]) as (_, engine):
        await engine.send_signal("one", "go on")
        await engine.handle("one").result()


async def _until(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


def test_a_completed_step_never_runs_again_after_the_process_is_killed(
    file: Path, journal: Journal
) -> None:
    @workflow
    async def three(ctx: WorkflowContext) -> list[int]:
        first = await ctx.step("first", journal.note, "first")
        second = await ctx.step("second", journal.note, "second")

        def third() -> int:
            if journal.note("third") == 1:
                die()
            return 3

        return [first, second, await ctx.step("third", third)]

    async def main() -> list[int]:
        async with an_engine(file, workflows=[three]) as (_, engine):
            return await engine.run(three, execution_id="one")

    run_until_killed(main)
    assert asyncio.run(main()) == [1, 1, 3]
    assert journal.lines == ["first", "second", "third", "third"]


async def test_the_intent_is_committed_before_the_action_starts(file: Path) -> None:
    found: list[tuple[str, int]] = []

    def look() -> None:
        with closing(sqlite3.connect(file)) as other:
            found.extend(other.execute("select status, attempt from step_checkpoints"))

    @workflow
    async def one_step(ctx: WorkflowContext) -> None:
        await ctx.step("look", look)

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.run(one_step)
    assert found == [("INTENT", 1)]


async def test_the_result_is_committed_when_the_await_returns(file: Path) -> None:
    @workflow
    async def one_step(ctx: WorkflowContext) -> list[Any]:
        await ctx.step("act", lambda: {"a": [1]})
        with closing(sqlite3.connect(file)) as other:
            rows = other.execute("select status, output_data from step_checkpoints").fetchall()
        return [list(row) for row in rows]

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        assert await engine.run(one_step) == [["COMPLETED", '{"a":[1]}']]


def test_a_step_in_doubt_runs_again_under_the_same_idempotency_key(
    file: Path, journal: Journal
) -> None:
    async def charge(key: str) -> str:
        if journal.note(key) == 1:
            die()
        return key

    @workflow
    async def pay(ctx: WorkflowContext) -> list[str]:
        other = await ctx.step("other", lambda key: key, ctx.idempotency_key("other"))
        return [other, await ctx.step("charge", charge, ctx.idempotency_key("charge"))]

    async def main() -> list[str]:
        async with an_engine(file, workflows=[pay]) as (store, engine):
            keys = await engine.run(pay, execution_id="one")
            stored = [c.idempotency_key for c in await store.load_checkpoints("one")]
            assert stored == [keys[0], keys[1], keys[1]]
            return keys

    run_until_killed(main)
    keys = asyncio.run(main())
    assert keys[0] != keys[1]
    assert journal.lines == [keys[1], keys[1]]


def test_sync_actions_run_beside_the_event_loop() -> None:
    @workflow
    async def threads(ctx: WorkflowContext) -> bool:
        return await ctx.step("thread", threading.get_ident) != threading.get_ident()

    assert asyncio.run(_run(threads))


def test_actions_may_be_partials_methods_callables_and_lambdas() -> None:
    class Doubler:
        async def __call__(self, number: int) -> int:
            return 2 * number

        def method(self, number: int) -> int:
            return 3 * number

    async def add(a: int, b: int) -> int:
        return a + b

    @workflow
    async def all_kinds(ctx: WorkflowContext) -> list[int]:
        return [
            await ctx.step("partial", functools.partial(add, 1), 2),
            await ctx.step("callable", Doubler(), 2),
            await ctx.step("method", Doubler().method, 2),
            await ctx.step("lambda", lambda: 9),
            await ctx.step("coroutine", lambda: add(5, 5)),
        ]

    assert asyncio.run(_run(all_kinds)) == [3, 4, 6, 9, 10]


def test_serialize_and_deserialize_take_the_place_of_the_annotation() -> None:
    class Opaque:
        def __init__(self, inside: int) -> None:
            self.inside = inside

    @workflow
    async def own(ctx: WorkflowContext) -> int:
        opaque = await ctx.step(
            "make",
            lambda: Opaque(7),
            serialize=lambda opaque: opaque.inside,
            deserialize=lambda data: Opaque(data),
        )
        return opaque.inside

    assert asyncio.run(_run(own)) == 7


BAD_STEPS: list[tuple[str, Any, type[Exception]]] = [
    ("empty name", lambda ctx: ctx.step("", int), ValueError),
    ("padded name", lambda ctx: ctx.step(" a", int), ValueError),
    ("control character", lambda ctx: ctx.step("a\nb", int), ValueError),
    ("long name", lambda ctx: ctx.step("a" * 257, int), ValueError),
    ("name no string", lambda ctx: ctx.step(3, int), TypeError),
    ("action not callable", lambda ctx: ctx.step("a", 3), TypeError),
    ("compensation not callable", lambda ctx: ctx.step("a", int, compensate=3), TypeError),
    ("retry no policy", lambda ctx: ctx.step("a", int, retry=3), TypeError),
    ("timeout no timedelta", lambda ctx: ctx.step("a", int, timeout=3), TypeError),
    ("timeout zero", lambda ctx: ctx.step("a", int, timeout=timedelta(0)), ValueError),
    ("sleep negative", lambda ctx: ctx.sleep("a", timedelta(-1)), ValueError),
    ("sleep no timedelta", lambda ctx: ctx.sleep("a", 3), TypeError),
    ("naive deadline", lambda ctx: ctx.sleep_until("a", datetime(2026, 1, 1)), ValueError),  # noqa: DTZ001
    ("signal of ours", lambda ctx: ctx.wait_signal("$cancel"), ValueError),
    ("branch without a key", lambda ctx: ctx.branch(""), ValueError),
]


@pytest.mark.parametrize(
    ("call", "error"), [case[1:] for case in BAD_STEPS], ids=[case[0] for case in BAD_STEPS]
)
async def test_bad_arguments_are_refused_at_the_call_with_nothing_written(
    call: Any, error: type[Exception]
) -> None:
    @workflow
    async def bad(ctx: WorkflowContext) -> int:
        with pytest.raises(error):
            call(ctx)
        # The refused call has taken no number.
        return await ctx.step("good", lambda: 1)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(bad, execution_id="one") == 1
        checkpoints = await store.load_checkpoints("one")
        assert [(c.step_index, c.step_name) for c in checkpoints] == [(0, "good")]


async def test_a_result_that_is_no_json_is_never_run_again_and_is_undone() -> None:
    undone: list[object] = []
    runs: list[int] = []
    connection = object()

    def connect() -> Any:
        runs.append(1)
        return connection

    @workflow
    async def unfit(ctx: WorkflowContext) -> None:
        await ctx.step("connect", connect, compensate=undone.append)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError) as caught:
            await engine.run(unfit, execution_id="one")
        assert isinstance(caught.value.__cause__, SerializationError)
        assert caught.value.__cause__.step_name == "connect"
        statuses = [c.status for c in await store.load_checkpoints("one")]
        assert statuses == [StepStatus.COMPENSATED, StepStatus.FAILED]
    assert runs == [1]
    assert undone == [connection]


def test_a_result_type_that_no_json_can_be_is_refused_before_the_action_runs() -> None:
    def generate() -> Any:
        raise AssertionError("it must not run")

    generate.__annotations__["return"] = dict[tuple[int, int], int] | dict[str, int]

    @workflow
    async def unfit(ctx: WorkflowContext) -> None:
        with pytest.raises(SerializationError):
            ctx.step("generate", generate)

    asyncio.run(_run(unfit))


async def test_a_step_error_that_the_body_catches_lets_the_execution_complete() -> None:
    def fail() -> None:
        raise KeyError("no such thing")

    @workflow
    async def catch(ctx: WorkflowContext) -> str:
        try:
            await ctx.step("fail", fail)
        except KeyError:
            return await ctx.step("otherwise", lambda: "went on")
        return "not reached"

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(catch, execution_id="one") == "went on"
        record = await loaded(store, "one")
        assert record.status is ExecutionStatus.COMPLETED
        assert record.error_message is None


async def _run(definition: Any, *args: Any) -> Any:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        return await engine.run(definition, *args)


class CountingConnection(sqlite3.Connection):
    """Counts what SQLite does: the instructions of its virtual machine."""

    instructions = 0

    def count(self) -> None:
        def tick() -> int:
            self.instructions += 1
            return 0

        self.set_progress_handler(tick, 1)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("steps", "input_size"),
    [(2_000, 0), (2_000, 1_000_000), pytest.param(10_000, 0, marks=pytest.mark.campaign)],
)
async def test_the_last_of_many_steps_costs_what_the_first_did(
    file: Path, steps: int, input_size: int
) -> None:
    """Counted, not timed: the calls of Python and the instructions of SQLite for a step."""
    costs: list[tuple[int, int]] = []

    with closing(
        sqlite3.connect(file, isolation_level=None, factory=CountingConnection)
    ) as connection:
        connection.count()
        calls = 0

        def profile(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        @workflow
        async def long(ctx: WorkflowContext, data: str) -> None:
            for number in range(steps):
                if 50 <= number < 55 or steps - 50 <= number < steps - 45:
                    before = calls, connection.instructions
                    sys.setprofile(profile)
                    await ctx.step("add", int, number)
                    sys.setprofile(None)
                    costs.append((calls - before[0], connection.instructions - before[1]))
                else:
                    await ctx.step("add", int, number)

        store = SqliteCheckpointStore(connection)
        async with store, DurableEngine(store) as engine:
            await engine.run(long, "x" * input_size)
    # The least of five: in any of them there may be a look for changes, or a checkpoint.
    first_calls, first_instructions = map(min, zip(*costs[:5], strict=True))
    last_calls, last_instructions = map(min, zip(*costs[5:], strict=True))
    assert first_calls > 20
    assert first_instructions > 100
    assert last_calls <= first_calls * 1.25
    assert last_instructions <= first_instructions * 1.25


async def test_a_result_that_is_too_long_is_never_run_again_and_is_undone(file: Path) -> None:
    runs: list[str] = []

    def make() -> str:
        runs.append("made")
        return "x" * 200_000

    @workflow
    async def long_step(ctx: WorkflowContext) -> None:
        await ctx.step("make", make, compensate=lambda made: runs.append(f"undone {len(made)}"))

    @workflow
    async def long_result(ctx: WorkflowContext) -> str:
        await ctx.step("first", lambda: 1, compensate=lambda _: runs.append("undone first"))
        return "x" * 200_000

    connection = sqlite3.connect(file, check_same_thread=False)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    async with SqliteCheckpointStore(connection) as store, DurableEngine(store) as engine:
        for definition, error in (
            (long_step, WorkflowFailedError),
            (long_result, WorkflowCodeError),
        ):
            with pytest.raises(error) as caught:
                await engine.run(definition)
            assert isinstance(caught.value.__cause__, SerializationError)
    connection.close()
    assert runs == ["made", "undone 200000"]


def no_more() -> int:
    return next(iter(()))


async def cancelled_from_within() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


@pytest.mark.parametrize(
    ("action", "timeout", "message"),
    [
        (no_more, None, "StopIteration"),
        (cancelled_from_within, None, "cancelled from within"),
        (cancelled_from_within, timedelta(seconds=5), "cancelled from within"),
    ],
)
async def test_an_action_that_stops_or_cancels_itself_fails_its_step(
    action: Callable[[], object], timeout: timedelta | None, message: str
) -> None:
    @workflow
    async def one_step(ctx: WorkflowContext) -> None:
        await ctx.step("act", action, timeout=timeout)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError, match=message):
            await asyncio.wait_for(engine.run(one_step, execution_id="one"), 5)
        (step,) = await store.load_checkpoints("one")
        assert step.status is StepStatus.FAILED


@dataclasses.dataclass  # which makes it unhashable
class Times:
    factor: int
    results: list[int] = dataclasses.field(default_factory=list)

    def __call__(self, number: int) -> int:
        self.results.append(self.factor * number)
        return self.results[-1]


def test_actions_and_compensations_may_be_objects_that_cannot_be_hashed() -> None:
    undo = Times(-1)

    @workflow
    async def fail(ctx: WorkflowContext) -> None:
        assert await ctx.step("times", Times(3), 2, compensate=undo) == 6
        raise ValueError("undo it")

    with pytest.raises(WorkflowFailedError, match="undo it"):
        asyncio.run(_run(fail))
    assert undo.results == [-6]


class Service:
    def charge(self, amount: int) -> int:
        return amount

    async def refund(self, amount: int) -> None: ...


def test_what_a_step_was_given_goes_with_its_execution() -> None:
    """A step is often a lambda, a bound method or a partial, which may hold much."""
    services: list[weakref.ref[Service]] = []

    def service() -> Service:
        one = Service()
        services.append(weakref.ref(one))
        return one

    @workflow
    async def charge(ctx: WorkflowContext) -> None:
        bound, enclosed, partial = service(), service(), service()
        await ctx.step("bound", bound.charge, 3, compensate=bound.refund)
        await ctx.step("lambda", lambda: enclosed.charge(3), compensate=lambda _: enclosed)
        await ctx.step("partial", functools.partial(partial.charge, 3))

    async def main() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            for name in ("one", "two"):
                await engine.run(charge, execution_id=name)

    asyncio.run(main())
    gc.collect()
    assert len(services) == 6
    assert [one() for one in services] == [None] * 6


class Unforeseen(Exception):
    """No ValueError, no TypeError: what a class of the user raises where it likes."""


class CannotBeWritten:
    def model_dump(self, **_: object) -> None:
        raise Unforeseen("dump")

    @classmethod
    def model_validate_json(cls, _: object) -> None: ...


class CannotBeRead:
    def model_dump(self, **_: object) -> dict[str, int]:
        return {"a": 1}

    @classmethod
    def model_validate_json(cls, _: object) -> None:
        raise Unforeseen("validate")


@pytest.mark.parametrize("kind", [CannotBeWritten, CannotBeRead])
def test_a_result_whose_class_raises_what_it_likes_is_not_run_again_and_is_undone(
    kind: type,
) -> None:
    runs: list[str] = []

    def make() -> Any:
        runs.append("made")
        return kind()

    make.__annotations__["return"] = kind

    @workflow
    async def one_step(ctx: WorkflowContext) -> None:
        await ctx.step(
            "make",
            make,
            compensate=lambda _: runs.append("undone"),
            retry=RetryPolicy.fixed(max_attempts=3, delay=timedelta(0)),
        )

    with pytest.raises(WorkflowFailedError) as caught:
        asyncio.run(_run(one_step))
    assert isinstance(caught.value.__cause__, SerializationError)
    assert runs == ["made", "undone"]


class Aliased(pydantic.BaseModel):
    order_id: str = pydantic.Field(alias="orderId")


class StrictlyTyped(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    at: datetime


class WithComputed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    number: int

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return 2 * self.number


class WithBytes(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    content: bytes


@pytest.mark.parametrize(
    "model",
    [
        Aliased(orderId="1"),
        StrictlyTyped(at=datetime.now(UTC)),
        WithComputed(number=1),
        WithBytes(content=b"\xff\x00"),
    ],
    ids=lambda model: type(model).__name__,
)
def test_pydantic_models_come_back_however_they_are_configured(model: pydantic.BaseModel) -> None:
    def make() -> Any:
        return [model]

    make.__annotations__["return"] = list[type(model)]  # type: ignore[misc]

    @workflow
    async def one_step(ctx: WorkflowContext) -> bool:
        result = await ctx.step("make", make)
        return bool(result == [model])

    assert asyncio.run(_run(one_step))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: [None, {"a": [n]}], lambda n: {"": n}])
def test_a_number_that_json_lacks_is_refused(number: float, wrap: Callable[[float], Any]) -> None:
    @workflow
    async def one_step(ctx: WorkflowContext) -> None:
        await ctx.step("make", lambda: wrap(number))

    with pytest.raises(WorkflowFailedError, match="JSON has no number") as caught:
        asyncio.run(_run(one_step))
    assert isinstance(caught.value.__cause__, SerializationError)


async def key_for_another_step(ctx: WorkflowContext) -> None:
    ctx.idempotency_key("pay")
    await ctx.step("check", lambda: None)


async def key_for_a_sleep(ctx: WorkflowContext) -> None:
    ctx.idempotency_key("pay")
    await ctx.sleep("pay", timedelta(0))


@pytest.mark.parametrize("body", [key_for_another_step, key_for_a_sleep])
def test_an_idempotency_key_is_for_the_step_that_it_names(body: Any) -> None:
    with pytest.raises(WorkflowCodeError, match="must be followed by step 'pay'"):
        asyncio.run(_run(workflow(body)))


async def test_a_failure_shows_its_class_and_the_line_of_the_workflow_where_it_came_from() -> None:
    def look_up(prices: dict[str, int]) -> int:
        return prices["tea"]

    @workflow(stops_on=())
    async def of_its_own(ctx: WorkflowContext) -> int:
        return look_up({})

    @workflow
    async def of_a_step(ctx: WorkflowContext) -> int:
        return await ctx.step("look up", look_up, {})

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        for definition in (of_its_own, of_a_step):
            with pytest.raises(WorkflowFailedError, match="FAILED: KeyError: 'tea'") as caught:
                await engine.run(definition)
            shown = "".join(traceback.format_exception(caught.value))
            assert f"in {definition.name}\n" in shown
            assert "in look_up\n" in shown
