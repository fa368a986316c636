"""Runs of the OpenAI Agents SDK in workflows, with models of the tests alone."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("agents", reason="the extra `openai-agents` is not installed")

import agents
import httpx
import mcp
import openai
from agents import (
    Agent,
    FunctionTool,
    GuardrailFunctionOutput,
    InputGuardrail,
    ModelResponse,
    RunConfig,
    Runner,
    UserError,
    function_tool,
    handoff,
)
from agents.mcp import MCPServer
from mcp.types import CallToolResult

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    Item,
    NonDeterminismError,
    QuestionOverdueError,
    RetryPolicy,
    SerializationError,
    SqliteCheckpointStore,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowFailedError,
    open_store,
    workflow,
)
from durable_workflow_sqlite.integrations.openai_agents import (
    Approval,
    DurableModel,
    DurableModelProvider,
    StoreSession,
    ask_people,
    current_branch,
    durable_agent,
    durable_tool,
    run,
)
from durable_workflow_sqlite.testing import AsyncSandbox
from tests.crash.harness import ENDED, EXECUTION, KILLED, Scenario, World
from tests.integrations.office import (
    ANSWER,
    CALLS,
    Fake,
    Note,
    assistant_message,
    book_tool,
    call,
    office,
    outputs,
    says,
    weather_tool,
)
from tests.oracle import look
from tests.own_tables import Database
from tests.processes import Harm, Journal, an_engine, die, run_until_killed

agents.set_tracing_disabled(True)

FULL = bool(os.environ.get("DURABLE_CRASH_FULL"))

SESSION = [*("hello", "c1", "c2", "c3", "c4", "c5"), *("c1", "c2", "c3", "c4", "c5")]
SESSION += ["c6", "c6", "c7", "c7", "answer"]


def chat(
    note: Note, *, streamed: bool = False, session: Callable[..., Any] = StoreSession
) -> WorkflowDefinition[..., Any]:
    agent = office(note)

    async def chat(_: WorkflowContext) -> list[Any]:
        result = await run(agent, "hello", session=session("kim"), stream=streamed)
        assert result.last_agent.name == "closer"
        return [result.final_output, result.context_wrapper.usage.requests]

    return workflow(name="chat")(chat)


async def approve(engine: DurableEngine) -> None:
    """A person approves whatever is asked."""
    while True:
        for one in await engine.questions():
            with suppress(Exception):
                await engine.answer(EXECUTION, one.signal_name, {"approved": True}, by="kim")
        await asyncio.sleep(0.005)


async def drive(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], _: Journal | None = None
) -> Any:
    person = asyncio.create_task(approve(engine))
    try:
        return await engine.run(definition, execution_id=EXECUTION)
    finally:
        person.cancel()


async def in_memory(body: Callable[[WorkflowContext], Any], **engine: Any) -> Any:
    """What the workflow returns, run and then replayed."""
    definition = workflow(name="body")(body)
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, workflows=[definition], **engine) as one,
    ):
        return await one.run(definition, execution_id=EXECUTION)


class Lives:
    """An execution that is cut off at a signal, and goes on in the next life with other code."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "workflows.db"

    def first(self, body: Callable[[WorkflowContext], Any]) -> None:
        async def main() -> None:
            async with open_store(self._file) as store, DurableEngine(store) as engine:
                await engine.start(workflow(name="body")(body), execution_id=EXECUTION)
                while not await store.load_open_waits(EXECUTION, "go"):
                    state = await engine.load(EXECUTION)
                    assert not state.status.is_terminal and state.trouble is None, state
                    await asyncio.sleep(0.002)

        asyncio.run(main())

    def second(self, body: Callable[[WorkflowContext], Any]) -> Any:
        async def main() -> Any:
            definition = workflow(name="body")(body)
            async with (
                open_store(self._file) as store,
                DurableEngine(store, workflows=[definition]) as engine,
            ):
                await engine.send_signal(EXECUTION, "go")
                return await engine.result_of(EXECUTION)

        return asyncio.run(main())


def short(items: list[Any]) -> list[str]:
    return [one["call_id"] if "call_id" in one else str(one["content"])[:5] for one in items]


