"""What the pages say."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import gc
import os
import re
import sqlite3
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from durable_workflow_sqlite import DurableEngine, SqliteCheckpointStore, dashboard
from durable_workflow_sqlite.store.sql import MIGRATIONS_DIR
from tests.dashboard.conftest import HOST, Open, approval, fill, send


def words(html: str) -> str:
    """What a reader sees of the content."""
    main = html.partition("<main")[2].partition("</main>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", main.partition(">")[2]).split())


def test_the_list_shows_every_execution_with_its_state(visit: Open) -> None:
    text = words(visit().get("/executions").text)
    for state in ("4 all", "1 suspended", "2 failed", "1 completed", "0 running"):
        assert state in text
    assert "waits for the signal “approved” until" in text
    assert "the truck broke down" in text


def test_the_page_of_an_execution_has_the_patches_that_it_has_passed(
    file: Path, visit: Open
) -> None:
    assert "Patches" not in words(visit().get("/execution?id=done").text)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "insert into workflow_patches (workflow_execution_id, branch, patch_name, event)"
            " values ('done', 'a<b', 'add-tax', 2)"
        )
    text = words(visit().get("/execution?id=done").text)
    assert "Patches it takes the new way" in text
    assert "add-tax a&lt;b" in text


def test_the_page_of_an_execution_says_how_much_is_done(file: Path, visit: Open) -> None:
    assert "Progress" not in words(visit().get("/execution?id=waiting").text)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "insert into workflow_progress_reports (workflow_execution_id, branch, done, total,"
            " note) values ('waiting', 'a<b', 1, 3, 'x<y')"
        )
    page = visit().get("/execution?id=waiting").text
    assert "a&lt;b/workflow 1 of 3 (33 %) x&lt;y" in words(page)
    assert '<progress max="1" value="0.333' in page


def test_older_leads_through_all_executions_once(tmp_path: Path, visit: Open) -> None:
    path = tmp_path / "many.db"

    async def many() -> None:
        async with SqliteCheckpointStore.file(path) as store, DurableEngine(store) as engine:
            for number in range(123):
                await engine.enqueue(approval, "x", execution_id=f"e-{number:03}")

    asyncio.run(many())
    client = visit(path)
    address: str | None = "/executions"
    seen: list[str] = []
    while address is not None:
        html = client.get(address).text
        seen += re.findall(r'class="id" href="/execution\?id=(e-\d+)"', html)
        older = re.search(r'rel="next" href="([^"]+)"', html)
        address = older and older[1].replace("&amp;", "&")
    assert seen == [f"e-{number:03}" for number in reversed(range(123))]


def test_an_execution_says_what_it_waits_for_and_until_when(visit: Open) -> None:
    html = visit().get("/execution?id=waiting").text
    text = words(html)
    assert "Waits for the signal “approved” until" in text
    assert "in 6 d" in text
    assert '"asked": "plan.pdf"' in text.replace("&#34;", '"')
    assert "/signal?id=waiting&amp;name=approved" in html


def test_a_failure_stands_at_the_top_with_its_attempts_and_what_was_undone(visit: Open) -> None:
    html = visit().get("/execution?id=undone").text
    text = words(html)
    assert "Failed at step “ship”, after" in text
    assert "builtins:RuntimeError: the truck broke down" in text
    assert "Undone: “charge”." in text
    assert "failed, 2 attempts" in html
    assert html.count('class="bar failed"') == 3  # two attempts, and the legend


def test_a_step_that_was_cut_off_is_said_to_be_in_doubt(in_doubt: Path, visit: Open) -> None:
    client = visit(in_doubt)
    assert "1 in doubt Interrupted in a step, with no living worker: cut-off" in words(
        client.get("/").text
    )
    text = words(client.get("/execution?id=cut-off").text)
    assert "In doubt: step “deadly” was cut off" in text
    assert "is dead" in text


def test_a_blocked_execution_gives_its_reason(file: Path, visit: Open) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "update workflow_executions set blocked_reason = 'it kills its workers'"
            " where workflow_execution_id = 'waiting'"
        )
    client = visit()
    assert "warning 1 blocked No worker claims them until" in words(client.get("/").text)
    text = words(client.get("/execution?id=waiting").text)
    assert "Blocked: no worker claims it it kills its workers" in text


def test_one_that_its_worker_left_as_it_is_says_why(file: Path, visit: Open) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "update workflow_executions set trouble = 'NonDeterminismError: it does not <fit>'"
            " where workflow_execution_id in ('waiting', 'done')"
        )
    client = visit()
    text = words(client.get("/").text)
    assert "error 1 in trouble Their worker left them as they are: waiting · Show it" in text
    html = client.get("/executions?state=trouble").text
    assert "NonDeterminismError: it does not &lt;fit&gt;" in html
    assert "book.pdf" not in html
    assert html.count("data-key=") == 1
    text = words(client.get("/execution?id=waiting").text)
    assert "In trouble: its worker left it as it is" in text
    assert "NonDeterminismError: it does not &lt;fit&gt;" in text
    assert "In trouble" not in words(client.get("/execution?id=done").text)


def test_a_row_that_somebody_broke_by_hand_is_shown_with_what_is_wrong(
    file: Path, visit: Open
) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("pragma ignore_check_constraints = on")
        connection.execute(
            "update step_checkpoints set started_at = 'yesterday', due_at = 'soon'"
            " where workflow_execution_id = 'waiting'"
        )
        connection.execute(
            "update workflow_executions set created_at = 'long ago' where"
            " workflow_execution_id in ('waiting', 'undone')"
        )
    client = visit()
    assert client.get("/").status_code == 200
    assert client.get("/execution?id=undone").status_code == 200
    page = client.get("/execution?id=waiting")
    assert page.status_code == 200
    assert "is not an ISO-8601 time" in page.text


def test_a_page_that_asks_what_is_new_gets_a_short_answer_until_something_is(
    file: Path, visit: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_workflow_sqlite.dashboard.pages.LOOK_AGAIN_S", 1e9)
    client = visit()
    for address in ("/", "/executions", "/execution?id=waiting"):
        etag = client.get(address).headers["etag"]
        same = client.get(address, headers={"if-none-match": etag})
        assert (same.status_code, same.content) == (304, b"")
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("update workflow_executions set current_step = current_step + 1")
        assert client.get(address, headers={"if-none-match": etag}).status_code == 200


async def test_a_large_payload_is_cut_and_has_a_page_and_a_download_of_its_own(
    tmp_path: Path, visit: Open
) -> None:
    path = tmp_path / "large.db"
    document = "x" * 5_000_000

    async with SqliteCheckpointStore.file(path) as store, DurableEngine(store) as engine:
        await engine.start(approval, document, execution_id="large")
    client = visit(path)
    page = client.get("/execution?id=large")
    assert "5.0 MB" in page.text
    assert len(page.content) < 60_000
    alone = client.get("/payload?id=large&what=input")
    assert len(alone.content) < 500_000
    raw = client.get("/payload?id=large&what=input&raw=1")
    assert raw.text == f'["{document}"]'
    assert raw.headers["content-disposition"].startswith("attachment")
    assert raw.headers["content-type"].startswith("text/plain")
    assert "sandbox" in raw.headers["content-security-policy"]


def test_payloads_are_found_by_what_they_are_of(visit: Open) -> None:
    client = visit()

    def payload(query: str) -> str:
        return client.get(f"/payload?id=done&raw=1&{query}").text

    assert payload("what=input") == '["book.pdf"]'
    assert payload("what=result") == '"book.pdf approved"'
    assert payload("what=step&branch=&index=0&attempt=1") == '{"asked":"book.pdf"}'
    assert client.get("/payload?id=done&what=step&branch=&index=9&attempt=1").status_code == 404
    assert client.get("/payload?id=done&what=nonsense").status_code == 404


def test_ten_thousand_steps_come_in_pages(tmp_path: Path, visit: Open) -> None:
    path = tmp_path / "long.db"
    asyncio.run(fill(path))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "with recursive n (i) as (select 10 union all select i + 1 from n where i < 10009)"
            " insert into step_checkpoints (workflow_execution_id, step_index, step_name, status,"
            " started_at, completed_at) select 'done', i, 'step ' || i, 'COMPLETED',"
            " '2030-01-01T00:00:00.000000Z', '2030-01-01T00:00:01.000000Z' from n"
        )
    client = visit(path)
    last = client.get("/execution?id=done").text
    assert "steps 10,001 to 10,003 of 10,003" in words(last)
    first = client.get("/execution?id=done&page=1")
    assert "steps 1 to 100 of 10,003" in words(first.text)
    assert len(first.content) < 400_000
    assert client.get("/execution?id=done&page=99999999999999999999").status_code == 200
    assert client.get("/execution?id=done&page=-1").status_code == 200


@pytest.mark.parametrize(
    "text",
    [
        "'; drop table workflow_executions; --",
        *(
            pytest.param(one, marks=pytest.mark.campaign)
            for one in (
                "' or 1=1 --",
                "%' union select sql from sqlite_schema --",
                '"; attach database "/tmp/x" as x; --',
                "waiting' /*",
                "\x00; delete from workflow_executions",
            )
        ),
    ],
)
def test_no_address_runs_sql(text: str, file: Path, visit: Open) -> None:
    def content() -> list[str]:
        with closing(sqlite3.connect(file)) as connection:
            return list(connection.iterdump())

    before = content()
    client = visit()
    names = ("id", "type", "begun", "after", "status", "page", "what", "name", "branch", "error")
    query = dict.fromkeys((*names, "step", "tag", "input", "state", "version", "failures"), text)
    for address in (
        "/",
        "/executions",
        "/execution",
        "/payload",
        "/signal",
        "/bulk/retry",
        "/bulk/prune",
        "/run",
    ):
        assert client.get(address, params=query).status_code in (200, 400, 404)
        for name in query:
            assert client.get(address, params={name: text}).status_code in (200, 400, 404)
    assert content() == before
    assert words(client.get("/executions", params={"id": text}).text).count("Nothing fits") == 1


def test_what_is_not_there_is_said_to_be_missing(visit: Open) -> None:
    client = visit()
    assert client.get("/execution?id=nobody").status_code == 404
    assert client.get("/execution").status_code == 404
    assert client.get("/nothing").status_code == 404
    assert client.get("/static/../protection.py").status_code == 404
    assert client.get("/static/%2e%2e/protection.py").status_code == 404


def test_a_file_that_is_not_there_is_named_and_not_created(tmp_path: Path, visit: Open) -> None:
    path = tmp_path / "later.db"
    client = visit(path)
    page = client.get("/")
    assert page.status_code == 503
    assert "there is no file" in page.text
    assert not path.exists()
    asyncio.run(fill(path))
    assert client.get("/").status_code == 200


def test_a_file_of_an_older_schema_is_named_and_not_migrated(tmp_path: Path, visit: Open) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript((MIGRATIONS_DIR / "001_create_tables.sql").read_text())
        connection.execute("pragma user_version = 1")
    before = path.read_bytes()
    client = visit(path)
    assert "has schema version 1" in client.get("/").text
    assert send(client, "cancel", id="x").status_code == 503
    assert path.read_bytes() == before


def test_another_applications_file_is_left_as_it_is(tmp_path: Path, visit: Open) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table users (name text)")
    before = path.read_bytes()
    client = visit(path)
    assert client.get("/").status_code == 503
    assert path.read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which files are open")
def test_a_mounted_dashboard_that_is_dropped_lets_go_of_the_file(file: Path) -> None:
    def visit_once() -> list[sqlite3.Connection]:
        app = Starlette(routes=[Mount("/flows", dashboard.app(file))])
        with TestClient(app, base_url=HOST) as client:
            assert client.get("/flows/").status_code == 200
            assert holds(file)
            # Held here, they are closed by nobody but the dashboard.
            return [one for one in gc.get_objects() if isinstance(one, sqlite3.Connection)]

    def holds(file: Path) -> bool:
        return any(
            os.path.realpath(one).startswith(str(file)) for one in Path("/proc/self/fd").iterdir()
        )

    connections = visit_once()
    for _ in range(500):
        gc.collect()
        if not holds(file):
            break
        time.sleep(0.01)
    assert connections and not holds(file)


def test_a_dashboard_may_be_dropped_while_an_executor_is_fed(file: Path) -> None:
    """Its end comes in the middle of anything: once it came in the middle of a submit."""
    apps = [dashboard.app(file)]
    client = TestClient(apps[0], base_url=HOST)
    assert client.get("/").status_code == 200
    client.close()
    del client
    lock = vars(concurrent.futures.thread)["_global_shutdown_lock"]  # what a submit holds

    def drop() -> None:
        with lock:
            apps.clear()
            gc.collect()

    dropping = threading.Thread(target=drop, daemon=True)
    dropping.start()
    dropping.join(30)
    assert not dropping.is_alive()
