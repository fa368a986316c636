"""`run_graph`: a graph of LangGraph in a workflow function, with each node as a step."""

from __future__ import annotations

import copy
import json
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.errors import GraphInterrupt, ParentCommand
from langgraph.graph.state import CompiledStateGraph  # pyright: ignore[reportMissingTypeStubs]
from langgraph.pregel import Pregel  # pyright: ignore[reportMissingTypeStubs]

from durable_workflow_sqlite import RetryPolicy, WorkflowContext, step_stream
from durable_workflow_sqlite.integrations.langgraph.values import (
    from_plain,
    to_compare,
    to_plain,
    with_message_ids,
    with_own_containers,
)

Ask = Callable[[WorkflowContext, str, Any], Awaitable[Any]]
"""Gets a context, the name of a node and the value of its `interrupt`; returns the answer."""

# How LangGraph names what a node finds in its config.
_CONF: Final = "configurable"
_CALL: Final = "__pregel_call"
_SEND: Final = "__pregel_send"
_SCRATCHPAD: Final = "__pregel_scratchpad"
_RUNTIME: Final = "__pregel_runtime"
_NAMESPACE: Final = "checkpoint_ns"
_RESUME: Final = "__resume__"
_START: Final = "__start__"

_HERE: Final = "$here"
"""The graph of a node, in a recorded `Command`: LangGraph's name for it differs in each run."""


async def run_graph(
    ctx: WorkflowContext,
    graph: CompiledStateGraph[Any, Any, Any, Any],
    input: Any,  # noqa: A002 - the name that LangGraph gives it
    *,
    name: str | None = None,
    context: Any = None,
    config: RunnableConfig | None = None,
    inline: Collection[str] = (),
    retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
    limit: str | None = None,
    ask: Ask | None = None,
    serde: SerializerProtocol | None = None,
) -> Any:
    """Run a graph in a workflow function. Each node is a step; returns the state at the end.

    ctx: of the workflow function. The steps are in a branch of it.
    graph: compiled; its checkpointer and its cache are not used.
    name: of the branch; by default that of the graph. A second run of the name is NAME#2.
    context: for the nodes, as LangGraph's `context`. It is not stored.
    config: as for `ainvoke`, without callbacks; for example `{"recursion_limit": 100}`.
    inline: the names of nodes that run in the workflow function itself, and are no steps. They may
        use its context, and run other graphs. They must be async and do nothing outside.
    retry: the attempts of each step. The `retry_policy` of a node begins new steps after that.
    limit: of each step, as for `ctx.step`.
    ask: called when a node calls `interrupt(value)`; by default it asks the question with
        `ctx.ask`, under the name of the node. The node then runs again, as a further step.
    serde: how values other than plain data are written; by default as LangGraph does it.

    Raises TypeError or ValueError for bad arguments at the call, and what a node raises.
    """
    if not isinstance(ctx, WorkflowContext):
        raise TypeError(f"ctx must be the context of a workflow function, not {ctx!r}")
    if not isinstance(graph, CompiledStateGraph):
        raise TypeError(f"graph must be a compiled StateGraph, not {graph!r}")
    if WorkflowContext.current() is None:
        raise RuntimeError("run_graph was called outside of a workflow function")
    if graph.interrupt_before_nodes or graph.interrupt_after_nodes:
        raise ValueError(
            "a graph in a workflow stops only where a node calls `interrupt`: leave out"
            " interrupt_before and interrupt_after"
        )
    if config is not None and config.get("callbacks"):
        raise ValueError("callbacks would be called again on each replay: leave them out")
    if unknown := sorted(set(inline) - _names(graph)):
        raise ValueError(f"`inline` names nodes that the graph does not have: {unknown}")
    run = _Run(
        ctx.branch(name or graph.get_name(), repeat=True),
        retry,
        limit,
        ask or _ask,
        serde or JsonPlusSerializer(),
        to_compare(context, serde or JsonPlusSerializer()),
    )
    with run.is_current():
        with_steps = _with_steps(graph, frozenset(inline))
        return await with_steps.ainvoke(input, config, context=context)


