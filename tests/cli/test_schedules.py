"""The command `schedule`, and what doctor says of schedules."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import Client, SqliteCheckpointStore, WorkflowContext, workflow
from tests.cli.conftest import a_worker, lines, on_terminal, refusal, run


@workflow
async def report(ctx: WorkflowContext, of: str) -> str:
    return of


@pytest.fixture
def file(tmp_path: Path, placed: Callable[[Path], Path]) -> Path:
    """Two schedules, one at night and one that often fires."""

    async def declare() -> None:
        async with SqliteCheckpointStore.file(tmp_path / "workflows.db") as store:
            client = Client(store)
            await client.schedule("nightly", report, "a", cron="0 3 * * *", tz="Europe/Berlin")
            await client.schedule("often", report, "b", every=timedelta(minutes=90))

    asyncio.run(declare())
    return placed(tmp_path / "workflows.db")


def executions(file: Path) -> list[str]:
    return sorted(line[0] for line in lines("list", file))


def test_list_and_show(file: Path) -> None:
    nightly, often = lines("schedule", "list", file)
    assert nightly[:5] == ["nightly", "ACTIVE", "report", "1", "0 3 * * * Europe/Berlin"]
    assert often[:5] == ["often", "ACTIVE", "report", "1", "every 90 min"]
    assert nightly[5][11:] in ("01:00:00.000Z", "02:00:00.000Z")
    assert lines("schedule", "--help")
    assert lines("schedule", "list", "--db", file) == [nightly, often]
    assert lines("--db", file, "schedule", "list") == [nightly, often]
    found = json.loads(run("schedule", "list", file, "--json").stdout)
    assert [one["schedule_name"] for one in found] == ["nightly", "often"]
    code, text = on_terminal("schedule", "list", file)
    assert code == 0
    assert "0 3 * * * Europe/Berlin" in text
    assert "in " in text
    shown = dict(lines("schedule", "show", file, "nightly"))
    assert (shown["state"], shown["overlap"], shown["missed"]) == ("ACTIVE", "skip", "last")
    assert json.loads(run("schedule", "show", file, "often", "-o", "json").stdout)
    code, text = on_terminal("schedule", "show", file, "nightly")
    assert (code, "paused" in text) == (0, False)
    times = [line[0] for line in lines("schedule", "next", file, "nightly", "-n", "3")]
    assert len(times) == 3
    assert times[0] == nightly[5]


def test_pause_and_resume(file: Path) -> None:
    assert lines("schedule", "pause", file, "nightly", "--reason", "stocktaking")
    assert "was paused before" in run("schedule", "pause", file, "nightly").stdout
    (nightly, _) = lines("schedule", "list", file)
    assert nightly[1] == "PAUSED"
    assert nightly[5] == ""
    assert nightly[12] == "stocktaking"
    code, text = on_terminal("schedule", "show", file, "nightly")
    assert (code, "stocktaking" in text) == (0, True)
    assert "it fires next: 20" in run("schedule", "resume", file, "nightly").stdout
    assert "is not paused" in run("schedule", "resume", file, "nightly").stdout
    assert lines("schedule", "list", file)[0][1] == "ACTIVE"


def test_trigger_and_backfill(file: Path) -> None:
    ((started,),) = lines("schedule", "trigger", file, "often")
    assert started.startswith("often@")
    ids = [line[0] for line in lines("schedule", "backfill", file, "nightly", "--from", "3d")]
    assert len(ids) == 3
    assert lines("schedule", "backfill", file, "nightly", "--from", "3d") == []
    assert executions(file) == sorted([started, *ids])
    assert lines("list", file, "--tag", "schedule=often")[0][0] == started
    day = [f"--{end}={at}" for end, at in (("from", "2026-01-01T00:00Z"), ("to", "2026-01-02T12Z"))]
    assert [line[0][8:18] for line in lines("schedule", "backfill", file, "nightly", *day)] == [
        "2026-01-01",
        "2026-01-02",
    ]
    assert "2026-01-01T00:00Z" in refusal(
        "schedule", "backfill", file, "nightly", "--from", "2026-01-01"
    )
    assert "neither a time" in refusal("schedule", "backfill", file, "nightly", "--from", "soon")
    assert "in the future" in refusal(
        "schedule", "backfill", file, "nightly", "--from", "1d", "--to", "2999-01-01T00:00Z"
    )


def test_delete(file: Path) -> None:
    assert lines("schedule", "delete", file, "often") == [["deleted often"]]
    assert len(lines("schedule", "list", file)) == 1


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "command", ["show", "next", "pause", "resume", "trigger", "delete", "backfill"]
)
def test_an_unknown_name_is_refused(file: Path, command: str) -> None:
    more = ["--from", "1d"] if command == "backfill" else []
    said = refusal("schedule", command, file, "nigthly", *more)
    assert said == "there is no schedule 'nigthly'; did you mean 'nightly'?"


def findings(file: Path) -> Iterator[list[str]]:
    for line in run("doctor", file).stdout.splitlines():
        cells = line.split("\t")
        if cells[1:2] == ["schedule"]:
            yield cells


def edit(file: Path, sql: str) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(sql)


def test_doctor_says_what_is_wrong_with_a_schedule(file: Path) -> None:
    assert list(findings(file)) == []  # no worker lives, and nothing is due
    edit(file, "update workflow_schedules set next_fire_at = '2026-01-01T02:00:00.000000Z'")
    late = [message for _, _, message, _ in findings(file)]
    assert late == [
        f"schedule {name!r} should have fired at 2026-01-01T02:00:00Z, and no worker lives"
        for name in ("nightly", "often")
    ]
    edit(file, "update workflow_schedules set next_fire_at = '2999-01-01T00:00:00.000000Z'")
    edit(file, "update workflow_schedules set trouble = 'no such zone' where cron is not null")
    ((level, _, message, hint),) = findings(file)
    assert level == "warning"
    assert message == "schedule 'nightly' fires no more: no such zone"
    assert f"durable-workflow schedule resume {file} nightly" in hint
    assert "it fires next" in run("schedule", "resume", file, "nightly").stdout
    edit(file, "update workflow_schedules set trouble = 'no such zone' where cron is not null")
    assert ["warning", "schedule", message, hint] in lines("status", file)
    _, text = on_terminal("status", file, columns=250)
    assert message in text
    assert len(json.loads(run("status", file, "--json").stdout)["schedules"]) == 2
    edit(file, "update workflow_schedules set trouble = null")
    with a_worker(file):
        said = [message for _, _, message, _ in findings(file)]
        assert said == [
            f"schedule '{name}' starts report v1, which no living worker knows"
            for name in ("nightly", "often")
        ]


def test_a_worker_fires_what_a_person_asks_for_in_the_row(file: Path) -> None:
    soon = datetime.now(UTC) - timedelta(seconds=1)
    edit(file, f"update workflow_schedules set next_fire_at = '{soon:%Y-%m-%dT%H:%M:%S.000000Z}'")
    with a_worker(file):
        while len(executions(file)) < 2:
            pass
    assert executions(file) == [
        f"{name}@{soon:%Y-%m-%dT%H:%M:%S}Z" for name in ("nightly", "often")
    ]


def test_a_schedule_says_when_it_last_did_not_fire(file: Path) -> None:
    first, later = datetime(2026, 1, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, 2, 5, tzinfo=UTC)
    held = "it is not fired while its last execution is not over"
    ((started,),) = lines("schedule", "trigger", file, "often")
    edit(
        file,
        f"update workflow_schedules set last_fired_at = '{first:%Y-%m-%dT%H:%M:%S.000000Z}',"
        f" last_execution_id = '{started}'",
    )
    assert held not in on_terminal("schedule", "show", file, "often", columns=250)[1]
    edit(
        file,
        f"update workflow_schedules set last_skipped_at = '{later:%Y-%m-%dT%H:%M:%S.000000Z}'",
    )
    _, text = on_terminal("schedule", "show", file, "often", columns=250)
    assert "last not fired  2026-01-01 02:05:00Z" in text
    assert f"{held}; to look at that: durable-workflow show {file} {started}" in text
    edit(file, "update workflow_executions set status = 'COMPLETED'")
    assert held not in on_terminal("schedule", "show", file, "often", columns=250)[1]


def test_who_did_what_to_a_schedule_is_in_the_audit_log(file: Path) -> None:
    lines("schedule", "pause", file, "nightly", "--reason", "stock")
    lines("schedule", "resume", file, "nightly")
    ((started,),) = lines("schedule", "trigger", file, "nightly")
    number = len(lines("schedule", "backfill", file, "nightly", "--from", "3d"))
    lines("schedule", "delete", file, "nightly")
    found = lines("audit", file, "--schedule", "nightly")
    assert [line[3] for line in found] == ["delete", "backfill", "trigger", "resume", "pause"]
    assert json.loads(found[2][5]) == {"started": started}
    assert json.loads(found[1][5])["started"] == number == 3
    assert json.loads(found[3][5])["paused_reason"] == "stock"
    assert all("@" in line[4] for line in found)
    lines("schedule", "pause", file, "often")
    lines("schedule", "pause", file, "often")  # it was: nothing is written
    assert [line[3] for line in lines("audit", file, "--schedule", "often")] == ["pause"]
    _, text = on_terminal("schedule", "show", file, "often", columns=200)
    assert "what people did" in text
