"""LangGraph with its SQLite checkpointer: tasks in an entrypoint, its functional API.

The sync saver is used: here it is faster than the async one. `durability="sync"` is the strictest
that it knows. It takes up nothing by itself: who interrupted a thread invokes it again.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import peer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.func import entrypoint, task

OPTIONS = peer.arguments()
STOPS = threading.Event() if OPTIONS.work == "interrupt" else None
WATCH = peer.Watch(OPTIONS.file, "writes")
halfway = threading.Semaphore(0)


@task
def nothing(number: int) -> int:
    return number


def with_saver(saver: SqliteSaver):
    @entrypoint(checkpointer=saver)
    def steps(count: int) -> int:
        for number in range(count):
            nothing(number).result()
        return count

    @entrypoint(checkpointer=saver)
    def watched(_: int) -> None:
        WATCH.look()
        for number in range(20):
            nothing(number).result()
            WATCH.look()

    @entrypoint(checkpointer=saver)
    def half(_: int) -> int:
        for number in range(peer.STEPS_IN_ALL):
            if number == peer.STEPS_BEFORE_THE_END and STOPS is not None:
                halfway.release()
                STOPS.wait()
            nothing(number).result()
        return peer.STEPS_IN_ALL

    return steps, half, watched


def invoke(workflow, value, thread_id: str) -> object:
    config = {"configurable": {"thread_id": thread_id}}
    return workflow.invoke(value, config, durability="sync")


def sequential(saver: SqliteSaver) -> dict:
    steps, _, _ = with_saver(saver)
    invoke(steps, 20, "warm-up")
    began = time.perf_counter()
    invoke(steps, OPTIONS.steps, "one")
    return {"steps/s": OPTIONS.steps / (time.perf_counter() - began)}


def at_once(saver: SqliteSaver) -> dict:
    steps, _, _ = with_saver(saver)
    invoke(steps, 20, "warm-up")
    began = time.perf_counter()
    with ThreadPoolExecutor(OPTIONS.at_once) as threads:
        names = [f"thread {number}" for number in range(OPTIONS.at_once)]
        list(threads.map(lambda name: invoke(steps, OPTIONS.steps_each, name), names))
    return {"steps/s": OPTIONS.at_once * OPTIONS.steps_each / (time.perf_counter() - began)}


def interrupt(saver: SqliteSaver) -> dict:
    _, half, _ = with_saver(saver)
    for number in range(OPTIONS.interrupted):
        threading.Thread(target=invoke, args=(half, 0, f"thread {number}"), daemon=True).start()
        halfway.acquire()
    time.sleep(0.5)  # what a step returned may not be written yet
    peer.die()
    return {}


def recovery(saver: SqliteSaver) -> dict:
    """One after another: with threads it is slower."""
    saver.conn.close()
    peer.leave_interrupted(OPTIONS)
    began = time.perf_counter()
    with SqliteSaver.from_conn_string(str(OPTIONS.file)) as again:
        _, half, _ = with_saver(again)
        for number in range(OPTIONS.interrupted):
            if invoke(half, None, f"thread {number}") != peer.STEPS_IN_ALL:
                raise RuntimeError("an interrupted thread did not come to its end")
        return {"s": time.perf_counter() - began}


def about(saver: SqliteSaver) -> dict:
    steps, _, watched = with_saver(saver)
    names = iter(range(100))
    written = peer.written_per_step(
        OPTIONS.file, lambda count: invoke(steps, count, f"thread {next(names)}")
    )
    pragmas = {
        name: saver.conn.execute(f"pragma {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous")
    }
    invoke(watched, 0, "watched")
    return {
        "recorded": WATCH.share,
        "version": f"{version('langgraph')}, checkpoint-sqlite"
        f" {version('langgraph-checkpoint-sqlite')}",
        "pragmas": pragmas,
        **written,
    }


WORKS = {work.__name__: work for work in (sequential, at_once, interrupt, recovery, about)}
if __name__ == "__main__":
    with SqliteSaver.from_conn_string(str(OPTIONS.file)) as opened:
        peer.report(WORKS[OPTIONS.work](opened))
