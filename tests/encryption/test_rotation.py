"""Values are encoded anew, while workers write, and as often as it takes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    AesGcmCodec,
    DurableEngine,
    WorkflowContext,
    blocking,
    open_reader,
    open_store,
    workflow,
)
from durable_workflow_sqlite.store import recoding
from tests import postgres_server
from tests.databases import new_database
from tests.encryption.stories import CODEC, KEY, SECRET, go_on, live
from tests.encryption.test_secrets import forms_of, texts_of
from tests.processes import die, run_until_killed

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


def keys_of(url: str, codec: Any = BOTH) -> dict[str | None, int]:
    with open_reader(url, codec=codec) as reader:
        return {one.key: one.count for one in reader.encodings()}


async def lived(url: str, codec: AesGcmCodec | None) -> None:
    async with open_store(url, codec=codec) as store:
        await live(store)


async def recoded(url: str, codec: AesGcmCodec, **options: Any) -> recoding.Recoded:
    async with open_store(url, codec=codec) as store:
        return await store.recode(**options)


def test_everything_is_encoded_with_the_new_key_and_the_old_one_can_go(url: str) -> None:
    async def main() -> None:
        await lived(url, CODEC)
        before = keys_of(url)
        assert set(before) <= {"first", None}
        done: list[int] = []
        result = await recoded(url, BOTH, on_progress=done.append)
        assert result.rows > 10
        assert (result.left, result.problem) == (0, None)
        assert done == sorted(done)
        assert done[-1] >= result.rows
        assert keys_of(url) == {"second": sum(before.values())}
        assert (await recoded(url, BOTH)).rows == 0
        async with open_store(url, codec=NEW) as store:
            await go_on(store)

    asyncio.run(main())


def test_what_was_written_without_a_codec_is_encoded(url: str) -> None:
    async def main() -> None:
        await lived(url, None)
        assert SECRET.encode() in texts_of(url)
        await recoded(url, CODEC)
        for form in forms_of(SECRET):
            assert form not in texts_of(url)
        async with open_store(url, codec=CODEC) as store:
            await go_on(store)

    asyncio.run(main())


def test_everything_can_be_decoded_again(url: str) -> None:
    async def main() -> None:
        await lived(url, CODEC)
        assert (await recoded(url, CODEC, to_plain=True)).left == 0
        assert set(keys_of(url)) == {None}
        assert b"ncoded:" not in texts_of(url)
        async with open_store(url) as store:
            await go_on(store)

    asyncio.run(main())


def test_what_cannot_be_decoded_stays_as_it_is_and_is_counted(url: str) -> None:
    async def main() -> None:
        await lived(url, CODEC)
        before = keys_of(url)
        result = await recoded(url, NEW)
        assert result.left == before["first"]
        assert "the key 'first', which is not there" in str(result.problem)
        assert keys_of(url)["first"] == before["first"]

    asyncio.run(main())


@workflow
async def counts(ctx: WorkflowContext, steps: int) -> int:
    async def number(one: int) -> int:
        await asyncio.sleep(0.001)
        return one

    total = 0
    for one in range(steps):
        total += await ctx.step(f"step {one}", number, one)
    return total


@pytest.mark.campaign
def test_workers_run_meanwhile(url: str) -> None:
    async def main() -> None:
        codecs = (CODEC, BOTH)
        stores = [open_store(url, codec=BOTH) for _ in codecs]
        async with stores[0], stores[1], DurableEngine(stores[0], workflows=[counts]) as engine:
            handles = [await engine.start(counts, 60) for _ in range(4)]
            results = asyncio.gather(*(one.result() for one in handles))
            while not results.done():
                await stores[1].recode()
                await asyncio.sleep(0)
            assert await results == [sum(range(60))] * 4

    asyncio.run(main())


def test_a_row_that_a_worker_changes_meanwhile_stays_as_the_worker_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = new_database(tmp_path / "workflows.db")
    before = recoding.Recoding.update_of

    def change_it_first(self: Any, table: Any, row: Any, wanted: Any) -> Any:
        if table.load == "load_values_of_steps":
            with closing(sqlite3.connect(file)) as other, other:
                other.execute("update step_checkpoints set output_data = '\"theirs\"'")
        return before(self, table, row, wanted)

    async def main() -> None:
        async with (
            open_store(file, codec=CODEC) as store,
            DurableEngine(store, workflows=[counts]) as engine,
        ):
            assert await (await engine.start(counts, 3, execution_id="e")).result() == 3
        monkeypatch.setattr(recoding.Recoding, "update_of", change_it_first)
        await recoded(str(file), BOTH)
        monkeypatch.undo()
        async with open_store(file, codec=NEW) as store:
            assert [one.output_data for one in await store.load_checkpoints("e")] == [
                '"theirs"'
            ] * 3

    asyncio.run(main())


def test_it_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    file = new_database(tmp_path / "workflows.db")

    async def run() -> None:
        async with (
            open_store(file, codec=CODEC) as store,
            DurableEngine(store, workflows=[counts]) as engine,
        ):
            await (await engine.start(counts, 300)).result()

    async def is_killed() -> None:
        def die_in_the_middle(done: int) -> None:
            if done > 150:
                die()

        await recoded(str(file), BOTH, on_progress=die_in_the_middle)

    asyncio.run(run())
    run_until_killed(is_killed)
    found = keys_of(str(file))
    assert found["first"] > 100
    assert found["second"] > 100
    result = asyncio.run(recoded(str(file), BOTH))
    assert 100 < result.rows < 250
    assert set(keys_of(str(file))) == {"second"}


def test_without_a_codec_nothing_changes_and_what_is_encoded_is_counted(tmp_path: Path) -> None:
    file = new_database(tmp_path / "workflows.db")
    asyncio.run(lived(str(file), CODEC))
    before = texts_of(str(file))
    for to_plain in (False, True):
        with blocking.open_store(file) as store:
            result = store.recode(to_plain=to_plain)
        assert result.rows == 0
        assert result.left == keys_of(str(file))["first"]
        assert "has no codec" in str(result.problem)
    assert texts_of(str(file)) == before
