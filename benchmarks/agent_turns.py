"""An agent of pydantic-ai in a workflow: the work that `benchmarks.run_agents` compares.

    python -m benchmarks.agent_turns KIND_SYNCHRONOUS FILE [--runs N]

KIND is `one`, runs one after another, or `at_once`; `recovery` kills a process with five times as
many agents in their middle, and finishes them. SYNCHRONOUS is `full` or `normal`; `none` runs the
agent without workflows, and records nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from argparse import Namespace

from pydantic_ai import Agent

from benchmarks.peers import turns
from durable_workflow_sqlite import DurableEngine, SqliteCheckpointStore, WorkflowContext, workflow
from durable_workflow_sqlite.integrations.pydantic_ai import WorkflowDurability

agent = Agent(turns.MODEL, name="clerk", capabilities=[WorkflowDurability()])


@agent.tool_plain
async def look_up(number: int) -> str:
    return await turns.found(number)


async def ask_plainly(question: str) -> str:
    return (await agent.run(question)).output


@workflow
async def ask(ctx: WorkflowContext, question: str) -> str:
    return await ask_plainly(question)


async def run(options: Namespace) -> dict[str, float]:
    kind, _, synchronous = options.work.rpartition("_")
    if synchronous == "none":
        return await turns.measure(ask_plainly, options, None)
    if kind == "recovery":
        turns.leave_interrupted(options)
    began = time.perf_counter()
    async with (
        SqliteCheckpointStore.file(options.file, synchronous=synchronous) as store,
        DurableEngine(store, [ask]) as engine,
    ):
        if kind == "interrupt":
            await turns.interrupt(lambda one: engine.run(ask, one, execution_id=one), options)
        if kind == "recovery":
            handles = [engine.handle(question) for question in turns.questions(options)]
            await asyncio.gather(*(handle.result() for handle in handles))
            return {"s": time.perf_counter() - began}
        return await turns.measure(
            lambda question: engine.run(ask, question), options, "step_checkpoints"
        )


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(turns.arguments()))))
