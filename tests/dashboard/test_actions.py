"""What can be done from the pages, and what it does to the file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.dashboard.conftest import Open, approval, fails_at_once, send
from tests.processes import an_engine


def rows(file: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


def signals(file: Path) -> list[tuple[object, ...]]:
    return rows(
        file,
        "select workflow_execution_id, signal_name, payload from workflow_signals"
        " where status = 'PENDING'",
    )


async def test_a_signal_is_stored_as_it_was_written_and_reaches_the_workflow(
    file: Path, visit: Open
) -> None:
    answer = send(visit(), "signal", id="waiting", name="approved", payload='{"by": 1.10}')
    assert answer.status_code == 303
    assert answer.headers["location"] == "/execution?id=waiting&done=signalled"
    assert signals(file) == [("waiting", "approved", '{"by": 1.10}')]

    async with an_engine(file, workflows=[approval]) as (_, engine):
        assert await engine.handle("waiting").result() == "plan.pdf approved"


def test_a_signal_with_a_key_is_sent_once(file: Path, visit: Open) -> None:
    assert 'name="key"' in visit().get("/signal?id=waiting").text
    for word in ("signalled", "not_signalled"):
        answer = send(visit(), "signal", id="waiting", name="approved", payload="1", key="mail")
        assert answer.headers["location"] == f"/execution?id=waiting&done={word}"
    answer = send(visit(), "signal", id="waiting", name="approved", payload="2", key="mail")
    assert answer.status_code == 409
    assert 'value="mail"' in answer.text
    assert signals(file) == [("waiting", "approved", "1")]
    assert "key <bdi>mail</bdi>" in visit().get("/execution?id=waiting").text


def test_no_payload_is_null(file: Path, visit: Open) -> None:
    send(visit(), "signal", id="waiting", name="approved", payload="  ")
    assert signals(file) == [("waiting", "approved", "null")]


@pytest.mark.parametrize(
    ("name", "payload", "why"),
    [
        ("approved", "kim", "The payload is not JSON"),
        ("approved", "{", "The payload is not JSON"),
        ("approved", "[" * 100_000, "The payload is not JSON"),
        ("$cancel", "1", "begin with $"),
        ("", "1", "must not be empty"),
        ("two\nlines", "1", "control characters"),
        ("x" * 300, "1", "at most 256 characters"),
    ],
)
def test_a_signal_that_cannot_be_sent_is_refused_with_what_was_typed(
    name: str, payload: str, why: str, file: Path, visit: Open
) -> None:
    answer = send(visit(), "signal", id="waiting", name=name, payload=payload)
    assert answer.status_code == 422
    assert why in answer.text
    assert payload in answer.text
    assert signals(file) == []


def test_cancelling_stores_the_request(file: Path, visit: Open) -> None:
    client = visit()
    answer = send(client, "cancel", id="waiting")
    assert answer.headers["location"].endswith("done=cancelling")
    assert signals(file) == [("waiting", "$cancel", None)]
    assert send(client, "cancel", id="waiting").headers["location"].endswith("not_cancelled")
    for action in ("cancel", "signal"):
        answer = send(client, action, id="done", name="go")
        assert answer.status_code == 409
        assert "is finished (COMPLETED)" in answer.text


def test_a_failed_execution_is_opened_again(file: Path, visit: Open) -> None:
    client = visit()
    assert "Retry…" in client.get("/execution?id=failed").text
    answer = send(client, "retry", id="failed")
    assert answer.headers["location"] == "/execution?id=failed&done=retried"
    query = "select status from workflow_executions where workflow_execution_id = 'failed'"
    assert rows(file, query) == [("PENDING",)]


def test_a_blocked_execution_is_let_go_on(file: Path, visit: Open) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "update workflow_executions set blocked_reason = 'stuck'"
            " where workflow_execution_id = 'waiting'"
        )
    client = visit()
    assert "Retry…" in client.get("/execution?id=waiting").text
    assert send(client, "retry", id="waiting").status_code == 303
    query = "select blocked_reason from workflow_executions where workflow_execution_id = 'waiting'"
    assert rows(file, query) == [(None,)]


def test_what_waits_for_its_next_attempt_is_tried_at_once(file: Path, visit: Open) -> None:
    later = "2099-01-01T00:00:00.000000Z"
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in (
            f"update step_checkpoints set due_at = '{later}', event = null, output_data = null",
            "update workflow_executions set status = 'RUNNING'",
        ):
            connection.execute(f"{statement} where workflow_execution_id = 'failed'")
    client = visit()
    assert "Retry…" in client.get("/execution?id=failed").text
    answer = send(client, "retry", id="failed")
    assert answer.headers["location"] == "/execution?id=failed&done=retried"
    ((due_at,),) = rows(
        file, "select due_at from step_checkpoints where workflow_execution_id = 'failed'"
    )
    assert str(due_at) < later
    assert "Retry…" not in client.get("/execution?id=failed").text


@pytest.mark.parametrize("name", ["undone", "done", "waiting"])
def test_what_was_compensated_or_did_not_fail_is_not_retried(
    name: str, file: Path, visit: Open
) -> None:
    client = visit()
    assert "Retry…" not in client.get(f"/execution?id={name}").text
    before = rows(file, "select * from workflow_executions order by 1")
    answer = send(client, "retry", id=name)
    assert answer.status_code == 409
    assert rows(file, "select * from workflow_executions order by 1") == before


def test_only_what_can_be_done_is_offered(visit: Open) -> None:
    client = visit()
    waiting = client.get("/execution?id=waiting").text
    assert "Send a signal…" in waiting
    assert "Cancel…" in waiting
    done = client.get("/execution?id=done").text
    assert "Send a signal…" not in done
    assert "Cancel…" not in done


def test_an_execution_that_is_not_there_cannot_be_acted_on(file: Path, visit: Open) -> None:
    client = visit()
    for action in ("signal", "cancel", "retry"):
        answer = send(client, action, id="nobody", name="approved", payload="1")
        assert answer.status_code == 404
    assert signals(file) == []


def test_an_action_neither_creates_nor_migrates_a_file(tmp_path: Path, visit: Open) -> None:
    path = tmp_path / "later.db"
    assert send(visit(path), "cancel", id="x").status_code == 503
    assert not path.exists()


@pytest.mark.campaign
def test_every_action_leaves_the_file_whole(file: Path, visit: Open) -> None:
    client = visit()
    for _ in range(20):
        send(client, "signal", id="waiting", name="approved", payload="1")
    send(client, "cancel", id="waiting")
    send(client, "retry", id="failed")
    assert rows(file, "pragma integrity_check") == [("ok",)]
    assert rows(file, "pragma foreign_key_check") == []
    assert rows(file, "select count(*) from workflow_signals where payload = '1'") == [(20,)]


def test_a_cancel_of_what_has_nothing_to_undo_ends_it(file: Path, visit: Open) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "update workflow_executions set blocked_reason = 'stuck'"
            " where workflow_execution_id = 'waiting'"
        )
    client = visit()
    answer = send(client, "cancel", id="waiting")
    assert answer.headers["location"].endswith("done=cancelled")
    assert "there was nothing to undo" in client.get(answer.headers["location"]).text
    query = "select status from workflow_executions where workflow_execution_id = 'waiting'"
    assert rows(file, query) == [("CANCELLED",)]


def test_what_is_over_is_rerun(file: Path, visit: Open) -> None:
    client = visit()
    assert "Rerun…" in client.get("/execution?id=undone").text
    assert "Rerun…" not in client.get("/execution?id=waiting").text
    answer = send(client, "rerun", id="undone")
    (started,) = rows(
        file,
        "select workflow_execution_id, status from workflow_executions"
        " where workflow_execution_id not in ('waiting', 'done', 'failed', 'undone')",
    )
    assert started[1] == "PENDING"
    assert answer.headers["location"] == f"/execution?id={started[0]}&done=started"
    page = client.get(answer.headers["location"]).text
    assert "This is the new execution" in page
    assert "dashboard, from testclient" in page


def test_a_rerun_says_what_was_done_before(file: Path, visit: Open) -> None:
    client = visit()
    assert "Note" not in client.get("/rerun?id=undone").text
    send(client, "rerun", id="undone")
    page = client.get("/rerun?id=undone").text
    ((started,),) = rows(
        file,
        "select workflow_execution_id from workflow_executions"
        " where workflow_execution_id not in ('waiting', 'done', 'failed', 'undone')",
    )
    assert f"it was rerun before, as {started}" in page
    assert "is COMPLETED" not in page
    assert "done is COMPLETED; a rerun does all of its steps once more" in (
        client.get("/rerun?id=done").text
    )


async def test_somebody_says_what_a_step_returned(file: Path, visit: Open) -> None:
    client = visit()
    link = "/resolve?id=failed&amp;name=ship&amp;branch=&amp;index=0"
    assert link in client.get("/execution?id=failed").text
    assert "Say what it returned" not in client.get("/execution?id=waiting").text
    assert "Step “<bdi>ship</bdi>”" in client.get(link.replace("&amp;", "&")).text
    place = {"id": "failed", "name": "ship", "branch": "", "index": "0"}
    assert send(client, "resolve", **place, payload="{").status_code == 422
    assert send(client, "resolve", **{**place, "index": "x"}, payload="1").status_code == 422
    assert send(client, "resolve", **{**place, "id": "done"}, payload="1").status_code in (409, 422)
    answer = send(client, "resolve", **place, payload="")
    assert answer.headers["location"] == "/execution?id=failed&done=resolved"

    async with an_engine(file, workflows=[fails_at_once]) as (_, engine):
        await engine.handle("failed").result()
    query = (
        "select status, error_type from workflow_executions where workflow_execution_id = 'failed'"
    )
    assert rows(file, query) == [("COMPLETED", None)]


def test_an_execution_is_forked_before_a_step_with_another_result(file: Path, visit: Open) -> None:
    client = visit()
    page = client.get("/execution?id=done").text
    assert "Fork…" in page
    link = "/fork?id=done&amp;name=note&amp;branch=&amp;index=2"
    assert link in page
    asked = client.get(link.replace("&amp;", "&")).text
    assert "Before step “<bdi>note</bdi>”" in asked
    place = {"id": "done", "name": "note", "branch": "", "index": "2"}
    for wrong in ({"payload": "ask = what"}, {"index": "x"}, {"payload": "note = 1"}):
        answer = send(client, "fork", **{**place, **wrong})
        assert answer.status_code in (409, 422)
        assert 'class="wrong"' in answer.text
    answer = send(client, "fork", **place, payload=' ask = {"asked": "b"} \n\n', new_id="new")
    assert answer.headers["location"] == "/execution?id=new&done=started"
    of_it = client.get("/execution?id=new").text
    assert "Fork of" in of_it
    assert "before step &#39;note&#39; (index 2)" in of_it
    assert "which alone undoes it" in of_it
    assert "fork" in of_it.partition("What people did")[2]
    assert '/execution?id=new"' in client.get("/execution?id=done").text
    query = "select output_data from step_checkpoints where workflow_execution_id = 'new'"
    assert rows(file, f"{query} and step_name = 'ask'") == [('{"asked": "b"}',)]


def test_an_execution_runs_again_from_a_step_and_with_other_results(
    file: Path, visit: Open
) -> None:
    client = visit()
    link = "/retry?id=failed&amp;name=ship&amp;branch=&amp;index=0"
    assert link in client.get("/execution?id=failed").text
    assert "Run again from this" not in client.get("/execution?id=done").text
    assert "From step “<bdi>ship</bdi>”" in client.get(link.replace("&amp;", "&")).text
    assert "From which step" in client.get("/retry?id=failed").text
    answer = send(client, "retry", id="failed", payload="ship")
    assert answer.status_code == 422
    assert "is not STEP=JSON" in answer.text
    answer = send(client, "retry", id="failed", payload="ship = null")
    assert answer.headers["location"] == "/execution?id=failed&done=retried"
    page = client.get(answer.headers["location"]).text
    assert "&#34;edit&#34;" in page
    again = send(client, "retry", id="undone", name="charge", branch="", index="0")
    assert again.headers["location"] == "/execution?id=undone&done=retried"
