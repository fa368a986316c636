"""Edda: its decorators on async functions, and an app that is initialized, as its README has it.

An interrupted execution of Edda is resumed once its lock has expired (300 s by default) and a check
that comes once a minute has seen it. Neither wait is timed: the lock lasts a second here, and what
the check does is done at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from importlib.metadata import version

import peer
import uvloop
from edda import EddaApp, WorkflowContext, activity, workflow

OPTIONS = peer.arguments()
WATCH = peer.Watch(OPTIONS.file, "workflow_history")
halfway = 0

logging.disable(logging.CRITICAL)


@activity
async def nothing(ctx: WorkflowContext, number: int) -> int:
    return number


@workflow
async def steps(ctx: WorkflowContext, count: int) -> int:
    for number in range(count):
        await nothing(ctx, number)
    return count


@workflow
async def watched(ctx: WorkflowContext) -> None:
    WATCH.look()
    for number in range(20):
        await nothing(ctx, number)
        WATCH.look()


@workflow(lock_timeout_seconds=1)
async def half(ctx: WorkflowContext) -> int:
    global halfway
    for number in range(peer.STEPS_IN_ALL):
        if number == peer.STEPS_BEFORE_THE_END and OPTIONS.work == "interrupt":
            halfway += 1
            await asyncio.Event().wait()
        await nothing(ctx, number)
    return peer.STEPS_IN_ALL


async def opened() -> EddaApp:
    app = EddaApp(service_name="benchmark", db_url=f"sqlite:///{OPTIONS.file}")
    await app.initialize()
    return app


async def sequential() -> dict:
    await opened()
    await steps.start(count=20)
    began = time.perf_counter()
    await steps.start(count=OPTIONS.steps)
    return {"steps/s": OPTIONS.steps / (time.perf_counter() - began)}


async def at_once() -> dict:
    await opened()
    await steps.start(count=20)
    began = time.perf_counter()
    runs = (steps.start(count=OPTIONS.steps_each) for _ in range(OPTIONS.at_once))
    await asyncio.gather(*runs)
    return {"steps/s": OPTIONS.at_once * OPTIONS.steps_each / (time.perf_counter() - began)}


async def interrupt() -> dict:
    await opened()
    running: list[asyncio.Task] = []  # a task that nobody holds may be collected
    for number in range(OPTIONS.interrupted):
        running.append(asyncio.create_task(half.start()))
        while halfway <= number:
            if running[-1].done():
                running[-1].result()
            await asyncio.sleep(0.001)
    peer.die()
    return {}


async def recovery() -> dict:
    await asyncio.to_thread(peer.leave_interrupted, OPTIONS)
    await asyncio.sleep(2)
    began = time.perf_counter()
    app = await opened()
    for one in await app.storage.cleanup_stale_locks():
        with suppress(RuntimeError):  # the app has another task that looks for some of them
            await app.replay_engine.resume_by_name(one["instance_id"], one["workflow_name"])
    await asyncio.to_thread(
        peer.wait_for_rows,
        OPTIONS.file,
        "select count(*) from workflow_instances where status = 'completed'",
        OPTIONS.interrupted,
    )
    return {"s": time.perf_counter() - began}


async def about() -> dict:
    app = await opened()
    async with app.storage.engine.connect() as connection:
        pragmas = {
            name: (await connection.exec_driver_sql(f"pragma {name}")).scalar()
            for name in ("journal_mode", "synchronous")
        }
    loop = asyncio.get_running_loop()

    def run(count: int) -> None:
        asyncio.run_coroutine_threadsafe(steps.start(count=count), loop).result()

    written = await asyncio.to_thread(peer.written_per_step, OPTIONS.file, run)
    await watched.start()
    return {
        "recorded": WATCH.share,
        "version": version("edda-framework"),
        "pragmas": pragmas,
        **written,
    }


WORKS = {work.__name__: work for work in (sequential, at_once, interrupt, recovery, about)}
if __name__ == "__main__":
    uvloop.install()
    peer.report(asyncio.run(WORKS[OPTIONS.work]()))
