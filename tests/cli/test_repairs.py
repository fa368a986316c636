"""start, rerun, retry --from, resolve, and a cancel without a worker."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import (
    a_worker,
    lines,
    on_terminal,
    refusal,
    run,
    status_of,
    wait_until,
)


def shown(file: Path, execution_id: str) -> list[list[str]]:
    return lines("show", file, execution_id)


def acts(file: Path, execution_id: str) -> list[list[str]]:
    return [[line[1], line[4]] for line in shown(file, execution_id) if line[0] == "act"]


def test_an_order_is_started_by_the_name_of_its_workflow(file: Path) -> None:
    new = ("start", file, "order", '["A-9"]', "--id", "new")
    assert lines(*new, "--tag", "customer=7") == [["new"]]
    # Anything but an array is the one argument; and it can be repeated.
    assert lines("start", file, "order", '"A-9"', "--id", "new") == [["new"]]
    assert status_of(file, "new") == "PENDING"
    assert ["tag", "customer", "7"] in lines("show", file, "new")
    assert "with other input" in refusal("start", file, "order", '["A-8"]', "--id", "new")


def test_an_order_begins_with_signals(file: Path) -> None:
    words = ("start", file, "order", '"WAIT-9"', "--id", "new")
    given = ("--signal", 'approved={"by": "a=b", "sum": 1.10}', "--signal", "note")
    for _ in range(2):  # the second time, it is there
        assert lines(*words, *given) == [["new"]]
    sent = [line for line in lines("show", file, "new") if line[0] == "signal"]
    assert [(line[1], line[4]) for line in sent] == [
        ("approved", '{"by": "a=b", "sum": 1.10}'),
        ("note", "null"),
    ]


def test_what_cannot_be_started_is_refused_and_nothing_is_there(file: Path) -> None:
    before = lines("list", file, "--all")
    assert "did you mean 'order'?" in refusal("start", file, "ordr", '["A-1"]')
    assert "has no version 9; there are 1" in refusal("start", file, "order", "--version", "9")
    assert """'"A-1"'""" in refusal("start", file, "order", "A-1")
    assert "is not NAME=VALUE" in refusal("start", file, "order", "--tag", "x")
    assert "is not JSON" in refusal("start", file, "order", "--signal", "go=kim")
    assert "begin with $" in refusal("start", file, "order", "--signal", "$cancel")
    assert "--delay must be a possible number" in refusal("start", file, "order", "--delay", "inf")
    assert "ttl must not be" in refusal("start", file, "order", "--ttl", "-1")
    assert lines("list", file, "--all") == before


def test_an_input_is_stored_as_it_was_written_and_waits_as_long_as_it_should(file: Path) -> None:
    later = ("--delay", "86400", "--ttl", "172800", "--priority", "3")
    assert lines("start", file, "order", '[{"sum": 1.10}]', "--id", "new", *later)
    shown = {line[1]: line[2] for line in lines("show", file, "new") if line[0] == "execution"}
    assert shown["input_data"] == '[{"sum": 1.10}]'
    assert shown["priority"] == "3"
    assert shown["available_at"] > shown["created_at"]
    assert shown["ttl_expires_at"] > shown["available_at"]
    assert "nothing to undo" in run("cancel", file, "new").stdout
    assert status_of(file, "new") == "CANCELLED"
    assert acts(file, "new") == [["cancel", '{"ended":"at once"}']]


def test_orders_are_rerun(file: Path) -> None:
    assert lines("rerun", file, "order-BAD-UNDONE", "--new-id", "again")
    assert acts(file, "order-BAD-UNDONE") == [["rerun", '{"as":"again"}']]
    assert acts(file, "again") == [["rerun", '{"of":"order-BAD-UNDONE"}']]
    assert "is taken" in refusal("rerun", file, "order-BAD-1", "--new-id", "again")
    assert run("rerun", file, "order-BAD-1", "again", "--new-id", "x").returncode == 2
    done = run("rerun", file, "--status", "failed", "--yes")
    assert (done.returncode, done.stdout) == (1, "rerun: 1, refused 1\n")
    assert "'order-BAD-UNDONE' was rerun already" in done.stderr
    assert lines("rerun", file, "order-BAD-UNDONE")
    assert "to rerun it: durable-workflow rerun" in on_terminal(
        "show", file, "order-BAD-UNDONE", columns=400
    )[1].replace("\n", " ")


def test_a_rerun_of_what_is_completed_is_asked_for(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        query = "select workflow_execution_id from workflow_executions where status = 'COMPLETED'"
        done = connection.execute(query).fetchone()[0]
    note = f"note: {done} is COMPLETED; a rerun does all of its steps once more"
    refused = run("rerun", file, done)
    assert (refused.returncode, refused.stdout) == (1, f"{note}\n")
    assert refused.stderr == f"nothing was done; add --yes to rerun {done}\n"
    code, text = on_terminal("rerun", file, done, answer="n\n")
    assert (code, f"rerun {done}? [y/N]" in text) == (1, True)
    assert run("rerun", file, done, "--dry-run").returncode == 0
    assert acts(file, done) == []

    assert on_terminal("rerun", file, done, "--new-id", "again", answer="y\n")[0] == 0
    assert lines("rerun", file, done, "--new-id", "third", "--yes") == [
        [note],
        ["note: it was rerun before, as again"],
        [f"third is the rerun of {done}"],
    ]
    said = run("rerun", file, done, "third")  # of several, each is done as ever
    assert (said.returncode, "note" in said.stdout) == (0, False)


def test_a_rerun_says_that_there_was_one_before(file: Path) -> None:
    assert [len(lines("rerun", file, "order-BAD-1", "--new-id", one)) for one in "ab"] == [1, 2]
    assert lines("rerun", file, "order-BAD-1", "--new-id", "c") == [
        ["note: it was rerun before, as a, b"],
        ["c is the rerun of order-BAD-1"],
    ]


def test_an_order_runs_again_from_a_step(file: Path) -> None:
    assert run("retry", file, "order-BAD-1", "--branch", "x").returncode == 2
    assert "did you mean 'pack'?" in refusal("retry", file, "order-BAD-1", "--from", "packs")
    assert "is undone" in refusal("retry", file, "order-BAD-UNDONE", "--from", "pack")
    there = ("--from", "pack", "--branch", "", "--index", "1")
    assert "runs again from pack" in run("retry", file, "order-BAD-1", *there).stdout
    done = run("retry", file, "order-BAD-UNDONE", "order-BAD-1", "--from", "charge")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "retried 1, refused 1")
    ((act, details),) = acts(file, "order-BAD-1")
    assert act == "retry"
    forgotten = [one["step"] for one in json.loads(details)["forgotten"]]
    assert forgotten == ["step 'pack' (index 1)", "step 'ship' (index 2)"]
    assert status_of(file, "order-BAD-1") == "PENDING"
    assert [line[4] for line in lines("show", file, "order-BAD-1") if line[0] == "step"] == [
        "charge"
    ]


def test_steps_are_resolved_and_the_orders_go_on(file: Path) -> None:
    wrong = run("resolve", file, "order-BAD-1", "ship")
    assert (wrong.returncode, "the value is missing" in wrong.stderr) == (2, True)
    assert "is not JSON" in refusal("resolve", file, "order-BAD-1", "ship", "shipped")
    assert "Send it that signal" in refusal("resolve", file, "order-WAIT-1", "approved", "1")
    assert "continues as if ship" in run("resolve", file, "order-BAD-1", "ship", '"sent"').stdout
    # It sleeps for hours, and is in doubt; nobody has them.
    assert run("resolve", file, "order-SLEEP-1", "rest").returncode == 0
    assert run("resolve", file, "order-SLOW-1", "pack", "7").returncode == 0
    with a_worker(file):
        for one in ("order-BAD-1", "order-SLEEP-1"):
            wait_until(lambda one=one: status_of(file, one) == "COMPLETED")
        # What does not fit is said, with what to do; and the worker hears of it.
        wait_until(lambda: lines("list", file, "--in-trouble", "-o", "id") == [["order-SLOW-1"]])
        seen = on_terminal("show", file, "order-SLOW-1", columns=400)[1]
        assert "say what the step returned: durable-workflow resolve" in seen
        assert run("resolve", file, "order-SLOW-1", "pack", '"packed"').returncode == 0
        wait_until(lambda: status_of(file, "order-SLOW-1") == "COMPLETED")
    assert acts(file, "order-SLOW-1") == [
        ["resolve", '{"step":"step \'pack\' (index 1)","was":"in doubt","value":7}'],
        ["resolve", '{"step":"step \'pack\' (index 1)","was":"unreadable","value":"packed"}'],
    ]


def test_an_order_is_forked_before_a_step_with_another_result(file: Path) -> None:
    assert run("fork", file, "order-A-1", "--branch", "x").returncode == 2
    assert "did you mean 'ship'?" in refusal("fork", file, "order-A-1", "--before", "shp")
    assert "is not STEP=JSON" in refusal("fork", file, "order-A-1", "--edit", "pack=in paper")
    assert "was not over before" in refusal(
        "fork", file, "order-A-1", "--before", "pack", "--edit", "ship=1"
    )
    assert "is undone" in refusal("fork", file, "order-BAD-UNDONE", "--before", "ship")
    assert "has no version 9" in refusal("fork", file, "order-A-1", "--version", "9")
    assert shown(file, "order-A-1")[-1][0] != "act"
    before = ("--before", "ship", "--index", "2")
    edit = ("--edit", 'pack = "in paper"', "--edit", 'charge#0={"charged": "b"}')
    words = ("fork", file, "order-A-1", *before, *edit, "--new-id", "new")
    for _ in range(2):  # the second time, it is there
        assert run(*words).stdout == "new is a fork of order-A-1; a worker claims it\n"
    assert "is taken" in refusal("fork", file, "order-A-2", "--new-id", "new")
    facts = shown(file, "new")
    assert ["execution", "forked_from", "order-A-1"] in facts
    assert ["execution", "forked_before", "step 'ship' (index 2)"] in facts
    assert [line[10] for line in facts if line[0] == "step"] == [
        '{"charged": "b"}',
        '"in paper"',
    ]
    ((of, details),) = acts(file, "new")
    assert (of, json.loads(details)["of"], len(json.loads(details)["edit"])) == (
        "fork",
        "order-A-1",
        2,
    )
    assert [line[:4] for line in shown(file, "order-A-1") if line[0] == "fork"] == [
        ["fork", "new", "PENDING", "step 'ship' (index 2)"]
    ]
    seen = " ".join(on_terminal("show", file, "new", columns=400)[1].split())
    assert "fork of order-A-1, before step 'ship' (index 2)" in seen
    assert 'ran in order-A-1: "in paper"' in seen
    assert "forked as new" in " ".join(
        on_terminal("show", file, "order-A-1", columns=400)[1].split()
    )
    as_json = json.loads(run("show", file, "order-A-1", "--json").stdout)
    assert as_json["forks"][0]["id"] == "new"
    with a_worker(file):
        wait_until(lambda: status_of(file, "new") == "COMPLETED")


def test_an_order_runs_again_with_another_result(file: Path) -> None:
    assert "is not STEP=JSON" in refusal("retry", file, "order-BAD-1", "--edit", "pack")
    assert "needs no value" not in refusal("retry", file, "order-A-1", "--edit", "pack=1")
    done = run("retry", file, "order-BAD-1", "--edit", 'pack="by hand"', "--edit", 'ship="sent"')
    assert done.stdout.splitlines()[0] == (
        "order-BAD-1 continues with these results when a worker claims it"
    )
    ((act, details),) = acts(file, "order-BAD-1")
    assert act == "retry"
    assert [one["value"] for one in json.loads(details)["edit"]] == ["by hand", "sent"]
    words = ("order-BAD-UNDONE", "--from", "ship", "--edit", 'charge={"charged": "x"}')
    assert run("retry", file, *words).returncode == 0
    with a_worker(file):
        wait_until(lambda: status_of(file, "order-BAD-1") == "COMPLETED")
        wait_until(lambda: status_of(file, "order-BAD-UNDONE") == "FAILED")


def test_a_long_value_is_kept_in_part(file: Path) -> None:
    assert run("resolve", file, "order-BAD-1", "ship", f'"{"x" * 2000}"').returncode == 0
    ((_, details),) = acts(file, "order-BAD-1")
    assert json.loads(details)["value"] == '"' + "x" * 999


def test_a_failed_order_names_the_step_that_may_have_taken_effect(file: Path) -> None:
    text = on_terminal("show", file, "order-BAD-1", columns=400)[1]
    assert f"to run it from its failed step: durable-workflow retry {file} order-BAD-1" in text
    assert f"took effect: durable-workflow resolve {file} order-BAD-1 ship JSON" in text


def test_a_refund_by_hand_is_acknowledged_while_the_rest_is_undone(file: Path) -> None:
    with closing(sqlite3.connect(file)) as dba, dba:
        dba.execute(
            "update workflow_executions set status = 'COMPENSATING'"
            " where workflow_execution_id = 'order-BAD-UNDONE'"
        )
        dba.execute(
            "update step_checkpoints set status = 'INTENT', error_type = 'x:Y',"
            " completed_at = null, error_message = 'no', due_at = '2099-01-01T00:00:00.000000Z'"
            " where workflow_execution_id = 'order-BAD-UNDONE' and attempt = 0"
        )
    done = f"durable-workflow acknowledge {file} order-BAD-UNDONE --step charge"
    shown_lines = on_terminal("show", file, "order-BAD-UNDONE", columns=400)[1].splitlines()
    assert any(one.endswith(f"if a person has undone charge: {done}") for one in shown_lines)
    assert "acknowledge" in run("doctor", file).stdout
    wrong = run("acknowledge", file, "order-BAD-UNDONE", "--index", "0")
    assert wrong.returncode == 2
    words = ("order-BAD-UNDONE", "--step", "charge", "--index", "0", "--note", "cash")
    assert "1 step of order-BAD-UNDONE noted" in run("acknowledge", file, *words).stdout
    assert acts(file, "order-BAD-UNDONE") == [
        ["acknowledge", '{"step":"step \'charge\' (index 0)","note":"cash"}']
    ]
    assert "dealt with by hand; its error was: no" in " ".join(
        on_terminal("show", file, "order-BAD-UNDONE", columns=400)[1].split()
    )
    with a_worker(file):
        wait_until(lambda: status_of(file, "order-BAD-UNDONE") == "FAILED")
    text = on_terminal("show", file, "order-BAD-UNDONE", columns=400)[1]
    assert "dealt with by hand: charge; to rerun it" in text
    assert "it was undone" not in text


@pytest.mark.campaign
def test_a_step_that_a_worker_has_is_not_resolved(file: Path) -> None:
    with a_worker(file):
        wait_until(lambda: ["claim", "alive"] in [one[:3:2] for one in shown(file, "order-SLOW-1")])
        said = refusal("resolve", file, "order-SLOW-1", "pack", "1")
        assert "is claimed by worker" in said
        assert "Stop that worker" in said
        with a_worker(file) as second:
            wait_until(lambda: len([one for one in lines("workers", file) if one[5]]) == 2)
            said = refusal("resolve", file, "order-SLOW-1", "pack", "1")
        names = [f"{one[1]}:{one[2]}" for one in lines("workers", file)]
        assert f"{names[0]}: nothing was changed. Stop all workers" in said
        assert all(one in said for one in [*names, f":{second}"])


def test_a_blocked_order_is_cancelled_without_a_worker(file: Path) -> None:
    assert run("cancel", file, "order-A-1").returncode == 1  # and takes over from the dead
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "update workflow_executions set available_at = null, blocked_reason = 'it died'"
            " where workflow_execution_id in ('order-SLOW-1', 'order-WAIT-1')"
        )
        connection.execute(
            "update step_checkpoints set compensate_ref = 'shop:refund'"
            " where workflow_execution_id = 'order-WAIT-1' and step_name = 'charge'"
        )
    assert "nothing to undo" in run("cancel", file, "order-SLOW-1").stdout
    assert status_of(file, "order-SLOW-1") == "CANCELLED"
    assert "and unblocked it" in run("cancel", file, "order-WAIT-1").stdout
    assert acts(file, "order-WAIT-1") == [["cancel", '{"unblocked":"it died"}']]
    assert lines("list", file, "--blocked") == []


def test_nothing_but_unblock_lets_an_order_go_on_whose_rows_were_deleted(file: Path) -> None:
    with closing(sqlite3.connect(file)) as dba, dba:
        dba.execute("delete from workflow_claims")
        dba.execute(
            "delete from step_checkpoints where step_name = 'charge'"
            " and workflow_execution_id in ('order-WAIT-1', 'order-SLOW-1')"
        )
    shown = on_terminal("show", file, "order-WAIT-1", columns=400)[1]
    assert f"restore the rows, or a backup, and then durable-workflow unblock {file}" in shown
    assert "to run it from its failed step" not in shown
    assert "still missing: step 'charge' (index 0, attempt 1)" in refusal(
        "retry", file, "order-WAIT-1"
    )
    for act in (["retry", file, "--blocked", "--yes"], ["unblock", file, "--all", "--yes"]):
        done = run(*act)
        assert (done.returncode, done.stdout.split()[-2:]) == (1, ["refused", "2"])
        assert done.stderr.count("still missing") == 2
    assert len(lines("list", file, "--blocked")) == 2
    assert "is unblocked" in run("unblock", file, "order-WAIT-1", "--without-rows").stdout
    ((act, details),) = acts(file, "order-WAIT-1")
    assert (act, json.loads(details)["missing"]) == (
        "unblock",
        "step 'charge' (index 0, attempt 1)",
    )


def test_a_cancel_that_no_code_fits_says_what_undoing_needs(file: Path) -> None:
    with closing(sqlite3.connect(file)) as dba, dba:
        dba.execute(
            "update workflow_executions set trouble = 'NonDeterminismError: it differs'"
            " where workflow_execution_id = 'order-WAIT-1'"
        )
        dba.execute(  # so that there is something to undo
            "update step_checkpoints set compensate_ref = 'refund'"
            " where workflow_execution_id = 'order-WAIT-1' and kind = 'STEP'"
        )

    def seen() -> str:
        return on_terminal("show", file, "order-WAIT-1", columns=400)[1].replace("\n", " ")

    assert "(undoing needs code that fits its history, too)" in seen()
    assert lines("cancel", file, "order-WAIT-1")
    assert "a worker can undo it only with code that fits its history" in seen()
    retry = f"durable-workflow retry {file}"
    back = f"run the old code, or delete the records that do not fit with {retry}"
    assert f"to undo it: undoing needs code that fits its history: {back}" in seen()
    assert "to cancel it" not in seen()
    assert back in refusal("cancel", file, "order-WAIT-1")
