"""A step that is in doubt waits for an answer: the pages say so, and take it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.asking import go_on, leave_questions
from tests.dashboard.conftest import Open, send


@pytest.fixture
def file(tmp_path: Path, placed: Callable[[Path], Path]) -> Path:
    file = tmp_path / "asking.db"
    leave_questions(file)
    return placed(file)


def test_a_person_says_what_became_of_a_step(file: Path, visit: Open) -> None:
    client = visit()
    assert "waiting for an answer" in client.get("/").text
    assert "waits for an answer about “charge”" in client.get("/executions").text
    page = client.get("/execution?id=asks").text
    assert "Waits for an answer about step “charge”" in page
    assert "Say what became of it" in page
    form = client.get("/resolve?id=asks&name=charge&branch=&index=0&asked=1").text
    assert 'name="became"' in form
    of_undo = client.get("/execution?id=undoing").text
    assert "name=reserve:compensate" in of_undo

    place = {"name": "charge", "branch": "", "index": "0", "asked": "1"}
    assert send(client, "resolve", **place, id="asks", became="perhaps").status_code == 422
    assert send(client, "resolve", **place, id="asks", became="failed").status_code == 422
    assert (
        send(client, "resolve", **place, id="asks", became="done", payload="{").status_code == 422
    )
    for one, told in (
        ("asks", {"became": "done", "payload": "5"}),
        ("asks too", {"became": "not-done"}),
        ("asks again", {"became": "failed", "failed": "the bank is closed"}),
    ):
        answer = send(client, "resolve", **place, id=one, **told)
        assert answer.headers["location"].endswith("done=answered")
    send(
        client,
        "resolve",
        id="undoing",
        name="reserve:compensate",
        branch="",
        index="0",
        asked="1",
        became="not-done",
    )
    assert "The answer is stored" in client.get("/execution?id=asks&done=answered").text

    assert go_on(file, "asks") == ("COMPLETED", '"paid 5"')
    assert go_on(file, "asks too") == ("COMPLETED", '"paid 7"')
    assert "the bank is closed" in str(go_on(file, "asks again"))
    assert go_on(file, "undoing") == ("FAILED", None)