# A run


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["file", "postgres"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_process_ends_while_a_person_thinks_and_the_next_calls_nothing_again(
    kind: str, streamed: bool, tmp_path: Path
) -> None:
    noted: list[str] = []
    database = Database(kind, tmp_path)
    session = partial(StoreSession, table=f"{database.table}_items")
    definition = chat(noted.append, streamed=streamed, session=session)
    async with open_store(database.url) as store, DurableEngine(store) as engine:
        await engine.start(definition, execution_id=EXECUTION)
        while not (questions := await engine.questions()):
            assert not (await engine.load(EXECUTION)).status.is_terminal
            await asyncio.sleep(0.01)
        (question,) = questions
        assert (question.name, question.question) == ("approve book", "May main call book?")
        assert question.details == {"agent": "main", "tool": "book", "arguments": {"city": "rome"}}
        with pytest.raises(SerializationError, match="must be true or false"):
            await engine.answer(EXECUTION, "approve book", {"approved": "yes"})
    before = [*noted]
    assert before[0] == "c0"
    assert before[-1] == "c1"
    assert len(before) == 9
    async with open_store(database.url) as store:
        await Client(store).answer(EXECUTION, "approve book", {"approved": True}, by="kim")
        async with DurableEngine(store, workflows=[definition]) as engine:
            assert await engine.result_of(EXECUTION) == [ANSWER, 6]
        assert noted == [*before, "book", "c2", "x0"]
        assert len(noted) == CALLS
        items = await session("kim", store).get_items()
        assert short(items)[:-1] == ["hello", *SESSION[1:-1]]
        assert items[-1]["content"][0]["text"] == ANSWER
        steps = await store.load_checkpoints(EXECUTION)
        found = [(one.branch, one.step_name) for one in steps if one.branch == "main/sub"]
        assert found == [("main/sub", "model"), ("main/sub", "weather"), ("main/sub", "model")]


SCENARIOS = [
    Scenario("agents", lambda journal: chat(journal.note), drive),
    Scenario("streamed agents", lambda journal: chat(journal.note, streamed=True), drive),
]


def check(world: World, calls_done: int, calls_before: int, where: str) -> None:
    """In the process after a kill, only what has no outcome is called."""
    lines = world.journal.lines
    assert len(lines) - calls_before == CALLS - calls_done, f"{where}: {lines}"
    assert len(set(lines)) == CALLS, where
    end = world.look()
    assert end.status == "COMPLETED", where
    assert end.output_data is not None
    assert ANSWER in end.output_data, where
    assert items_in(world) == 16, where


def items_in(world: World) -> int:
    async def count() -> int:
        async with open_store(world.file) as store:
            return len(await StoreSession("kim", store).get_items())

    return asyncio.run(count())


def calls_done(file: Path) -> int:
    """How many calls of models and tools have outcomes."""
    return sum(
        one.status == "COMPLETED" and one.kind == "STEP" and not one.step_name.startswith("session")
        for one in look(file, EXECUTION).steps
    )


def is_killed_and_goes_on(scenario: Scenario, folder: Path, harm: Harm) -> bool:
    folder.mkdir()
    world = World(folder, scenario)
    if world.run_process(harm) == ENDED:
        return False
    done, called = calls_done(world.file), len(world.journal.lines)
    assert world.run_process() == ENDED
    check(world, done, called, str(harm))
    return True


@pytest.mark.few(1)
@pytest.mark.crash
@pytest.mark.parametrize(
    ("scenario", "commit"), [(0, 6), (0, 17), (1, 12)], ids=["early", "late", "streamed"]
)
def test_killed_at_a_write_it_calls_nothing_again_that_has_an_outcome(
    scenario: int, commit: int, tmp_path: Path
) -> None:
    harm = Harm(commit, bool(commit % 2))
    assert is_killed_and_goes_on(SCENARIOS[scenario], tmp_path / "world", harm)


@pytest.mark.crash
@pytest.mark.campaign
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_killed_at_any_write_it_calls_nothing_again_that_has_an_outcome(
    scenario: Scenario, tmp_path: Path
) -> None:
    """In the short form, before and after every eleventh write."""
    commit = 0
    goes_on = True
    while goes_on:
        commit += 1 if FULL else 11
        for is_before in (True, False):
            harm = Harm(commit, is_before)
            goes_on = is_killed_and_goes_on(scenario, tmp_path / str(harm), harm)
    assert commit > 20


@pytest.mark.crash
@pytest.mark.campaign
def test_engines_that_stop_at_random_moments_call_nothing_again(tmp_path: Path) -> None:
    rng = random.Random(7)
    stops = 0
    times = 100 if FULL else 8
    for number in range(times):
        file = tmp_path / f"{number}.db"
        noted: list[str] = []
        definition = chat(noted.append, streamed=bool(number % 2))
        for _ in range(4):
            before, was_called = calls_done(file) if file.exists() else 0, len(noted)
            ended = asyncio.run(life(file, definition, rng.random() * 0.1)) is not None
            # What has an outcome is not called again, and there are no others to call.
            assert len(noted) - was_called <= CALLS - before, noted
            if ended:
                break
            stops += 1
        done, called = calls_done(file), len(noted)
        assert asyncio.run(life(file, definition)) == [ANSWER, 6]
        assert len(noted) - called == CALLS - done, noted
        assert len(set(noted)) == CALLS
    assert stops >= times // 2


async def life(file: Path, definition: Any, seconds: float | None = None) -> Any:
    """An engine that stops after some time, or when the execution has ended."""
    async with open_store(file) as store, DurableEngine(store, workflows=[definition]) as engine:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await drive(engine, definition)
        return None


# Two runs at once


def pair(note: Note, *, order: tuple[str, str] = ("rome", "oslo"), go: bool = True) -> Any:
    """Two runs of one agent: each has a model and a tool, and both tools take a moment."""

    @function_tool
    async def slow(city: str) -> str:
        note(f"slow {city}")
        await asyncio.sleep(0.02 if city == order[0] else 0.001)
        return f"{city} is {city.upper()}"

    def agent(city: str) -> Agent[Any]:
        turns: Any = [
            (0, lambda _: [call("slow", f"m{city}", city=city)]),
            (1, lambda items: [assistant_message(outputs(items))]),
        ]
        return Agent("twin", instructions=city, model=Fake("m", note, turns), tools=[slow])

    async def body(ctx: WorkflowContext) -> list[str]:
        async with asyncio.TaskGroup() as group:
            both = [group.create_task(run(agent(city), "hello")) for city in ("rome", "oslo")]
        if go:
            await ctx.wait_signal("go")
        return [one.result().final_output for one in both]

    return body


def test_two_runs_side_by_side_never_swap_their_answers(tmp_path: Path) -> None:
    first: list[str] = []
    second: list[str] = []
    lives = Lives(tmp_path)
    lives.first(pair(first.append))
    # Its tools would end in another order now, if they were called.
    assert lives.second(pair(second.append, order=("oslo", "rome"))) == [
        "rome is ROME",
        "oslo is OSLO",
    ]
    assert sorted(first) == ["m0", "m0", "m1", "m1", "slow oslo", "slow rome"]
    assert second == []


async def test_a_run_can_have_a_branch_that_keeps_its_name() -> None:
    async def body(ctx: WorkflowContext) -> None:
        await run(talker(lambda _: None), "x", ctx=ctx.branch("research"))
        for _ in range(2):
            await run(talker(lambda _: None), "x")

    definition = workflow(name="body")(body)
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(definition, execution_id=EXECUTION)
        found = {one.branch for one in await store.load_checkpoints(EXECUTION)}
        assert found == {"research/talker", "talker", "talker#2"}


@pytest.mark.crash
@pytest.mark.parametrize(
    "commit", [5, *(pytest.param(one, marks=pytest.mark.campaign) for one in (3, 4, 6, 7, 8, 9))]
)
def test_two_runs_side_by_side_keep_their_answers_over_a_kill(commit: int, tmp_path: Path) -> None:
    def make(journal: Journal) -> WorkflowDefinition[..., Any]:
        order = ("rome", "oslo") if not journal.lines else ("oslo", "rome")
        return workflow(name="pair")(pair(journal.note, order=order, go=False))

    world = World(tmp_path, Scenario("pair", make, drive))
    is_killed = world.run_process(Harm(commit, False)) == KILLED
    assert is_killed or commit > 7
    assert world.run_process() == ENDED
    assert world.look().output_data == '["rome is ROME","oslo is OSLO"]'


# What is asked


def asks(note: Note, *, prompt: str = "hello", **options: Any) -> Callable[..., Any]:
    @function_tool
    def look(at: str) -> str:
        note(at)
        return at

    async def body(ctx: WorkflowContext) -> str:
        turns: Any = [
            (0, lambda _: [call("look", "m1", at=options.get("at", "sky"))]),
            (1, says("blue")),
        ]
        agent = Agent(
            "one",
            instructions=options.get("instructions", "Help."),
            model=Fake(options.get("name", "m"), note, turns),
            tools=[look, *options.get("tools", [])],
            output_type=options.get("output_type"),
        )
        result = await run(agent, prompt)
        await ctx.wait_signal("go")
        return str(result.final_output)

    return body


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "now",
    [
        {"prompt": "goodbye"},
        {"instructions": "Do not help."},
        {"tools": [book_tool(lambda _: None)]},
        {"output_type": list[str]},
    ],
    ids=lambda now: next(iter(now)),
)
def test_a_replay_that_asks_something_else_stops(now: dict[str, Any], tmp_path: Path) -> None:
    noted: list[str] = []
    lives = Lives(tmp_path)
    lives.first(asks(noted.append))
    with pytest.raises(NonDeterminismError, match="asked something else") as caught:
        lives.second(asks(noted.append, **now))
    assert caught.value.recorded_name == "model"
    assert lives.second(asks(noted.append, name="m")) == "blue"
    assert noted == ["m0", "sky", "m1"]


