"""Several processes on one file: shares, take-overs, wake-ups, and a worker told to stop."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    SqliteCheckpointStore,
    StoreError,
    WorkflowDefinition,
    WorkflowExecution,
)
from durable_workflow_sqlite.engine import changes
from durable_workflow_sqlite.testing.contract_base import WORKFLOW, new_execution
from durable_workflow_sqlite.worker import AppError, find_workflows
from tests.commands import run_command
from tests.databases import new_database
from tests.processes import Child, Journal, a_process, run_until_killed, until
from tests.workers import app
from tests.workers.conftest import Workers, wait_for


@pytest.mark.campaign
async def test_a_worker_runs_what_a_client_enqueues(
    file: Path, workers: Workers, journal: Journal
) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
        worker = workers.start()
        handle = await client.enqueue(app.noted, "a")
        assert await handle.result() == worker.pid
        napping = await client.enqueue(app.napper)
        assert await napping.result() == "woke"
    assert journal.lines == ["ran a", "woke"]


@pytest.mark.campaign
def test_workers_share_what_was_interrupted_and_run_no_step_twice(
    file: Path, workers: Workers, journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DURABLE_JOURNAL", str(tmp_path / "journal"))
    count = 60

    async def first_process() -> None:
        os.environ[app.IS_NO_WORKER] = "1"
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            for number in range(count):
                await engine.start(app.five_steps, str(number), execution_id=str(number))
            os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(2):
        workers.start("tests.workers.app", "--max-concurrent", str(app.AT_ONCE))
    run_until_killed(first_process)

    async def client() -> Counter[int]:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            return Counter([await engine.handle(str(n)).result() for n in range(count)])

    ran_by = asyncio.run(client())
    assert min(ran_by[worker.pid] for worker in workers.processes) >= app.AT_ONCE
    # Each step once; one that the first process had begun may have run there, too.
    runs = Counter(journal.lines)
    assert set(runs) == {f"{n} {step}" for n in range(count) for step in range(5)}
    assert max(runs.values()) <= 2


async def test_the_executions_of_a_worker_that_is_killed_run_on_in_another(
    file: Path, workers: Workers, journal: Journal
) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
        first = workers.start()
        await client.enqueue(app.stuck)
        await asyncio.to_thread(wait_for, journal, "stuck")
        workers.start()  # however long that takes, the step goes on
        first.kill()
        await until(lambda: journal.lines.count("stuck") >= 2)


@pytest.mark.campaign
async def test_a_worker_that_stands_still_keeps_what_it_has(
    file: Path, workers: Workers, journal: Journal
) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
        first = workers.start()
        handle = await client.enqueue(app.patient, "a")
        await asyncio.to_thread(wait_for, journal, "begin a 0")
        first.send_signal(signal.SIGSTOP)
        workers.start()
        await asyncio.sleep(2.5 * changes.LOOK_AROUND_S)
        assert journal.lines == ["begin a 0"]
        first.send_signal(signal.SIGCONT)
        assert await handle.result() == first.pid
    assert journal.lines == ["begin a 0", "end a 0", "begin a 1", "end a 1"]


@pytest.mark.campaign
def test_signals_from_another_process_are_heard_soon(file: Path, workers: Workers) -> None:
    async def main() -> list[float]:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
            workers.start()
            handle = await client.enqueue(app.echo, 10)
            sent: list[float] = []
            for _ in range(10):
                await asyncio.sleep(0.05)
                sent.append(time.time())
                await handle.signal("go")
            heard = await handle.result()
            return [after - before for before, after in zip(sent, heard, strict=True)]

    # Milliseconds on a quiet machine: the benchmarks say how many.
    assert sorted(asyncio.run(main()))[5] < 1


async def test_a_worker_that_is_told_to_stop_ends_its_step_and_lets_go(
    file: Path, workers: Workers, journal: Journal
) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
        first = workers.start()
        handle = await client.enqueue(app.patient, "a")
        await client.enqueue(app.echo, 1, execution_id="waits")
        await asyncio.to_thread(wait_for, journal, "begin a 0")
        first.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(first.wait, 10) == 0
        assert journal.lines == ["begin a 0", "end a 0"]
        second = workers.start()
        assert await handle.result() == second.pid
        await client.send_signal("waits", "go")
        await client.handle("waits").result()
    assert journal.lines == ["begin a 0", "end a 0", "begin a 1", "end a 1"]
    assert not [path for path in file.parent.iterdir() if "-worker-" in path.name][2:]


@pytest.mark.campaign
@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGTERM] * 2, [signal.SIGINT] * 2])
async def test_a_worker_leaves_a_step_behind_that_does_not_end(
    file: Path, workers: Workers, journal: Journal, signals: list[signal.Signals]
) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
        grace = "0" if len(signals) == 1 else "3600"
        worker = workers.start("tests.workers.app", "--grace", grace)
        handle = await client.enqueue(app.stuck)
        await asyncio.to_thread(wait_for, journal, "stuck")
        for one in signals:
            worker.send_signal(one)
            await asyncio.sleep(0.2)
        assert await asyncio.to_thread(worker.wait, 30) == 0
        assert worker.stderr is not None
        said = await asyncio.to_thread(worker.stderr.read)
        step = f"step 'stuck' (index 0) of execution {handle.execution_id!r}"
        assert f"exiting without waiting for {step}: in doubt, it runs again" in said
        assert await handle.status() is ExecutionStatus.RUNNING
        assert (await when_free(client, handle.execution_id)).recovery_count == 0


@pytest.mark.campaign
@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT] * 2])
@pytest.mark.parametrize(
    ("workflow", "how"),
    [
        (app.blocks, "sleep for long"),
        (app.blocks, "compute"),
        (app.blocks_in_a_step, "sleep"),
    ],
)
def test_a_worker_whose_event_loop_is_blocked_ends(
    file: Path,
    workers: Workers,
    journal: Journal,
    workflow: WorkflowDefinition[[str], None],
    how: str,
    signals: list[signal.Signals],
) -> None:
    grace = "0" if len(signals) == 1 else "3600"
    worker = workers.start("tests.workers.app", "--grace", grace)

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
            await client.enqueue(workflow, how, execution_id="one")
            await asyncio.to_thread(wait_for, journal, "blocks")

    asyncio.run(main())
    for one in signals:
        worker.send_signal(one)
        time.sleep(0.2)
    assert worker.wait(10) == 0
    assert worker.stderr is not None
    said = worker.stderr.read()
    assert f"exiting although the event loop is blocked, at {app.__file__}:" in said
    left = "exiting without waiting for step 'blocks' (index 0) of execution 'one': in doubt"
    assert (left in said) is (workflow is app.blocks_in_a_step)


@pytest.mark.campaign
@pytest.mark.parametrize("workflow", ["nothing", "stuck"])
def test_a_worker_whose_file_is_replaced_ends_with_an_error(
    workflow: str, file: Path, workers: Workers, journal: Journal
) -> None:
    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
            await client.enqueue(app.stuck)
            await asyncio.to_thread(wait_for, journal, "stuck")

    worker = workers.start()
    if workflow == "stuck":
        asyncio.run(main())
    other = new_database(file.with_name("other.db"))
    other.replace(file)
    assert worker.stderr is not None
    said = worker.stderr.read()
    assert worker.wait(30) == 1
    assert f"{file} was replaced by another file" in said
    assert ("exiting without waiting for step 'stuck'" in said) is (workflow == "stuck")


@pytest.mark.campaign
async def test_a_worker_that_is_killed_after_sigterm_did_not_die_of_what_it_had(
    file: Path, workers: Workers, journal: Journal
) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
        worker = workers.start("tests.workers.app", "--grace", "3600")
        handle = await client.enqueue(app.stuck)
        await asyncio.to_thread(wait_for, journal, "stuck")
        worker.send_signal(signal.SIGTERM)
        await until(lambda: is_stopping(file))
        worker.kill()
        assert (await when_free(client, handle.execution_id)).recovery_count == 0
        worker = workers.start()
        await until(lambda: journal.lines == ["stuck"] * 2)
        worker.kill()
        assert (await when_free(client, handle.execution_id)).recovery_count == 1


def is_stopping(file: Path) -> bool:
    """Whether the one claim says that its worker was told to stop."""
    with closing(sqlite3.connect(file)) as connection:
        ((stops,),) = connection.execute("select is_stopping from workflow_claims")
        return bool(stops)


async def when_free(client: DurableEngine, execution_id: str) -> WorkflowExecution:
    """An execution, once it is noticed that its worker is dead."""
    async with asyncio.timeout(30):
        while (found := await client.load(execution_id)).available_at is None:
            await asyncio.sleep(0.01)
    return found


async def test_an_idle_engine_costs_next_to_nothing(file: Path) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store, workflows=[app.noted]),
    ):
        await asyncio.sleep(0.3)
        before = _processor_seconds()
        await asyncio.sleep(1.5)
        assert (_processor_seconds() - before) / 1.5 < 0.05


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# Forks


async def test_a_child_that_uses_the_store_of_its_parent_is_told_to_open_its_own(
    file: Path,
) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(app.echo, 1)

        def use(say) -> None:  # type: ignore[no-untyped-def]
            async def in_child() -> None:
                for call in (
                    lambda: store.load_execution(handle.execution_id),
                    lambda: store.save_workflow(app.echo.record),
                    lambda: store.claim_execution(handle.execution_id),
                ):
                    try:
                        await call()
                    except StoreError as error:
                        say(str(error))
                await store.close()
                async with SqliteCheckpointStore.file(file) as own:
                    found = await own.load_execution(handle.execution_id)
                    say("none" if found is None else found.status)
                    claim = await own.claim_execution(handle.execution_id)
                    say("refused" if claim is None else "claimed")

            asyncio.set_event_loop(None)
            asyncio.events._set_running_loop(None)
            asyncio.run(in_child())

        with a_process(use) as child:
            said = [await asyncio.to_thread(child.hear) for _ in range(5)]
        assert all("forked" in words for words in said[:3])
        assert said[3:] == ["RUNNING", "refused"] or said[3:] == ["SUSPENDED", "refused"]
        await handle.signal("go")
        await handle.result()


@pytest.mark.campaign
async def test_children_that_close_at_once_what_their_parent_has_open_end_well(
    file: Path, tmp_path: Path
) -> None:
    """SQLite takes what its parent had locked for its own: nothing may be done by that alone."""

    def write_and_close(say) -> None:  # type: ignore[no-untyped-def]
        async def in_child() -> None:
            async with SqliteCheckpointStore.file(file) as own:
                for number in range(20):
                    await own.save(WORKFLOW, new_execution(f"{os.getpid()} {number}"))
                say("ready")
                async with asyncio.timeout(60):
                    while not (tmp_path / "close").exists():
                        await asyncio.sleep(0)

        asyncio.set_event_loop(None)
        asyncio.events._set_running_loop(None)
        asyncio.run(in_child())

    for _ in range(3):
        (tmp_path / "close").unlink(missing_ok=True)
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(WORKFLOW)
            children = [Child(write_and_close) for _ in range(8)]
            for child in children:
                assert await asyncio.to_thread(child.hear) == "ready"
            (tmp_path / "close").touch()
        for child in children:
            assert not await asyncio.to_thread(child.is_killed_in_the_end)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        (count,) = connection.execute("select count(*) from workflow_executions").fetchone()
        assert count == 3 * 8 * 20


# The command


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("tests.workers.app:noted", ["noted"]),
        ("tests.workers.app:some", ["noted", "napper"]),
        ("tests.workers.app", None),
    ],
)
def test_workflows_are_found_by_name(name: str, names: list[str] | None) -> None:
    found = [one.name for one in find_workflows(name)]
    assert found == names if names else {"noted", "versioned", "echo"} <= set(found)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os\n\nos.environ['NO_SUCH_THING']\n", "KeyError: 'NO_SUCH_THING' .*broken.py:3"),
        ("def f(:\n", r"SyntaxError: .* \(.*broken.py:1\)"),
        ("import no_such_library\n", r"ModuleNotFoundError: .*no_such_library.* \(.*broken.py:1"),
        ("raise ValueError('two\\nlines')\n", r"ValueError: two lines \(.*broken.py:1"),
    ],
)
def test_an_app_that_fails_at_its_import_says_where_in_one_line(
    tmp_path: Path, code: str, words: str
) -> None:
    (tmp_path / "broken.py").write_text(code)
    done = run_command(
        "worker", tmp_path / "none.db", "--app", "broken:flow", env=os.environ, cwd=tmp_path
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.search(rf"module 'broken' cannot be imported: {words}", line)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no.such.module", "no module 'no'"),
        ("tests.workers.nothing", "no module 'tests.workers.nothing'"),
        ("tests.workers.app:absent", "has no 'absent'"),
        ("tests.workers.app:nothing", "no workflow"),
        ("tests.workers.app:note", "no workflow"),
        ("", "names no module"),
    ],
)
def test_an_app_that_is_none_is_refused_in_one_line(tmp_path: Path, name: str, words: str) -> None:
    file = tmp_path / "none.db"
    with pytest.raises(AppError, match=words):
        find_workflows(name)
    done = run_command("worker", file, "--app", name, env=os.environ)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert not file.exists()


async def test_a_grace_that_is_no_duration_is_refused(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        with pytest.raises(TypeError, match="grace"):
            await engine.dispose(3)  # type: ignore[arg-type]
        await engine.dispose(timedelta(seconds=1))
