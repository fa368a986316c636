"""The page of queues and limits, and the form that changes limits."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from durable_workflow_sqlite import Client, Limit, Queue, Rate, open_store
from tests.dashboard.conftest import Open, approval, token_in
from tests.dashboard.test_actions import rows
from tests.dashboard.test_pages import words
from tests.processes import an_engine


@pytest.fixture
def file(file: Path) -> Path:
    """Also with two queues and a limit for steps; something waits in one of the queues."""

    async def declare() -> None:
        async with open_store(file) as store:
            client = Client(store)
            await client.declare(
                Queue("mail", concurrency=3, per_key=1, rate=Rate(100, timedelta(minutes=1))),
                Queue("<b>gpu</b>"),
                Limit("openai", concurrency=5),
            )
            await client.enqueue(approval, "in mail", execution_id="in-mail", queue="mail")

    asyncio.run(declare())
    return file


def change(client: TestClient, kind: str, name: str, **fields: str) -> Any:
    page = client.get("/queue", params={"kind": "QUEUE", "name": "mail"})
    data = {"form_token": token_in(page.text), "kind": kind, "name": name, **fields}
    return client.post("/queue", data=data)


def limits(file: Path) -> list[tuple[object, ...]]:
    return rows(
        file,
        "select name, concurrency, per_key, rate, rate_seconds from workflow_limits"
        " where name in ('mail', 'openai') order by name",
    )


def test_the_queues_and_limits_are_shown(file: Path, visit: Open) -> None:
    client = visit()
    answer = client.get("/queues")
    page = words(answer.text)
    assert (
        "3 at once , 1 per key , 100/60 rate" in page or "3 at once, 1 per key, 100/60 rate" in page
    )
    assert "0 of 5" in page
    assert "<b>gpu" not in answer.text
    assert 'href="/queues"' in client.get("/").text
    assert "queue=mail" in answer.text
    listed = words(client.get("/executions?queue=mail&status=PENDING").text)
    assert "in-mail" in listed and "in queue mail" in listed
    assert "in-mail" not in words(client.get("/executions?queue=other").text)
    same = client.get("/queues", headers={"if-none-match": answer.headers["etag"]})
    assert same.status_code == 304


def test_a_file_without_queues_says_how_to_make_one(file: Path, visit: Open) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("update workflow_executions set queue = null")
        connection.execute("delete from workflow_limits")
    page = words(visit().get("/queues").text)
    assert "No queues" in page
    assert "No limits for steps" in page


def test_the_limits_of_a_queue_are_changed(file: Path, visit: Open) -> None:
    client = visit()
    form = client.get("/queue?kind=QUEUE&name=mail").text
    assert 'value="100/60"' in form
    answer = change(
        client,
        "QUEUE",
        "mail",
        concurrency=" 7 ",
        per_worker="",
        per_key="",
        rate="5/0.5",
        key_rate="",
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/queues?done=changed")
    assert limits(file)[0] == ("mail", 7, None, 5, 0.5)
    shown = words(client.get("/queues?done=changed").text)
    assert "The limits are changed." in shown
    assert "concurrency: 3 → 7" in shown
    acts = rows(file, "select scope, name, act, actor from workflow_audit_log")
    assert acts == [("QUEUE", "mail", "set", "dashboard, from testclient")]
    again = change(client, "QUEUE", "mail", concurrency="7", rate="5/0.5")
    assert again.headers["location"] == "/queues?done=unchanged"


def test_the_limits_of_steps_are_changed(file: Path, visit: Open) -> None:
    client = visit()
    form = client.get("/queue?kind=STEP&name=openai").text
    assert "per_worker" not in form
    answer = change(client, "STEP", "openai", concurrency="", per_key="2", rate="")
    assert answer.status_code == 303
    assert limits(file)[1] == ("openai", None, 2, None, None)


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("concurrency", "0", "concurrency must be a number of 1 or more"),
        ("per_key", "x", "per-key must be a number"),
        ("per_worker", "1.5", "per-worker must be a number"),
        ("rate", "5", "rate must be a number and seconds"),
        ("key_rate", "5/0", "key-rate must be a number and seconds"),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(
    file: Path, visit: Open, field: str, text: str, says: str
) -> None:
    before = limits(file)
    answer = change(visit(), "QUEUE", "mail", **{field: text})
    assert answer.status_code == 422
    assert says in words(answer.text)
    assert f'value="{text}"' in answer.text  # what was written is still there
    assert limits(file) == before


def test_what_is_not_declared_is_said(file: Path, visit: Open) -> None:
    client = visit()
    for kind, name in (("QUEUE", "mial"), ("STEP", "mail"), ("", "")):
        assert client.get("/queue", params={"kind": kind, "name": name}).status_code == 404
        assert change(client, kind, name, concurrency="1").status_code == 404
    assert rows(file, "select count(*) from workflow_limits") == [(3,)]


def test_a_read_only_dashboard_shows_them_and_changes_nothing(file: Path, visit: Open) -> None:
    client = visit(read_only=True)
    assert "Limits…" in visit().get("/queues").text
    assert "Limits…" not in client.get("/queues").text
    assert client.get("/queue?kind=QUEUE&name=mail").status_code == 404
    assert client.post("/queue", data={"kind": "QUEUE", "name": "mail"}).status_code >= 400


async def test_who_works_says_which_queues_it_serves(file: Path, visit: Open) -> None:
    async with an_engine(file, workflows=[approval], queues=["mail"]) as (_, engine):
        async with asyncio.timeout(30):
            while (await engine.load("in-mail")).status == "PENDING":
                await asyncio.sleep(0.005)
        page = words(await asyncio.to_thread(lambda: visit().get("/workers").text))
        assert "mail" in page.partition("Queues")[2].partition("What there is to do")[0]
