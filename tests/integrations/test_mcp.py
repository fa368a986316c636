"""A model looks at executions, starts them and follows them by the Model Context Protocol."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import durable_workflow_sqlite
from durable_workflow_sqlite import (
    AesGcmCodec,
    Client,
    DurableEngine,
    WorkflowContext,
    open_reader,
    open_store,
    workflow,
)
from tests.commands import run_command
from tests.integrations import shop

mcp = pytest.importorskip("mcp", reason="the extra `mcp` is not installed")

from durable_workflow_sqlite.integrations.mcp import server  # noqa: E402
from durable_workflow_sqlite.integrations.mcp.bounded_answers import LONGEST_ANSWER  # noqa: E402

ROOT = Path(durable_workflow_sqlite.__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
ITEM = {"sku": "cup", "price": 2.5}
ALL = [shop.order, shop.adding, shop.secret, shop.paying]


class Model:
    """What is at the other end of a session."""

    def __init__(self, session: Any) -> None:
        self.session = session

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """What a tool answers, which is no refusal."""
        done = await self.session.call_tool(tool, arguments)
        (content,) = done.content
        assert not done.is_error, content.text
        answer: dict[str, Any] = json.loads(content.text)
        assert done.structured_content == answer
        return answer

    async def refusal(self, tool: str, **arguments: Any) -> str:
        """What a tool says when it refuses a call."""
        done = await self.session.call_tool(tool, arguments)
        (content,) = done.content
        assert done.is_error, content.text
        return str(content.text)

    async def tools(self) -> dict[str, Any]:
        return {one.name: one for one in (await self.session.list_tools()).tools}


@asynccontextmanager
async def over_stdio(file: Path, *options: str) -> AsyncIterator[Model]:
    """A session with the command, in a process of its own."""
    words = ["-m", "durable_workflow_sqlite", "mcp", str(file), *options]
    command = mcp.StdioServerParameters(command=sys.executable, args=words, env=ENVIRONMENT)
    async with mcp.Client(mcp.stdio_client(command)) as session:
        yield Model(session)


@asynccontextmanager
async def model_of(file: Path, **options: Any) -> AsyncIterator[Model]:
    """A session with a server in this process."""
    async with mcp.Client(server(file, **options)) as session:
        yield Model(session)


@asynccontextmanager
async def a_worker(file: Path) -> AsyncIterator[DurableEngine]:
    async with open_store(file) as store, DurableEngine(store, workflows=ALL) as engine:
        yield engine


def client_of(file: Path) -> AbstractAsyncContextManager[Client]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Client]:
        async with open_store(file) as store:
            yield Client(store)

    return opened()


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await is_so():
            await asyncio.sleep(0.02)


@pytest.mark.campaign
async def test_a_model_starts_and_follows_executions_that_a_worker_runs(file: Path) -> None:
    options = ["--app", "tests.integrations.shop", "--by", "claude"]
    for name in ("adding", "order", "paying"):
        options += ["--allow-start", name]
    async with a_worker(file), over_stdio(file, *options) as model:
        assert [*await model.tools()] == [
            *("list", "show", "wait"),
            *("start", "signal", "answer", "cancel", "retry"),
        ]
        begun = await model.call(
            "start", workflow="order", arguments={"item": ITEM}, execution_id="o-1"
        )
        assert begun["execution_id"] == "o-1"
        again = await model.call(
            "start", workflow="order", arguments={"item": ITEM}, execution_id="o-1"
        )
        assert "nothing new was started" in again["note"]

        async def waits_for_approval() -> bool:
            state = await model.call("wait", execution_id="o-1", seconds=0)
            assert not state["done"]
            return state.get("waiting_for") == "signal approved"

        await until(waits_for_approval)
        assert "waits for str" in await model.refusal(
            "signal", execution_id="o-1", name="approved", payload=7
        )
        sent = await model.call("signal", execution_id="o-1", name="approved", payload="kim")
        assert sent["sent"]
        assert await model.call("wait", execution_id="o-1") == {
            "done": True,
            "status": "COMPLETED",
            "result": {"cup for kim in nowhere": 2.5},
        }
        shown = await model.call("show", execution_id="o-1")
        assert shown["tags"] == {"started_by": "claude"}
        assert shown["input_data"] == [ITEM]
        assert [one["step_name"] for one in shown["steps"]] == ["reserve", "approved"]
        assert "cut: it has 9,002 characters" in shown["steps"][0]["output_data"]

        await model.call("start", workflow="paying", arguments={"amount": 7}, execution_id="p-1")
        asked = await model.call("wait", execution_id="p-1", seconds=50)
        assert asked["questions"][0]["question"] == "May we pay 7?"
        assert asked["questions"][0]["schema"]["type"] == "boolean"
        assert asked["questions"] == (await model.call("show", execution_id="p-1"))["questions"]
        said = await model.refusal("answer", execution_id="p-1", name="approve", value="yes")
        assert "the answer must be true or false" in said
        await model.call("answer", execution_id="p-1", name="approve", value=True)
        assert (await model.call("wait", execution_id="p-1"))["result"] == "paid 7"
        said = await model.refusal("answer", execution_id="p-1", name="approve", value=False)
        assert "was answered by claude" in said

        await model.call("start", workflow="adding", arguments=[1, 13], execution_id="a-1")
        end = await model.call("wait", execution_id="a-1")
        assert (end["status"], end["error_message"]) == ("FAILED", "not 13")
        await model.call("retry", execution_id="a-1", from_step="add")
        end = await model.call("wait", execution_id="a-1")
        assert end["status"] == "FAILED"

        await model.call("start", workflow="order", arguments={"item": ITEM}, execution_id="o-2")
        assert (await model.call("cancel", execution_id="o-2")).keys() & {"asked", "status"}
        assert (await model.call("wait", execution_id="o-2"))["status"] == "CANCELLED"
        listed = await model.call(
            "list", status=["CANCELLED", "FAILED"], tags={"started_by": "claude"}
        )
        assert [one["id"] for one in listed["executions"]] == ["o-2", "a-1"]
        assert "these may: adding, order, paying" in await model.refusal("start", workflow="secret")
    with open_reader(file) as reader:
        for one, act in (("a-1", "retry"), ("o-2", "cancel"), ("p-1", "answer")):
            found = reader.execution(one)
            assert found is not None
            assert [(act, "claude")] == [(log.act, log.actor) for log in found.audit_log]


async def test_the_arguments_of_start_are_described_by_the_annotations(file: Path) -> None:
    async with model_of(file, workflows=ALL) as model:
        start = (await model.tools())["start"]
        schema = start.input_schema
        assert "order: Orders an item, when somebody has approved it." in start.description
        assert schema["properties"]["workflow"]["enum"] == ["adding", "order", "paying", "secret"]
        adding, order, _, secret = schema["properties"]["arguments"]["anyOf"]
        assert adding["items"] == {"type": "integer"}
        assert order["required"] == ["item"]
        assert order["properties"]["quantity"] == {"type": "integer", "default": 1}
        assert order["properties"]["item"] == {"$ref": "#/$defs/Item"}
        assert order["properties"]["address"]["anyOf"][0]["required"] == ["street"]
        assert secret["properties"]["path"] == {"type": "string", "format": "path"}
        assert schema["$defs"]["Item"]["required"] == ["sku", "price"]
        given = {"item": ITEM, "address": {"street": "Am Hang 3"}}
        await model.call("start", workflow="order", arguments=given, execution_id="o-1")
        shown = await model.call("show", execution_id="o-1")
        assert shown["input_data"] == [ITEM, 1, {"street": "Am Hang 3", "city": "Berlin"}]
    async with model_of(file, workflows=[shop.order]) as model:
        schema = (await model.tools())["start"].input_schema
        assert schema["required"] == ["workflow", "arguments"]
        assert schema["properties"]["arguments"]["title"] == "order"


REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("show", {"execution_id": "o-9"}, "no execution has the id 'o-9'; `list` has the ids"),
    ("show", {}, "missing required field `execution_id`; the arguments of 'show': execution_id"),
    ("show", {"execution_id": "o-1", "steps": 1}, "unknown field `steps`"),
    ("show", {"execution_id": "o-1", "step": "ad"}, "its steps: add; did you mean 'add'?"),
    ("list", {"after": "elsewhere"}, "begin without it"),
    ("wait", {"execution_id": "o-1", "seconds": 1000}, "<= 50.0"),
    (
        "start",
        {"workflow": "ading"},
        "these may: adding, order, paying, secret; did you mean 'adding'?",
    ),
    (
        "start",
        {"workflow": "order", "arguments": {"itm": ITEM}},
        "no argument 'itm'; it takes item (Item), quantity (int, optional), address",
    ),
    ("start", {"workflow": "order", "arguments": {"quantity": 2}}, "needs the argument 'item'"),
    ("start", {"workflow": "order"}, "missing a required argument: 'item'; it takes"),
    (
        "start",
        {"workflow": "order", "arguments": {"item": {"sku": "cup", "price": "high"}}},
        "Expected `float`, got `str` - at `$.price`; it takes item",
    ),
    (
        "start",
        {"workflow": "adding", "arguments": [2], "execution_id": "o-1"},
        "another execution_id",
    ),
    ("signal", {"execution_id": "o-1", "name": "approved"}, "is finished (COMPLETED)"),
    ("signal", {"execution_id": "o-1", "name": "$cancel"}, "reserved"),
    ("cancel", {"execution_id": "o-1"}, "`show` shows how it ended"),
    ("retry", {"execution_id": "o-1"}, "only one that FAILED can be run again"),
    ("retry", {"execution_id": "o-2"}, "no execution has the id 'o-2'"),
    ("delete", {}, "there is no tool 'delete'; the tools: list, show, wait, start"),
]


async def test_a_refusal_says_what_was_wrong_and_what_would_work(file: Path) -> None:
    async with a_worker(file) as engine:
        await engine.run(shop.adding, 1, execution_id="o-1")
    async with model_of(file, workflows=ALL) as model:
        for tool, arguments, words in REFUSALS:
            assert words in await model.refusal(tool, **arguments)


async def test_what_may_not_be_seen_is_not_there(file: Path) -> None:
    async with a_worker(file) as engine:
        await engine.run(shop.secret, Path("x"), execution_id="s-1")
        with open_reader(file) as reader:
            found = reader.execution("s-1")
            assert found is not None
            (child,) = found.children.shown
        before = await engine.load("s-1")
        async with model_of(file, allow_see=["adding"], allow_start=["order"]) as model:
            absent = await model.refusal("show", execution_id="s-2")
            for tool in ("show", "wait", "cancel", "retry", "signal", "answer"):
                more: dict[str, Any] = {"name": "approved"} if tool in ("signal", "answer") else {}
                more |= {"value": True} if tool == "answer" else {}
                said = await model.refusal(tool, execution_id="s-1", **more)
                assert said == absent.replace("s-2", "s-1")
            listed = await model.call("list")
            assert [one["id"] for one in listed["executions"]] == [child.id]
            shown = await model.call("show", execution_id=child.id)
            said = json.dumps([listed, shown])
            assert "s-1" not in said.replace(child.id, "")  # which begins with that of its parent
            nothing = await model.call("list", workflow="secret")
            assert nothing == {
                "executions": [],
                "note": "no execution; workflows that have some: adding",
            }
            assert "these may: order" in await model.refusal("start", workflow="secret")
            assert "these may: order" in await model.refusal("start", workflow="adding")
            taken = await model.refusal("start", workflow="order", execution_id="s-1", arguments=[])
            assert taken == "the id 's-1' is taken; give another execution_id"
        async with model_of(file, allow_see=["secret"]) as model:
            assert "children" not in await model.call("show", execution_id="s-1")
        async with model_of(file) as model:
            whole = await model.call("show", execution_id="s-1")
            assert whole["children"][0]["workflow_type"] == "adding"
        assert await engine.load("s-1") == before


async def test_a_page_is_filled_with_what_may_be_seen(file: Path) -> None:
    async with client_of(file) as client:
        for number in range(12):
            one = shop.adding if number % 3 else shop.order
            given: Any = (shop.Item("a", 1.0),) if one is shop.order else (1,)
            await client.enqueue(one, *given, execution_id=f"e-{number}")
    async with model_of(file, allow_see=["order", "secret"]) as model:
        first = await model.call("list", limit=3)
        rest = await model.call("list", limit=3, after=first["next"])
    ids = [[one["id"] for one in page["executions"]] for page in (first, rest)]
    assert ids == [["e-9", "e-6", "e-3"], ["e-0"]]


async def test_read_only_offers_nothing_that_changes(file: Path) -> None:
    async with client_of(file) as client:
        await client.enqueue(shop.adding, 1, execution_id="a-1")
    async with model_of(file, workflows=ALL, read_only=True) as model:
        tools = await model.tools()
        assert [*tools] == ["list", "show", "wait"]
        assert all(one.annotations.read_only_hint for one in tools.values())
        assert (await model.call("wait", execution_id="a-1", seconds=0))["waiting_for"] == "worker"
        said = await model.refusal("cancel", execution_id="a-1")
        assert said == (
            "there is no tool 'cancel'; nothing can be changed here; the tools: list, show, wait"
        )


async def test_without_the_code_a_workflow_is_started_by_its_name(file: Path) -> None:
    async with model_of(file) as model:
        said = await model.refusal("start", workflow="adding")
        assert "no workflow 'adding' is known" in said
        async with a_worker(file):
            said = await model.refusal("start", workflow="adding", arguments={"numbers": [1]})
            assert "give `arguments` as an array" in said
            done = await model.call("start", workflow="adding", arguments=[1, 2])
            end = await model.call("wait", execution_id=done["execution_id"])
            assert end["result"] == 3


async def test_no_answer_is_longer_than_a_model_can_read(file: Path) -> None:
    @workflow
    async def long(ctx: WorkflowContext) -> list[str]:
        for number in range(120):
            await ctx.step(f"s{number}", lambda: "x" * 20_000)
        return ["é" * 100_000]

    async with open_store(file) as store, DurableEngine(store, workflows=[long]) as engine:
        await engine.run(long, execution_id="l-1")
    async with model_of(file) as model:
        shown = await model.call("show", execution_id="l-1", longest=20_000)
        assert len(json.dumps(shown, ensure_ascii=False)) <= LONGEST_ANSWER
        assert "earlier ones are left out" in shown["steps"][0]
        assert shown["steps"][-1]["step_name"] == "s119"
        one = await model.call("show", execution_id="l-1", step="s3", longest=20_000)
        assert len(one["steps"][0]["output_data"]) > 19_000
        end = await model.call("wait", execution_id="l-1")
        assert end["result"].endswith("… (cut: it has 100,004 characters)")


async def test_wait_does_not_wait_for_what_only_a_person_ends(file: Path) -> None:
    async with client_of(file) as client:
        await client.enqueue(shop.adding, 1, execution_id="a-1")
        await client.pause("a-1")
    async with model_of(file) as model, asyncio.timeout(20):
        state = await model.call("wait", execution_id="a-1", seconds=50)
        assert state["note"] == "it is paused: nothing of it begins until a person resumes it"


async def test_how_much_is_done_is_told_while_it_is_not_over(file: Path) -> None:
    async with a_worker(file) as engine, model_of(file) as model:
        await engine.start(shop.packing, 2, execution_id="p-1")

        async def waits() -> bool:
            return len((await model.call("show", execution_id="p-1")).get("progress", ())) == 2

        await until(waits)
        state = await model.call("wait", execution_id="p-1", seconds=0)
        assert not state["done"]
        workflow_row, step_row = state["progress"]
        assert (workflow_row["done"], workflow_row["total"]) == (1, 4)
        assert workflow_row["note"] == "the label"
        assert (step_row["done"], step_row["step_name"], step_row["attempt"]) == (2, "pack", 1)
        assert "(cut: it has 600 characters)" in step_row["note"]
        await engine.pause("p-1")
        stopped = await model.call("wait", execution_id="p-1", seconds=50)
        assert stopped["progress"] == state["progress"]
        await engine.resume("p-1")
        await engine.send_signal("p-1", "collected")
        end = await model.call("wait", execution_id="p-1", seconds=50)
        assert end == {"done": True, "status": "COMPLETED", "result": "2 boxes"}


async def test_encrypted_values_are_shown_only_with_the_key(file: Path) -> None:
    codec = AesGcmCodec([("a", b"k" * 32)])
    async with (
        open_store(file, codec=codec) as store,
        DurableEngine(store, workflows=[shop.adding]) as engine,
    ):
        await engine.run(shop.adding, 20, 22, execution_id="a-1")
    async with model_of(file) as model:
        assert (await model.call("show", execution_id="a-1"))["output_data"] == "encrypted"
    async with model_of(file, codec=codec) as model:
        assert (await model.call("wait", execution_id="a-1"))["result"] == 42


def test_the_command_says_on_one_line_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = run_command("mcp", tmp_path / "none.db", env=ENVIRONMENT)
    assert (absent.returncode, absent.stdout) == (1, "")
    assert "there is no file" in absent.stderr
    (tmp_path / "empty.db").touch()
    empty = run_command("mcp", tmp_path / "empty.db", env=ENVIRONMENT)
    assert (empty.returncode, empty.stdout, empty.stderr.count("\n")) == (1, "", 1)
    monkeypatch.setitem(sys.modules, "mcp_types", None)
    for module in ("mcp", "mcp.serving"):
        monkeypatch.delitem(sys.modules, f"durable_workflow_sqlite.integrations.{module}")
    without = run_command("mcp", tmp_path / "empty.db", env=ENVIRONMENT)
    assert without.returncode == 1
    assert "pip install 'durable-workflow-sqlite[mcp]'" in without.stderr


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"allow_see": "order"}, TypeError),
        ({"allow_start": [" "]}, ValueError),
        ({"by": ""}, ValueError),
        ({"workflows": [shop.add]}, TypeError),
    ],
)
def test_wrong_options_are_refused_at_once(
    tmp_path: Path, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        server(tmp_path / "none.db", **options)
