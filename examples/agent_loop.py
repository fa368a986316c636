"""An agent whose calls of the model are steps: what the model said once is never asked again.

    python agent_loop.py

The model is a stand-in: a function that picks the next tool by what is known so far. The process
is killed in the middle, and the second one goes on with the conversation as it was.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)


@dataclass
class Turn:
    """What the model wants: a tool to be called, or an answer to be given."""

    tool: str
    argument: str


@workflow
async def agent(ctx: WorkflowContext, question: str, log: str) -> str:
    conversation = [f"question: {question}"]
    while True:
        turn = await ctx.step("model", ask_model, conversation, log)
        if turn.tool == "answer":
            return turn.argument
        result = await ctx.step(turn.tool, TOOLS[turn.tool], turn.argument, log)
        conversation.append(f"{turn.tool}: {result}")


async def ask_model(conversation: list[str], log: str) -> Turn:
    note(log, "model")
    known = dict(line.split(": ", 1) for line in conversation)
    if "population" not in known:
        return Turn("population", known["question"].removeprefix("how crowded is ").rstrip("?"))
    if "area" not in known:
        return Turn("area", known["question"].removeprefix("how crowded is ").rstrip("?"))
    density = int(known["population"]) / int(known["area"])
    return Turn("answer", f"{density:.0f} people on a square kilometre")


async def population(place: str, log: str) -> int:
    note(log, "population")
    return {"Iceland": 380_000}[place]


async def area(place: str, log: str) -> int:
    if note(log, "area") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"Iceland": 103_000}[place]


TOOLS = {"population": population, "area": area}


def note(log: str, line: str) -> int:
    """Write down a call; return how often it was made."""
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    return Path(log).read_text().splitlines().count(line)


async def main(folder: Path) -> None:
    async with (
        SqliteCheckpointStore.file(folder / "workflows.db") as store,
        DurableEngine(store, workflows=[agent]) as engine,
    ):
        question = "how crowded is Iceland?"
        print(await engine.run(agent, question, str(folder / "calls.log"), execution_id="chat-1"))


def play() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, folder]
        first = subprocess.run(command, check=False)
        assert first.returncode == -signal.SIGKILL
        print("killed while it called a tool; started again")
        second = subprocess.run(command, check=True, capture_output=True, text=True)
        print(second.stdout.strip())
        calls = Path(folder, "calls.log").read_text().split()
    print("calls:", *calls)
    assert "4 people" in second.stdout
    assert calls == ["model", "population", "model", "area", "area", "model"]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(Path(sys.argv[1])))
    else:
        play()