@dataclass(frozen=True)
class _Run:
    """One run of a graph, or of a sub-graph of it.

    branch: under which its steps are. given: the `context`, to compare.
    """

    branch: WorkflowContext
    retry: RetryPolicy
    limit: str | None
    ask: Ask
    serde: SerializerProtocol
    given: Any

    @contextmanager
    def is_current(self) -> Generator[None]:
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


_current: ContextVar[_Run] = ContextVar("durable_workflow_sqlite_graph")


def _with_steps(graph: Any, inline: frozenset[str]) -> Any:
    """A copy of a graph whose nodes are steps."""
    nodes: dict[str, Any] = {}
    for name, node in graph.nodes.items():
        changed = copy.copy(node)
        for cached in ("node", "flat_writers", "input_cache_key"):
            changed.__dict__.pop(cached, None)
        timeout = getattr(node, "timeout", None)
        if getattr(timeout, "idle_timeout", None) is not None:
            raise ValueError(f"node {name!r} has an idle_timeout, which a step has not")
        if timeout is not None:
            changed.timeout = None
        limit = getattr(timeout, "run_timeout", None)
        if isinstance(limit, int | float):
            limit = timedelta(seconds=limit)
        if node.node is not None:
            # LangGraph runs what this property gives. Without a change, it is the node with its
            # edges; those are taken from `writers` if a sub-graph leaves by a Command.
            changed.__dict__["node"] = _Node(graph, name, node, limit, inline)
        nodes[name] = changed
    return graph.copy({"nodes": nodes, "checkpointer": None, "cache": None})


def _names(graph: Any) -> set[str]:
    """The names of the nodes of a graph, and of those of its sub-graphs."""
    names = set(graph.nodes)
    for node in graph.nodes.values():
        inner: Any = node.bound
        if isinstance(inner, Pregel):
            names |= _names(cast("Any", inner))
    return names


class _Node(Runnable[Any, Any]):
    """What runs instead of a node and its edges."""

    def __init__(
        self, graph: Any, name: str, node: Any, timeout: timedelta | None, inline: frozenset[str]
    ) -> None:
        self.name = name
        self._node = node
        self._timeout = timeout
        self._messages = frozenset(
            channel for channel, spec in graph.channels.items() if _is_of_messages(spec)
        )
        is_graph = isinstance(node.bound, Pregel)
        self._subgraph = _with_steps(node.bound, inline) if is_graph else None
        has_edges = any(type(one).__name__ != "ChannelWrite" for one in node.writers)
        is_bare = name == _START and not has_edges
        self._is_inline = name in inline or is_bare
        self._has_edges = has_edges

    def invoke(self, input: Any, config: Any = None, **_: Any) -> Any:  # noqa: A002
        raise RuntimeError("a graph in a workflow function is awaited: it has no thread")

    async def ainvoke(self, input: Any, config: Any = None, **_: Any) -> Any:  # noqa: A002
        run = _current.get()
        branch = run.branch.branch(_key(config), repeat=True)
        node = self._node
        if self._subgraph is not None:
            with replace(run, branch=branch).is_current():
                result = await self._subgraph.ainvoke(input, config)
        elif self._is_inline and self._has_edges:
            result = await self._until_answered(run, branch, [node.bound], input, config, True)
        else:
            parts = [node.node]
            return await self._until_answered(run, branch, parts, input, config, self._is_inline)
        parts = node.flat_writers
        return await self._until_answered(run, branch, parts, result, config, not self._has_edges)

    async def _until_answered(
        self,
        run: _Run,
        branch: WorkflowContext,
        parts: Sequence[Any],
        given: Any,
        config: Any,
        is_inline: bool,
    ) -> Any:
        """Run parts of the node until none of them has a question; what an inline one returns."""
        answers: list[Any] = []
        last: Any = None
        while True:
            if is_inline:
                data = await self._attempt(run, branch, parts, given, config, answers, is_inline)
            else:
                data = await branch.step(
                    cast("str", self.name),
                    self._attempt,
                    run,
                    None,
                    parts,
                    given,
                    config,
                    answers,
                    is_inline,
                    of=[to_compare(given, run.serde), run.given, to_compare(answers, run.serde)],
                    retry=run.retry,
                    limit=run.limit,
                    timeout=self._timeout,
                )
            if "writes" in data:
                _taken(config)  # as they were before they were recorded
                config[_CONF][_SEND]([tuple(one) for one in from_plain(data["writes"], run.serde)])
                return data.get("result")
            if "command" in data:
                command = from_plain(data["command"], run.serde)
                if command.graph == _HERE:
                    command = replace(command, graph=config[_CONF][_NAMESPACE])
                raise ParentCommand(command)
            if "refused" in data:
                answers.pop()
            else:
                last = from_plain(data["asked"], run.serde)
            answers.append(await run.ask(branch, cast("str", self.name), last))

    async def _attempt(
        self,
        run: _Run,
        branch: WorkflowContext | None,
        parts: Sequence[Any],
        given: Any,
        config: Any,
        answers: list[Any],
        is_inline: bool,
    ) -> dict[str, Any]:
        """Run the node and its edges once; how that ended, as plain data."""
        counted = _Counter()
        before = config[_CONF]
        scratchpad = replace(before[_SCRATCHPAD], resume=[*answers], interrupt_counter=counted)
        conf: dict[str, Any] = {**before, _SCRATCHPAD: scratchpad, _CALL: _refuse_call}
        if not is_inline:
            given = with_own_containers(given)

            def tell(item: Any) -> None:
                step_stream().put(to_plain(item, run.serde))

            conf[_RUNTIME] = before[_RUNTIME].override(stream_writer=tell)
        config = {**config, _CONF: conf}
        _taken(config)  # of an attempt that failed
        try:
            for part in parts:
                given = await part.ainvoke(given, config)
        except GraphInterrupt as stop:
            if counted.count <= len(answers):
                raise RuntimeError(
                    f"a graph that node {self.name!r} calls itself has called `interrupt`. Add that"
                    " graph as a node, or name the node in `inline` and call run_graph in it"
                ) from stop
            return {"asked": to_plain(stop.args[0][0].value, run.serde)}
        except ParentCommand as leaving:
            command: Any = cast("Any", leaving).args[0]
            if command.graph == before[_NAMESPACE]:
                command = replace(command, graph=_HERE)
            return {"command": to_plain(command, run.serde)}
        except Exception as error:
            if answers and getattr(error, "_langgraph_invalid_resume", False):
                return {"refused": str(error)}
            raise
        new_id = _new_id if branch is None else lambda: str(branch.uuid4())
        writes = [
            [channel, with_message_ids(value, new_id) if channel in self._messages else value]
            for channel, value in _taken(config)
            if channel != _RESUME
        ]
        data: dict[str, Any] = {"writes": to_plain(writes, run.serde)}
        return {**data, "result": given} if is_inline else data


