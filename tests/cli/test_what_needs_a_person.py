"""What is not undone stands in every tool, until it is undone or a person has dealt with it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionConflictError,
    RetryPolicy,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowFailedError,
    dashboard,
    workflow,
)
from tests.cli.conftest import lines, on_terminal, refusal, run

ONCE = RetryPolicy.fixed(max_attempts=1, delay=timedelta(0))


def _refund(_: object) -> None:
    raise ConnectionError("the bank is closed")


def _sold_out() -> None:
    raise RuntimeError("sold out")


@workflow
async def gives_up(ctx: WorkflowContext) -> None:
    await ctx.step("charge", lambda: 42, compensate=_refund, compensate_retry=ONCE)
    await ctx.step("pack", _sold_out)


@workflow
async def goes_on(ctx: WorkflowContext) -> None:
    await ctx.step("charge", lambda: 42, compensate=_refund)
    await ctx.step("pack", _sold_out)


@workflow
async def is_cut_off(ctx: WorkflowContext) -> str:
    with_a_limit = asyncio.timeout(0.05)
    try:
        async with with_a_limit:
            await ctx.step("slow", asyncio.sleep, 3600)
    except TimeoutError:
        pass
    await ctx.step("pack", _sold_out)
    return ""


@pytest.fixture(scope="session")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lost")

    async def fill() -> None:
        async with (
            SqliteCheckpointStore.file(folder / "orders.db") as store,
            DurableEngine(store, [gives_up, goes_on, is_cut_off]) as engine,
        ):
            for one, definition in (("lost", gives_up), ("cut", is_cut_off)):
                with pytest.raises(WorkflowFailedError):
                    await engine.run(definition, execution_id=one, tags={"customer": "7"})
            await engine.start(
                goes_on, execution_id="tries", tags={"customer": "7", "kind": "gift"}
            )
            while True:
                checkpoints = await store.load_checkpoints("tries")
                if any(one.attempt == 0 and one.due_at is not None for one in checkpoints):
                    return
                await asyncio.sleep(0.01)

    asyncio.run(fill())
    return folder


@pytest.fixture
def file(lost: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lost, tmp_path / "lost")) / "orders.db"


def rows(file: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(statement).fetchall()


def findings(file: Path) -> dict[str, tuple[str, str]]:
    return {line[1]: (line[0], line[2]) for line in doctor(file)}


def doctor(file: Path) -> list[list[str]]:
    return [
        line.split("\t") for line in run("doctor", "--quick", "--verbose", file).stdout.splitlines()
    ]


def test_what_is_not_undone_is_an_error_of_doctor(file: Path) -> None:
    assert run("doctor", "--quick", file).returncode == 4
    level, message = findings(file)["not-undone"]
    assert level == "error"
    assert "charge of lost" in message
    level, message = findings(file)["undoing"]
    assert level == "warning"
    assert "charge of tries, since 20" in message
    assert "next attempt 20" in message
    assert "the bank is closed" in message


def test_status_list_and_show_say_so(file: Path) -> None:
    found = lines("status", file)
    (lost,) = [line for line in found if line[0] == "not-undone"]
    assert lost[1:5] == ["lost", "gives_up", "charge", "the bank is closed"]
    (undoing,) = [line for line in found if line[0] == "undoing"]
    assert undoing[1] == "tries"
    assert undoing[3] == "charge"
    assert int(undoing[4]) >= 1
    assert undoing[5] == "the bank is closed"
    assert "" not in undoing[6:8]
    assert "NOT UNDONE: 1" in on_terminal("status", file)[1]
    listed = {line[0]: line for line in lines("list", file)}
    assert listed["lost"][13] == "1"
    assert listed["cut"][13] == "0"
    assert "NOT UNDONE: 1 step" in on_terminal("list", file)[1]
    shown = on_terminal("show", file, "lost")[1]
    assert "NOT UNDONE" in shown
    assert "retry" in shown
    assert "acknowledge" in shown
    assert "the bank is closed" in on_terminal("show", file, "tries")[1]
    assert lines("list", file, "--not-undone", "-o", "id") == [["lost"]]


def test_the_views_have_both(file: Path) -> None:
    assert rows(
        file, "select workflow_execution_id, step_name, error_message from workflow_not_undone"
    ) == [("lost", "charge", "the bank is closed")]
    ((one, since, attempts, next_try),) = rows(
        file,
        "select workflow_execution_id, undoing_since, attempts, next_try_at from workflow_undoing",
    )
    assert (one, since < next_try, attempts >= 1) == ("tries", True, True)
    ((number, waits_since, why),) = rows(
        file,
        "select steps_not_undone, waiting_since, step_error_message from workflow_overview"
        " where workflow_execution_id = 'tries'",
    )
    assert number == 0
    assert waits_since is not None
    assert why == "the bank is closed"


def test_the_dashboard_says_so_and_a_person_deals_with_it(file: Path) -> None:
    with TestClient(dashboard.app(file), base_url="http://127.0.0.1:8642") as client:
        page = client.get("/").text
        assert "1 not undone<" in page
        assert "1 not undone yet<" in page
        page = client.get("/execution?id=tries").text
        assert "Could not undo step “charge” so far; tries again" in page
        assert "customer" in page
        page = client.get("/execution?id=lost").text
        assert "Could not be undone: “charge”." in page
        form = client.get("/acknowledge?id=lost").text
        token = form.partition('name="form_token" value="')[2].partition('"')[0]
        done = client.post("/acknowledge", data={"form_token": token, "id": "lost"})
        assert "The note is stored" in done.text
        assert "dashboard, from" in done.text
        assert "1 not undone<" not in client.get("/").text


def test_retry_runs_only_the_compensations_again(file: Path) -> None:
    # The executions of this test are not retried one by one, but chosen by what is wrong.
    done = run("retry", file, "--not-undone", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "execution	status	COMPENSATING" in run("show", file, "lost").stdout
    ((act, details),) = rows(file, "select act, details from workflow_audit_log")
    assert act == "retry"
    assert "sold out" in details
    assert "not-undone" not in findings(file)


def test_what_a_person_has_dealt_with_is_off_the_lists_and_never_run_again(file: Path) -> None:
    assert "cut-off" in findings(file)
    for one in ("lost", "cut"):
        done = run("acknowledge", file, one)
        assert (done.returncode, done.stderr) == (0, "")
    assert not {"not-undone", "cut-off"} & findings(file).keys()
    assert rows(file, "select * from workflow_not_undone") == []
    assert "nothing to deal with" in refusal("acknowledge", file, "lost")
    assert "is COMPENSATING" in refusal("acknowledge", file, "tries")
    assert "is undone" in refusal("retry", file, "lost")
    acts = [line for line in lines("show", file, "lost") if line[0] == "act"]
    assert [line[1] for line in acts] == ["acknowledge"]
    assert "@" in acts[0][2]


def test_what_was_cut_off_is_offered_until_it_is_dealt_with(file: Path) -> None:
    """`ok` stands only where there is nothing to deal with."""
    with closing(sqlite3.connect(file)) as connection:
        for table in (
            "step_checkpoints",
            "workflow_timers",
            "workflow_tags",
            "workflow_executions",
        ):
            connection.execute(f"delete from {table} where workflow_execution_id != 'cut'")
        connection.commit()
    assert findings(file)["cut-off"][0] == "warning"
    assert "executions" not in findings(file)
    with TestClient(dashboard.app(file), base_url="http://127.0.0.1:8642") as client:
        assert "/acknowledge?id=cut" in client.get("/execution?id=cut").text
        assert lines("acknowledge", file, "cut")
        assert "/acknowledge?id=cut" not in client.get("/execution?id=cut").text
    assert findings(file)["executions"][0] == "ok"


@pytest.mark.parametrize("name", [" kim", "kim\n", "", "k" * 300])
def test_whatever_the_user_is_called_an_act_is_done(
    file: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: name)

    async def act() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, []) as engine:
                assert await engine.acknowledge("cut") == 1
            (entry,) = await store.load_audit_log("cut")
            assert entry.actor.startswith(name.strip()[:256])

    asyncio.run(act())


def test_executions_are_found_by_their_tags(file: Path) -> None:
    def ids(*arguments: str) -> list[str]:
        return [one for (one,) in lines("list", file, "-o", "id", *arguments)]

    assert ids("--tag", "customer=7") == ["tries", "cut", "lost"]
    assert ids("--tag", "customer=7", "--tag", "kind=gift") == ["tries"]
    assert ids("--tag", "customer=7", "--status", "failed") == ["cut", "lost"]
    assert ids("--tag", "customer=7", "--not-undone") == ["lost"]
    assert ids("--tag", "customer=8") == []
    assert "NAME=VALUE" in refusal("list", file, "--tag", "customer")
    assert ["tag", "kind", "gift"] in lines("show", file, "tries")


def test_an_engine_takes_tags_and_says_who_did_what(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            SqliteCheckpointStore.file(tmp_path / "one.db") as store,
            DurableEngine(store, [gives_up]) as engine,
        ):
            for wrong in ({"": "7"}, {"customer": 7}, ["customer"]):
                with pytest.raises((TypeError, ValueError), match="tag"):
                    await engine.start(gives_up, execution_id="e", tags=wrong)  # type: ignore[arg-type]
            assert await store.load_execution("e") is None
            for _ in range(2):
                with pytest.raises(WorkflowFailedError):
                    await engine.run(gives_up, execution_id="e", tags={"customer": "7"})
            assert await store.load_tags("e") == {"customer": "7"}
            await engine.retry("e", by="kim")
            with pytest.raises(WorkflowFailedError):
                await engine.result_of("e")
            assert await engine.acknowledge("e", by="lee") == 1
            assert await engine.acknowledge("e", by="lee") == 0
            with pytest.raises(ExecutionConflictError, match="undone"):
                await engine.retry("e")
            log = await store.load_audit_log("e")
            assert [(one.act, one.actor) for one in log] == [
                ("retry", "kim"),
                ("acknowledge", "lee"),
            ]

    asyncio.run(main())
