"""`streaming.sse`: the streams of executions, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from durable_workflow_sqlite import Client, RetryPolicy, WorkflowContext, step_stream, workflow
from durable_workflow_sqlite.streaming import sse
from tests.processes import an_engine


async def events(
    client: Client, path: str, headers: dict[str, str] | None = None
) -> AsyncIterator[tuple[str, str, Any]]:
    """(id, event, data) of each event; a comment is none."""
    transport = httpx.ASGITransport(app=sse(client))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as browser:
        answer = await browser.get(path, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    for block in answer.text.split("\n\n"):
        found = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if found:
            yield found.get("id", ""), found["event"], json.loads(found["data"])


def test_a_browser_gets_each_item_and_goes_on_behind_the_last_event(tmp_path: Path) -> None:
    tries: list[int] = []

    async def say() -> None:
        tries.append(1)
        step_stream().put("two\nlines")
        await step_stream().write(len(tries))
        if len(tries) == 1:
            raise ConnectionError

    @workflow
    async def talk(ctx: WorkflowContext) -> None:
        retry = RetryPolicy.fixed(max_attempts=2, delay=timedelta(milliseconds=300))
        await ctx.step("say", say, retry=retry)

    async def main() -> None:
        async with an_engine(tmp_path / "workflows.db") as (store, engine):
            await engine.start(talk, execution_id="an/id")
            client = Client(store)
            found = [one async for one in events(client, "/an/id")]
            assert [(kind, data.get("value")) for _, kind, data in found] == [
                ("item", "two\nlines"),
                ("item", 1),
                ("reset", None),
                ("item", "two\nlines"),
                ("item", 2),
                ("end", None),
            ]
            last = {"last-event-id": found[1][0]}
            rest = [kind async for _, kind, _ in events(client, "/an/id", last)]
            assert rest == ["reset", "item", "item", "end"]
            other = [kind async for _, kind, _ in events(client, "/an/id?step=other")]
            assert other == ["end"]
            transport = httpx.ASGITransport(app=sse(client))
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as browser:
                assert (await browser.get("/unknown")).status_code == 404
                bad = await browser.get("/an/id", headers={"last-event-id": "x"})
                assert bad.status_code == 400

    asyncio.run(main())


def test_of_several_steps_of_a_name_one_is_followed(tmp_path: Path) -> None:
    async def say(text: str) -> None:
        step_stream().put(text)

    @workflow
    async def twice(ctx: WorkflowContext) -> None:
        for scope in (ctx, ctx.branch("a/b")):
            for number in range(2):
                await scope.step("say", say, f"{scope.path}{number}")

    async def main() -> None:
        async with an_engine(tmp_path / "workflows.db") as (store, engine):
            await engine.run(twice, execution_id="e")
            client = Client(store)

            async def items(query: str) -> list[str]:
                found = [one async for one in events(client, f"/e?{query}")]
                return [data["value"] for _, kind, data in found if kind == "item"]

            assert await items("step=say") == ["0", "1", "a/b0", "a/b1"]
            assert await items("step=say&branch=") == ["0", "1"]
            assert await items("step=say&branch=a%2Fb") == ["a/b0", "a/b1"]
            assert await items("step=say&branch=a%2Fb&index=1") == ["a/b1"]
            assert await items("step=say&index=0") == ["0"]
            transport = httpx.ASGITransport(app=sse(client))
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as browser:
                for query in ("index=0", "branch=x", "step=say&index=-1", "step=say&index=x"):
                    assert (await browser.get(f"/e?{query}")).status_code == 400, query

    asyncio.run(main())
