"""The first page, and the line about health on every page."""

from __future__ import annotations

import html
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite.dashboard import charts
from durable_workflow_sqlite.dashboard.reading import Source
from durable_workflow_sqlite.reading.overview import Hour
from tests.dashboard.conftest import Open
from tests.dashboard.test_filters import PAID, ids_in
from tests.dashboard.test_pages import words
from tests.dashboard.test_protection import PAGES, TOKEN


def change(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def health_of(page: str) -> str:
    bar = page.partition('<aside id="health"')[2].partition("</aside>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", bar.partition(">")[2]).split())


def test_failures_stand_in_groups_with_a_way_to_mend_each(outage: Path, visit: Open) -> None:
    client = visit(outage)
    page = client.get("/").text
    text = words(page)
    assert "7 failed builtins:ConnectionError no answer about 6 payment at “ charge ”" in text
    assert "2 failed builtins:RuntimeError the truck broke down parcel at “ ship ”" in text
    command = f"durable-workflow retry {outage} --type payment --step charge"
    assert f"{command} --error builtins:ConnectionError" in html.unescape(text)
    one = re.search(r'href="(/executions\?[^"]+)"><b>7</b>', page)
    assert one is not None
    assert ids_in(client.get(html.unescape(one[1])).text) == PAID
    retry = re.search(r'href="(/bulk/retry\?[^"]+ConnectionError[^"]*)"', page)
    assert retry is not None
    assert "Retry 7 executions?" in words(client.get(html.unescape(retry[1])).text)


def test_failures_are_of_the_last_days_unless_others_are_asked_for(
    outage: Path, visit: Open
) -> None:
    change(
        outage,
        "update workflow_executions set status_since = '2020-01-01T00:00:00.000000Z'"
        " where workflow_execution_id like 'pay-%'",
    )
    client = visit(outage)
    assert "ConnectionError" not in client.get("/").text
    assert "ConnectionError" not in client.get("/?failures=24h").text
    assert "7 failed builtins:ConnectionError" in words(client.get("/?failures=all").text)
    assert client.get("/?failures=nonsense").status_code == 200


def test_what_is_in_trouble_stands_in_groups_too(outage: Path, visit: Open) -> None:
    change(
        outage,
        "update workflow_executions set trouble = 'SerializationError: it <does> not fit'"
        " where workflow_execution_id = 'waiting'",
    )
    page = visit(outage).get("/").text
    assert "1 in trouble SerializationError it &lt;does&gt; not fit approval" in words(page)
    assert "state=trouble" in page
    assert "error=SerializationError" in page

    change(
        outage,
        "update workflow_executions set trouble = 'WorkflowCodeError: the workflow function of"
        " execution ''waiting'' raised NameError: x at line 7 of /a/shop.py, in sell. No step'"
        " where workflow_execution_id = 'waiting'",
    )
    page = visit(outage).get("/").text
    assert "No step approval line 7 of shop.py, in sell" in words(page)
    (href,) = re.findall(r'href="(/executions\?[^"]+shop.py[^"]+)"><b>1</b>', page)
    assert ids_in(visit(outage).get(html.unescape(href)).text) == {"waiting"}


def test_the_kinds_of_alarm_have_a_word_and_a_shape_each(
    outage: Path, in_doubt: Path, visit: Open
) -> None:
    change(
        outage,
        "update workflow_executions set trouble = 'SerializationError: x'"
        " where workflow_execution_id = 'waiting'",
    )
    page = visit(outage).get("/execution?id=done").text
    assert health_of(page) == "error 1 in trouble warning 11 failed in the last hour"
    for kind, icon in (("error", "FAILED"), ("warning", "DOUBT")):
        assert re.search(f'k-{kind}"><span class="kind-word"><svg[^>]*><use href="#i-{icon}"', page)
    page = visit(in_doubt).get("/").text
    assert "warning 1 in doubt" in health_of(page)
    assert 'k-warning"><span class="kind-word"><svg class="icon"' in page
    assert 'href="/#alarm-in-doubt"' in page
    assert 'id="alarm-in-doubt"' in page


def test_failures_that_are_not_alike_are_for_information(outage: Path, visit: Open) -> None:
    change(outage, "update workflow_executions set error_type = workflow_execution_id")
    page = visit(outage).get("/").text
    assert "info 11 failed in the last hour" in health_of(page)
    assert 'k-info"><span class="kind-word"><svg' in page


def test_what_is_not_undone_is_an_error_and_a_link(outage: Path, visit: Open) -> None:
    change(
        outage,
        "insert into step_checkpoints (workflow_execution_id, step_index, attempt, step_name,"
        " status, error_type) values ('pay-3', 0, 0, 'charge:compensate', 'FAILED', 'x:Y')",
    )
    client = visit(outage)
    page = client.get("/executions").text
    assert health_of(page).startswith("error 1 not undone")
    link = re.search(r'href="([^"]+)"><b>1</b> not undone', page)
    assert link is not None
    assert ids_in(client.get(link[1]).text) == {"pay-3"}