class _Counter:
    """Counts how often a node has called `interrupt`."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> int:
        self.count += 1
        return self.count - 1


async def _ask(branch: WorkflowContext, node: str, value: Any) -> Any:
    if isinstance(value, str) and value:
        return await branch.ask(node, value)
    details = to_compare(value, JsonPlusSerializer())
    question = json.dumps(details, ensure_ascii=False)
    return await branch.ask(node, question if len(question) <= 500 else f"{node}?", details=details)


def _key(config: Any) -> str:
    """Where in a run a node is: the same on each replay, which a task's id is not."""
    metadata = config["metadata"]
    step, node = metadata["langgraph_step"], metadata["langgraph_node"]
    # A node that an edge has begun has no number; of those that `Send` has begun, each has one.
    numbers = [str(one) for one in metadata["langgraph_path"] if type(one) is int]
    return ":".join([f"{step}", node, *numbers])


def _taken(config: Any) -> deque[tuple[str, Any]]:
    """What the task has written so far; it is emptied."""
    writes: deque[tuple[str, Any]] = config[_CONF][_SEND].__self__
    taken = deque(writes)
    writes.clear()
    return taken


def _is_of_messages(spec: Any) -> bool:
    reducer = getattr(spec, "operator", None) or getattr(spec, "reducer", None)
    reducer = getattr(reducer, "func", reducer)  # of a partial
    return getattr(reducer, "__name__", "") in (
        "_add_messages",
        "add_messages",
        "_messages_delta_reducer",
    )


def _new_id() -> str:
    return str(uuid.uuid4())


def _refuse_call(*_: Any, **__: Any) -> Any:
    raise RuntimeError(
        "a node of a graph in a workflow cannot call a @task of LangGraph: call a function, or make"
        " it a node"
    )
