"""DBOS with pydantic-ai's own integration, as the guide of pydantic-ai calls them.

`DBOSDurability` makes steps of the requests of the model. A tool is a step if it says so itself.
SYNCHRONOUS is `full` or `normal`, with a log (WAL), or `default`: all as DBOS sets it.
"""

from __future__ import annotations

import asyncio
import time

import peer
import turns
from dbos import DBOS
from pydantic_ai import Agent
from pydantic_ai.durable_exec.dbos import DBOSDurability
from sqlalchemy import Engine, event

OPTIONS = turns.arguments()
KIND, _, SYNCHRONOUS = OPTIONS.work.rpartition("_")

if SYNCHRONOUS != "default":

    @event.listens_for(Engine, "connect")
    def tune(connection, _) -> None:
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma synchronous = {SYNCHRONOUS}")


agent = Agent(turns.MODEL, name="clerk", capabilities=[DBOSDurability()])


@agent.tool_plain
@DBOS.step()
async def look_up(number: int) -> str:
    return await turns.found(number)


@DBOS.workflow()
async def ask(question: str) -> str:
    return (await agent.run(question)).output


async def main() -> dict:
    if KIND == "recovery":
        turns.leave_interrupted(OPTIONS)
    began = time.perf_counter()
    DBOS(
        config={
            "name": "benchmark",
            "application_version": "1",
            "system_database_url": f"sqlite:///{OPTIONS.file}",
            "log_level": "CRITICAL",
        }
    )
    DBOS.launch()
    if KIND == "interrupt":
        await turns.interrupt(ask, OPTIONS)
    if KIND == "recovery":
        done = "select count(*) from workflow_status where status = 'SUCCESS'"
        count = len(turns.questions(OPTIONS))
        await asyncio.to_thread(peer.wait_for_rows, OPTIONS.file, done, count)
        return {"s": time.perf_counter() - began}
    return await turns.measure(ask, OPTIONS, "operation_outputs")


if __name__ == "__main__":
    peer.report(asyncio.run(main()))
