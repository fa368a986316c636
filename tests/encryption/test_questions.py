"""What a question asks is as secret as any value; whom it is for is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    AesGcmCodec,
    Client,
    DurableEngine,
    WorkflowContext,
    open_reader,
    open_store,
    workflow,
)
from tests import postgres_server
from tests.databases import new_database
from tests.encryption.stories import CODEC, KEY, SECRET
from tests.encryption.test_secrets import forms_of, texts_of

NEW_KEY = b"n" * 32
NEW = AesGcmCodec([("second", NEW_KEY)])
BOTH = AesGcmCodec([("second", NEW_KEY), ("first", KEY)])


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.campaign)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    file = tmp_path / "workflows.db"
    if request.param == "sqlite":
        yield str(new_database(file))
        return
    yield f"{postgres_server.url()}?schema={postgres_server.schema_of(file)}"


@workflow
async def asks(ctx: WorkflowContext) -> str:
    first = await ctx.ask("q", f"Is it {SECRET}?", type=str, to="finance", details=[SECRET])
    return f"{first} {await ctx.ask('r', SECRET, type=str)}"


async def ask(url: str, *, name: str, codec: AesGcmCodec) -> None:
    async with (
        open_store(url, codec=codec) as store,
        DurableEngine(store, [asks]) as engine,
        asyncio.timeout(30),
    ):
        if name == "q":
            await engine.start(asks, execution_id="one")
        while [one.name for one in await engine.questions()] != [name]:
            await asyncio.sleep(0.005)


def test_what_is_asked_and_answered_is_encoded_also_with_a_new_key(url: str) -> None:
    async def main() -> None:
        await ask(url, name="q", codec=CODEC)
        with open_reader(url) as reader:
            (hidden,) = reader.questions(to="finance")
            assert (hidden.name, hidden.question, hidden.details) == ("q", None, None)
            details = reader.execution("one")
            assert details is not None
            assert details.summary.waiting_for == "answer of finance to q"
        with open_reader(url, codec=CODEC) as reader:
            (shown,) = reader.questions()
            assert (shown.question, shown.details) == (f"Is it {SECRET}?", [SECRET])
            assert shown.schema == {"type": "string"}
        async with open_store(url, codec=CODEC) as store:
            await Client(store).answer("one", "q", SECRET)
        for form in forms_of(SECRET):
            assert form not in texts_of(url)  # no worker has taken it yet
        await ask(url, name="r", codec=CODEC)
        for form in forms_of(SECRET):
            assert form not in texts_of(url)
        async with open_store(url, codec=BOTH) as store:
            assert (await store.recode()).left == 0
        async with open_store(url, codec=NEW) as store:
            (question,) = await store.load_questions()
            assert question.question == SECRET
            await Client(store).answer("one", "r", "fine")
            async with DurableEngine(store, [asks]) as engine:
                result = await asyncio.wait_for(engine.handle("one").result(), 30)
                assert result == f"{SECRET} fine"

    asyncio.run(main())