# Errors


class Failing(Fake):
    def __init__(self, note: Note, error: Exception, times: int) -> None:
        super().__init__("m", note, [(9, says("at last"))])
        self._error, self._times = error, times

    def _output(self, items: str | list[Any]) -> list[Any]:
        if self._times:
            self._times -= 1
            self._note("failed")
            raise self._error
        return super()._output(items)


def rate_limit() -> openai.RateLimitError:
    request = httpx.Request("POST", "https://x.org/v1", headers={"authorization": "s3cret"})
    headers = {"retry-after": "3", "x-request-id": "r-1"}
    response: Any = httpx.Response(429, request=request, headers=headers, json={"a": 1})
    return openai.RateLimitError("slow down", response=response, body={"code": "rate"})


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_openai_is_the_same_in_a_replay(stream: bool, tmp_path: Path) -> None:
    noted: list[str] = []

    async def body(ctx: WorkflowContext) -> list[Any]:
        try:
            await run(Agent("a", model=Failing(noted.append, rate_limit(), 99)), "x", stream=stream)
        except openai.RateLimitError as error:
            found = [str(error), error.status_code, error.code, error.request_id]
            found.append(error.response.headers["retry-after"])
        await ctx.wait_signal("go")
        return found

    lives = Lives(tmp_path)
    lives.first(body)
    assert lives.second(body) == ["slow down", 429, "rate", "r-1", "3"]
    assert noted == ["failed"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_is_asked_again_as_its_options_say(stream: bool) -> None:
    noted: list[str] = []

    async def body(_: WorkflowContext) -> Any:
        agent = Agent("a", model=Failing(noted.append, rate_limit(), 2))
        again = RetryPolicy(max_attempts=3)
        result = await run(agent, "x", model_options={"retry": again}, stream=stream)
        return result.final_output

    assert await in_memory(body) == "at last"
    assert noted == ["failed", "failed", "m0"]


@pytest.mark.skipif(not hasattr(agents, "ModelRetrySettings"), reason="it came later")
async def test_the_sdks_own_retries_are_steps_too() -> None:
    noted: list[str] = []

    async def body(_: WorkflowContext) -> Any:
        settings = agents.ModelSettings(
            retry=agents.ModelRetrySettings(
                max_retries=2,
                policy=agents.retry_policies.http_status([429]),
                backoff={"initial_delay": 0.001},
            )
        )
        error = rate_limit()
        del error.response.headers["retry-after"]
        agent = Agent("a", model=Failing(noted.append, error, 2), model_settings=settings)
        return (await run(agent, "x")).final_output

    assert await in_memory(body) == "at last"
    assert noted == ["failed", "failed", "m0"]


async def test_a_run_that_ends_with_an_error_fails_the_workflow() -> None:
    async def body(_: WorkflowContext) -> Any:
        turns: Any = [(9, lambda _: [call("no_such_tool", "m1")])]
        await run(Agent("a", model=Fake("m", lambda _: None, turns)), "x")

    with pytest.raises(WorkflowFailedError, match="no_such_tool"):
        await in_memory(body)


async def test_an_error_of_a_tool_is_text_for_the_model_or_fails_its_step() -> None:
    @function_tool
    def told() -> str:
        raise ValueError("no luck")

    @function_tool(failure_error_function=None)
    def raised() -> str:
        raise ValueError("no luck at all")

    async def body(_: WorkflowContext) -> Any:
        turns: Any = [(0, lambda _: [call("told", "m1")]), (1, lambda _: [call("raised", "m2")])]
        await run(Agent("a", model=Fake("m", lambda _: None, turns), tools=[told, raised]), "x")

    with pytest.raises(WorkflowFailedError, match="no luck at all"):
        await in_memory(body)


# The models of the SDK


def served(requests: list[Any], replies: list[tuple[int, Any]]) -> openai.AsyncOpenAI:
    """A client of a server that gives these replies."""
    http: Any = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__)

    def reply(request: Any) -> Any:
        requests.append(json.loads(request.content))
        status, body = replies[len(requests) - 1]
        if isinstance(body, str):
            return http.Response(status, text=body, headers={"content-type": "text/event-stream"})
        return http.Response(status, json=body)

    client = http.AsyncClient(transport=http.MockTransport(reply))
    return openai.AsyncOpenAI(
        api_key="x", base_url="http://x/v1", http_client=client, max_retries=0
    )


