"""Pausing and resuming on the pages: one execution, many, a workflow, everything."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import Queue
from tests.dashboard.conftest import Open, approval, send, token_in
from tests.dashboard.test_actions import rows
from tests.dashboard.test_pages import words
from tests.processes import an_engine


def whole(client: Any, act: str, **fields: str) -> Any:
    page = client.get(f"/{act}-whole", params={"workflow": fields.get("workflow", "")})
    return client.post(f"/{act}-whole", data={"form_token": token_in(page.text), **fields})


async def test_an_execution_is_paused_shown_and_resumed(file: Path, visit: Open) -> None:
    client = visit()
    answer = send(client, "pause", id="waiting", reason="the bank is closed")
    assert answer.headers["location"] == "/execution?id=waiting&done=paused"
    page = client.get(answer.headers["location"]).text
    assert "Paused since" in words(page)
    assert "the bank is closed" in words(page)
    assert "Without that: waits for the signal “approved”" in words(page)
    assert "Resume…" in page and "/pause?" not in page
    (row,) = rows(
        file,
        "select paused_by, paused_reason, status from workflow_executions"
        " where workflow_execution_id = 'waiting'",
    )
    assert row == ("dashboard, from testclient", "the bank is closed", "SUSPENDED")
    listed = words(client.get("/executions?state=paused").text)
    assert "paused: waits for the signal “approved”" in listed and "done" not in listed.split()
    again = send(client, "pause", id="waiting", reason="audit")
    assert again.headers["location"].endswith("done=not_paused")
    answer = send(client, "resume", id="waiting")
    assert answer.headers["location"] == "/execution?id=waiting&done=resumed"
    assert "Pause…" in client.get(answer.headers["location"]).text
    async with an_engine(file, workflows=[approval]) as (_, engine):
        await engine.send_signal("waiting", "approved", "kim")
        assert await engine.result_of("waiting") == "plan.pdf approved"
    acts = rows(file, "select act, actor from workflow_audit_log order by workflow_audit_id")
    assert [act for act, _ in acts] == ["pause", "pause", "resume"]


def test_what_is_over_is_not_paused_and_has_no_button(file: Path, visit: Open) -> None:
    client = visit()
    page = client.get("/execution?id=done").text
    assert "Pause…" not in page and "Resume…" not in page
    assert send(client, "pause", id="done").status_code == 409
    assert send(client, "resume", id="done").headers["location"].endswith("done=not_resumed")


@pytest.mark.parametrize("workflow", ["approval", ""])
def test_a_workflow_or_everything_is_paused_and_resumed(
    file: Path, visit: Open, workflow: str
) -> None:
    client = visit()
    name = "workflow approval" if workflow else "everything"
    answer = whole(client, "pause", workflow=workflow, reason="we <b>move</b>")
    assert (answer.status_code, answer.headers["location"]) == (303, "/workers")
    for address in ("/", "/workers"):
        page = client.get(address).text
        assert f"Paused paused {name}" in words(page)
        assert "we &lt;b&gt;move&lt;/b&gt;" in page
        assert f"/resume-whole?workflow={workflow}" in page
    page = words(client.get("/execution?id=waiting").text)
    assert f"{name[0].upper()}{name[1:]} is paused by dashboard" in page
    assert rows(file, "select scope, name, paused_by from workflow_pauses") == [
        ("WORKFLOW" if workflow else "ALL", workflow, "dashboard, from testclient")
    ]
    assert whole(client, "resume", workflow=workflow).status_code == 303
    assert rows(file, "select * from workflow_pauses") == []
    assert "Paused paused" not in words(client.get("/workers").text)


def test_a_workflow_that_nobody_knows_is_refused(file: Path, visit: Open) -> None:
    answer = whole(visit(), "pause", workflow="aproval")
    assert answer.status_code == 422
    assert "did you mean" in answer.text
    assert rows(file, "select * from workflow_pauses") == []


async def test_a_named_queue_is_paused_and_resumed(file: Path, visit: Open) -> None:
    async with an_engine(file, workflows=[]) as (_, engine):
        await engine.declare(Queue("mail", concurrency=2))
    client = visit()
    assert "/pause-whole?queue=mail" in client.get("/queues").text
    page = client.get("/pause-whole", params={"queue": "mail"})
    assert "Pause the queue mail ?" in words(page.text)
    token = token_in(page.text)

    def send_form(act: str, **fields: str) -> Any:
        return client.post(f"/{act}-whole", data={"form_token": token, "workflow": "", **fields})

    assert send_form("pause", queue="mail", reason="we move").status_code == 303
    assert rows(file, "select scope, name, paused_reason from workflow_pauses") == [
        ("QUEUE", "mail", "we move")
    ]
    for address in ("/", "/workers"):
        page = client.get(address)
        assert "Paused paused queue mail" in words(page.text)
        assert "/resume-whole?queue=mail" in page.text
    wrong = send_form("pause", queue="mial")
    assert wrong.status_code == 422 and "did you mean" in wrong.text
    assert send_form("pause", queue="mail", workflow="approval").status_code == 422
    answer = send_form("resume", queue="mail")
    assert (answer.status_code, answer.headers["location"]) == (303, "/queues?done=resumed")
    assert rows(file, "select * from workflow_pauses") == []
    assert rows(file, "select scope, name, act, actor from workflow_audit_log") == [
        ("QUEUE", "mail", act, "dashboard, from testclient") for act in ("pause", "resume")
    ]


def test_many_are_paused_and_resumed(file: Path, visit: Open) -> None:
    client = visit()
    for act, count in (("pause", 1), ("resume", 0)):
        query = "?id=waiting" if act == "pause" else ""
        page = client.get(f"/bulk/{act}{query}").text
        _, _, rest = page.partition('name="run" value="')
        data = {
            "form_token": token_in(page),
            "run": rest.partition('"')[0],
            "filters": "",
            "reason": "we move",
        }
        assert client.post(f"/bulk/{act}", data=data).status_code == 303
        for _ in range(200):
            found = rows(file, "select paused_reason from workflow_executions where paused_at > ''")
            if len(found) == count:
                break
        assert found == [("we move",)] * count


def test_who_may_only_look_pauses_nothing(file: Path, visit: Open) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "insert into workflow_pauses (scope, name, paused_by) values ('ALL', '', 'kim')"
        )
    client = visit(read_only=True)
    for address in ("/workers", "/", "/execution?id=waiting"):
        page = client.get(address).text
        assert "everything" in words(page).lower()
        assert "-whole" not in page and "/pause?" not in page and "/resume?" not in page
    assert client.get("/pause-whole").status_code == 404
    assert client.post("/pause-whole", data={"workflow": ""}).status_code in (403, 404)
    assert len(rows(file, "select * from workflow_pauses")) == 1
