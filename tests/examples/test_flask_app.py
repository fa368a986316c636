"""The Flask example: its routes over a real file, and its workflow in a sandbox."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_app import Leave, create_app, leave

from durable_workflow_sqlite.blocking import DurableEngine, SqliteCheckpointStore
from durable_workflow_sqlite.testing import Sandbox

KIM = {"who": "kim", "days": 5}
YES = {"by": "lee", "is_yes": True}


@contextmanager
def client_of(database: Path) -> Iterator[FlaskClient]:
    with (
        SqliteCheckpointStore.file(database) as store,
        DurableEngine(store, workflows=[leave]) as engine,
    ):
        yield create_app(engine).test_client()


def wait_for_answer(client: FlaskClient) -> Any:
    for _ in range(200):
        state = client.get("/requests/kim-may").get_json()
        if state["answer"] is not None:
            break
        time.sleep(0.01)
    return state


def test_a_request_is_made_decided_and_answered_by_another_process(tmp_path: Path) -> None:
    with client_of(tmp_path / "workflows.db") as client:
        assert client.post("/requests/kim-may", json=KIM).status_code == 202
        assert client.post("/requests/kim-may", json=KIM).status_code == 202
    with client_of(tmp_path / "workflows.db") as client:
        assert client.get("/requests/kim-may").get_json()["answer"] is None
        assert client.post("/requests/kim-may/decision", json=YES).status_code == 204
        assert wait_for_answer(client)["answer"] == "yes, says lee"
        assert client.post("/requests/kim-may/decision", json=YES).status_code == 409


def test_wrong_requests_are_told_so(tmp_path: Path) -> None:
    with client_of(tmp_path / "workflows.db") as client:
        client.post("/requests/kim-may", json=KIM)
        assert client.post("/requests/kim-may", json={**KIM, "days": 6}).status_code == 409
        assert client.post("/requests/kim-may", json={"who": 1}).status_code == 400
        assert client.get("/requests/lee-june").status_code == 404
        assert client.post("/requests/lee-june/decision", json=YES).status_code == 404


@pytest.mark.parametrize("moment", ["before", "after", "recorded"])
def test_who_says_nothing_within_a_week_says_yes(durable: Sandbox, moment: Any) -> None:
    durable.crash_at("decision", moment, down_for=timedelta(days=1))
    assert durable.run(leave, Leave("kim", 5)) == "yes, says the calendar"
    durable.history().assert_ran("ask", "answer", times=1)
