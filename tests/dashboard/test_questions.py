"""The page of questions, and the form that answers one: it is made from the type."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from starlette.testclient import TestClient

from durable_workflow_sqlite import Client, DurableEngine, WorkflowContext, open_store, workflow
from durable_workflow_sqlite.dashboard.answer_forms import form_of, value_in
from durable_workflow_sqlite.engine.answer_schemas import misfit, schema_of
from tests.dashboard.conftest import Open, token_in
from tests.dashboard.test_pages import words


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclasses.dataclass
class Approval:
    ok: bool
    limit: int
    price: float
    note: str
    size: Size = Size.SMALL
    level: Literal[1, 2] = 1
    until: str | None = None


@dataclasses.dataclass
class Nested:
    approval: Approval
    tags: list[str]


TYPES: dict[str, Any] = {
    "yes": bool,
    "approval": Approval,
    "nested": Nested,
    "size": Size,
    "number": int,
    "free": dict[str, int],
    "maybe": bool | None,
}


@workflow
async def asks(ctx: WorkflowContext, kind: str) -> Any:
    return repr(
        await ctx.ask(
            "q <b>",
            f"Is <i>{kind}</i> right?",
            type=TYPES[kind],
            to="finance" if kind == "yes" else "legal",
            details={"kind": kind},
            deadline=timedelta(days=3),
        )
    )


async def _begin(file: Path) -> None:
    async with open_store(file) as store, DurableEngine(store) as engine, asyncio.timeout(30):
        for kind in TYPES:
            await engine.start(asks, kind, execution_id=kind)
        while len(await engine.questions()) < len(TYPES):
            await asyncio.sleep(0.005)


async def _result(file: Path, kind: str) -> Any:
    async with open_store(file) as store, DurableEngine(store, [asks]) as engine:
        return await asyncio.wait_for(engine.handle(kind).result(), 30)


@pytest.fixture
def file(file: Path) -> Path:
    """Also with executions that ask."""
    asyncio.run(_begin(file))
    return file


def answer(client: TestClient, kind: str, **fields: str) -> Any:
    given = {"id": kind, "signal": "$answer:q <b>@1.0"}
    page = client.get("/pause-whole")  # it has the same token, also if nothing is asked any more
    fields = {key.replace("__", "."): value for key, value in fields.items()}
    return client.post("/answer", data={"form_token": token_in(page.text), **given, **fields})


def test_the_questions_are_shown_and_a_form_answers_one(file: Path, visit: Open) -> None:
    client = visit()
    shown = client.get("/questions")
    assert "Is <i>yes" not in shown.text
    assert "Is &lt;i&gt;yes&lt;/i&gt; right?" in shown.text
    assert 'href="/questions?to=legal"' in shown.text
    assert shown.text.count("Answer…") == len(TYPES)
    assert client.get("/questions", params={"to": "finance"}).text.count("Answer…") == 1
    assert 'href="/questions"' in client.get("/").text
    execution = client.get("/execution", params={"id": "yes"}).text
    assert "Answer…" in execution
    assert "Waits for an answer to q" in words(execution)
    assert "waits for an answer of finance to q" in words(client.get("/executions").text)

    form = client.get("/answer", params={"id": "yes", "signal": "$answer:q <b>@1.0"}).text
    assert 'name="answer" value="true">Yes</button>' in form
    assert 'name="answer" value="false">No</button>' in form
    done = answer(client, "yes", answer="true", by="kim")
    assert (done.status_code, done.headers["location"]) == (303, "/questions?done=answered")
    assert "The answer is stored" in words(client.get("/questions?done=answered").text)
    assert asyncio.run(_result(file, "yes")) == "True"
    late = answer(client, "yes", answer="false")
    assert late.status_code == 409
    page = words(client.get("/execution", params={"id": "yes"}).text)
    assert "kim (dashboard, from" in page


def test_a_form_of_an_object_has_a_field_for_each_part(file: Path, visit: Open) -> None:
    client = visit()
    given = {"id": "approval", "signal": "$answer:q <b>@1.0"}
    form = client.get("/answer", params=given).text
    assert '<input type="checkbox" id="a-1-1" name="answer.ok" value="true">' in form
    assert 'name="answer.limit" type="number" step="1"' in form
    assert 'name="answer.price" type="number" step="any"' in form
    assert '<textarea id="a-1-4" name="answer.note" rows="2"></textarea>' in form
    assert '<option value="&#34;small&#34;"' in form
    fields = {
        "answer__limit": "7",
        "answer__price": "1.5",
        "answer__note": "a\r\nb",
        "answer__size": '"large"',
        "answer__level": "2",
        "answer__until": "",
    }
    wrong = answer(client, "approval", **{**fields, "answer__limit": "many"})
    assert wrong.status_code == 422
    assert "The limit is not a number" in words(wrong.text)
    assert "a\nb</textarea>" in wrong.text.replace("\r", "")
    wrong = answer(client, "approval", **{**fields, "answer__limit": "7.5"})
    assert wrong.status_code == 422
    assert "the answer.limit must be a whole number" in words(wrong.text)
    assert answer(client, "approval", **fields).status_code == 303
    result = asyncio.run(_result(file, "approval"))
    assert "Approval(ok=False, limit=7, price=1.5, note='a\\nb'" in result
    assert "size=<Size.LARGE: 'large'>, level=2, until=None" in result


def test_other_forms(file: Path, visit: Open) -> None:
    client = visit()
    for kind, fields, result in (
        ("size", {"answer": '"large"'}, "<Size.LARGE: 'large'>"),
        ("number", {"answer": "-3"}, "-3"),
        ("free", {"answer": '{"a": 1}'}, "{'a': 1}"),
        ("maybe", {"answer": ""}, "None"),
        (
            "nested",
            {
                "answer__approval__ok": "true",
                "answer__approval__limit": "1",
                "answer__approval__price": "2",
                "answer__approval__note": "",
                "answer__tags": '["x"]',
            },
            "tags=['x']",
        ),
    ):
        assert answer(client, kind, **fields).status_code == 303, kind
        assert result in asyncio.run(_result(file, kind))
    assert answer(client, "yes").status_code == 422


def test_it_is_protected_as_the_other_actions(file: Path, visit: Open) -> None:
    client = visit()
    given = {"id": "yes", "signal": "$answer:q <b>@1.0", "answer": "true"}
    assert client.post("/answer", data={"form_token": "none", **given}).status_code == 403
    assert client.get("/answer", params={"id": "yes", "signal": "other"}).status_code == 404
    assert client.get("/answer", params={"id": "", "signal": ""}).status_code == 404
    read_only = visit(read_only=True)
    assert "Answer…" not in read_only.get("/questions").text
    assert read_only.get("/answer", params=given).status_code == 404
    assert read_only.post("/answer", data=given).status_code in (403, 404, 405)

    async def open_ones() -> int:
        async with open_store(file) as store:
            return len(await Client(store).questions())

    assert asyncio.run(open_ones()) == len(TYPES)


@pytest.mark.parametrize(
    ("kind", "form", "value"),
    [
        (bool, {"answer": "true"}, True),
        (int, {"answer": " 7 "}, 7),
        (float, {"answer": "7"}, 7),
        (str, {"answer": " x "}, " x "),
        (str | None, {"answer": ""}, None),
        (int | None, {"answer": "3"}, 3),
        (Literal["a", 1], {"answer": "1"}, 1),
        (int | str, {"answer": '"x"'}, "x"),
        (list[int], {"answer": "[1]"}, [1]),
        (Any, {"answer": '{"a":null}'}, {"a": None}),
    ],
)
def test_what_a_form_holds(kind: Any, form: dict[str, str], value: object) -> None:
    schema = schema_of(kind)
    found = value_in(form_of(schema), form)
    assert (found, type(found)) == (value, type(value))
    assert misfit(found, schema) is None


@pytest.mark.parametrize("text", ["", "x", "[", "true"])
def test_what_a_field_for_numbers_cannot_hold(text: str) -> None:
    with pytest.raises(ValueError, match="The answer is"):
        value_in(form_of(schema_of(int)), {"answer": text})


def test_a_form_with_too_many_fields_is_one_for_json() -> None:
    many = dataclasses.make_dataclass("Many", [(f"n{one}", int) for one in range(20)])
    assert form_of(schema_of(many)).kind == "json"
