"""`questions` and `answer`, and what every command says of an execution that asks."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import DurableEngine, WorkflowContext, open_store, workflow
from tests.cli.conftest import lines, on_terminal, refusal, run
from tests.databases import new_database


@workflow
async def payment(ctx: WorkflowContext, amount: int) -> Any:
    return await ctx.ask(
        "approve",
        "May we pay?",
        type=bool,
        to="finance",
        details={"amount": amount},
        deadline=timedelta(days=7),
    )


@workflow
async def two(ctx: WorkflowContext) -> list[str]:
    async def one(key: str) -> str:
        return await ctx.branch(key).ask("who", f"Who is {key}?", type=str)

    return await asyncio.gather(one("a"), one("b"))


async def go_on(file: Path, *, until_asked: int = 0) -> list[object]:
    """Run what is there: until so many questions are open, or to the end."""
    async with (
        open_store(file) as store,
        DurableEngine(store, [payment, two]) as engine,
        asyncio.timeout(30),
    ):
        if not until_asked:
            return [await engine.handle(one).result() for one in ("pay", "both")]
        await engine.start(payment, 700, execution_id="pay")
        await engine.start(two, execution_id="both")
        while len(await engine.questions()) < until_asked:
            await asyncio.sleep(0.005)
        return []


@pytest.fixture
def asking(tmp_path: Path) -> Path:
    """A file in which executions ask, and no worker lives."""
    file = new_database(tmp_path / "asking.db")
    asyncio.run(go_on(file, until_asked=3))
    return file


def test_questions_are_listed_and_answered(asking: Path) -> None:
    (line,) = lines("questions", asking, "--to", "finance")
    assert line[:3] == ["pay", "approve", "finance"]
    assert line[5:] == ["May we pay?", '{"amount":700}', "bool"]
    assert len(lines("questions", asking)) == 3
    assert lines("questions", asking, "--to", "nobody") == []
    found = json.loads(run("questions", asking, "-o", "json").stdout)
    (one,) = [x for x in found if x["to"] == "finance"]
    assert one["schema"] == {"type": "boolean"}
    _, seen = on_terminal("questions", asking)
    assert "May we pay?" in seen
    assert f"durable-workflow answer {asking} ID NAME JSON" in seen

    said = refusal("answer", asking, "pay", "approve", '"yes"')
    assert 'the answer must be true or false, not "yes"' in said
    said = refusal("answer", asking, "pay", "approve", "yes")
    assert "is not JSON" in said
    said = refusal("answer", asking, "pay", "aprove", "true")
    assert "asks no question 'aprove' now; it asks 'approve'" in said
    said = refusal("answer", asking, "both", "who", '"kim"')
    assert "asks 2 questions 'who' now" in said
    assert not [line for line in lines("show", asking, "pay") if line[0] == "signal"]

    done = run("answer", asking, "pay", "approve", "true", "--by", "kim")
    assert done.stdout == "question approve of pay is answered; a worker goes on with it\n"
    assert "was answered by kim at" in refusal("answer", asking, "pay", "approve", "false")
    for name, value in (("$answer:who@1.0:a", '"al"'), ("$answer:who@1.0:b", '"bo"')):
        run("answer", asking, "both", name, value)
    assert asyncio.run(go_on(asking)) == [True, ["al", "bo"]]
    acts = [line for line in lines("show", asking, "pay") if line[0] == "act"]
    assert "kim" in acts[0]
    assert '"answer":true' in acts[0][-1]
    assert "kim" in run("audit", asking).stdout


def test_the_commands_say_what_it_waits_for(asking: Path) -> None:
    listed = {line[0]: line for line in lines("list", asking)}
    assert "answer of finance to approve" in listed["pay"]
    found = json.loads(run("show", asking, "pay", "--json").stdout)
    assert found["summary"]["waiting_for"] == "answer of finance to approve"
    assert found["questions"][0]["question"] == "May we pay?"
    _, seen = on_terminal("show", asking, "pay")
    words = " ".join(seen.split())
    assert "waits for" in words
    assert "answer of finance to approve" in words
    assert "approve of finance: May we pay?" in words
    assert '{"amount":700}' in words
    assert f"to answer it: durable-workflow answer {asking} pay approve JSON" in words
    _, seen = on_terminal("show", asking, "both")
    assert "answer to who" in " ".join(seen.split())
    assert "'$answer:who@1.0:a' JSON" in " ".join(seen.split())


def test_an_insert_by_sql_answers_and_one_that_does_not_fit_is_refused(asking: Path) -> None:
    insert = (
        "insert into workflow_signals (workflow_execution_id, signal_name, payload)"
        " select workflow_execution_id, signal_name, ? from workflow_questions"
        " where workflow_execution_id = ? and branch = ?"
    )
    with closing(sqlite3.connect(asking)) as shell, shell:
        view = shell.execute(
            "select name, asked_of, question, details, answer_type, answer_schema, is_answered"
            " from workflow_questions where workflow_execution_id = 'pay'"
        ).fetchall()
        assert view == [
            ("approve", "finance", "May we pay?", '{"amount":700}', "bool", '{"type":"boolean"}', 0)
        ]
        shell.execute(insert, ('"yes"', "pay", ""))
        shell.execute(insert, ("false", "pay", ""))
        shell.execute(insert, ('"al"', "both", "a"))
        shell.execute(insert, ('"bo"', "both", "b"))
    assert asyncio.run(go_on(asking)) == [False, ["al", "bo"]]
    found = lines("show", asking, "pay")
    signals = [line for line in found if line[0] == "signal"]
    assert [line[2] for line in signals] == ["REFUSED", "DELIVERED"]
    (act,) = [line for line in found if line[0] == "act"]
    assert "an insert by SQL" in act


def test_doctor_says_which_questions_are_open_and_which_are_overdue(asking: Path) -> None:
    found = [one for one in lines("doctor", asking, "--verbose") if one[1] == "questions"]
    ((level, _, message, hint),) = found
    assert level == "note"
    assert message.startswith("3 questions to people, open since: approve of pay for finance (")
    assert "No worker lives to take an answer" in hint
    with closing(sqlite3.connect(asking)) as connection, connection:
        for table, column in (("workflow_timers", "fire_at"), ("step_checkpoints", "due_at")):
            connection.execute(
                f"update {table} set {column} = '2020-01-01T00:00:00.000000Z'"
                f" where workflow_execution_id = 'pay' and {column} is not null"
            )
    done = run("doctor", asking, "--verbose")
    assert done.returncode == 3
    found = [line.split("\t") for line in done.stdout.splitlines() if "\tquestions\t" in line]
    assert [(level, message[:40]) for level, _, message, _ in found] == [
        ("warning", "overdue, and nobody has answered: approv"),
        ("note", "2 questions to people, open since: who o"),
    ]
    assert found[0][2].endswith("approve of pay for finance, until 2020-01-01T00:00:00Z")
    assert "\ttimers\t" not in done.stdout
    # An answer that came in time is there: only a worker is missing.
    with closing(sqlite3.connect(asking)) as connection, connection:
        connection.execute(
            "insert into workflow_signals (workflow_execution_id, signal_name, payload)"
            " select workflow_execution_id, signal_name, 'true' from workflow_questions"
            " where workflow_execution_id = 'pay'"
        )
    done = run("doctor", asking)
    assert "overdue" not in done.stdout
    assert "answer to approve of pay" in done.stdout
