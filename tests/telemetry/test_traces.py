"""One trace tells what became of an execution, over restarts and processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import StatusCode

from durable_workflow_sqlite import (
    DurableEngine,
    RetryPolicy,
    SqliteCheckpointStore,
    StepKind,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.telemetry import OpenTelemetryObserver
from tests.processes import Journal, an_engine, die, run_until_killed, until
from tests.telemetry.conftest import Telemetry

QUICK = RetryPolicy.fixed(max_attempts=3, delay=timedelta(milliseconds=5))


def parent_of(span: ReadableSpan, spans: list[ReadableSpan]) -> str | None:
    if span.parent is None:
        return None
    (name,) = [one.name for one in spans if one.context.span_id == span.parent.span_id]
    return name


def tree(telemetry: Telemetry) -> dict[str, str | None]:
    spans = telemetry.spans
    assert len({span.context.trace_id for span in spans}) == 1
    return {span.name: parent_of(span, spans) for span in spans}


@workflow(name="order")
async def order(ctx: WorkflowContext, order_id: str) -> str:
    await ctx.step("charge", lambda: 1)
    await ctx.sleep("cooling-off", timedelta(seconds=0.02))
    return await ctx.wait_signal("approved", type=str)


async def test_an_execution_is_a_tree_of_spans(telemetry: Telemetry) -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, observers=[telemetry.observer]) as engine,
    ):
        handle = await engine.start(order, "A-1", execution_id="one")
        await handle.signal("approved", "kim")
        await handle.result()
        record = await engine.load("one")
        (nap,) = [one for one in await store.load_checkpoints("one") if one.kind is StepKind.SLEEP]
        for name, began, ended in (
            ("execution order", record.created_at, record.updated_at),
            ("sleep cooling-off", nap.started_at, nap.completed_at),
        ):
            span = telemetry.named(name)
            assert began is not None and ended is not None
            assert span.start_time == round(began.timestamp() * 1e6) * 1000
            assert span.end_time == round(ended.timestamp() * 1e6) * 1000
    assert tree(telemetry) == {
        "execution order": None,
        "start order": "execution order",
        "step charge": "execution order",
        "attempt charge": "step charge",
        "sleep cooling-off": "execution order",
        "wait approved": "execution order",
    }
    assert telemetry.named("execution order").attributes == {
        "durable_workflow.execution.id": "one",
        "durable_workflow.workflow.id": "order@1",
        "durable_workflow.execution.status": "COMPLETED",
    }
    assert telemetry.named("attempt charge").attributes == {
        "durable_workflow.execution.id": "one",
        "durable_workflow.workflow.id": "order@1",
        "durable_workflow.step.name": "charge",
        "durable_workflow.step.index": 0,
        "durable_workflow.step.attempt": 1,
    }


async def test_what_an_action_does_is_part_of_its_attempt(telemetry: Telemetry) -> None:
    tracer = telemetry.traces.get_tracer("mine")

    async def in_the_loop() -> None:
        with tracer.start_as_current_span("query"):
            await asyncio.sleep(0)

    def in_a_thread() -> None:
        with tracer.start_as_current_span("request"):
            pass

    @workflow
    async def both(ctx: WorkflowContext) -> None:
        before = trace.get_current_span()
        await asyncio.gather(
            ctx.step("ask", in_the_loop), ctx.step("call", in_a_thread, timeout=timedelta(1))
        )
        await ctx.step("ask again", lambda: None)
        assert trace.get_current_span() is before

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, observers=[telemetry.observer]) as engine,
    ):
        await engine.run(both)
    found = tree(telemetry)
    assert (found["query"], found["request"]) == ("attempt ask", "attempt call")


async def test_who_asked_for_an_execution_is_linked(telemetry: Telemetry) -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, observers=[telemetry.observer]) as engine,
    ):
        with telemetry.traces.get_tracer("mine").start_as_current_span("POST /orders"):
            handle = await engine.start(order, "A-1", execution_id="one")
        await handle.signal("approved", "kim")
        await handle.result()
    request = telemetry.named("POST /orders")
    (link,) = telemetry.named("start order").links
    assert link.context == request.context
    # A trace of its own: a request is over in a moment, and an execution may take a month.
    assert telemetry.named("execution order").context.trace_id != request.context.trace_id


async def test_retries_failures_and_compensations_are_told_as_they_are_stored(
    telemetry: Telemetry,
) -> None:
    undone: list[int] = []

    def fail() -> None:
        raise ValueError("card of Ada declined")

    def refund(amount: int) -> None:
        undone.append(amount)
        if len(undone) < 2:
            raise OSError("no line")

    @workflow
    async def failing(ctx: WorkflowContext) -> None:
        await ctx.step("charge", lambda: 7, compensate=refund, compensate_retry=QUICK)
        await ctx.step("ship", fail, retry=QUICK)

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(
            store,
            observers=[telemetry.observer],
            error_formatter=lambda error: type(error).__name__,
        ) as engine,
    ):
        with pytest.raises(WorkflowFailedError):
            await engine.run(failing)
    assert "Ada" not in "".join(span.to_json() for span in telemetry.spans)
    attempts = [span for span in telemetry.spans if span.name == "attempt ship"]
    ship = telemetry.named("step ship")
    assert [span.attributes["durable_workflow.step.attempt"] for span in attempts] == [1, 2, 3]  # type: ignore[index]
    for span in [*attempts, ship, telemetry.named("execution failing")]:
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "ValueError"
        assert span.attributes is not None
        assert span.attributes["error.type"] == "builtins.ValueError"
    assert {span.parent.span_id for span in attempts if span.parent} == {ship.context.span_id}
    assert ship.start_time == attempts[0].start_time
    compensations = [span for span in telemetry.spans if span.name == "compensate charge"]
    assert [span.status.status_code for span in compensations] == [
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    assert telemetry.measured("step.retries", "durable_workflow.step.name", "error.type") == {
        ("ship", "builtins.ValueError"): 2
    }
    assert telemetry.measured("compensation.duration", "durable_workflow.step.status") == {
        ("COMPENSATED",): 1
    }


def test_one_trace_goes_over_a_crash(file: Path, journal: Journal, telemetry: Telemetry) -> None:
    exported = file.with_name("spans.jsonl")

    def charge() -> int:
        return 1

    def ship() -> str:
        times = journal.note("ship")
        if times == 1:
            raise ConnectionError("try again")
        if times == 2:
            die()
        return "shipped"

    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step("charge", charge)
        return await ctx.step("ship", ship, retry=QUICK)

    async def first_process() -> None:
        provider = TracerProvider()
        with exported.open("w") as out:
            console = ConsoleSpanExporter(
                out=out, formatter=lambda span: span.to_json(indent=None) + "\n"
            )
            provider.add_span_processor(SimpleSpanProcessor(console))
            async with an_engine(file, observers=[OpenTelemetryObserver(provider)]) as (_, engine):
                await engine.run(order, execution_id="one")

    run_until_killed(first_process)

    async def second_process() -> None:
        async with an_engine(file, workflows=[order], observers=[telemetry.observer]) as (
            _,
            engine,
        ):
            assert await engine.handle("one").result() == "shipped"

    asyncio.run(second_process())
    before: list[dict[str, Any]] = [json.loads(line) for line in exported.read_text().splitlines()]
    assert [span["name"] for span in before] == [
        "start order",
        "attempt charge",
        "step charge",
        "attempt ship",
    ]
    # The second process tells what is new, and neither the replayed step nor its attempt again.
    assert [span.name for span in telemetry.spans] == [
        "resume order",
        "attempt ship",
        "attempt ship",
        "step ship",
        "execution order",
    ]
    # It is one trace, and the parents that the first process could not export come from the second.
    root, ship_step = telemetry.named("execution order"), telemetry.named("step ship")
    trace_id = f"0x{root.context.trace_id:032x}"
    assert {span["context"]["trace_id"] for span in before} == {trace_id}
    assert {span.context.trace_id for span in telemetry.spans} == {root.context.trace_id}
    ids = {span["name"]: span["context"]["span_id"] for span in before}
    assert {span["name"]: span["parent_id"] for span in before} == {
        "start order": f"0x{root.context.span_id:016x}",
        "attempt charge": ids["step charge"],
        "step charge": f"0x{root.context.span_id:016x}",
        "attempt ship": f"0x{ship_step.context.span_id:016x}",
    }
    in_doubt, last = [span for span in telemetry.spans if span.name == "attempt ship"]
    assert in_doubt.attributes is not None and last.attributes is not None
    assert in_doubt.attributes["durable_workflow.step.in_doubt"] is True
    assert in_doubt.attributes["durable_workflow.step.attempt"] == 2
    assert last.attributes["durable_workflow.step.attempt"] == 3
    # From the first attempt, in the process before.
    assert ship_step.start_time == _ns(before[-1]["start_time"])
    assert telemetry.measured("step.in_doubt") == {(): 1}
    assert telemetry.measured("execution.resumed") == {(): 1}
    assert telemetry.measured("execution.started") == {}
    assert telemetry.measured("step.duration", "durable_workflow.step.name") == {("ship",): 1}


async def test_a_wait_over_a_restart_is_one_span(file: Path, telemetry: Telemetry) -> None:
    async with an_engine(file, observers=[telemetry.observer]) as (store, engine):
        await engine.start(order, "A-1", execution_id="one")
        await until(lambda: store.load_open_waits("one", "approved"))
    later = Telemetry()
    async with an_engine(file, workflows=[order], observers=[later.observer]) as (_, engine):
        await engine.send_signal("one", "approved", "kim")
        assert await engine.handle("one").result() == "kim"
    assert [span.name for span in later.spans] == [
        "resume order",
        "wait approved",
        "execution order",
    ]
    wait, sleep = later.named("wait approved"), telemetry.named("sleep cooling-off")
    assert wait.start_time is not None and wait.end_time is not None
    assert sleep.end_time is not None
    assert sleep.end_time <= wait.start_time < wait.end_time
    assert wait.context.trace_id == sleep.context.trace_id
    assert telemetry.measured("wait.duration", "durable_workflow.step.name") == {
        ("cooling-off",): 1
    }


async def test_executions_of_one_id_have_traces_of_their_own(telemetry: Telemetry) -> None:
    @workflow
    async def nightly(ctx: WorkflowContext) -> None:
        pass

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, observers=[telemetry.observer]) as engine,
    ):
        for _ in range(2):
            await engine.run(nightly, execution_id="nightly")
            await store.delete_execution("nightly")
    roots = [span for span in telemetry.spans if span.name == "execution nightly"]
    assert len({span.context.trace_id for span in roots}) == len(roots) == 2


@pytest.mark.parametrize(("sampler", "expected"), [(ALWAYS_OFF, 0), (TraceIdRatioBased(0.5), None)])
async def test_an_execution_is_sampled_as_a_whole(sampler: Any, expected: int | None) -> None:
    telemetry = Telemetry(sampler=ParentBased(sampler))

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, observers=[telemetry.observer]) as engine:
            for number in range(40):
                await engine.start(order, f"A-{number}", execution_id=f"{number}")
            for number in range(40):
                while len(await store.load_checkpoints(f"{number}")) < 3:
                    await asyncio.sleep(0.01)
        async with DurableEngine(store, [order], observers=[telemetry.observer]) as engine:
            for number in range(40):
                await engine.send_signal(f"{number}", "approved", "kim")
                await engine.handle(f"{number}").result()
    by_trace: dict[int, list[str]] = {}
    for span in telemetry.spans:
        by_trace.setdefault(span.context.trace_id, []).append(span.name)
    if expected is not None:
        assert len(by_trace) == expected
    else:
        assert 5 < len(by_trace) < 35
        # In both processes the same decision, without either knowing the other's.
        assert {tuple(names) for names in by_trace.values()} == {
            (
                "start order",
                "attempt charge",
                "step charge",
                "sleep cooling-off",
                "resume order",
                "wait approved",
                "execution order",
            )
        }


class WithoutIds(trace.Tracer):
    """A tracer of some other SDK: it has no generator of ids."""

    def __init__(self, behind: trace.Tracer) -> None:
        self._behind = behind

    def start_span(self, *args: Any, **kwargs: Any) -> trace.Span:
        return self._behind.start_span(*args, **kwargs)

    @contextmanager
    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Generator[trace.Span]:
        with self._behind.start_as_current_span(*args, **kwargs) as span:
            yield span


class ProviderWithoutIds(trace.TracerProvider):
    def __init__(self, behind: trace.TracerProvider) -> None:
        self._behind = behind

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        return WithoutIds(self._behind.get_tracer(*args, **kwargs))


async def test_without_a_generator_of_ids_it_is_one_trace_all_the_same(
    telemetry: Telemetry,
) -> None:
    observer = OpenTelemetryObserver(ProviderWithoutIds(telemetry.traces))

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, observers=[observer]) as engine,
    ):
        handle = await engine.start(order, "A-1")
        await handle.signal("approved", "kim")
        await handle.result()
    assert sorted(span.name for span in telemetry.spans) == [
        "attempt charge",
        "execution order",
        "sleep cooling-off",
        "start order",
        "step charge",
        "wait approved",
    ]
    assert (
        len({(one.context.trace_id, one.parent.span_id) for one in telemetry.spans if one.parent})
        == 1
    )


def _ns(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6) * 1000
