"""`DurableSaver`: a checkpointer of LangGraph on the database of the workflows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from durable_workflow_sqlite import WorkflowContext
from durable_workflow_sqlite.integrations.langgraph import rows
from durable_workflow_sqlite.integrations.langgraph.commits import Commits

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Store(Protocol):
    """What a checkpointer needs of a store: those that `open_store` gives have it."""

    async def write(self, function: Callable[[Any, Unpack[Ts]], T], *args: *Ts) -> T: ...

    async def read(self, function: Callable[[Any, Unpack[Ts]], T], *args: *Ts) -> T: ...


class DurableSaver(BaseCheckpointSaver[int]):
    """Keeps the state of graphs in a store, beside the workflows.

    store: from `open_store`, or from the `open_store` of `durable_workflow_sqlite.blocking`.
    serde: how values are written; by default as LangGraph does it. An `EncryptedSerializer` of
        LangGraph encrypts them. The codec of the store does not.

    It makes its tables when it first writes. What is asked for while a commit is under way shares
    the next commit. What the tasks of one event loop ask for at once shares a commit, too.

    The methods with an `a` are for the event loop of the store. Those without are for other
    threads, and also for programs without `await`, if the store is one of them. Used in a workflow
    function, each raises RuntimeError: there, `run_graph` runs a graph.
    """

    def __init__(self, store: Any, *, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        if not callable(getattr(store, "write", None)) or not callable(
            getattr(store, "read", None)
        ):
            raise TypeError(
                f"store must be one that open_store gives, with `write` and `read`, not {store!r}"
            )
        self._loop_thread: Any = getattr(store, "loop", None)
        self._store: Store = store.behind if self._loop_thread is not None else store
        self._loop: asyncio.AbstractEventLoop | None = None
        if self._loop_thread is None:
            with suppress(RuntimeError):  # else it is the first one that uses an async method
                self._loop = asyncio.get_running_loop()
        self._are_tables_there = False
        self._commits = Commits(lambda statements: self._write_here(rows.write, statements))

    # What LangGraph calls

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save the state of a graph. When the `await` returns, it is committed."""
        statements, saved = self._checkpoint_of(config, checkpoint, metadata)
        await self._save(statements, is_checkpoint=True)
        return saved

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Save what a node has returned. When the `await` returns, it is committed."""
        await self._save([*self._writes_of(config, writes, task_id, task_path)])

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """One checkpoint: the last one of a thread, if the config names none."""
        found = await self._read(rows.find, *_place(config))
        return None if found is None else self._tuple(found)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the name that LangGraph gives it
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The checkpoints of a thread, or of all threads; the newest first."""
        for found in await self._read(rows.find_all, *_search(config, filter, before, limit)) or ():
            yield self._tuple(found)

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete all of a thread."""
        await self._change(rows.delete_threads, [str(thread_id)])

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of some runs, also those that a later DeltaChannel needs."""
        await self._change(rows.delete_runs, [str(one) for one in run_ids])

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all of a thread to another one."""
        await self._change(rows.copy, str(source_thread_id), str(target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete old checkpoints of some threads.

        strategy: "keep_latest" keeps the last checkpoint of each namespace, and those before it
            that a DeltaChannel is made from. "delete" deletes all of the threads.
        """
        threads = [str(one) for one in thread_ids]
        if strategy == "delete":
            await self._change(rows.delete_threads, threads)
        elif strategy == "keep_latest":
            for one in threads:  # in a transaction each, since others wait for it
                await self._change(rows.prune, self.serde, one)
        else:
            raise ValueError(f'strategy must be "keep_latest" or "delete", not {strategy!r}')

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What the DeltaChannels of a checkpoint are made from, in one read."""
        if not channels:
            return {}
        found = await self._read(rows.find_history, self.serde, _place(config), channels)
        return cast(
            "Mapping[str, DeltaChannelHistory]", found or {one: {"writes": []} for one in channels}
        )

    # The same for other threads

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `aput`."""
        statements, saved = self._checkpoint_of(config, checkpoint, metadata)
        self._wait(lambda: self._save(statements, is_checkpoint=True, is_of_thread=True))
        return saved

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """As `aput_writes`."""
        statements = [*self._writes_of(config, writes, task_id, task_path)]
        self._wait(lambda: self._save(statements, is_of_thread=True))

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `aget_tuple`."""
        return self._wait(self.aget_tuple, config)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the name that LangGraph gives it
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """As `alist`."""
        search = _search(config, filter, before, limit)
        for found in self._wait(self._read, rows.find_all, *search) or ():
            yield self._tuple(found)

    def delete_thread(self, thread_id: str) -> None:
        """As `adelete_thread`."""
        self._wait(self.adelete_thread, thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `adelete_for_runs`."""
        self._wait(self.adelete_for_runs, run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `acopy_thread`."""
        self._wait(self.acopy_thread, source_thread_id, target_thread_id)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As `aprune`."""
        self._wait(lambda: self.aprune(thread_ids, strategy=strategy))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As `aget_delta_channel_history`."""
        return self._wait(lambda: self.aget_delta_channel_history(config=config, channels=channels))

    # How it gets there

    def _checkpoint_of(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
    ) -> tuple[Sequence[rows.Statement], RunnableConfig]:
        """What saves a checkpoint, and its config."""
        thread_id, ns, parent_id = _place(config)
        type_, blob = self.serde.dumps_typed(checkpoint)
        values = {
            "thread_id": thread_id,
            "checkpoint_ns": ns,
            "checkpoint_id": checkpoint["id"],
            "parent_checkpoint_id": parent_id,
            "type": type_,
            "checkpoint": blob,
            "metadata": json.dumps(get_checkpoint_metadata(config, metadata)),
        }
        return [("put_checkpoint", values)], _config(thread_id, ns, checkpoint["id"])

    def _writes_of(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> Iterator[rows.Statement]:
        """What saves that which a node has returned."""
        thread_id, ns, checkpoint_id = _place(config)
        is_special = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        for number, (channel, value) in enumerate(writes):
            type_, blob = self.serde.dumps_typed(value)
            values = {
                "thread_id": thread_id,
                "checkpoint_ns": ns,
                "checkpoint_id": checkpoint_id,
                "task_id": task_id,
                "idx": WRITES_IDX_MAP.get(channel, number),
                "task_path": task_path,
                "channel": channel,
                "type": type_,
                "value": blob,
                "replaces": is_special,
            }
            yield "put_write", values

    async def _save(
        self,
        statements: Sequence[rows.Statement],
        *,
        is_checkpoint: bool = False,
        is_of_thread: bool = False,
    ) -> None:
        if statements:
            await self._here(
                lambda: self._commits.save(
                    statements, is_checkpoint=is_checkpoint, is_of_thread=is_of_thread
                )
            )

    def _tuple(self, found: rows.Found) -> CheckpointTuple:
        parent = found.parent_id
        return CheckpointTuple(
            _config(found.thread_id, found.checkpoint_ns, found.checkpoint_id),
            self.serde.loads_typed((found.type, found.checkpoint)),
            json.loads(found.metadata),
            _config(found.thread_id, found.checkpoint_ns, parent) if parent else None,
            [
                (task_id, channel, self.serde.loads_typed((type_, value)))
                for task_id, channel, type_, value in found.writes
            ],
        )

    async def _read(self, function: Callable[[Any, Unpack[Ts]], T], *args: *Ts) -> T | None:
        """What a function finds; None if there are no tables yet."""
        return await self._here(lambda: self._read_here(function, *args))

    async def _read_here(self, function: Callable[..., T], *args: Any) -> T | None:
        if not self._are_tables_there:
            self._are_tables_there = await self._store.read(rows.are_there)
            if not self._are_tables_there:
                return None
        return await self._store.read(lambda connection: function(connection, *args))

    async def _change(self, function: Callable[[Any, Unpack[Ts]], None], *args: *Ts) -> None:
        await self._here(lambda: self._write_here(function, *args))

    async def _write_here(self, function: Callable[..., None], *args: Any) -> None:
        is_new = not self._are_tables_there

        def change(connection: Any) -> None:
            if is_new:
                rows.create(connection)
            function(connection, *args)

        await self._store.write(change)
        self._are_tables_there = True

    async def _here(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if WorkflowContext.current() is not None:
            raise RuntimeError(
                "a workflow function cannot use a checkpointer. Run the graph with `run_graph`,"
                " which needs none, or run it in a step"
            )
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.get_running_loop()
        return await call()

    def _wait(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Call an async method from another thread, and wait for it."""
        if self._loop_thread is not None:
            return cast("T", self._loop_thread.call(function, *args))
        if self._loop is None:
            raise RuntimeError(
                "nobody has used this checkpointer in an event loop yet. Make it in the event loop"
                " of its store, or give it a store of `durable_workflow_sqlite.blocking`"
            )
        with suppress(RuntimeError):
            if asyncio.get_running_loop() is self._loop:
                raise asyncio.InvalidStateError(
                    "this would block the event loop of the store, for which it waits. Use the"
                    " async methods there: `await graph.ainvoke(...)`"
                )
        return asyncio.run_coroutine_threadsafe(function(*args), self._loop).result()


def _place(config: RunnableConfig) -> tuple[str, str, str | None]:
    """Of a config: the thread, the namespace, the id of a checkpoint."""
    of = config.get("configurable", {})
    if "thread_id" not in of:
        raise ValueError('the config has no {"configurable": {"thread_id": ...}}')
    return str(of["thread_id"]), str(of.get("checkpoint_ns", "")), get_checkpoint_id(config)


def _config(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    of = {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}
    return {"configurable": of}


def _search(
    config: RunnableConfig | None,
    wanted: Mapping[str, Any] | None,
    before: RunnableConfig | None,
    limit: int | None,
) -> tuple[str, dict[str, Any]]:
    """Which statement lists checkpoints, and its values."""
    values: dict[str, Any] = {
        "filter": json.dumps(wanted or {}),
        "before": None if before is None else get_checkpoint_id(before),
        "limit": rows.NO_LIMIT if limit is None else limit,
    }
    if config is None:
        return "list_all", values
    of = config.get("configurable", {})
    values["thread_id"] = _place(config)[0]
    values["checkpoint_ns"] = of.get("checkpoint_ns")
    values["checkpoint_id"] = get_checkpoint_id(config)
    return "list_of_thread", values