@pytest.mark.parametrize("address", [*PAGES, "/nothing", "/execution?id=nobody"])
def test_every_page_has_the_line_about_health(address: str, visit: Open) -> None:
    assert health_of(visit().get(address).text).startswith("info 2 failed")


def test_alarms_that_cannot_be_read_are_no_sign_of_health(file: Path, visit: Open) -> None:
    change(file, "drop view workflow_queue")
    page = visit().get("/execution?id=done")
    assert page.status_code == 200
    assert "error what needs a person cannot be read" in health_of(page.text)
    assert "nothing needs a person" not in page.text


def test_nothing_of_the_file_is_said_before_the_login(visit: Open) -> None:
    page = visit(token=TOKEN).get("/login").text
    assert 'id="health"' not in page
    assert "2 failed" not in health_of(page)
    assert "/executions" not in page


def test_what_is_due_and_not_taken_is_drawn_by_workflow(outage: Path, visit: Open) -> None:
    late = (datetime.now(UTC) - timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    change(
        outage,
        f"update workflow_executions set status = 'PENDING', available_at = '{late}'"
        " where workflow_execution_id in ('pay-1', 'pay-2')",
    )
    page = visit(outage).get("/").text
    assert "payment 10 min" in words(page)
    assert "2 due" in words(page)
    assert 'class="wait-bar is-late" width="100.0%"' in page
    assert "2 waiting, and no worker lives" in health_of(page)


def test_the_last_label_of_a_chart_is_not_cut_off() -> None:
    # Whatever the hour is in which the page is looked at.
    for first in range(24):
        begin = datetime(2030, 1, 1, first, tzinfo=UTC)
        hours = [
            Hour(start=begin + timedelta(hours=one), began=0, completed=0, failed=0, cancelled=0)
            for one in range(24)
        ]
        labels = charts.failures_chart(hours).hours
        assert len(labels) == 4
        assert all(one.at == 100 if one.is_last else one.at <= 90 for one in labels)


def test_charts_say_in_words_and_in_a_table_what_they_draw(outage: Path, visit: Open) -> None:
    page = visit(outage).get("/").text
    for name in ("throughput", "failures"):
        assert f'aria-labelledby="{name}-title {name}-desc"' in page
        assert f'<title id="{name}-title">' in page
    text = html.unescape(page)
    assert "In the last 24 hours 13 began; 1 completed, 11 failed, 0 were cancelled." in text
    table = page.partition('<details class="numbers">')[2].partition("</details>")[0]
    assert table.count("<tr>") == 25
    assert "<script" not in page.partition("<main")[2]


def test_columns_are_as_high_as_their_numbers() -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    hours = [
        Hour(
            start=start + timedelta(hours=number),
            began=number * 10,
            completed=number,
            failed=number * 3,
            cancelled=0,
        )
        for number in range(5)
    ]
    chart = charts.throughput_chart(hours)
    assert [label.text for label in chart.numbers] == ["0", "20", "40"]
    last = chart.columns[-1]
    assert [(part.look, part.height) for part in last.parts] == [
        ("completed", charts.HEIGHT * 4 / 40),
        ("failed", charts.HEIGHT * 12 / 40),
    ]
    assert last.parts[1].y + last.parts[1].height == last.parts[0].y
    assert last.mark == 0  # as many began as the axis is high
    assert chart.columns[0].parts == ()
    assert last.x + last.width <= 100
    assert "4:00 to 05:00: 40 began; 4 completed, 12 failed" in last.words
    assert [label.text for label in chart.hours] == ["00:00"]


def test_an_empty_file_has_an_overview(tmp_path: Path, visit: Open) -> None:
    path = tmp_path / "empty.db"
    with closing(sqlite3.connect(path)) as connection:
        from durable_workflow_sqlite import migrate

        migrate(connection)
    page = visit(path).get("/")
    assert page.status_code == 200
    assert "Nothing failed" in page.text
    assert health_of(page.text) == "nothing needs a person"


def test_what_was_asked_before_something_was_done_is_not_kept(file: Path) -> None:
    source = Source(file)

    def ask() -> str:
        source.forget()  # somebody has done something meanwhile
        return "before"

    assert source.kept("x", "version 1", ask) == "before"
    assert source.kept("x", "version 1", lambda: "after") == "after"


def test_an_answer_that_costs_much_is_kept_for_longer(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("durable_workflow_sqlite.dashboard.reading.time.monotonic", lambda: now)
    source = Source(file)
    asked: list[int] = []

    def ask() -> int:
        nonlocal now
        asked.append(1)
        now += 0.5
        return len(asked)

    assert source.kept("x", "version 1", ask) == 1
    now += 9
    assert source.kept("x", "version 2", ask) == 1  # it took half a second
    now += 2
    assert source.kept("x", "version 2", ask) == 2
    assert source.kept("y", "version 2", ask) == 3
    now += 12
    assert source.kept("x", "version 2", ask) == 4  # nothing was written; but time has passed
