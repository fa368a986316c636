"""What a model may do with a store: it looks, starts, follows and changes executions.

Nothing here knows a protocol. Each tool takes plain data and returns plain data of a bounded
length. It refuses what it cannot do with a `RefusedError`, whose text a model reads.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.engine.outcome import Cancellation
from durable_workflow_sqlite.engine.workflow import AnyWorkflow, WorkflowRegistry
from durable_workflow_sqlite.errors import (
    DurableWorkflowError,
    ExecutionConflictError,
    ExecutionFinishedError,
)
from durable_workflow_sqlite.integrations.mcp import workflow_arguments
from durable_workflow_sqlite.integrations.mcp.bounded_answers import (
    cut,
    shortened,
    value_of,
    within,
)
from durable_workflow_sqlite.integrations.mcp.tool_arguments import (
    LONGEST_VALUE,
    SHOWN,
    Answer,
    Cancel,
    List,
    Retry,
    Show,
    Signal,
    Start,
    Wait,
)
from durable_workflow_sqlite.nearest import nearest
from durable_workflow_sqlite.payload_codec import PayloadCodec
from durable_workflow_sqlite.questions import Question
from durable_workflow_sqlite.reading.executions import (
    Child,
    Children,
    ExecutionDetails,
    ExecutionSummary,
)
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.reading.selection import Selection
from durable_workflow_sqlite.records import TERMINAL_STATUSES, check_identifier, check_tags
from durable_workflow_sqlite.stores import open_reader, open_store

T = TypeVar("T")

STARTED_BY: Final = "started_by"
"""The tag of what a model has started; its value is `by`."""

_PAGES: Final = 20
"""How many pages `list` reads at most for one answer, where it leaves out what may not be seen."""

_LISTED: Final = 200
_ITEMS: Final = 50
_REPORTS: Final = 5
"""How many of the newest reports of progress `wait` gives."""


class RefusedError(Exception):
    """A call that a tool refuses: what was wrong, and what would work."""


class Tool(NamedTuple):
    """One tool. schema: of its arguments, as JSON Schema.

    reads: whether it changes nothing. undoes: whether it may undo what was done.
    """

    name: str
    description: str
    schema: dict[str, Any]
    reads: bool
    undoes: bool


class ModelTools:
    """The tools for one store.

    url, codec: as for `open_store`. The store is opened for each call, and never created.
    workflows: those whose code is known here.
    allow_start: the names of the workflows that may be started; None for `workflows`, or where
        there are none, for all that may be seen.
    allow_see: the names of the workflows whose executions may be seen, and changed; None for all.
        What `allow_start` names may be seen, too.
    by: who acts, for the audit log.

    Raises TypeError, ValueError.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        workflows: Iterable[AnyWorkflow],
        read_only: bool,
        allow_start: Iterable[str] | None,
        allow_see: Iterable[str] | None,
        by: str,
        codec: PayloadCodec | None,
    ) -> None:
        check_identifier("by", by)
        self._url = url
        self._by = by
        self._codec = codec
        self._code = _newest_of(workflows)
        startable = _names("allow_start", allow_start)
        self._seen = _names("allow_see", allow_see)
        if self._seen is not None:
            self._seen |= startable or set()
        if startable is None and self._code:
            startable = {one for one in self._code if self._may_see(one)}
        self._startable = startable
        every: dict[str, tuple[type[Any], Callable[[Any], Awaitable[dict[str, Any]]]]] = {
            "list": (List, self._list),
            "show": (Show, self._show),
            "wait": (Wait, self._wait),
            "start": (Start, self._start),
            "signal": (Signal, self._signal),
            "answer": (Answer, self._answer),
            "cancel": (Cancel, self._cancel),
            "retry": (Retry, self._retry),
        }
        self._is_read_only = read_only
        self._tools = {
            name: tool for name, tool in every.items() if name in _READING or not read_only
        }

    def tools(self) -> list[Tool]:
        """The tools that may be called."""
        return [self._described(name, takes) for name, (takes, _) in self._tools.items()]

    async def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool. Raises RefusedError."""
        if name not in self._tools:
            why = "; nothing can be changed here" if self._is_read_only else ""
            raise RefusedError(f"there is no tool {name!r}{why}; the tools: {_listed(self._tools)}")
        takes, run = self._tools[name]
        try:
            asked = msgspec.convert(arguments, takes, strict=False)
        except msgspec.ValidationError as error:
            fields = _listed(takes.__struct_fields__)
            raise RefusedError(f"{error}; the arguments of {name!r}: {fields}") from error
        try:
            return await run(asked)
        except ExecutionFinishedError as error:
            then = "; `retry` can run it again" if error.status == "FAILED" else ""
            raise RefusedError(f"{error}; `show` shows how it ended{then}") from error
        except ExecutionConflictError as error:
            raise RefusedError(f"{error}. `show` shows the state of an execution") from error
        except (DurableWorkflowError, ValueError, TypeError, OSError) as error:
            raise RefusedError(str(error)) from error

    async def _list(self, asked: List) -> dict[str, Any]:
        workflow = asked.workflow
        if workflow is None and self._seen is not None and len(self._seen) == 1:
            (workflow,) = self._seen
        selection = Selection(
            statuses=asked.status or (),
            workflow_types=() if workflow is None else (workflow,),
            id_prefix=asked.id_prefix,
            tags=check_tags(asked.tags),
        )

        def read(reader: Reader) -> tuple[list[ExecutionSummary], str | None, list[str]]:
            rows: list[ExecutionSummary] = []
            after = asked.after
            for _ in range(_PAGES):
                page = reader.page(selection, after, asked.limit - len(rows))
                rows += [one for one in page.rows if self._may_see(one.workflow_type)]
                after = page.next
                if after is None or len(rows) == asked.limit:
                    break
            return rows, after, self._types_in(reader)

        rows, after, types = await self._read(read)
        answer: dict[str, Any] = {} if after is None else {"next": after}
        if not rows:
            answer["note"] = f"no execution; workflows that have some: {_listed(types)}"
            if after is not None:
                answer["note"] = "none on these pages; call again with `after`"

        def build(characters: int, _: int) -> dict[str, Any]:
            return {"executions": [self._row(one, characters) for one in rows], **answer}

        return within(build, _LISTED, _ITEMS)

    async def _show(self, asked: Show) -> dict[str, Any]:
        def read(reader: Reader) -> dict[str, Any]:
            found = reader.execution(asked.execution_id)
            if found is None or not self._may_see(found.summary.workflow_type):
                raise _not_found(asked.execution_id)
            steps, compensations = found.steps, found.compensations
            if asked.step is not None:
                steps = tuple(one for one in steps if one.step_name == asked.step)
                compensations = tuple(one for one in compensations if one.step_name == asked.step)
                if not steps and not compensations:
                    names = dict.fromkeys(one.step_name for one in found.steps)
                    raise RefusedError(
                        f"it has no step {asked.step!r}; its steps: {_listed(names)}"
                        f"{nearest(asked.step, names)}"
                    )
                kept = {"steps": steps, "compensations": compensations}

                def build_steps(characters: int, items: int) -> dict[str, Any]:
                    rows: dict[str, Any] = shortened(kept, characters, items)
                    return rows

                return within(build_steps, asked.longest, _ITEMS)

            def build(characters: int, items: int) -> dict[str, Any]:
                whole: dict[str, Any] = shortened(found, characters, items)
                del whole["summary"]
                for part in ("children", "questions"):
                    whole.pop(part, None)
                children = self._children(found.children)
                return (
                    self._row(found.summary, characters)
                    | whole
                    | _asked(found.questions, characters)
                    | ({"children": children} if children else {})
                )

            return within(build, asked.longest, _ITEMS)

        return await self._read(read)

    async def _wait(self, asked: Wait) -> dict[str, Any]:
        give_up_at = time.monotonic() + asked.seconds
        pause = 0.1
        while True:
            left = give_up_at - time.monotonic()
            ask = partial(self._state, asked=asked, is_last=left <= 0)
            answer, is_final = await self._read(ask)
            if is_final or left <= 0:
                return answer
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, 1)

    async def _start(self, asked: Start) -> dict[str, Any]:
        name, execution_id = asked.workflow, asked.execution_id
        before: Sequence[ExecutionSummary] = ()

        def read(reader: Reader) -> tuple[list[str], Sequence[ExecutionSummary]]:
            there = () if execution_id is None else reader.summaries([execution_id])
            return self._types_in(reader), there

        types, before = await self._read(read)
        if not self._may_start(name):
            may = sorted(types if self._startable is None else self._startable)
            raise RefusedError(
                f"workflow {name!r} may not be started here; these may: {_listed(may)}"
                f"{nearest(name, may)}"
            )
        for one in before:
            if not self._may_see(one.workflow_type):
                raise RefusedError(f"the id {execution_id!r} is taken; give another execution_id")
        code = self._code.get(name)
        if code is None and isinstance(asked.arguments, dict):
            raise RefusedError(
                f"the names of the arguments of {name!r} are not known here: give `arguments` as an"
                " array, in their order"
            )
        tags = {STARTED_BY: self._by}
        async with open_store(self._url, codec=self._codec) as store:
            client = Client(store)
            if code is not None:
                values = workflow_arguments.in_order(code, asked.arguments)
                handle = await client.enqueue(code, *values, execution_id=execution_id, tags=tags)
            else:
                if name not in types and name not in await _served(store.load_served()):
                    raise RefusedError(
                        f"no workflow {name!r} is known: no execution of it was ever started, and"
                        f" no living worker has it; known are: {_listed(types)}"
                        f"{nearest(name, types)}"
                    )
                handle = await client.enqueue_named(
                    name, list(asked.arguments), execution_id=execution_id, tags=tags
                )
        note = "a worker runs it; `wait` waits for its result"
        if before:
            note = "it was there already, with the same arguments: nothing new was started"
        return {"execution_id": handle.execution_id, "workflow_type": name, "note": note}

    async def _signal(self, asked: Signal) -> dict[str, Any]:
        await self._check_seen(asked.execution_id)
        async with open_store(self._url, codec=self._codec) as store:
            is_new = await Client(store).send_signal(
                asked.execution_id, asked.name, asked.payload, key=asked.key
            )
        note = "it is kept until the execution waits for it"
        if not is_new:
            note = "a signal with this key was sent before: nothing was sent now"
        return {"sent": bool(is_new), "note": note}

    async def _answer(self, asked: Answer) -> dict[str, Any]:
        await self._check_seen(asked.execution_id)
        async with open_store(self._url, codec=self._codec) as store:
            question = await Client(store).answer(
                asked.execution_id, asked.name, asked.value, by=self._by
            )
        note = "a worker goes on with the answer; `wait` waits for the end"
        return {"answered": question.question, "note": note}

    async def _cancel(self, asked: Cancel) -> dict[str, Any]:
        await self._check_seen(asked.execution_id)
        async with open_store(self._url, codec=self._codec) as store:
            result = await Client(store).cancel(asked.execution_id, by=self._by)
        if result is Cancellation.REFUSED:
            raise RefusedError(
                f"execution {asked.execution_id!r} was not asked to cancel: it is being undone"
                " already, or somebody has asked before; `wait` waits for its end"
            )
        if result is Cancellation.ENDED:
            return {"status": "CANCELLED", "note": "there was nothing to undo"}
        return {"asked": True, "note": "a worker undoes what it did; `wait` waits for its end"}

    async def _retry(self, asked: Retry) -> dict[str, Any]:
        await self._check_seen(asked.execution_id)
        async with open_store(self._url, codec=self._codec) as store:
            await Client(store).retry(asked.execution_id, from_step=asked.from_step, by=self._by)
        return {"retried": True, "note": "it goes on when a worker claims it; `wait` waits for it"}

    def _described(self, name: str, takes: type[Any]) -> Tool:
        """A tool, with the schema of its arguments."""
        _, components = msgspec.json.schema_components([takes])
        schema = components[takes.__name__]
        description = " ".join(inspect.cleandoc(takes.__doc__ or "").split())
        if name == "start":
            description += self._describe_start(schema)
        for said_already in ("title", "description"):
            schema.pop(said_already, None)
        return Tool(name, description, schema, name in _READING, name in _UNDOING)

    def _describe_start(self, schema: dict[str, Any]) -> str:
        """Put what may be started into the schema; more of the description."""
        code = [one for name, one in sorted(self._code.items()) if self._may_start(name)]
        properties = schema["properties"]
        if self._startable is not None:
            properties["workflow"]["enum"] = sorted(self._startable)
        has_others = self._startable is None or any(
            name not in self._code for name in self._startable
        )
        arguments, definitions = workflow_arguments.schema_of(code, has_others=has_others)
        properties["arguments"] = arguments
        if len(code) == 1 and not has_others and arguments.get("required"):
            schema["required"] = [*schema["required"], "arguments"]
        if definitions:
            schema["$defs"] = definitions
        about = [(one.name, inspect.getdoc(one.function) or "") for one in code]
        lines = "".join(f"\n- {name}: {' '.join(text.split())}" for name, text in about if text)
        return f" The workflows:{cut(lines, LONGEST_VALUE)}" if lines else ""

    async def _read(self, question: Callable[[Reader], T]) -> T:
        def ask() -> T:
            with open_reader(self._url, codec=self._codec) as reader:
                return question(reader)

        return await asyncio.to_thread(ask)

    async def _check_seen(self, execution_id: str) -> None:
        """Raise RefusedError for an execution that is not there, or that may not be seen."""
        await self._read(lambda reader: self._one(reader, execution_id))

    def _one(self, reader: Reader, execution_id: str) -> ExecutionSummary:
        for found in reader.summaries([execution_id]):
            if self._may_see(found.workflow_type):
                return found
        raise _not_found(execution_id)

    def _state(self, reader: Reader, *, asked: Wait, is_last: bool) -> tuple[dict[str, Any], bool]:
        """What `wait` answers now, and whether waiting longer would change nothing.

        is_last: whether this is the answer in any case, and no look while it waits.
        """
        found = self._one(reader, asked.execution_id)
        row = self._row(found, SHOWN)
        if found.status not in TERMINAL_STATUSES:
            stops = _needs_somebody(found)
            questions = _asked(reader.questions(execution_id=found.id), SHOWN)
            if questions and stops is None:
                stops = "it asks this: `answer` answers it, or another person does, elsewhere"
            note = stops or "it is not over; call `wait` again, or see with `show` what it does"
            is_answer = is_last or stops is not None
            progress = _newest_progress(reader.execution(found.id)) if is_answer else {}
            return {"done": False, **row, **progress, **questions, "note": note}, stops is not None
        end: dict[str, Any] = {"done": True, "status": found.status}
        if found.status == "COMPLETED":
            details = reader.execution(found.id)
            text = None if details is None else details.output_data
            return end | {"result": value_of(text, LONGEST_VALUE)}, True
        names = ("error_type", "error_message", "current_step", "steps_not_undone")
        return end | {name: row[name] for name in names if name in row}, True

    def _row(self, summary: ExecutionSummary, characters: int) -> dict[str, Any]:
        """An execution, without the ids of those above it where not all may be seen."""
        row: dict[str, Any] = shortened(summary, characters, _ITEMS)
        if self._seen is not None:
            row.pop("parent_execution_id", None)
            row.pop("root_execution_id", None)
        return row

    def _children(self, children: Children) -> list[dict[str, Any]]:
        return [self._child(one) for one in children.shown if self._may_see(one.workflow_type)]

    def _child(self, child: Child) -> dict[str, Any]:
        below = self._children(child.children) if child.children is not None else []
        row = {"id": child.id, "workflow_type": child.workflow_type, "status": child.status}
        return row | ({"children": below} if below else {})

    def _types_in(self, reader: Reader) -> list[str]:
        return [one for one in reader.workflow_types() if self._may_see(one)]

    def _may_see(self, workflow_type: str | None) -> bool:
        return self._seen is None or workflow_type in self._seen

    def _may_start(self, workflow_type: str) -> bool:
        if self._startable is None:
            return self._may_see(workflow_type)
        return workflow_type in self._startable


_READING: Final = frozenset({"list", "show", "wait"})
_UNDOING: Final = frozenset({"cancel", "retry"})


async def _served(names: Awaitable[Collection[tuple[str, int]]]) -> set[str]:
    return {name for name, _ in await names}


def _newest_of(workflows: Iterable[AnyWorkflow]) -> dict[str, AnyWorkflow]:
    """The newest version of each. Raises TypeError, ValueError."""
    registry = WorkflowRegistry(())
    newest: dict[str, AnyWorkflow] = {}
    for one in workflows:
        known = registry.add(one)
        if known.name not in newest or known.version > newest[known.name].version:
            newest[known.name] = known
    return newest


def _names(what: str, names: Iterable[str] | None) -> set[str] | None:
    if names is None:
        return None
    if isinstance(names, str):
        raise TypeError(f"{what} must be a list of names of workflows, as [{names!r}]")
    found = set(names)
    for one in found:
        check_identifier(f"a name of {what}", one)
    return found


def _not_found(execution_id: str) -> RefusedError:
    return RefusedError(
        f"no execution has the id {execution_id!r}; `list` has the ids that there are"
    )


def _asked(questions: Iterable[Question], characters: int) -> dict[str, Any]:
    """The questions that are open, with the JSON Schemas of their answers; none where none is."""
    rows: list[dict[str, Any]] = []
    for one in questions:
        if one.is_answered:
            continue
        details = None if one.details is None else msgspec.json.encode(one.details).decode()
        row = {
            "name": one.name,
            "signal_name": one.signal_name,
            "to": one.to,
            "question": None if one.question is None else cut(one.question, characters),
            "details": value_of(details, characters),
            "schema": one.schema,
            "deadline": msgspec.to_builtins(one.deadline),
        }
        rows.append({name: value for name, value in row.items() if value is not None})
    return {"questions": rows} if rows else {}


def _newest_progress(details: ExecutionDetails | None) -> dict[str, Any]:
    """What an execution has reported last of how much is done, the newest at the end."""
    if details is None or not details.progress:
        return {}
    reports = sorted(details.progress, key=lambda one: one.reported_at)[-_REPORTS:]
    rows = [shortened(one, SHOWN, _ITEMS) for one in reports]
    for row in rows:
        del row["workflow_execution_id"]
    return {"progress": rows}


def _needs_somebody(found: ExecutionSummary) -> str | None:
    """Why waiting longer would change nothing; None if it may be over soon."""
    if found.blocked_reason is not None:
        return "it is blocked: no worker claims it until somebody unblocks it; `retry` does that"
    if found.paused_at is not None:
        return "it is paused: nothing of it begins until a person resumes it"
    if found.trouble is not None:
        return "its worker left it as it is: `trouble` says why"
    if found.asks_about is not None:
        return f"a person must say what became of its step {found.asks_about!r}"
    return None


def _listed(names: Iterable[str]) -> str:
    words = [*names]
    more = f", and {len(words) - _ITEMS} more" if len(words) > _ITEMS else ""
    return (", ".join(words[:_ITEMS]) or "none") + more
