"""An agent: calls of the model and of its tools are steps, and a person approves what it sends.

    python agent_loop.py

The model is never asked, or paid, twice for the same answer. A tool whose effect cannot be undone
waits for a person, for any time, and costs nothing while it waits. The process is killed in the
middle of a tool; the next process continues the conversation.

The model is simulated by a function that chooses the next tool from what is known so far. Call your
own model in `ask_model`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionFinishedError,
    RetryPolicy,
    SignalTimeoutError,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)

MOST_TURNS = 20
IMPATIENT_MODEL = RetryPolicy.exponential(max_attempts=5, initial_delay=timedelta(seconds=1))


@dataclass
class Turn:
    """What the model wants: a tool to be called, or an answer to be given."""

    tool: str
    argument: str


@dataclass
class Approval:
    """The answer of a person about a tool whose effect cannot be undone."""

    by: str
    is_yes: bool


@workflow
async def agent(ctx: WorkflowContext, question: str, log: str) -> str:
    conversation = [f"question: {question}"]
    for _ in range(MOST_TURNS):
        turn = await ctx.step("model", ask_model, conversation, log, retry=IMPATIENT_MODEL)
        if turn.tool == "answer":
            return turn.argument
        if turn.tool in NEED_APPROVAL and not await is_approved(ctx, turn, log):
            conversation.append(f"{turn.tool}: refused")
            continue
        result = await ctx.step(turn.tool, TOOLS[turn.tool], turn.argument, log)
        conversation.append(f"{turn.tool}: {result}")
    return "I do not know"


async def is_approved(ctx: WorkflowContext, turn: Turn, log: str) -> bool:
    """Ask a person; no answer within a day means no."""
    await ctx.step("ask", ask_person, f"{turn.tool} {turn.argument!r}?", log)
    try:
        approval = await ctx.wait_signal("approval", timeout=timedelta(days=1), type=Approval)
    except SignalTimeoutError:
        return False
    return approval.is_yes


async def ask_model(conversation: list[str], log: str) -> Turn:
    note(log, "model")
    known = dict(line.split(": ", 1) for line in conversation)
    place = known["question"].removeprefix("mail me how crowded ").removesuffix(" is")
    for tool in ("population", "area"):
        if tool not in known:
            return Turn(tool, place)
    density = f"{int(known['population']) / int(known['area']):.0f} people a square kilometre"
    if "mail" not in known:
        return Turn("mail", density)
    return Turn("answer", density if known["mail"] == "refused" else f"{density}, as I wrote")


async def ask_person(what: str, log: str) -> None:
    note(log, "ask")
    print(f"may I {what}")


async def population(place: str, log: str) -> int:
    note(log, "population")
    return {"Iceland": 380_000}[place]


def area(place: str, log: str) -> int:
    note(log, "area")
    return {"Iceland": 103_000}[place]


async def mail(text: str, log: str) -> str:
    note(log, "mail")
    return "sent"


TOOLS = {"population": population, "area": area, "mail": mail}
NEED_APPROVAL = {"mail"}


def note(log: str, call: str) -> None:
    """Log a call, and kill the process at the first call of the tool in DIE_AT."""
    path = Path(log)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{call}\n")
    if call == os.environ.get("DIE_AT") and path.read_text(encoding="utf-8").count(call) == 1:
        os.kill(os.getpid(), signal.SIGKILL)


async def main(folder: Path) -> None:
    async with (
        SqliteCheckpointStore.file(folder / "workflows.db") as store,
        DurableEngine(store, workflows=[agent]) as engine,
    ):
        question, log = "mail me how crowded Iceland is", str(folder / "calls.log")
        chat = await engine.start(agent, question, log, execution_id="chat-1")
        # In practice the approval comes days later, from a web page, in another process.
        with suppress(ExecutionFinishedError):  # the chat may have ended already
            await chat.signal("approval", Approval("kim", True))
        print(await chat.result())


def play() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, folder]
        first = subprocess.run(command, env={**os.environ, "DIE_AT": "area"}, check=False)
        assert first.returncode == -signal.SIGKILL
        print("killed while it called a tool; started again")
        second = subprocess.run(command, check=True, capture_output=True, text=True)
        print(second.stdout.strip())
        calls = Path(folder, "calls.log").read_text(encoding="utf-8").split()
    print("calls:", *calls)
    assert "4 people a square kilometre, as I wrote" in second.stdout
    assert " ".join(calls) == "model population model area area model ask mail model"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(Path(sys.argv[1])))
    else:
        play()
