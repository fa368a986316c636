"""DBOS Transact: its decorators, called as its programming guide calls them.

Its sync functions are used: they are faster than its async ones, one at a time and many at once.
"""

from __future__ import annotations

import threading
import time
from importlib.metadata import version

import peer
from dbos import DBOS
from sqlalchemy import Engine, event

OPTIONS = peer.arguments()
STOPS = threading.Event() if OPTIONS.work == "interrupt" else None

if OPTIONS.tuned:

    @event.listens_for(Engine, "connect")
    def tune(connection, _) -> None:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")


@DBOS.step()
def nothing(number: int) -> int:
    return number


@DBOS.workflow()
def steps(count: int) -> int:
    for number in range(count):
        nothing(number)
    return count


@DBOS.workflow()
def watched() -> None:
    WATCH.look()
    for number in range(20):
        nothing(number)
        WATCH.look()


@DBOS.workflow()
def child(number: int) -> int:
    return number


@DBOS.workflow()
def parent(count: int) -> int:
    handles = [DBOS.start_workflow(child, number) for number in range(count)]
    return sum(handle.get_result() for handle in handles)


WATCH = peer.Watch(OPTIONS.file, "operation_outputs")
halfway = threading.Semaphore(0)


@DBOS.workflow()
def half() -> int:
    for number in range(peer.STEPS_IN_ALL):
        if number == peer.STEPS_BEFORE_THE_END and STOPS is not None:
            halfway.release()
            STOPS.wait()
        nothing(number)
    return peer.STEPS_IN_ALL


def launch(**more) -> None:
    DBOS(
        config={
            "name": "benchmark",
            "application_version": "1",
            "system_database_url": f"sqlite:///{OPTIONS.file}",
            "log_level": "CRITICAL",
            **more,
        }
    )
    DBOS.launch()


def sequential() -> dict:
    launch()
    steps(20)
    began = time.perf_counter()
    steps(OPTIONS.steps)
    return {"steps/s": OPTIONS.steps / (time.perf_counter() - began)}


def at_once() -> dict:
    launch()
    steps(20)
    began = time.perf_counter()
    handles = [DBOS.start_workflow(steps, OPTIONS.steps_each) for _ in range(OPTIONS.at_once)]
    for handle in handles:
        handle.get_result()
    return {"steps/s": OPTIONS.at_once * OPTIONS.steps_each / (time.perf_counter() - began)}


def children() -> dict:
    launch()
    parent(1)
    began = time.perf_counter()
    parent(OPTIONS.children)
    return {"children/s": OPTIONS.children / (time.perf_counter() - began)}


def interrupt() -> dict:
    launch(max_executor_threads=OPTIONS.interrupted + 50)
    for _ in range(OPTIONS.interrupted):
        DBOS.start_workflow(half)
    for _ in range(OPTIONS.interrupted):
        halfway.acquire()
    peer.die()
    return {}


def recovery() -> dict:
    peer.leave_interrupted(OPTIONS)
    began = time.perf_counter()
    launch()
    peer.wait_for_rows(
        OPTIONS.file,
        "select count(*) from workflow_status where status = 'SUCCESS'",
        OPTIONS.interrupted,
    )
    return {"s": time.perf_counter() - began}


def about() -> dict:
    engines = []
    event.listen(Engine, "engine_connect", lambda connection: engines.append(connection.engine))
    launch()
    with engines[0].connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"pragma {name}").scalar()
            for name in ("journal_mode", "synchronous")
        }
    watched()
    return {
        "recorded": WATCH.share,
        "version": version("dbos"),
        "pragmas": pragmas,
        **peer.written_per_step(OPTIONS.file, steps),
    }


WORKS = {
    work.__name__: work for work in (sequential, at_once, children, interrupt, recovery, about)
}
if __name__ == "__main__":
    peer.report(WORKS[OPTIONS.work]())
