"""Wrong keys, changed rows, copied rows, values of both kinds in one database."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from durable_workflow_sqlite import (
    AesGcmCodec,
    CheckpointStore,
    Client,
    DurableEngine,
    ExecutionConflictError,
    PayloadCodec,
    PayloadDecodeError,
    PayloadKeyError,
    SerializationError,
    SqliteCheckpointStore,
    StoreCorruptError,
    StoreError,
    WorkflowContext,
    blocking,
    open_reader,
    open_store,
    workflow,
)
from durable_workflow_sqlite.postgres.sql import QUERIES_DIR as QUERIES_OF_POSTGRES
from durable_workflow_sqlite.records import utc_now
from durable_workflow_sqlite.store import encoding
from durable_workflow_sqlite.store.queries import ROW_CLASSES
from durable_workflow_sqlite.store.sql import QUERIES_DIR, load_statements
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.databases import new_database
from tests.encryption.stories import CODEC, KEY, waits

NEW_KEY = b"n" * 32
ROTATED = AesGcmCodec([("second", NEW_KEY), ("first", KEY)])
OTHER = AesGcmCodec([("first", b"o" * 32)])


@workflow
async def asks(ctx: WorkflowContext, text: str) -> str:
    async def answer() -> str:
        return f"answer to {text}"

    said: str = await ctx.step("answer", answer)
    again: str = await ctx.step("again", answer)
    told: str = await ctx.wait_signal("go", type=str)
    return f"{said}, {again}, {told}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return new_database(tmp_path / "workflows.db")


async def begin(file: Path, codec: PayloadCodec | None = CODEC, one: str = "e") -> None:
    async with (
        open_store(file, codec=codec) as store,
        DurableEngine(store, workflows=[asks]) as engine,
    ):
        await engine.enqueue(asks, "a question", execution_id=one)
        while not await store.load_open_waits(one, "go"):
            await asyncio.sleep(0.01)


async def end(file: Path, codec: PayloadCodec | None = CODEC, one: str = "e") -> str:
    async with (
        open_store(file, codec=codec) as store,
        DurableEngine(store, workflows=[asks]) as engine,
    ):
        await engine.handle(one).signal("go", "now")
        return str(await engine.handle(one).result())


ANSWER = "answer to a question, answer to a question, now"


async def left_in_trouble(file: Path, codec: PayloadCodec | None) -> str:
    """What a worker with this codec makes of the execution, which it may not end."""
    async with (
        open_store(file, codec=codec) as store,
        DurableEngine(store, workflows=[asks]) as engine,
    ):
        with pytest.raises(PayloadDecodeError) as refused:
            await engine.handle("e").result()
    async with open_store(file, codec=CODEC) as store:
        assert not (await loaded(store, "e")).status.is_terminal
    return str(refused.value)


def sql(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        assert connection.execute(statement).rowcount == 1


# Keys


@pytest.mark.parametrize(
    ("codec", "says"),
    [
        (None, "the store has no codec"),
        (AesGcmCodec([("second", NEW_KEY)]), "the key 'first', which is not there"),
        (OTHER, "does not fit the key 'first'"),
    ],
    ids=["no codec", "unknown key", "another key of this id"],
)
def test_an_execution_that_cannot_be_decoded_is_left_as_it_is(
    file: Path, codec: PayloadCodec | None, says: str
) -> None:
    async def main() -> None:
        await begin(file)
        assert says in await left_in_trouble(file, codec)
        assert await end(file) == ANSWER

    asyncio.run(main())


def test_the_errors_tell_a_missing_key_from_a_wrong_one(file: Path) -> None:
    async def main() -> None:
        await begin(file)
        for codec, kind in (
            (None, PayloadKeyError),
            (AesGcmCodec([("second", NEW_KEY)]), PayloadKeyError),
            (OTHER, PayloadDecodeError),
        ):
            async with open_store(file, codec=codec) as store:
                for load in (store.load_execution, store.load_checkpoints):
                    with pytest.raises(kind) as refused:
                        await load("e")
                    assert type(refused.value) is kind
                    assert isinstance(refused.value, StoreCorruptError)
                    assert refused.value.workflow_execution_id == "e"
                    assert not refused.value.may_pass

    asyncio.run(main())


def test_the_first_key_encodes_and_all_decode(file: Path) -> None:
    async def main() -> None:
        await begin(file)
        assert await end(file, ROTATED) == ANSWER
        with pytest.raises(PayloadKeyError, match="'second'"):
            async with open_store(file, codec=CODEC) as store:
                await store.load_checkpoints("e")
        async with open_store(file, codec=ROTATED) as store:
            assert len(await store.load_checkpoints("e")) == 3

    asyncio.run(main())


def test_a_worker_without_the_key_of_a_child_s_end_leaves_the_parent_as_it_is(file: Path) -> None:
    """The trigger of the tables tells a parent how its child ended."""

    @workflow(name="kid")
    async def kid(ctx: WorkflowContext) -> str:
        return "the kid's"

    @workflow(name="parent")
    async def parent(ctx: WorkflowContext) -> str:
        result: str = await ctx.child("kid", kid)
        return result

    async def main() -> None:
        async with (
            open_store(file, codec=ROTATED) as theirs,
            DurableEngine(theirs, workflows=[kid]),
            open_store(file, codec=CODEC) as ours,
        ):
            async with DurableEngine(ours, workflows=[parent]) as engine:
                handle = await engine.start(parent, execution_id="p")
                with pytest.raises(StoreError, match="'second'"):
                    await asyncio.wait_for(handle.result(), 20)
        async with (
            open_store(file, codec=ROTATED) as store,
            DurableEngine(store, workflows=[parent, kid]) as engine,
        ):
            assert await engine.handle("p").result() == "the kid's"

    asyncio.run(main())


# Rows that somebody changed or copied


@pytest.mark.parametrize(
    "statement",
    [
        "update step_checkpoints set output_data = substr(output_data, 1, 50)"
        " || iif(substr(output_data, 51, 1) = 'A', 'B', 'A') || substr(output_data, 52)"
        " where step_name = 'answer'",
        "update step_checkpoints set output_data = substr(output_data, 1, 30) || '\"'"
        " where step_name = 'answer'",
        "update workflow_executions set input_data = (select '[' || output_data || ']'"
        " from step_checkpoints where step_name = 'answer')",
        "update step_checkpoints set output_data = (select one.output_data from step_checkpoints"
        " as one where one.step_name = 'again') where step_name = 'answer'",
        "update step_checkpoints set step_index = step_index + 5 where step_name = 'again'",
    ],
    ids=["changed", "cut off", "output as input", "output of another step", "moved step"],
)
def test_a_value_that_was_changed_or_copied_does_not_decode(file: Path, statement: str) -> None:
    async def main() -> None:
        await begin(file)
        sql(file, statement)
        async with (
            open_store(file, codec=CODEC) as store,
            DurableEngine(store, workflows=[asks]) as engine,
        ):
            await engine.send_signal("e", "go", "now")
            with pytest.raises(PayloadDecodeError, match="cannot be decoded"):
                await engine.handle("e").result()

    asyncio.run(main())


def test_a_value_of_another_execution_does_not_decode(file: Path) -> None:
    async def main() -> None:
        await begin(file)
        await begin(file, one="other")
        sql(
            file,
            "update step_checkpoints set output_data = (select one.output_data from"
            " step_checkpoints as one where one.workflow_execution_id = 'other' and"
            " one.step_name = 'answer') where workflow_execution_id = 'e' and step_name = 'answer'",
        )
        async with open_store(file, codec=CODEC) as store:
            with pytest.raises(PayloadDecodeError, match="its place"):
                await store.load_checkpoints("e")
            assert len(await store.load_checkpoints("other")) == 3

    asyncio.run(main())


# Plain values beside encoded ones


def test_a_codec_can_be_switched_on_later(file: Path) -> None:
    async def main() -> None:
        await begin(file, None)
        assert await end(file) == ANSWER
        async with open_store(file, codec=CODEC) as store:
            assert (await loaded(store, "e")).input_data == '["a question"]'

    asyncio.run(main())
    with closing(sqlite3.connect(file)) as connection:
        outputs = [
            text for (text,) in connection.execute("select output_data from step_checkpoints")
        ]
        ((whole,),) = connection.execute("select output_data from workflow_executions")
    assert outputs[0] == '"answer to a question"'
    assert outputs[2].startswith('"\\u0065ncoded:')
    assert whole.startswith('"\\u0065ncoded:')


def test_a_signal_that_a_person_inserts_by_hand_is_read_as_it_is(file: Path) -> None:
    async def main() -> str:
        await begin(file)
        sql(
            file,
            "insert into workflow_signals (workflow_execution_id, signal_name, payload)"
            " values ('e', 'go', '\"now\"')",
        )
        async with (
            open_store(file, codec=CODEC) as store,
            DurableEngine(store, workflows=[asks]) as engine,
        ):
            return str(await engine.handle("e").result())

    assert asyncio.run(main()) == ANSWER


LOOKS_ENCODED = ("\\u0065ncoded:AAAA", 'encoded:AAAA"', '["\\u0065ncoded:', '"\\u0065ncoded:AA"')


@workflow
async def repeats(ctx: WorkflowContext, text: str) -> list[str]:
    async def same() -> str:
        return text

    async def fail() -> str:
        raise ValueError(text)

    said: list[str] = [await ctx.step("same", same)]
    try:
        await ctx.step("fail", fail)
    except ValueError as error:
        said.append(str(error))
    said.append(await ctx.child("kid", kid_repeats, text))
    said.append(await ctx.wait_signal("go", type=str))
    return said


@workflow
async def kid_repeats(ctx: WorkflowContext, text: str) -> str:
    return text


@pytest.mark.parametrize("codec", [None, CODEC], ids=["plain", "encrypted"])
@pytest.mark.parametrize("text", LOOKS_ENCODED)
def test_a_text_that_looks_encoded_is_a_text_like_any_other(
    file: Path, codec: PayloadCodec | None, text: str
) -> None:
    async def main() -> None:
        for _ in range(2):  # and on a replay
            async with (
                open_store(file, codec=codec) as store,
                DurableEngine(store, workflows=[repeats, kid_repeats]) as engine,
            ):
                handle = await engine.start(repeats, text, execution_id="e")
                if not (await handle.status()).is_terminal:
                    await handle.signal("go", text)
                assert await handle.result() == [text] * 4
                assert len(await store.load_checkpoints("e")) == 5

    asyncio.run(main())


# What the engine compares


def test_the_same_start_is_the_same_and_another_input_is_refused(file: Path) -> None:
    async def main() -> None:
        async with (
            open_store(file, codec=CODEC) as store,
            DurableEngine(store, workflows=[waits]) as engine,
        ):
            await engine.enqueue(waits, "one", execution_id="e")
            await engine.enqueue(waits, "one", execution_id="e")
            with pytest.raises(ExecutionConflictError, match="other input"):
                await engine.enqueue(waits, "two", execution_id="e")
            await engine.send_signal("e", "number", 1, key="k")
            await engine.send_signal("e", "number", 1, key="k")
            with pytest.raises(ExecutionConflictError, match="another payload"):
                await engine.send_signal("e", "number", 2, key="k")

    asyncio.run(main())


def test_a_copy_of_the_file_goes_on(tmp_path: Path) -> None:
    """A place does not depend on the database."""
    file, copy = new_database(tmp_path / "one.db"), tmp_path / "two.db"

    async def main() -> None:
        await begin(file)
        with open_reader(file) as reader:
            reader.back_up(copy)
        assert await end(copy) == ANSWER

    asyncio.run(main())


# Codecs of other makers


class Reversed:
    """Not for secrets."""

    def encode(self, data: bytes, place: str) -> bytes:
        return data[::-1] + place.encode()

    def decode(self, data: bytes, place: str) -> bytes:
        end = place.encode()
        if not data.endswith(end):
            raise ValueError(f"it is not of {place}")
        return data[: -len(end)][::-1]


class Broken:
    def encode(self, data: bytes, place: str) -> bytes:
        raise OSError("the key server does not answer")

    def decode(self, data: bytes, place: str) -> bytes:
        raise OSError("the key server does not answer")


def test_any_object_with_both_methods_is_a_codec(file: Path) -> None:
    async def main() -> None:
        await begin(file, Reversed())
        assert await end(file, Reversed()) == ANSWER

    asyncio.run(main())


def test_a_codec_that_fails_writes_nothing(file: Path) -> None:
    async def main() -> None:
        async with open_store(file, codec=Broken()) as store:
            await store.save(asks.record)
            engine = DurableEngine(store, workflows=[asks])
            async with engine:
                with pytest.raises(StoreError, match=r"could not encode .*key server"):
                    await engine.enqueue(asks, "a question", execution_id="e")
            assert await store.load_execution("e") is None
        await begin(file)
        async with open_store(file, codec=Broken()) as store:
            with pytest.raises(PayloadDecodeError, match="key server"):
                await store.load_checkpoints("e")

    asyncio.run(main())


@pytest.mark.parametrize("wrong", [1, "key", AesGcmCodec, object(), CODEC.encode])
def test_what_is_no_codec_is_refused(file: Path, wrong: Any) -> None:
    for opens in (
        open_store,
        open_reader,
        SqliteCheckpointStore.file,
        blocking.open_store,
        blocking.SqliteCheckpointStore.file,
    ):
        with pytest.raises(TypeError, match="codec must have the methods"):
            opens(file, codec=wrong)
    with pytest.raises(TypeError, match="codec"):
        SqliteCheckpointStore.in_memory(codec=wrong)


def test_what_is_no_json_is_refused_before_it_is_encoded() -> None:
    async def main() -> None:
        async with SqliteCheckpointStore.in_memory(codec=CODEC) as store:
            await store.save(asks.record)
            with pytest.raises(SerializationError, match="json"):
                await store.save(
                    msgspec.structs.replace(
                        await a_record(store), workflow_execution_id="other", input_data="[1"
                    )
                )
            assert await store.load_execution("other") is None

    async def a_record(store: CheckpointStore) -> Any:
        async with DurableEngine(store, workflows=[asks]) as engine:
            await engine.enqueue(asks, "a question", execution_id="e", delay=None)
            return await loaded(store, "e")

    asyncio.run(main())


def test_the_blocking_store_has_a_codec_too(file: Path) -> None:
    with blocking.open_store(file, codec=CODEC) as store:
        with blocking.DurableEngine(store, workflows=[kid_repeats]) as engine:
            assert engine.start(kid_repeats, "text", execution_id="e").result() == "text"
    with blocking.SqliteCheckpointStore.file(file) as store:
        with pytest.raises(PayloadKeyError):
            store.load_execution("e")
    with blocking.SqliteCheckpointStore.file(file, codec=CODEC) as store:
        found = store.load_execution("e")
        assert found is not None
        assert found.output_data == '"text"'


# Whether no statement is left out

VALUES = {"input_data", "output_data", "error_message", "payload", "refused_reason", "trouble",
          "details", "step_error_message", "last_message", "question"}  # fmt: skip
OF_STEPS = {"input_data"}
"""What a row of a step has in this column is no value of a user."""


def test_each_statement_that_writes_values_is_known() -> None:
    for folder in (QUERIES_DIR, QUERIES_OF_POSTGRES):
        for name, text in load_statements(folder).items():
            writes = re.search(r"^\s*(insert|update|with)\b", text, re.MULTILINE) is not None
            has = {one for one in re.findall(r"(?<!:):(\w+)", text) if one in VALUES}
            if writes and has and not name.startswith("update_values_of_"):
                assert name in encoding.WRITES, (name, has)


def test_each_row_that_holds_values_is_known() -> None:
    for name, row in ROW_CLASSES.items():
        has = VALUES.intersection(row.__struct_fields__)
        if has and not name.startswith("load_values_of_"):
            assert row.__name__ in encoding.READS, (name, has)


def test_nothing_known_is_gone() -> None:
    known: Mapping[str, Callable[..., object]] = encoding.WRITES
    assert set(known) <= set(load_statements(QUERIES_DIR))
    assert set(encoding.READS) <= {row.__name__ for row in ROW_CLASSES.values()}


def test_what_is_asked_of_the_audit_log_is_not_encoded(file: Path) -> None:
    """`doctor` looks for executions that were unblocked without their rows."""

    async def main() -> None:
        await begin(file)
        sql(file, "delete from step_checkpoints where step_name = 'answer'")
        async with open_store(file, codec=CODEC) as store:
            await Client(store).unblock("e", without_rows=True, by="kim")
            await Client(store).cancel("e", by="kim")
        with open_reader(file, codec=CODEC) as reader:
            found = [one for one in reader.check_up(utc_now()) if one.check == "unblocked"]
        assert len(found) == 1
        assert "e (step 'answer'" in found[0].message

    asyncio.run(main())
