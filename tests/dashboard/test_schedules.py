"""The page of schedules, and what can be done from it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from durable_workflow_sqlite import Client, open_store
from tests.dashboard.conftest import Open, approval, token_in
from tests.dashboard.test_actions import rows
from tests.dashboard.test_pages import words
from tests.processes import an_engine


@pytest.fixture
def file(file: Path) -> Path:
    """Also with two schedules."""

    async def declare() -> None:
        async with open_store(file) as store:
            client = Client(store)
            await client.schedule("nightly", approval, "a", cron="0 3 * * *", tz="Europe/Berlin")
            await client.schedule("<b>often</b>", approval, "b", every=timedelta(minutes=90))

    asyncio.run(declare())
    return file


def do(client: TestClient, act: str, name: str, **fields: str) -> Any:
    """Ask for the form of an act, and send it."""
    page = client.get("/schedule", params={"act": "pause", "name": "nightly"})
    data = {"form_token": token_in(page.text), "act": act, "name": name, **fields}
    return client.post("/schedule", data=data)


def paused(file: Path) -> list[tuple[object, ...]]:
    return rows(
        file,
        "select schedule_name, paused_by, paused_reason from workflow_schedules"
        " where paused_at is not null",
    )


def test_the_schedules_are_shown(file: Path, visit: Open) -> None:
    client = visit()
    answer = client.get("/schedules")
    page = words(answer.text)
    assert "0 3 * * * Europe/Berlin" in page
    assert "every 90 min" in page
    assert "approval v1" in page
    assert "<b>often" not in answer.text
    assert 'href="/executions?tag=schedule%3Dnightly"' in answer.text
    assert 'href="/schedules"' in client.get("/").text

    def is_the_same() -> bool:
        tag = client.get("/schedules").headers["etag"]
        return client.get("/schedules", headers={"if-none-match": tag}).status_code == 304

    assert any(is_the_same() for _ in range(20))  # it tells ages, and these change


def test_a_file_without_schedules_says_how_to_make_one(file: Path, visit: Open) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("delete from workflow_schedules")
    assert "No schedules" in words(visit().get("/schedules").text)


def test_pause_and_resume(file: Path, visit: Open) -> None:
    client = visit()
    assert "Pause this schedule?" in client.get("/schedule?act=pause&name=nightly").text
    answer = do(client, act="pause", name="nightly", reason=" stock<i>taking ")
    assert (answer.status_code, answer.headers["location"]) == (303, "/schedules?done=paused")
    ((name, by, reason),) = paused(file)
    assert (name, reason) == ("nightly", "stock<i>taking")
    assert str(by).startswith("dashboard")
    shown = client.get("/schedules?done=paused").text
    assert "The schedule is paused." in shown
    assert "stock&lt;i&gt;taking" in shown
    assert "pause schedule nightly reason: stock&lt;i&gt;taking" in words(shown)
    again = do(client, act="pause", name="nightly")
    assert again.headers["location"] == "/schedules?done=was_paused"
    answer = do(client, act="resume", name="nightly")
    assert answer.headers["location"] == "/schedules?done=resumed"
    acts = rows(file, "select scope, name, act, actor from workflow_audit_log")
    assert acts == [
        ("SCHEDULE", "nightly", act, "dashboard, from testclient") for act in ("pause", "resume")
    ]
    assert paused(file) == []


async def test_a_trigger_starts_what_a_worker_runs(file: Path, visit: Open) -> None:
    answer = do(visit(), act="trigger", name="<b>often</b>")
    assert answer.headers["location"] == "/schedules?done=triggered"
    ((execution_id, actor),) = rows(
        file,
        "select workflow_execution_id, actor from workflow_audit_log"
        " where act = 'trigger' and scope = 'EXECUTION'",
    )
    assert str(execution_id).startswith("<b>often</b>@")
    assert str(actor).startswith("dashboard")
    async with an_engine(file, workflows=[approval]) as (_, engine):
        await engine.send_signal(str(execution_id), "approved", "kim")
        assert await engine.result_of(str(execution_id)) == "b approved"
    assert str(execution_id)[-20:] in words(visit().get("/schedules").text)


def test_what_is_not_there_is_said(file: Path, visit: Open) -> None:
    client = visit()
    for act, name in (("pause", "unknown"), ("delete", "nightly"), ("", "")):
        assert client.get(f"/schedule?act={act}&name={name}").status_code == 404
        assert do(client, act=act, name=name).status_code == 404


def test_a_row_that_cannot_be_resumed_says_why(file: Path, visit: Open) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "update workflow_schedules set tz = 'Nowhere', cron = '0 4 * * *'"
            " where schedule_name = 'nightly'"
        )
        connection.execute(
            "update workflow_schedules set trouble = 'no such zone' where schedule_name = 'nightly'"
        )
    client = visit()
    assert "in trouble" in words(client.get("/schedules").text)
    assert '<a href="/schedules"><b>1</b> schedules that need somebody</a>' in client.get("/").text
    answer = do(client, act="resume", name="nightly")
    assert answer.status_code == 422
    assert "tz must be a time zone" in answer.text


def test_a_read_only_dashboard_shows_them_and_does_nothing(file: Path, visit: Open) -> None:
    client = visit(read_only=True)
    assert "Pause…" not in client.get("/schedules").text
    assert client.get("/schedule?act=pause&name=nightly").status_code == 404
    assert client.post("/schedule", data={"act": "pause", "name": "nightly"}).status_code >= 400
    assert paused(file) == []
