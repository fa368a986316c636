"""Agents for the tests: their models answer by what they read, and so a replay must not need them.

What is called is noted where the test says.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from agents import Agent, FunctionTool, Model, ModelResponse, Usage, function_tool
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputItemDoneEvent,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
    ResponseUsage,
)

from durable_workflow_sqlite import RetryPolicy, step_info
from durable_workflow_sqlite.integrations.openai_agents import durable_tool

Note = Callable[[str], object]
Turn = Callable[[list[Any]], list[Any]]

CALLS = 12
"""How often `office` calls a model or a tool if nothing goes wrong, or a tool fails once."""

ANSWER = "rome sunny / oslo sunny / 7 / bern sunny. / fixed / booked rome / {assistant: closer}"


class Fake(Model):
    """Its n-th turn answers what has n outputs of the tools that it has called.

    The ids of its calls begin with its name.
    """

    def __init__(self, name: str, note: Note, turns: Sequence[tuple[int, Turn]]) -> None:
        self._name, self._note, self._turns = name, note, turns

    def _output(self, items: str | list[Any]) -> list[Any]:
        found = [] if isinstance(items, str) else items
        known = [one["call_id"] for one in found if one.get("type") == "function_call_output"]
        count = sum(one.startswith(self._name) for one in known)
        for number, (most, turn) in enumerate(self._turns):
            if count <= most:
                self._note(f"{self._name}{number}")
                return turn(found)
        raise AssertionError(f"{self._name} has said all")

    async def get_response(
        self,
        system_instructions: Any,
        input: Any,  # noqa: A002
        *args: Any,
        **named: Any,
    ) -> ModelResponse:
        usage = Usage(requests=1, input_tokens=3, output_tokens=2, total_tokens=5)
        return ModelResponse(output=self._output(input), usage=usage, response_id=None)

    async def stream_response(
        self,
        system_instructions: Any,
        input: Any,  # noqa: A002
        *args: Any,
        **named: Any,
    ) -> AsyncIterator[Any]:
        output = self._output(input)
        place: Any = {"item_id": "m", "output_index": 0, "content_index": 0, "logprobs": []}
        for item in output:
            if isinstance(item, ResponseOutputMessage):
                for content in item.content:
                    for letter in getattr(content, "text", ""):
                        yield ResponseTextDeltaEvent(
                            type="response.output_text.delta",
                            sequence_number=0,
                            delta=letter,
                            **place,
                        )
            yield ResponseOutputItemDoneEvent(
                type="response.output_item.done", item=item, output_index=0, sequence_number=0
            )
        response = Response(
            id="r",
            created_at=0,
            model="fake",
            object="response",
            output=output,
            parallel_tool_calls=False,
            tool_choice="none",
            tools=[],
            usage=ResponseUsage.model_validate(
                {
                    "input_tokens": 3,
                    "output_tokens": 2,
                    "total_tokens": 5,
                    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                    "output_tokens_details": {"reasoning_tokens": 0},
                }
            ),
        )
        yield ResponseCompletedEvent(
            type="response.completed", response=response, sequence_number=0
        )


def call(tool: str, call_id: str, **arguments: Any) -> Any:
    return ResponseFunctionToolCall(
        type="function_call",
        id=call_id,
        call_id=call_id,
        name=tool,
        arguments=json.dumps(arguments),
    )


def assistant_message(text: str) -> Any:
    content = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(
        type="message", id="m", role="assistant", status="completed", content=[content]
    )


def says(text: str) -> Turn:
    return lambda _: [assistant_message(text)]


def outputs(items: list[Any]) -> str:
    """What tools have said, as a model reads it."""
    found = [str(one["output"]) for one in items if one.get("type") == "function_call_output"]
    return " / ".join(one.replace('"', "") for one in found)


def weather_tool(note: Note) -> FunctionTool:
    @function_tool
    async def weather(city: str) -> str:
        note(f"weather {city}")
        return f"{city} sunny"

    return weather


def book_tool(note: Note) -> FunctionTool:
    @function_tool(needs_approval=True)
    def book(city: str) -> str:
        note("book")
        return f"booked {city}"

    return book


def office(note: Note) -> Agent[Any]:
    """Tools side by side, one fails at first; an agent as a tool; an approval; a handoff."""

    @function_tool
    def population(city: str) -> int:
        note(f"population {city}")
        return 7

    @function_tool(failure_error_function=None)
    async def flaky() -> str:
        if step_info().attempt == 1:
            raise OSError("try again")
        note("flaky")
        return "fixed"

    weather = weather_tool(note)
    sub = Agent[Any](
        "sub",
        model=Fake(
            "s",
            note,
            [
                (0, lambda _: [call("weather", "s1", city="bern")]),
                (1, lambda items: [assistant_message(f"{outputs(items)}.")]),
            ],
        ),
        tools=[weather],
    )
    closer = Agent[Any](
        "closer", model=Fake("x", note, [(0, lambda items: [assistant_message(outputs(items))])])
    )
    return Agent[Any](
        "main",
        instructions="Help.",
        model=Fake(
            "c",
            note,
            [
                (
                    0,
                    lambda _: [
                        call("weather", "c1", city="rome"),
                        call("weather", "c2", city="oslo"),
                        call("population", "c3", city="rome"),
                        call("ask_sub", "c4", input="bern?"),
                        call("flaky", "c5"),
                    ],
                ),
                (5, lambda _: [call("book", "c6", city="rome")]),
                (6, lambda _: [call("transfer_to_closer", "c7")]),
            ],
        ),
        tools=[
            weather,
            population,
            book_tool(note),
            sub.as_tool("ask_sub", "Asks a colleague."),
            durable_tool(flaky, retry=RetryPolicy(max_attempts=2)),
        ],
        handoffs=[closer],
    )
