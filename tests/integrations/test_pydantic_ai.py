"""Agents of pydantic-ai in workflows: killed, stopped, cancelled, asked something else."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic_ai", reason="the extra `pydantic-ai` is not installed")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent, DeferredToolRequests, RunContext, UsageLimits
from pydantic_ai.capabilities import Instrumentation, RequestInput
from pydantic_ai.exceptions import (
    CallDeferred,
    FallbackExceptionGroup,
    ModelHTTPError,
    RunTimedOut,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)
from pydantic_ai.messages import (
    CustomEvent,
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import DynamicToolset, FunctionToolset

from durable_workflow_sqlite import (
    DurableEngine,
    DurableWorkflowError,
    Item,
    NonDeterminismError,
    RetryPolicy,
    WorkflowCancelledError,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowFailedError,
    open_store,
    workflow,
)
from durable_workflow_sqlite.integrations.pydantic_ai import (
    AskPeople,
    WorkflowDurability,
)
from durable_workflow_sqlite.testing import AsyncSandbox, check_code
from tests.crash.harness import ENDED, EXECUTION, KILLED, Scenario, World
from tests.databases import new_database
from tests.integrations.pydantic_agents import ALL, Agents, answering, mcp
from tests.processes import Harm, Journal, an_engine, die, run_until_killed, until

FULL = bool(os.environ.get("DURABLE_CRASH_FULL"))
NAMED = {one.name: one for one in ALL}
each = pytest.mark.parametrize("agents", ALL, ids=lambda one: one.name)


def world_of(agents: Agents, folder: Path) -> World:
    folder.mkdir()
    return World(folder, Scenario(agents.name, agents.make, answering))


def check(world: World, agents: Agents, crashes: str) -> None:
    """Nothing that was recorded was called again, and the answer is what it would be."""
    completed: set[str] = set()
    for process in world.processes:
        begun = [line.partition(":")[0] for line in process.journal]
        again = completed.intersection(begun)
        assert not again, f"killed {crashes}: called again: {again}"
        last = process.after.last_attempts().values()
        completed |= {f"{one.branch} {one.step_index}" for one in last if one.status == "COMPLETED"}
    end = world.processes[-1].after
    assert end.status == "COMPLETED", f"killed {crashes}: it ended {end.status}"
    assert json.loads(end.output_data or "") == agents.result, f"killed {crashes}"
    places = end.last_attempts()
    assert len(places) == agents.steps, f"killed {crashes}: other steps: {sorted(places)}"


@pytest.mark.few(1)
@each
def test_no_completed_call_is_made_again_after_a_kill(agents: Agents, tmp_path: Path) -> None:
    number = ALL.index(agents)
    world = world_of(agents, tmp_path / "world")
    crash = Harm(6 + 2 * number % 7, bool(number % 2))
    assert world.run_process(crash) == KILLED
    assert world.run_process() == ENDED
    check(world, agents, f"{crash}")


def kills() -> Iterator[Harm]:
    for commit in itertools.count(1):
        yield Harm(commit, True)
        yield Harm(commit, False)


@pytest.mark.crash
@pytest.mark.campaign
@each
def test_no_completed_call_is_made_again_wherever_the_process_is_killed(
    agents: Agents, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    points = 0
    for first in kills():
        if not FULL and (first.commit - 4 - ALL.index(agents)) % 19:
            continue
        world = world_of(agents, tmp_path / str(first))
        if world.run_process(first) == ENDED:
            check(world, agents, "never")
            break
        second = Harm(1 + first.commit * 7 % 5, not first.is_before)
        while world.run_process(second) == KILLED:
            second = Harm(second.commit + 5, not second.is_before)
        check(world, agents, f"{first}, then again and again")
        points += 1
    assert points > (10 if FULL else 1), "it was over before it could be killed"
    record_property("kill points", points)


async def run_with_stops(
    file: Path, agents: Agents, journal: Journal, seed: int, most_stops: int
) -> None:
    """Run it in engines that are disposed of at random moments."""
    chance = random.Random(seed)
    completed: set[str] = set()
    for stops in itertools.count():
        known = len(journal.lines)
        agent = agents.make(journal)
        async with an_engine(file, workflows=[agent], max_recoveries=1000) as (_, engine):
            driving = asyncio.ensure_future(answering(engine, agent, journal))
            limit = None if stops >= most_stops else chance.random() * 0.06
            await asyncio.wait([driving], timeout=limit)
            driving.cancel()
            await asyncio.wait([driving])
        again = completed.intersection(line.partition(":")[0] for line in journal.lines[known:])
        assert not again, f"called again: {again}"
        async with open_store(file) as store:
            rows = await store.load_checkpoints(EXECUTION)
            completed |= {
                f"{one.branch} {one.step_index}" for one in rows if one.status == "COMPLETED"
            }
            places = {(one.branch, one.step_index) for one in rows if one.branch != "$timers"}
            execution = await store.load_execution(EXECUTION)
        if execution is not None and execution.status.is_terminal:
            assert json.loads(execution.output_data or "") == agents.result
            assert len(places) == agents.steps
            return


def test_an_engine_that_stops_again_and_again_makes_no_call_twice(
    file: Path, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal")
    asyncio.run(run_with_stops(file, NAMED["tools"], journal, 1, 3))
    assert len({line.partition(":")[0] for line in journal.lines}) == 11


@pytest.mark.campaign
@each
def test_many_stops_make_no_call_twice(agents: Agents, tmp_path: Path) -> None:
    for seed in range(25 if FULL else 3):
        file = new_database(tmp_path / f"{seed}.db")
        journal = Journal(tmp_path / f"{seed}")
        asyncio.run(run_with_stops(file, agents, journal, seed, 6))


@pytest.mark.few(2)
@each
def test_agents_end_as_they_should_on_each_store(
    agents: Agents, file: Path, tmp_path: Path
) -> None:
    asyncio.run(run_with_stops(file, agents, Journal(tmp_path / "journal"), 1, 2))


# What an agent is asked


def asked(prompt: str, instructions: str = "", **options: Any) -> Any:
    """A workflow that waits for a signal between two requests of a model."""
    agent = Agent(
        TestModel(custom_output_text="fine"),
        name="asked",
        instructions=instructions,
        capabilities=[WorkflowDurability(**options)],
    )

    @workflow(name="asked")
    async def body(ctx: WorkflowContext) -> list[str]:
        first = await agent.run(prompt)
        await ctx.wait_signal("go")
        second = await agent.run("and now?", message_history=first.all_messages())
        return [first.output, second.output]

    return body


@pytest.mark.parametrize(
    ("before", "now", "fits"),
    [
        (asked("hello", "be brief"), asked("hello", "be brief"), True),
        (asked("hello"), asked("goodbye"), False),
        (asked("hello", "be brief"), asked("hello", "be long"), False),
        (asked("hello"), asked("goodbye", check_prompts=False), True),
    ],
)
async def test_with_another_prompt_a_replay_stops(before: Any, now: Any, fits: bool) -> None:
    async with AsyncSandbox([before]) as durable:
        execution = await durable.start(before)
        await durable.restart(now)
        await execution.signal("go")
        if fits:
            assert await execution.result() == ["fine", "fine"]
        else:
            with pytest.raises(NonDeterminismError, match="asked something else"):
                await execution.result()


# Requests that may be made twice


@pytest.mark.few(1)
@pytest.mark.parametrize("is_changed", [False, True])
@pytest.mark.parametrize("is_idempotent", [False, True])
async def test_an_idempotent_request_that_was_cut_off_is_never_in_doubt(
    is_idempotent: bool, is_changed: bool, tmp_path: Path
) -> None:
    file, journal = tmp_path / "workflows.db", Journal(tmp_path / "journal")

    def made(*, dies: bool, idempotent: bool) -> WorkflowDefinition[[], str]:
        async def answer(_: list[ModelMessage], __: AgentInfo) -> ModelResponse:
            journal.note("model")
            if dies:
                die()
            return ModelResponse(parts=[TextPart("fine")])

        durability = WorkflowDurability[None](model={"idempotent": idempotent})
        agent = Agent(FunctionModel(answer), name="reader", capabilities=[durability])

        @workflow(name="reading")
        async def body(ctx: WorkflowContext) -> str:
            return (await agent.run("x")).output

        return body

    async def first() -> None:
        async with an_engine(file) as (_, engine):
            await engine.run(made(dies=True, idempotent=is_idempotent), execution_id="e")

    run_until_killed(first)
    with closing(sqlite3.connect(file)) as connection:
        (in_doubt,) = connection.execute("select count(*) from workflow_in_doubt").fetchone()
    assert in_doubt == (not is_idempotent)
    then = made(dies=False, idempotent=is_idempotent != is_changed)
    async with an_engine(file, workflows=[then]) as (_, engine):
        assert await engine.result_of("e") == "fine"
    assert journal.lines == ["model", "model"]


# How a run may end


async def test_a_cancelled_execution_ends_cancelled() -> None:
    begun = asyncio.Event()

    async def hang(_: list[ModelMessage], __: AgentInfo) -> ModelResponse:
        begun.set()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    agent = Agent(
        FunctionModel(hang),
        name="hanging",
        capabilities=[WorkflowDurability(model={"on_cancel": "stop"})],
    )

    @workflow(name="hanging")
    async def body(ctx: WorkflowContext) -> str:
        await ctx.step("before", lambda: None, compensate=lambda _: undone.append("it"))
        return (await agent.run("x")).output

    undone: list[str] = []
    async with AsyncSandbox([body]) as durable:
        execution = await durable.start(body)
        await begun.wait()
        await execution.cancel()
        with pytest.raises(WorkflowCancelledError):
            await execution.result()
        assert undone == ["it"]


async def test_the_error_of_a_tool_ends_the_execution() -> None:
    agent = Agent(TestModel(), name="wrong", capabilities=[WorkflowDurability()])

    @agent.tool_plain
    def wrong() -> str:
        raise LookupError("no such thing")

    @workflow(name="wrong")
    async def body(ctx: WorkflowContext) -> str:
        return (await agent.run("x")).output

    async with AsyncSandbox([body]) as durable:
        execution = await durable.start(body)
        with pytest.raises(WorkflowFailedError, match="no such thing"):
            await execution.result()


async def test_a_run_over_its_limit_fails_and_what_was_done_is_undone() -> None:
    agent = Agent(TestModel(), name="greedy", capabilities=[WorkflowDurability()])
    undone: list[str] = []

    @agent.tool_plain
    def tool() -> None: ...

    @workflow(name="greedy")
    async def body(ctx: WorkflowContext) -> str:
        await ctx.step("before", lambda: None, compensate=lambda _: undone.append("it"))
        return (await agent.run("x", usage_limits=UsageLimits(request_limit=1))).output

    async with AsyncSandbox([body]) as durable:
        with pytest.raises(WorkflowFailedError, match="request_limit of 1") as caught:
            await durable.run(body)
    assert isinstance(caught.value.__cause__, UsageLimitExceeded)
    assert undone == ["it"]


async def test_a_timeout_of_a_run_is_the_same_after_a_restart() -> None:
    def answer(_: list[ModelMessage], __: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[ToolCallPart("nap", {}, tool_call_id="n")])

    agent = Agent(FunctionModel(answer), name="late", capabilities=[WorkflowDurability()])

    @agent.tool_plain(metadata={"durable_workflow": False})
    async def nap() -> None:
        context = WorkflowContext.current()
        assert context is not None
        await context.sleep("nap", timedelta(hours=1))

    @workflow(name="late")
    async def body(ctx: WorkflowContext) -> str:
        began = ctx.now()
        try:
            return (await agent.run("x", timeout=5400)).output
        except RunTimedOut:
            return f"late after {(ctx.now() - began).total_seconds():.0f} s"

    async with AsyncSandbox([body]) as durable:
        execution = await durable.start(body)
        await durable.advance(timedelta(hours=1))
        await durable.crash()
        await durable.advance(timedelta(hours=1))
        assert await execution.result() == "late after 5400 s"


@pytest.mark.parametrize(
    "error",
    [
        ModelHTTPError(429, "some model", {"error": "slow down"}),
        UnexpectedModelBehavior("odd", "body"),
        UsageLimitExceeded("too much"),
        FallbackExceptionGroup("all failed", [ModelHTTPError(500, "a"), LookupError("b")]),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_an_error_comes_back_as_it_was(error: Exception) -> None:
    agent = Agent(TestModel(), name="failing", capabilities=[WorkflowDurability()])

    @agent.tool_plain
    async def tool() -> None:
        raise error

    @workflow(name="failing")
    async def body(ctx: WorkflowContext) -> bool:
        try:
            await agent.run("x")
        except Exception as caught:
            got = caught
        await ctx.wait_signal("go")
        parts = [getattr(one, "exceptions", ()) for one in (got, error)]
        return (
            type(got) is type(error)
            and (str(got), vars(got).get("body")) == (str(error), vars(error).get("body"))
            and [*map(repr, parts[0])] == [*map(repr, parts[1])]
        )

    async with AsyncSandbox([body]) as durable:
        execution = await durable.start(body)
        await durable.crash()
        await execution.signal("go")
        assert await execution.result() is True


# Questions


async def test_an_agent_that_waits_for_people_needs_no_memory(tmp_path: Path) -> None:
    body = NAMED["approvals"].make(Journal(tmp_path / "journal"))
    file = new_database(tmp_path / "workflows.db")
    at_once = timedelta(milliseconds=1)
    async with an_engine(file, workflows=[body], park_after=at_once) as (_, engine):
        handle = await engine.start(body, execution_id=EXECUTION)
        await until(lambda: is_parked(engine))
        gc.collect()  # pytest would tell of what cannot be closed
        found = check_code(file, [body])
        found.assert_ok()
        assert found.checked == 1
        result = asyncio.ensure_future(answering(engine, body, Journal(tmp_path / "journal")))
        assert await handle.result() == NAMED["approvals"].result
        await result


async def is_parked(engine: DurableEngine) -> bool:
    return (await engine.load(EXECUTION)).status == "SUSPENDED"


async def test_nobody_answers_in_time() -> None:
    seen: list[Any] = []

    def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        if len(messages) == 1:
            return ModelResponse(
                parts=[
                    ToolCallPart("erase", {}, tool_call_id="e"),
                    ToolCallPart("elsewhere", {}, tool_call_id="f"),
                ]
            )
        returned = [one for one in messages[-1].parts if isinstance(one, ToolReturnPart)]
        seen.extend((one.tool_name, one.content, one.outcome) for one in returned)
        return ModelResponse(parts=[TextPart("so be it")])

    agent = Agent(
        FunctionModel(answer),
        name="patient",
        capabilities=[AskPeople(to="ops", deadline=timedelta(days=1)), WorkflowDurability()],
    )

    @agent.tool_plain(requires_approval=True)
    def erase() -> None:
        raise AssertionError

    @agent.tool_plain
    def elsewhere() -> None:
        raise CallDeferred

    @workflow(name="patient")
    async def body(ctx: WorkflowContext) -> str:
        return (await agent.run("x")).output

    async with AsyncSandbox([body]) as durable:
        execution = await durable.start(body)
        await durable.settle()
        first, second = await durable.engine.questions()
        assert (first.name, first.to) == ("patient/erase", "ops")
        assert first.question == "The agent 'patient' wants to call 'erase'. May it?"
        assert (
            second.question
            == "The agent 'patient' waits for the result of 'elsewhere'. What is it?"
        )
        assert first.type.endswith("Approval")
        await durable.advance(timedelta(days=1))
        assert await execution.result() == "so be it"
        late = "Nobody has answered in time."
        assert seen == [("erase", late, "denied"), ("elsewhere", late, "failed")]


async def test_input_that_nobody_gives_in_time_is_told_to_the_model() -> None:
    asked_for: list[str] = []

    def ask(_: RunContext[None], __: Any, token: str) -> None:
        asked_for.append(token)

    agent = Agent(
        TestModel(),
        name="waiting",
        capabilities=[RequestInput(ask, timeout=timedelta(days=1)), WorkflowDurability()],
    )

    @agent.tool_plain(requires_approval=True)
    def erase() -> None:
        raise AssertionError

    @workflow(name="waiting")
    async def body(ctx: WorkflowContext) -> str:
        return (await agent.run("x")).output

    async with AsyncSandbox([body]) as durable:
        execution = await durable.start(body, execution_id="w-1")
        await durable.settle()
        (question,) = await durable.engine.questions()
        assert asked_for == [f"w-1 {question.name}"]
        await durable.crash()
        await durable.advance(timedelta(days=1))
        assert "No decision on this tool call arrived" in await execution.result()
        assert len(asked_for) == 1


async def test_without_a_workflow_an_agent_runs_as_it_would() -> None:
    agent = Agent(
        TestModel(),
        name="plain",
        output_type=[str, DeferredToolRequests],
        capabilities=[AskPeople(), WorkflowDurability()],
    )

    @agent.tool_plain(requires_approval=True)
    def erase() -> None:
        raise AssertionError

    @agent.tool_plain
    def look() -> str:
        return "looked"

    result = await agent.run("x")
    assert isinstance(result.output, DeferredToolRequests)
    assert [one.tool_name for one in result.output.approvals] == ["erase"]


# What a step cannot do


@dataclass
class Told(CustomEvent):
    text: str = ""


async def test_a_step_cannot_emit_events_of_the_run() -> None:
    agent = Agent(TestModel(), name="emitting", capabilities=[WorkflowDurability()])
    refused: list[str] = []

    @agent.tool
    async def tell(ctx: RunContext[None]) -> None:
        for function in (lambda: ctx.emit(Told(text="hello")), lambda: ctx.enqueue("hello")):
            try:
                done = function()
                if done is not None and not isinstance(done, str):
                    await done
            except UserError as error:
                refused.append(str(error))

    @workflow(name="emitting")
    async def body(ctx: WorkflowContext) -> str:
        return (await agent.run("x")).output

    async with AsyncSandbox([body]) as durable:
        await durable.run(body)
    assert len(refused) == 2, refused


def test_what_cannot_be_durable_is_refused_when_the_agent_is_made() -> None:
    with pytest.raises(UserError, match="unique `name`"):
        Agent(TestModel(), capabilities=[WorkflowDurability()])
    with pytest.raises(
        UserError, match="model has unknown options of a step: retries; there are retry"
    ):
        WorkflowDurability(model={"retries": 3})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(UserError, match="model has idempotent=True and in_doubt"):
        WorkflowDurability(model={"idempotent": True, "in_doubt": "ask"})
    with pytest.raises(UserError, match="must be a dict of options"):
        WorkflowDurability(tool=RetryPolicy())  # type: ignore[arg-type]
    toolset: Any = DynamicToolset(lambda _: FunctionToolset(), per_run_step=False, id="late")
    with pytest.raises(UserError, match="per_run_step=False"):
        Agent(TestModel(), name="x", toolsets=[toolset], capabilities=[WorkflowDurability()])


async def test_a_limit_of_the_runs_in_this_process_is_refused_in_a_workflow() -> None:
    capabilities = [WorkflowDurability[None]()]
    agent = Agent(TestModel(), name="few", max_concurrency=1, capabilities=capabilities)

    @workflow(name="few")
    async def body(ctx: WorkflowContext) -> str:
        return (await agent.run("x", run_id="mine")).output

    async with AsyncSandbox([body]) as durable:
        with pytest.raises(WorkflowCodeError, match="'few' has max_concurrency"):
            await durable.run(body)
    assert (await agent.run("x")).output


async def test_wrong_options_of_a_tool_fail_the_workflow() -> None:
    agent = Agent(TestModel(), name="wrong", capabilities=[WorkflowDurability()])

    @agent.tool_plain(metadata={"durable_workflow": {"retry": 3}})
    def tool() -> None:
        raise AssertionError

    @workflow(name="wrong")
    async def body(ctx: WorkflowContext) -> str:
        return (await agent.run("x")).output

    async with AsyncSandbox([body]) as durable:
        with pytest.raises(DurableWorkflowError, match="retry of step 'call_tool:tool'"):
            await durable.run(body)


# Streams, and tools of an MCP server


async def test_what_a_handler_puts_into_the_stream_can_be_followed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    body = NAMED["streaming"].make(journal)
    async with AsyncSandbox([body]) as durable:
        execution = await durable.start(body)
        await execution.result()
        items = [one async for one in durable.engine.follow(execution.execution_id)]
        told = [
            one.value
            for one in items
            if isinstance(one, Item) and one.step == "model.request_stream"
        ]
        assert "PartDeltaEvent" in told


async def test_a_replay_tells_nothing_of_what_it_only_repeats() -> None:
    spans = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    told = Instrumentation(settings=InstrumentationSettings(tracer_provider=tracers))
    agent = Agent(TestModel(), name="traced", capabilities=[told, WorkflowDurability()])

    @agent.tool_plain(metadata={"durable_workflow": False})
    async def tool() -> None:
        context = WorkflowContext.current()
        assert context is not None
        await context.wait_signal("go")

    @workflow(name="traced")
    async def body(ctx: WorkflowContext) -> str:
        return (await agent.run("x")).output

    async with AsyncSandbox([body]) as durable:
        execution = await durable.start(body)
        await durable.crash()
        await execution.signal("go")
        await execution.result()
    names = [one.name for one in spans.get_finished_spans()]
    assert sorted(one for one in names if "tool" not in one and "agent" not in one) == [
        "chat test",
        "chat test",
    ]


@pytest.mark.campaign
async def test_the_tools_of_an_mcp_server_are_steps(tmp_path: Path) -> None:
    body: Any = mcp(Journal(tmp_path / "journal"))
    file = new_database(tmp_path / "workflows.db")
    async with an_engine(file, workflows=[body]) as (store, engine), body.toolset:
        assert await engine.run(body, execution_id=EXECUTION) == "3"
        steps = [one.step_name for one in await store.load_checkpoints(EXECUTION)]
    assert steps == [
        "mcp_server__adder.get_tools",
        "mcp_server__adder.get_instructions",
        "model.request",
        "call_tool:add",
        "mcp_server__adder.get_instructions",
        "model.request",
    ]


@pytest.mark.campaign
def test_an_mcp_call_that_was_recorded_is_not_made_again(tmp_path: Path) -> None:
    agents = Agents(mcp, "3", 6)
    for commit in range(4, 10):
        world = world_of(agents, tmp_path / str(commit))
        assert world.run_process(Harm(commit, False)) == KILLED
        assert world.run_process() == ENDED
        check(world, agents, f"after {commit}")
        assert world.journal.lines.count("add") <= 2