def completion(**message: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    kind = {"id": "c", "object": "chat.completion", "created": 0, "model": "m"}
    return {**kind, "choices": [choice], "usage": usage}


def response(*output: dict[str, Any]) -> dict[str, Any]:
    usage = {
        "input_tokens": 3,
        "output_tokens": 2,
        "total_tokens": 5,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    kind = {"id": "r", "object": "response", "created_at": 0, "model": "m", "status": "completed"}
    more = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    return {**kind, **more, "output": [*output], "usage": usage}


TEXT = {"type": "output_text", "text": "warm", "annotations": []}
REPLIES: dict[Any, list[tuple[int, Any]]] = {
    agents.OpenAIChatCompletionsModel: [
        (
            200,
            completion(
                tool_calls=[
                    {
                        "id": "m1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city": "rome"}'},
                    }
                ]
            ),
        ),
        (429, {"error": {"message": "slow down"}}),
        (200, completion(content="warm")),
    ],
    agents.OpenAIResponsesModel: [
        (
            200,
            response(
                {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "z"},
                {
                    "type": "function_call",
                    "id": "f",
                    "call_id": "m1",
                    "name": "weather",
                    "arguments": '{"city": "rome"}',
                },
            ),
        ),
        (429, {"error": {"message": "slow down"}}),
        (
            200,
            response(
                {
                    "type": "message",
                    "id": "a",
                    "role": "assistant",
                    "status": "completed",
                    "content": [TEXT],
                }
            ),
        ),
    ],
}


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", REPLIES, ids=lambda kind: str(kind.__name__))
def test_a_model_of_the_sdk_sends_the_same_as_elsewhere_and_nothing_in_a_replay(
    kind: Any, tmp_path: Path
) -> None:
    elsewhere: list[Any] = []
    requests: list[Any] = []
    again = RetryPolicy(max_attempts=2)

    def agent(to: list[Any], replies: list[tuple[int, Any]]) -> Agent[Any]:
        tools: list[Any] = [weather_tool(lambda _: None)]
        return Agent("a", instructions="Help.", model=kind("m", served(to, replies)), tools=tools)

    async def body(ctx: WorkflowContext) -> list[Any]:
        result = await run(agent(requests, REPLIES[kind]), "x", model_options={"retry": again})
        await ctx.wait_signal("go")
        return [result.final_output, result.context_wrapper.usage.total_tokens]

    fine = [one for one in REPLIES[kind] if one[0] == 200]
    assert asyncio.run(Runner.run(agent(elsewhere, fine), "x")).final_output == "warm"
    lives = Lives(tmp_path)
    lives.first(body)
    assert lives.second(body) == ["warm", 10]
    assert [requests[0], requests[2]] == [without_key(one) for one in elsewhere]
    assert requests[1] == requests[2]


async def test_a_model_of_the_sdk_streams() -> None:
    def chunk(**delta: Any) -> str:
        kind = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        text = json.dumps({**kind, "choices": [{"index": 0, "delta": delta}]})
        return f"data: {text}\n\n"

    function = {"name": "weather", "arguments": '{"city": "rome"}'}
    tool_call = {"index": 0, "id": "m1", "type": "function", "function": function}
    end = "data: [DONE]\n\n"
    replies: list[tuple[int, Any]] = [
        (200, chunk(role="assistant", tool_calls=[tool_call]) + end),
        (200, chunk(role="assistant", content="wa") + chunk(content="rm") + end),
    ]
    requests: list[Any] = []

    async def body(_: WorkflowContext) -> Any:
        model = agents.OpenAIChatCompletionsModel("m", served(requests, replies))
        agent = Agent("a", model=model, tools=[weather_tool(lambda _: None)])
        return (await run(agent, "x", stream=words)).final_output

    definition = workflow(name="body")(body)
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(definition, execution_id=EXECUTION) == "warm"
        followed = [one.value async for one in engine.follow(EXECUTION) if isinstance(one, Item)]
    assert followed == ["wa", "rm"]
    assert requests[1]["messages"][-1]["content"] == "rome sunny"


def words(event: Any) -> str | None:
    return event.delta if event.type == "response.output_text.delta" else None


def without_key(sent: Any) -> Any:
    """A key for its cache is made up by the SDK for each run."""
    return {name: value for name, value in sent.items() if name != "prompt_cache_key"}


# Streams


def talker(note: Note) -> Agent[Any]:
    return Agent("talker", model=Fake("t", note, [(0, says("hello you"))]))


async def test_followers_get_the_events_of_a_model_that_streams() -> None:
    async def whole(_: WorkflowContext) -> Any:
        return (await run(talker(lambda _: None), "x", stream=True)).final_output

    async def chosen(_: WorkflowContext) -> Any:
        return (await run(talker(lambda _: None), "x", stream=words)).final_output

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        for number, body in enumerate((whole, chosen)):
            definition = workflow(name=f"body {number}")(body)
            handle = await engine.start(definition, execution_id=str(number))
            assert await handle.result() == "hello you"
        found = [one async for one in engine.follow("0") if isinstance(one, Item)]
        types = [one.value["type"] for one in found]
        assert types[0] == "response.output_text.delta"
        assert types[-1] == "response.completed"
        assert {(one.branch, one.step) for one in found} == {("talker", "model")}
        texts = [one.value async for one in engine.follow("1") if isinstance(one, Item)]
        assert "".join(texts) == "hello you"


async def test_what_streams_an_agent_as_a_tool_gets_the_recorded_event() -> None:
    told: list[str] = []

    def tell(event: Any) -> None:
        if event["event"].type == "raw_response_event":
            told.append(event["event"].data.type)

    async def body(_: WorkflowContext) -> Any:
        tool = talker(lambda _: None).as_tool("talk", "Talks.", on_stream=tell)
        turns: Any = [
            (0, lambda _: [call("talk", "m1", input="x")]),
            (1, lambda items: [assistant_message(outputs(items))]),
        ]
        agent = Agent("boss", model=Fake("m", lambda _: None, turns), tools=[tool])
        return (await run(agent, "x")).final_output

    assert await in_memory(body) == "hello you"
    assert set(told) == {"response.completed"}


async def test_a_server_that_leaves_the_output_out_of_the_last_event_is_understood() -> None:
    class Terse(Fake):
        async def stream_response(self, *args: Any, **named: Any) -> Any:
            async for event in super().stream_response(*args, **named):
                if event.type == "response.completed":
                    event.response.output = []
                yield event

    async def body(_: WorkflowContext) -> Any:
        agent = Agent("a", model=Terse("t", lambda _: None, [(0, says("hello"))]))
        return (await run(agent, "x", stream=True)).final_output

    assert await in_memory(body) == "hello"


# Approvals


def booker(note: Note, *cities: str) -> Agent[Any]:
    turns: Any = [
        (0, lambda _: [call("book", f"m{city}", city=city) for city in cities]),
        (9, lambda items: [assistant_message(outputs(items))]),
    ]
    return Agent("booker", model=Fake("m", note, turns), tools=[book_tool(note)])


async def test_each_of_several_calls_has_a_question_and_a_refusal_has_its_reason() -> None:
    noted: list[str] = []

    async def body(_: WorkflowContext) -> Any:
        return (await run(booker(noted.append, "rome", "oslo"), "x")).final_output

    definition = workflow(name="body")(body)
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(definition, execution_id=EXECUTION)
        while len(questions := await engine.questions()) < 2:
            assert not (await engine.load(EXECUTION)).status.is_terminal
            await asyncio.sleep(0.005)
        for one in questions:
            assert one.name == "approve book"
            is_rome = one.details["arguments"] == {"city": "rome"}
            answer = {"approved": is_rome, "reason": "too cold"}
            await engine.answer(EXECUTION, one.signal_name, answer)
        assert await handle.result() == "booked rome / too cold"
    assert noted == ["m0", "book", "m1"]


async def test_people_who_do_not_answer_in_time() -> None:
    soon = timedelta(milliseconds=10)
    no = Approval(approved=False, reason="nobody answered")

    async def lenient(_: WorkflowContext) -> Any:
        ask = partial(ask_people, to="travel", deadline=soon, overdue=no)
        return (await run(booker(lambda _: None, "rome"), "x", approve=ask)).final_output

    async def strict(_: WorkflowContext) -> Any:
        with pytest.raises(QuestionOverdueError):
            await run(
                booker(lambda _: None, "rome"), "x", approve=partial(ask_people, deadline=soon)
            )

    assert await in_memory(lenient) == "nobody answered"
    assert await in_memory(strict) is None


async def test_without_approve_the_caller_decides_and_goes_on_with_the_state() -> None:
    noted: list[str] = []

    async def body(ctx: WorkflowContext) -> Any:
        agent = booker(noted.append, "rome")
        result = await run(agent, "x", approve=None)
        (item,) = result.interruptions
        state: Any = result.to_state()
        state.approve(item)
        assert await ctx.step("think", lambda: True)
        return (await run(agent, state, approve=None)).final_output

    assert await in_memory(body) == "booked rome"
    assert noted == ["m0", "book", "m1"]


async def test_an_approval_in_an_agent_as_a_tool_is_asked_too() -> None:
    noted: list[str] = []

    async def body(_: WorkflowContext) -> Any:
        tool = booker(noted.append, "rome").as_tool("booker", "Books.")
        turns: Any = [
            (0, lambda _: [call("booker", "b1", input="x")]),
            (1, lambda items: [assistant_message(outputs(items))]),
        ]
        agent = Agent("boss", model=Fake("b", noted.append, turns), tools=[tool])
        return (await run(agent, "x")).final_output

    definition = workflow(name="body")(body)
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await drive(engine, definition) == "booked rome"
    assert noted == ["b0", "m0", "book", "m1", "b1"]


@pytest.mark.skipif(
    not hasattr(book_tool(print).on_invoke_tool, "prepare_arguments"), reason="it came later"
)
@pytest.mark.parametrize(("arguments", "asked"), [({"n": 5}, False), ({"n": "5"}, True)])
async def test_a_policy_is_asked_only_about_arguments_as_they_were_written(
    arguments: dict[str, Any], asked: bool
) -> None:
    async def policy(_: Any, given: dict[str, Any], __: str) -> bool:
        return not isinstance(given["n"], str | int)

    @function_tool(needs_approval=policy)
    def pay(n: int) -> str:
        return f"paid {n}"

    async def body(_: WorkflowContext) -> int:
        turns: Any = [(0, lambda _: [call("pay", "m1", **arguments)]), (9, says("done"))]
        agent = Agent("a", model=Fake("m", lambda _: None, turns), tools=[pay])
        return len((await run(agent, "x", approve=None)).interruptions)

    assert await in_memory(body) == int(asked)


# Agents


async def test_agents_that_hand_off_to_each_other_run_as_copies() -> None:
    noted: list[str] = []

    async def body(_: WorkflowContext) -> Any:
        ping: Agent[Any] = Agent(
            "ping",
            model=Fake("p", noted.append, [(0, lambda _: [call("transfer_to_pong", "p1")]),
                                           (1, says("over"))]),
        )  # fmt: skip
        pong: Agent[Any] = Agent(
            "pong",
            model=Fake("q", noted.append, [(0, lambda _: [call("weather", "q1", city="rome")]),
                                           (1, lambda _: [call("transfer_to_ping", "q2")])]),
            tools=[weather_tool(noted.append)],
        )  # fmt: skip
        ping.handoffs = [handoff(pong)]
        pong.handoffs = [ping]
        result = await run(ping, "x")
        assert result.last_agent.name == "ping"
        assert isinstance(ping.model, Fake)  # it is as it was
        return (await run(result.last_agent, result.to_input_list())).final_output

    assert await in_memory(body) == "over"
    assert noted == ["p0", "q0", "weather rome", "q1", "p1", "p1"]


async def test_a_guardrail_that_runs_an_agent_and_a_hook_with_a_step_are_durable(
    tmp_path: Path,
) -> None:
    noted: list[str] = []
    judge = Agent("judge", model=Fake("j", noted.append, [(0, says("fine"))]))

    async def guard(*_: Any) -> GuardrailFunctionOutput:
        said = (await Runner.run(judge, "fine?")).final_output
        return GuardrailFunctionOutput(output_info=said, tripwire_triggered=said != "fine")

    class Hooks(agents.RunHooks[Any]):
        async def on_agent_end(self, *_: Any) -> None:
            branch = current_branch()
            assert branch is not None
            await branch.step("note", lambda: noted.append("end"))

    async def body(ctx: WorkflowContext) -> Any:
        agent = talker(noted.append)
        agent.input_guardrails = [InputGuardrail(guard)]
        result = await run(agent, "x", hooks=Hooks())
        await ctx.wait_signal("go")
        return result.final_output

    lives = Lives(tmp_path)
    await asyncio.to_thread(lives.first, body)
    assert await asyncio.to_thread(lives.second, body) == "hello you"
    assert sorted(noted) == ["end", "j0", "t0"]


async def test_runner_run_in_an_action_is_one_step() -> None:
    noted: list[str] = []

    async def body(ctx: WorkflowContext) -> Any:
        async def whole() -> str:
            assert current_branch() is None
            with pytest.raises(RuntimeError, match=r"call Runner\.run"):
                await run(talker(noted.append), "x")
            return str((await Runner.run(durable_agent(talker(noted.append)), "x")).final_output)

        await run(talker(noted.append), "x")  # from now on `Runner` is ours
        assert await ctx.step("whole", whole) == "hello you"
        return ctx.history_length

    assert await in_memory(body) == 2
    result = Runner.run_streamed(durable_agent(talker(noted.append)), "x")
    assert [one async for one in result.stream_events()]
    assert noted == ["t0"] * 3


class Shop(MCPServer):
    """An MCP server without a process."""

    def __init__(self, note: Note, **options: Any) -> None:
        super().__init__(**options)
        self._note = note

    name = "shop"

    async def list_tools(self, *_: Any) -> list[mcp.Tool]:
        self._note("list")
        schema = {"type": "object", "properties": {"item": {"type": "string"}}}
        tool = {"name": "price", "description": "What it costs.", "inputSchema": schema}
        return [mcp.Tool.model_validate(tool)]

    async def call_tool(self, tool_name: str, arguments: Any, *_: Any) -> CallToolResult:
        self._note(f"{tool_name} of {arguments['item']}")
        content = [{"type": "text", "text": "7 euros"}]
        return CallToolResult.model_validate({"content": content, "isError": False})

    async def connect(self) -> None: ...

    async def cleanup(self) -> None: ...

    async def list_prompts(self) -> Any: ...

    async def get_prompt(self, *_: Any) -> Any: ...


def test_the_tools_of_an_mcp_server_are_listed_once_and_their_calls_are_steps(
    tmp_path: Path,
) -> None:
    noted: list[str] = []

    async def body(ctx: WorkflowContext) -> Any:
        turns: Any = [
            (0, lambda _: [call("price", "m1", item="cup")]),
            (1, lambda items: [assistant_message(outputs(items))]),
        ]
        server = Shop(noted.append)
        agent = Agent("a", model=Fake("m", noted.append, turns), mcp_servers=[server])
        result = await run(agent, "x")
        await ctx.wait_signal("go")
        return result.final_output

    lives = Lives(tmp_path)
    lives.first(body)
    assert "7 euros" in lives.second(body)
    assert noted == ["list", "m0", "price of cup", "m1"]


async def test_a_call_of_an_mcp_server_can_want_an_approval() -> None:
    noted: list[str] = []

    async def body(_: WorkflowContext) -> Any:
        turns: Any = [
            (0, lambda _: [call("price", "m1", item="cup")]),
            (1, lambda items: [assistant_message(outputs(items))]),
        ]
        server = Shop(noted.append, require_approval="always")
        agent = Agent("a", model=Fake("m", noted.append, turns), mcp_servers=[server])
        return (await run(agent, "x")).final_output

    definition = workflow(name="body")(body)
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert "7 euros" in await drive(engine, definition)
    assert noted[-2:] == ["price of cup", "m1"]


async def test_a_tool_that_takes_too_long_or_fails_beside_another_is_the_same_in_a_replay(
    tmp_path: Path,
) -> None:
    @function_tool(timeout=0.05)
    async def slow() -> str:
        await asyncio.sleep(0.3)
        return "slow"

    @function_tool(failure_error_function=None)
    async def failing() -> str:
        await asyncio.sleep(0.01)
        raise OSError("broken")

    @function_tool
    async def quick() -> str:
        await asyncio.sleep(0.03)
        return "quick"

    def agent(*tools: FunctionTool) -> Agent[Any]:
        turns: Any = [
            (0, lambda _: [call(one.name, f"m{n}") for n, one in enumerate(tools)]),
            (9, lambda items: [assistant_message(outputs(items))]),
        ]
        return Agent("a", model=Fake("m", lambda _: None, turns), tools=[*tools])

    async def body(ctx: WorkflowContext) -> list[str]:
        said = [(await run(agent(slow, quick), "x")).final_output]
        try:
            await run(agent(failing, quick, slow), "x")
        except UserError as error:
            said.append(str(error))
        await ctx.wait_signal("go")
        return said

    lives = Lives(tmp_path)
    await asyncio.to_thread(lives.first, body)
    said = await asyncio.to_thread(lives.second, body)
    assert "timed out" in said[0]
    assert said[0].endswith("/ quick")
    assert said[1] == "Error running tool failing: broken"


def test_a_guardrail_that_stops_a_model_under_way_is_the_same_in_a_replay(tmp_path: Path) -> None:
    noted: list[str] = []

    class Slow(Fake):
        async def get_response(self, *args: Any, **named: Any) -> ModelResponse:
            noted.append("begun")
            await asyncio.sleep(0.1)
            return await super().get_response(*args, **named)

    async def guard(*_: Any) -> GuardrailFunctionOutput:
        branch = current_branch()
        assert branch is not None
        await branch.step("look", lambda: noted.append("look"))
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    async def body(ctx: WorkflowContext) -> str:
        agent = Agent("a", model=Slow("m", noted.append, [(0, says("too late"))]))
        agent.input_guardrails = [InputGuardrail(guard)]
        with pytest.raises(agents.InputGuardrailTripwireTriggered):
            await run(agent, "x")
        agent.input_guardrails = []
        said = (await run(agent, "y")).final_output
        await ctx.wait_signal("go")
        return str(said)

    lives = Lives(tmp_path)
    lives.first(body)
    assert lives.second(body) == "too late"
    assert sorted(noted) in (
        ["begun", "begun", "look", "m0"],
        ["begun", "begun", "look", "m0", "m0"],
    )


async def test_a_sandbox_replays_an_agent_and_crashes_where_a_test_says(
    async_durable: AsyncSandbox,
) -> None:
    noted: list[str] = []
    async_durable.crash_at("book", "recorded")
    async_durable.crash_at("session add_items", "recorded")

    async def body(_: WorkflowContext) -> Any:
        agent = booker(noted.append, "rome")
        return (await run(agent, "x", session=StoreSession("kim"), approve=yes)).final_output

    async def yes(ctx: WorkflowContext, _: Any) -> Approval:
        return Approval(approved=await ctx.step("decide", lambda: True))

    assert await async_durable.run(workflow(name="body")(body)) == "booked rome"
    assert noted == ["m0", "book", "m1"]
    assert len(await StoreSession("kim", async_durable).get_items()) == 4


async def test_models_by_name_come_from_the_provider() -> None:
    noted: list[str] = []

    class Provider(agents.ModelProvider):
        def get_model(self, model_name: str | None) -> agents.Model:
            assert WorkflowContext.current() is None  # a replay may have no key
            return Fake("m", noted.append, [(0, says(f"I am {model_name}"))])

    async def body(_: WorkflowContext) -> Any:
        config = RunConfig(model_provider=Provider())
        first = await run(Agent("a", model="big"), "x", run_config=config)
        second = await run(Agent("a"), "x", run_config={"model_provider": Provider(), "model": "b"})
        model = Fake("m", noted.append, [(0, says("I am none"))])
        given = RunConfig(model_provider=DurableModelProvider(Provider()), model=model)
        third = await run(Agent("a"), "x", run_config=given)
        return [first.final_output, second.final_output, third.final_output]

    assert await in_memory(body) == ["I am big", "I am b", "I am none"]
    assert noted == ["m0"] * 3


def test_a_replay_needs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Provider(agents.ModelProvider):
        def get_model(self, model_name: str | None) -> agents.Model:
            return Fake("m", lambda _: None, [(0, says(f"I am {model_name}"))])

    def asks(provider: agents.ModelProvider | None) -> Callable[[WorkflowContext], Any]:
        async def body(ctx: WorkflowContext) -> Any:
            config = RunConfig(model_provider=provider) if provider is not None else None
            result = await run(Agent("a", model="gpt-5"), "x", run_config=config)
            await ctx.wait_signal("go")
            return result.final_output

        return body

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    lives = Lives(tmp_path)
    lives.first(asks(Provider()))
    assert lives.second(asks(None)) == "I am gpt-5"


@pytest.mark.parametrize(("options", "in_doubt"), [({}, 1), ({"idempotent": True}, 0)])
async def test_an_idempotent_request_that_was_cut_off_is_never_in_doubt(
    options: Any, in_doubt: int, tmp_path: Path
) -> None:
    file, journal = tmp_path / "workflows.db", Journal(tmp_path / "journal")

    def made(*, dies: bool) -> WorkflowDefinition[..., Any]:
        agent = Agent("a", model=Fake("m", lambda what: journal.note(what), [(0, says("fine"))]))
        if dies:
            agent.model = Fake("m", lambda what: (journal.note(what), die()), [(0, says("fine"))])

        async def body(_: WorkflowContext) -> Any:
            return (await run(agent, "x", model_options=options)).final_output

        return workflow(name="body")(body)

    async def first() -> None:
        async with an_engine(file) as (_, engine):
            await engine.run(made(dies=True), execution_id=EXECUTION)

    run_until_killed(first)
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute("select count(*) from workflow_in_doubt").fetchone()
    assert found == (in_doubt,)
    async with an_engine(file, workflows=[made(dies=False)]) as (_, engine):
        assert await engine.result_of(EXECUTION) == "fine"
    assert journal.lines == ["m0", "m0"]


async def test_a_copy_of_its_own_can_be_run_by_runner() -> None:
    noted: list[str] = []
    agent = durable_agent(
        booker(noted.append, "rome"), model_options={"idempotent": True}, tool_options={}
    )
    assert isinstance(agent.model, DurableModel)
    assert durable_agent(agent).model is agent.model

    async def body(_: WorkflowContext) -> Any:
        result = await Runner.run(agent, "x")
        return len(result.interruptions)

    assert await in_memory(body) == 1
    assert noted == ["m0"]


@pytest.mark.parametrize(
    ("output", "read"),
    [
        ("text", "text"),
        (7, "7"),
        (None, "None"),
        ({"a": [1, True]}, "{'a': [1, True]}"),
        ((1, 2), "(1, 2)"),
        (float("nan"), "nan"),
        ({1: 2}, "{1: 2}"),
        (timedelta(seconds=1), "0:00:01"),
        ([], "[]"),
        (agents.ToolOutputText(text="hi"), [{"type": "input_text", "text": "hi"}]),
        ([agents.ToolOutputText(text="a"), 1], "[ToolOutputText(type='text', text='a'), 1]"),
        (
            [agents.ToolOutputText(text="a"), {"type": "text", "text": "b"}],
            [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        ),
        (
            agents.ToolOutputImage(image_url="http://x"),
            [{"type": "input_image", "image_url": "http://x"}],
        ),
    ],
)
async def test_a_model_reads_what_it_would_read_elsewhere(output: Any, read: Any) -> None:
    @function_tool
    def give() -> Any:
        return output

    read_by: list[Any] = []

    def agent() -> Agent[Any]:
        def end(items: list[Any]) -> list[Any]:
            read_by.append(items[-1]["output"])
            return [assistant_message("done")]

        turns: Any = [(0, lambda _: [call("give", "m1")]), (1, end)]
        return Agent("a", model=Fake("m", lambda _: None, turns), tools=[give])

    async def body(_: WorkflowContext) -> Any:
        return (await run(agent(), "x")).final_output

    await Runner.run(agent(), "x")
    assert await in_memory(body) == "done"
    assert read_by == [read, read]


# Refusals


async def nothing_is_written(body: Callable[[WorkflowContext], Any], match: str) -> None:
    definition = workflow(name="body")(body)
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowCodeError, match=match):
            await engine.run(definition, execution_id=EXECUTION)
        assert await store.load_checkpoints(EXECUTION) == []


async def test_what_cannot_be_steps_is_refused_before_anything_is_asked() -> None:
    def with_(**options: Any) -> Callable[[WorkflowContext], Any]:
        async def body(_: WorkflowContext) -> None:
            agent = talker(lambda _: None)
            for name, value in options.items():
                setattr(agent, name, value)
            await run(agent, "x")

        return body

    tool = agents.LocalShellTool(executor=lambda _: "")
    await nothing_is_written(with_(tools=[tool]), "tool 'local_shell' of agent 'talker' runs here")

    async def sandboxed(_: WorkflowContext) -> None:
        await run(talker(lambda _: None), "x", run_config=RunConfig(sandbox={}))

    await nothing_is_written(sandboxed, "in a sandbox")


async def test_bad_arguments_are_refused() -> None:
    with pytest.raises(RuntimeError, match="none called it"):
        await run(talker(lambda _: None), "x")
    hosted: Any = agents.WebSearchTool()
    with pytest.raises(TypeError, match="must be a FunctionTool"):
        durable_tool(hosted)
    with pytest.raises(UserError, match="runs here"):
        durable_agent(Agent("a", tools=[agents.LocalShellTool(executor=lambda _: "")]))
    assert durable_agent(Agent("a", tools=[hosted])).tools == [hosted]
    with pytest.raises(TypeError, match="must be a Model"):
        DurableModel(hosted)
    wrong: Any = {"retries": 3}
    for make in (
        lambda: DurableModelProvider(**wrong),
        lambda: DurableModel(Fake("m", lambda _: None, []), **wrong),
        lambda: durable_tool(book_tool(lambda _: None), **wrong),
    ):
        with pytest.raises(TypeError, match="unknown options of a step: retries; there are retry"):
            make()

    with pytest.raises(TypeError, match="such a step is never in doubt; leave out one"):
        DurableModelProvider(idempotent=True, in_doubt="ask")

    def with_(**options: Any) -> Callable[[WorkflowContext], Any]:
        async def body(_: WorkflowContext) -> None:
            await run(talker(lambda _: None), "x", **options)

        return body

    await nothing_is_written(with_(ctx=7), "ctx must be a WorkflowContext")
    await nothing_is_written(with_(stream="yes"), "stream must be")
    await nothing_is_written(with_(approve=True), "approve must be")
    await nothing_is_written(with_(model_options=wrong), "unknown options of a step")
    await nothing_is_written(with_(tool_options=wrong), "unknown options of a step")


# Sessions


@pytest.mark.parametrize(
    ("kind", "schema"), [("file", ""), ("file", "main."), ("postgres", "public.")]
)
async def test_a_session_beside_workflows(kind: str, schema: str, tmp_path: Path) -> None:
    database = Database(kind, tmp_path)
    table = f"{schema}{database.table}_items"
    async with open_store(database.url) as store:
        kim, lee = (StoreSession(name, store, table=table) for name in ("kim", "lee"))
        assert await kim.get_items() == []
        assert await kim.pop_item() is None
        await kim.clear_session()
        await asyncio.gather(
            *(kim.add_items([{"role": "user", "content": f"{n} é"}]) for n in range(5)),
            *(lee.add_items([{"role": "user", "content": "x"}]) for _ in range(5)),
        )
        await kim.add_items([])
        contents = [one["content"] for one in await kim.get_items()]
        assert sorted(contents) == [f"{n} é" for n in range(5)]
        assert [one["content"] for one in await kim.get_items(2)] == contents[-2:]
        assert await kim.get_items(0) == []
        assert (await kim.pop_item())["content"] == contents[-1]
        await kim.add_items([{"role": "user", "content": "new"}])
        assert [one["content"] for one in await kim.get_items()] == [*contents[:-1], "new"]
        await kim.clear_session()
        assert await kim.get_items() == []
        assert len(await lee.get_items()) == 5
        result = await Runner.run(talker(lambda _: None), "hi", session=kim)
        assert result.final_output == "hello you"
        assert len(await kim.get_items()) == 2


async def test_a_session_of_a_store_with_a_codec_is_encoded(tmp_path: Path) -> None:
    class Rot:
        def encode(self, data: bytes, place: str) -> bytes:
            return bytes(one ^ 0x55 for one in data) + place.encode()

        def decode(self, data: bytes, place: str) -> bytes:
            assert data.endswith(place.encode())
            return bytes(one ^ 0x55 for one in data.removesuffix(place.encode()))

    file = tmp_path / "workflows.db"
    async with open_store(file) as store:
        await StoreSession("kim", store).add_items([{"role": "user", "content": "plain"}])
        session = StoreSession("kim", store, codec=Rot())
        await session.add_items([{"role": "user", "content": "s3cret"}])
        contents = [one["content"] for one in await session.get_items()]
        assert contents == ["plain", "s3cret"]

        def texts(connection: Any) -> str:
            return str(connection.execute("select item from agent_session_items").fetchall())

        assert "s3cret" not in await store.read(texts)


async def test_bad_arguments_of_a_session_are_refused() -> None:
    bad: Any = 7
    for session_id in ("", "x" * 257):
        with pytest.raises(ValueError, match="must have 1 to 256 characters"):
            StoreSession(session_id)
    with pytest.raises(TypeError, match="session_id must be a string"):
        StoreSession(bad)
    with pytest.raises(ValueError, match="the name of a table must be"):
        StoreSession("kim", table="a b")
    with pytest.raises(TypeError, match="codec must have"):
        StoreSession("kim", codec=bad)
    with pytest.raises(ValueError, match="has no store"):
        await StoreSession("kim").get_items()
    with pytest.raises(TypeError, match="not JSON serializable"):
        await StoreSession("kim").add_items([bad.__class__])


async def test_two_conversations_follow_each_other_in_one_workflow() -> None:
    seen: list[int] = []

    class Counting(Fake):
        def _output(self, items: str | list[Any]) -> list[Any]:
            seen.append(len(items))
            return super()._output(items)

    async def body(_: WorkflowContext) -> int:
        agent = Agent("a", model=Counting("m", lambda _: None, [(0, says("yes"))]))
        session = StoreSession("kim")
        for word in ("one", "two"):
            await run(agent, word, session=session)
        assert (await session.pop_item())["role"] == "assistant"
        await session.clear_session()
        return len(await session.get_items())

    assert await in_memory(body) == 0
    assert seen == [1, 3]
