"""What is done to all executions that filters choose."""

from __future__ import annotations

import asyncio
import html
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from durable_workflow_sqlite import bulk
from durable_workflow_sqlite.bulk import Ids
from durable_workflow_sqlite.dashboard import bulk as bulk_pages
from durable_workflow_sqlite.dashboard.runs import KEPT, BulkRun, Runs
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.store.rows import time_to_text
from tests.dashboard.conftest import HOST, Open, token_in
from tests.dashboard.conftest import send as send_action
from tests.dashboard.test_actions import rows
from tests.dashboard.test_overview import health_of
from tests.dashboard.test_pages import words

STATUSES = "select status, count(*) from workflow_executions group by 1 order by 1"
BEFORE: list[tuple[object, ...]] = [("COMPLETED", 1), ("FAILED", 11), ("SUSPENDED", 1)]


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Wait until all that is done in the background is over."""

    def join() -> None:
        for thread in threading.enumerate():
            if thread.name == "durable-workflow-bulk":
                thread.join(30)
                assert not thread.is_alive()

    yield join
    join()


def fields(page: str) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page)
    return {name: html.unescape(value) for name, value in found}


def confirm(client: TestClient, act: str, query: dict[str, str] | None = None) -> str:
    answer = client.get(f"/bulk/{act}", params=query)
    assert answer.status_code == 200
    return answer.text


def send(client: TestClient, act: str, page: str, **more: str) -> Any:
    return client.post(f"/bulk/{act}", data={**fields(page), **more})


def test_what_was_undone_is_rerun_once(outage: Path, visit: Open, wait: Callable[[], None]) -> None:
    client = visit(outage)
    for times, report_says in ((1, "Rerun 7 Refused 0"), (2, "Rerun 0 Refused 7")):
        page = confirm(client, "rerun", {"type": "payment", "error": "ConnectionError"})
        assert "Rerun 7 executions?" in words(page)
        answer = send(client, "rerun", page)
        wait()
        assert report_says in words(client.get(answer.headers["location"]).text), times
    assert rows(outage, STATUSES) == [*BEFORE[:2], ("PENDING", 7), BEFORE[2]]
    assert rows(outage, "select act, actor, count(*) from workflow_audit_log group by 1, 2") == [
        ("rerun", "dashboard, from testclient", 14)  # of the old ones, and of the new
    ]


def test_it_is_shown_first_and_done_when_that_is_confirmed(
    outage: Path, visit: Open, wait: Callable[[], None]
) -> None:
    client = visit(outage)
    page = confirm(client, "retry", {"type": "payment", "error": "ConnectionError"})
    text = words(page)
    assert "Retry 7 executions?" in text
    assert "workflow payment error has ConnectionError failed" in text
    assert len(re.findall(r"<tr role=\"row\" data-key=", page)) == 7
    assert rows(outage, STATUSES) == BEFORE
    answer = send(client, "retry", page)
    assert answer.status_code == 303
    wait()
    report = words(client.get(answer.headers["location"]).text)
    assert "Done after" in report
    assert "Retried 7 Refused 0 Not tried 0" in report
    assert rows(outage, STATUSES) == [
        ("COMPLETED", 1),
        ("FAILED", 4),
        ("PENDING", 7),
        ("SUSPENDED", 1),
    ]
    assert rows(outage, "select distinct act, actor from workflow_audit_log") == [
        ("retry", "dashboard, from testclient")
    ]


def test_those_that_refuse_stand_in_groups_with_why(
    outage: Path, visit: Open, wait: Callable[[], None]
) -> None:
    client = visit(outage)
    page = confirm(client, "retry")
    assert "The newest 10 of them" in page
    # Between the question and the answer: some are retried by somebody else, one is gone.
    with closing(sqlite3.connect(outage)) as connection, connection:
        connection.execute(
            "update workflow_executions set status = 'PENDING'"
            " where workflow_execution_id in ('pay-1', 'pay-2', 'pay-3')"
        )
        for table in ("step_checkpoints", "workflow_tags", "workflow_executions"):
            connection.execute(f"delete from {table} where workflow_execution_id = 'pay-4'")
    answer = send(client, "retry", page)
    wait()
    report = words(client.get(answer.headers["location"]).text)
    assert "Done, except those that refused" in report
    assert "Retried 6 Refused 5 Not tried 0" in report
    assert "3 execution &#39;…&#39; is PENDING" in report
    assert "1 no execution has the id &#39;…&#39;" in report
    assert "1 execution &#39;…&#39; was compensated" in report


def test_what_comes_after_the_question_is_not_changed(
    outage: Path, visit: Open, wait: Callable[[], None]
) -> None:
    client = visit(outage)
    page = confirm(client, "cancel")
    with closing(sqlite3.connect(outage)) as connection, connection:
        connection.execute(
            "update workflow_executions set status = 'PENDING'"
            " where workflow_execution_id = 'pay-1'"
        )
    send(client, "cancel", page)
    wait()
    asked = "select workflow_execution_id from workflow_signals where signal_name = '$cancel'"
    assert rows(outage, asked) == [("waiting",)]


def test_sending_it_twice_does_it_once(outage: Path, visit: Open, wait: Callable[[], None]) -> None:
    client = visit(outage)
    page = confirm(client, "signal")
    first = send(client, "signal", page, name="approved", payload='{"by": 1.10}')
    wait()
    second = send(client, "signal", page, name="approved", payload='{"by": 1.10}')
    wait()
    assert first.headers["location"] == second.headers["location"]
    sent = "select payload from workflow_signals where status = 'PENDING'"
    assert rows(outage, sent) == [('{"by": 1.10}',)]


@pytest.mark.parametrize(
    ("name", "payload", "why"),
    [
        ("", "1", "Give the name"),
        ("$cancel", "", "begin with $"),
        ("x" * 300, "1", "at most 256 characters"),
        ("a", "{", "is not JSON"),
    ],
)
def test_a_signal_that_cannot_be_sent_keeps_the_page_with_what_was_typed(
    name: str, payload: str, why: str, outage: Path, visit: Open, wait: Callable[[], None]
) -> None:
    client = visit(outage)
    page = confirm(client, "signal")
    answer = send(client, "signal", page, name=name, payload=payload)
    assert answer.status_code == 422
    assert why in answer.text
    assert payload in html.unescape(answer.text)
    assert fields(answer.text)["run"] == fields(page)["run"]
    wait()
    assert rows(outage, "select * from workflow_signals where status = 'PENDING'") == []


def test_finished_ones_are_deleted_unless_they_changed_since(
    outage: Path, visit: Open, wait: Callable[[], None]
) -> None:
    client = visit(outage)
    page = confirm(client, "prune", {"status": "FAILED", "type": "payment"})
    assert "Delete 7 executions?" in words(page)
    with closing(sqlite3.connect(outage)) as connection, connection:
        connection.execute(
            "update workflow_executions set updated_at = ? where workflow_execution_id = 'pay-1'",
            (time_to_text(datetime.now(UTC)),),
        )
    answer = send(client, "prune", page)
    wait()
    assert "Deleted 6 Refused 1 Not tried 0" in words(client.get(answer.headers["location"]).text)
    left = "select workflow_execution_id from workflow_executions e join workflows using"
    left += " (workflow_id) where workflow_type = 'payment'"
    assert rows(outage, left) == [("pay-1",)]
    assert rows(outage, "pragma foreign_key_check") == []


@pytest.mark.parametrize(
    ("act", "where", "done"),
    [
        ("unblock", "blocked_reason = 'x' where workflow_execution_id = 'waiting'", "Unblocked 1"),
        ("acknowledge", "updated_at = updated_at", "Acknowledged 1"),
    ],
)
def test_the_other_acts(
    act: str, where: str, done: str, outage: Path, visit: Open, wait: Callable[[], None]
) -> None:
    with closing(sqlite3.connect(outage)) as connection, connection:
        connection.execute(f"update workflow_executions set {where}")
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, attempt, step_name,"
            " status, error_type) values ('pay-3', 0, 0, 'charge:compensate', 'FAILED', 'x:Y')"
        )
    client = visit(outage)
    state = {"state": "not-undone"} if act == "acknowledge" else {}
    page = confirm(client, act, state)
    assert "1 execution?" in words(page)
    answer = send(client, act, page)
    wait()
    assert done in words(client.get(answer.headers["location"]).text)


def test_nobody_is_asked_about_nobody(outage: Path, visit: Open) -> None:
    page = confirm(visit(outage), "unblock")
    assert "Unblock: there is none" in words(page)
    assert "form_token" not in page
    assert visit(outage).get("/bulk/nonsense").status_code == 404


def test_more_than_one_run_takes_are_said_to_be_more(
    outage: Path, visit: Open, wait: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_pages, "AT_MOST", 4)
    client = visit(outage)
    page = confirm(client, "retry", {"type": "payment"})
    assert "There are more: these are the newest 4" in words(page)
    send(client, "retry", page)
    wait()
    assert ("PENDING", 4) in rows(outage, STATUSES)


def held(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Each retry but the first waits for the second event; the first event says that one does."""
    begun, go_on = threading.Event(), threading.Event()
    retry = Client.retry
    count = 0

    async def slow(client: Client, execution_id: str, **how: Any) -> None:
        nonlocal count
        count += 1
        if count > 1:
            begun.set()
            await asyncio.to_thread(go_on.wait, 30)
            go_on.set()  # if a test has forgotten it, the others need not wait, too
        await retry(client, execution_id, **how)

    monkeypatch.setattr(Client, "retry", slow)
    monkeypatch.setattr(bulk, "AT_ONCE", 1)
    return begun, go_on


