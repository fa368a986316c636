"""An agent of pydantic-ai in a workflow: the work that `benchmarks.run_agents` compares.

    python -m benchmarks.agent_turns KIND_SYNCHRONOUS FILE [--runs N]

KIND is `one`, runs one after another, or `at_once`. SYNCHRONOUS is `full` or `normal`; `none` runs
the agent without workflows, and records nothing.
"""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace

from pydantic_ai import Agent

from benchmarks.peers import turns
from durable_workflow_sqlite import DurableEngine, SqliteCheckpointStore, WorkflowContext, workflow
from durable_workflow_sqlite.integrations.pydantic_ai import WorkflowDurability

agent = Agent(turns.MODEL, name="clerk", capabilities=[WorkflowDurability()])


@agent.tool_plain
async def look_up(number: int) -> str:
    return turns.found(number)


async def ask_plainly(question: str) -> str:
    return (await agent.run(question)).output


@workflow
async def ask(ctx: WorkflowContext, question: str) -> str:
    return await ask_plainly(question)


async def run(options: Namespace) -> dict[str, float]:
    synchronous = options.work.rpartition("_")[2]
    if synchronous == "none":
        return await turns.measure(ask_plainly, options, None)
    async with (
        SqliteCheckpointStore.file(options.file, synchronous=synchronous) as store,
        DurableEngine(store) as engine,
    ):
        return await turns.measure(
            lambda question: engine.run(ask, question), options, "step_checkpoints"
        )


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(turns.arguments()))))
