"""workers, and what status, show and doctor say of who works."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import a_worker, lines, on_terminal, run, wait_until


def start_command(file: Path) -> str:
    return f"durable-workflow worker {file} --app MODULE:NAME"


def test_a_dead_worker_with_claims_is_shown_as_dead(file: Path) -> None:
    (worker,) = lines("workers", file)
    assert worker[:4] == ["1", socket.gethostname(), worker[2], "dead"]
    assert worker[5:9] == ["order v1", "0", "100", worker[8]]
    assert int(worker[8]) >= 1  # what it had
    code, text = on_terminal("workers", file)
    assert code == 0
    assert "DEAD" in text
    assert "no worker lives: " in text
    assert start_command(file) in " ".join(text.split())
    _, text = on_terminal("show", file, "order-SLOW-1", columns=250)
    assert "DEAD" in text
    assert "a living worker takes it over" not in text  # none lives


def has_begun_again(file: Path) -> bool:
    """Whether the attempt that a dead worker began is followed by another one."""
    shown = [line for line in lines("show", file, "order-SLOW-1") if line[0] == "step"]
    return any((line[3], line[4]) == ("2", "pack") for line in shown)


def test_a_worker_that_lives_is_shown_with_what_it_does(file: Path) -> None:
    with a_worker(file) as worker_id:
        wait_until(lambda: has_begun_again(file))
        (worker,) = lines("workers", file)
        assert worker[1:4] == [socket.gethostname(), str(worker_id), "alive"]
        assert worker[5:8] == ["order v1", "1", "100"]
        assert worker[9:11] == ["order-SLOW-1", "pack"]
        (wide,) = lines("workers", file, "-o", "wide")
        assert wide[: len(worker)] == worker
        assert wide[-2] == "durable_workflow_sqlite"
        assert re.fullmatch("[0-9a-f]{32}", wide[-1])
        _, text = on_terminal("workers", file)
        assert "1/100" in text
        assert "order-SLOW-1: pack, " in text
        _, text = on_terminal("workers", file, "-o", "wide", columns=200)
        assert wide[-1] in text
        found = json.loads(run("workers", file, "--json").stdout)
        assert [one["process_id"] for one in found["workers"]] == [worker_id]
        assert found["queues"][0]["living_workers"] == 1
        assert json.loads(run("status", file, "--json").stdout).keys() >= {"workers", "queues"}
        _, text = on_terminal("status", file)
        assert "1 worker lives; 1 of 100 slots in use" in text
        (attempt,) = (
            line
            for line in lines("show", file, "order-SLOW-1")
            if line[0] == "step" and line[4] == "pack" and line[3] == "2"
        )
        assert attempt[-1] == f"{socket.gethostname()}:{worker_id}"
        _, text = on_terminal("show", file, "order-SLOW-1")
        assert f"{socket.gethostname()}:{worker_id}, alive" in text
        assert "in the queue" in text
        _, text = on_terminal("show", file, "order-SLOW-1", columns=80)
        assert "#1" in text  # who began the first attempt


def test_who_lives_without_the_version_that_waits_is_said_with_the_command(file: Path) -> None:
    def is_known() -> bool:
        return any(
            line[0] == "worker" and line[4] == "alive" and line[6] == "refund_order v1"
            for line in lines("status", file)
        )

    with a_worker(file, "refund_order"):
        wait_until(is_known)
        (warning,) = (line for line in lines("status", file) if line[0] == "warning")
        assert warning[1] == "unknown"
        assert warning[2].startswith("no living worker knows order v1: 4 executions, the oldest")
        assert warning[2].endswith("; 1 worker lives, and knows refund_order v1")
        assert start_command(file) in warning[3]
        done = run("doctor", file, "--quick")
        assert done.returncode == 3
        assert "no living worker knows order v1" in done.stdout
        _, text = on_terminal("status", file)
        assert "no living worker knows order v1" in text
        _, text = on_terminal("show", file, "order-SLOW-1", columns=400)
        assert "no living worker knows order v1: 4 executions" in text
        assert start_command(file) in text
        _, text = on_terminal("show", file, "order-A-1", columns=400)  # it is over
        assert "no living worker knows" not in text


LONG_AGO = "2020-01-01T00:00:00.000000Z"


def test_a_stopped_worker_is_shown_as_stopped_with_what_it_holds(file: Path) -> None:
    with a_worker(file) as process:
        name = f"{socket.gethostname()}:{process}"
        wait_until(lambda: any(line[9] == "order-SLOW-1" for line in lines("workers", file)))
        assert not any(line[1] == "stopped" for line in lines_of_doctor(file, "--quick", "-v"))
        os.kill(process, signal.SIGSTOP)
        wait_until(lambda: lines("workers", file)[0][3] == "stopped")
        _, text = on_terminal("workers", file, columns=250)
        assert f"{name} STOPPED (SIGSTOP)" in text
        assert f"kill -CONT {process}" in text
        _, text = on_terminal("status", file, columns=250)
        assert "1 worker lives, 1 of them stopped (SIGSTOP)" in text
        assert ["claim", "stopped"] in [line[:3:2] for line in lines("show", file, "order-SLOW-1")]
        _, text = on_terminal("show", file, "order-SLOW-1", columns=250)
        assert "STOPPED (SIGSTOP): nobody goes on with it" in text
        assert f"kill -CONT {process} lets it go on; kill -9 {process} lets another" in text
        (found,) = [line for line in lines_of_doctor(file, "--quick") if line[1] == "stopped"]
        assert found[2].startswith(f"worker {name} is stopped (SIGSTOP): nobody goes on with")
        assert "; the last change of these was at 2" in found[2]
        assert "order-SLOW-1" in found[2]
        os.kill(process, signal.SIGCONT)
        wait_until(lambda: lines("workers", file)[0][3] == "alive")


def test_what_a_living_worker_does_not_take_is_said_with_its_name(file: Path) -> None:
    with a_worker(file) as process:
        wait_until(lambda: any(line[9] == "order-SLOW-1" for line in lines("workers", file)))
        os.kill(process, signal.SIGSTOP)
        with closing(sqlite3.connect(file, isolation_level=None)) as dba:
            # As if it had both, a wait and a deadline.
            dba.execute("update workflow_claims set workflow_execution_id = 'order-WAIT-1'")
            dba.execute("update workflow_timers set fire_at = ?", (LONG_AGO,))
            dba.execute(
                "insert into workflow_signals (workflow_execution_id, signal_name, created_at)"
                " values ('order-WAIT-1', 'approved', ?)",
                (LONG_AGO,),
            )
        found = {line[1]: line for line in lines_of_doctor(file, "--quick")}
        name = f"{socket.gethostname()}:{process}"
        assert f"signal approved of order-WAIT-1 ({name})" in found["untaken"][2]
        assert f"deadline approved of order-WAIT-1 ({name})" in found["untaken"][2]
        assert "kill -CONT PID" in found["untaken"][3]
        assert "start a worker" not in found["untaken"][3]
        # Nobody has the others, and a worker would take them.
        assert "order-WAIT-1" not in found["timers"][2]
        assert "order-SLEEP-1" in found["timers"][2]


def test_a_process_of_another_machine_is_not_looked_at(file: Path) -> None:
    with a_worker(file) as process:
        wait_until(lambda: lines("workers", file)[0][3] == "alive")
        os.kill(process, signal.SIGSTOP)
        wait_until(lambda: lines("workers", file)[0][3] == "stopped")
        with closing(sqlite3.connect(file, isolation_level=None)) as dba:
            dba.execute("update workflow_workers set host = 'elsewhere'")
        assert lines("workers", file)[0][3] == "alive"


def test_doctor_says_only_what_needs_somebody(file: Path) -> None:
    found = lines_of_doctor(file)
    assert {line[0] for line in found} == {"warning"}
    assert {line[1] for line in found} == {"workers", "in-doubt"}
    assert start_command(file) in found[0][3]
    verbose = lines_of_doctor(file, "--verbose")
    assert {line[0] for line in verbose} >= {"ok", "note", "warning"}
    as_json = json.loads(run("doctor", file, "-o", "json").stdout)
    assert [one["check"] for one in as_json] == [line[1] for line in verbose]
    with a_worker(file):
        wait_until(lambda: run("doctor", file, "--quick").returncode == 0)
        assert lines_of_doctor(file, "--quick") == []
        code, text = on_terminal("doctor", file, "--quick")
        assert (code, text.count("\n")) == (0, 1)
        assert "--verbose" in text


def lines_of_doctor(file: Path, *options: str) -> list[list[str]]:
    return [line.split("\t") for line in run("doctor", file, *options).stdout.splitlines()]


@pytest.mark.parametrize("command", [["status"], ["workers"], ["show", "order-A-1"], ["doctor"]])
def test_what_looks_takes_the_same_word_for_json(file: Path, command: list[str]) -> None:
    name, *words = command
    by_option = run(name, file, *words, "--json").stdout
    assert json.loads(by_option)
    assert run(name, file, *words, "-o", "json").stdout[:20] == by_option[:20]
    done = run(name, file, *words, "--json", "-o", "table")
    assert done.returncode == 2
    assert "exclude each other" in done.stderr
    with pytest.raises(ValueError):
        json.loads(run(name, file, *words, "-o", "table").stdout)