def test_pages_are_answered_while_it_runs_and_it_can_be_stopped(
    outage: Path, visit: Open, wait: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = held(monkeypatch)
    client = visit(outage)
    answer = send(client, "retry", confirm(client, "retry", {"type": "payment"}))
    place = answer.headers["location"]
    assert begun.wait(30)
    page = client.get(place)
    assert "Retried 1 Refused 0 To come 6" in words(page.text)
    assert '<progress class="run-bar" max="100" value="14.3"' in page.text
    assert '<noscript><meta http-equiv="refresh"' in page.text
    same = client.get(place, headers={"if-none-match": page.headers["etag"]})
    assert same.status_code == 304
    # Another one waits for it, and begins when it is over.
    page = confirm(client, "retry", {"type": "parcel"})
    other = send(client, "retry", page).headers["location"]
    assert "Waits for the run before it" in words(client.get(other).text)
    assert client.get("/executions").status_code == 200
    stop = {"form_token": token_in(client.get(place).text), "id": place.partition("id=")[2]}
    assert client.post("/run/stop", data=stop).headers["location"] == place
    assert "Stopping" in words(client.get(place).text)
    go_on.set()
    wait()
    assert "Stopped after" in words(client.get(place).text)
    assert "Retried 2 Refused 0 Not tried 5" in words(client.get(place).text)
    assert "Retried 2 Refused 0 Not tried 0" in words(client.get(other).text)


def test_a_dashboard_that_ends_stops_what_it_does(
    outage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from durable_workflow_sqlite import dashboard

    begun, go_on = held(monkeypatch)
    with TestClient(dashboard.app(outage), base_url=HOST, follow_redirects=False) as client:
        send(client, "retry", confirm(client, "retry", {"type": "payment"}))
        assert begun.wait(30)

        def stop(run: BulkRun) -> None:
            stop_run(run)
            go_on.set()

        stop_run = BulkRun.stop
        monkeypatch.setattr(BulkRun, "stop", stop)
    assert not [one for one in threading.enumerate() if one.name == "durable-workflow-bulk"]
    assert ("PENDING", 2) in rows(outage, STATUSES)  # one was done, one was under way


def test_what_was_done_is_seen_on_the_next_page(
    outage: Path, visit: Open, wait: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_workflow_sqlite.dashboard.reading._SHARE", 1_000_000)
    client = visit(outage)
    assert "11 failed" in health_of(client.get("/").text)
    send_action(client, "retry", id="failed")
    assert "10 failed" in health_of(client.get("/").text)
    answer = send(client, "retry", confirm(client, "retry", {"type": "payment"}))
    wait()
    page = client.get(answer.headers["location"]).text
    assert "Retried 7" in words(page)
    assert "3 failed" in health_of(page)


def test_a_question_that_was_forgotten_is_asked_anew(
    outage: Path, visit: Open, wait: Callable[[], None]
) -> None:
    page = confirm(visit(outage), "retry", {"type": "payment"})
    client = visit(outage)  # as if it was started anew
    token = token_in(confirm(client, "retry"))
    answer = client.post("/bulk/retry", data={**fields(page), "form_token": token})
    assert answer.status_code == 409
    assert "read again" in answer.text
    assert "Retry 7 executions?" in words(answer.text)
    wait()
    assert rows(outage, STATUSES) == BEFORE
    assert send(client, "retry", answer.text).status_code == 303
    # And the question about one act answers no other.
    page = confirm(client, "acknowledge")
    other = client.post("/bulk/prune", data=fields(page))
    assert other.status_code == 409
    assert client.get("/run?id=nobody").status_code == 404


def test_only_so_many_questions_are_remembered() -> None:
    runs = Runs(Path("nowhere"), lambda: None)
    made = [runs.plan("retry", "", Ids(), is_cut=False) for _ in range(KEPT + 5)]
    assert [runs.get(one.key) is None for one in made] == [True] * 5 + [False] * KEPT


def test_a_file_that_is_gone_ends_it_and_is_not_created(
    outage: Path, visit: Open, wait: Callable[[], None]
) -> None:
    client = visit(outage)
    page = confirm(client, "retry")
    outage.unlink()
    answer = send(client, "retry", page)
    wait()
    report = words(client.get(answer.headers["location"]).text)
    assert "Ended before all was done" in report
    assert "there is no file" in report
    assert not outage.exists()


# Protection


def test_a_form_from_elsewhere_does_nothing(
    outage: Path, visit: Open, wait: Callable[[], None]
) -> None:
    client = visit(outage)
    form = fields(confirm(client, "retry"))
    for change in ({"form_token": ""}, {"form_token": "0" * 64}):
        assert client.post("/bulk/retry", data={**form, **change}).status_code == 403
        assert client.post("/run/stop", data={"id": "x", **change}).status_code == 403
    evil = {"origin": "http://evil.example"}
    assert client.post("/bulk/retry", data=form, headers=evil).status_code == 403
    # Nothing is done by a GET, whatever it has.
    assert client.get(f"/bulk/retry?{urlencode(form)}").status_code == 200
    assert client.get("/run/stop?id=x").status_code == 405
    wait()
    assert rows(outage, STATUSES) == BEFORE


def test_a_read_only_dashboard_has_none_of_it(outage: Path, visit: Open) -> None:
    client = visit(outage, read_only=True)
    for address in ("/", "/executions", "/executions?status=FAILED"):
        assert "/bulk/" not in client.get(address).text
    form = fields(confirm(visit(outage), "retry"))
    for address in ("/bulk/retry", "/run", "/run/stop"):
        assert client.get(address).status_code == 404
        assert client.post(address, data=form).status_code in (403, 404, 405)
    assert rows(outage, STATUSES) == BEFORE
