"""Whether the code at hand can go on with the executions of a store: `check_code`.

It replays them from their records, in memory. It runs no action of a step, and writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from durable_workflow_sqlite.engine.error_codec import ErrorCodec, ErrorFunctions
from durable_workflow_sqlite.engine.failures import error_type
from durable_workflow_sqlite.engine.foreseeing import Verdict, foresee
from durable_workflow_sqlite.engine.history import HOW_TO_MEND
from durable_workflow_sqlite.engine.workflow import AnyWorkflow, WorkflowRegistry
from durable_workflow_sqlite.errors import DurableWorkflowError, NonDeterminismError
from durable_workflow_sqlite.reading.histories import (
    ExecutionHistory,
    UnreadableHistory,
    history_from_json,
)
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.reading.selection import Selection
from durable_workflow_sqlite.records import TERMINAL_STATUSES, ExecutionStatus, check_integer
from durable_workflow_sqlite.stores import open_reader

AT_ONCE: Final = 20
"""How many executions are read at once, and are in memory."""

SHOWN_OF_A_KIND: Final = 5
"""How many ids a problem names."""

KINDS_AT_MOST: Final = 200
"""How many kinds of problems are told apart."""

_UNFINISHED: Final = tuple(one for one in ExecutionStatus if not one.is_terminal)


class CheckedWorkflow(msgspec.Struct, frozen=True, kw_only=True):
    """How many executions of one workflow have which verdict.

    cannot_be_undone: how many of those that go on would stop if they had to be undone.
    """

    workflow_type: str | None
    version: int | None
    goes_on: int = 0
    stops: int = 0
    unreadable: int = 0
    no_workflow: int = 0
    damaged: int = 0
    cannot_be_undone: int = 0


class CodeProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Executions of one workflow that stop in the same way.

    recorded, asked: the step that is recorded, and what the code asks for instead, if that is the
        problem. count: how many. execution_ids: some of them. message: of the first.
    """

    workflow_type: str | None
    version: int | None
    verdict: Verdict
    error_type: str | None
    recorded: str | None
    asked: str | None
    count: int
    execution_ids: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return (
            f"{self.count:,} of {self.workflow_type or '?'} v{self.version or '?'}"
            f" ({self.verdict}), as {self.execution_ids[0]!r}: {self.message}"
        )


class CodeCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What `check_code` has found.

    checked: how many executions were replayed. warnings: of those that go on, what would stop them
    if they had to be undone: a compensation is new or gone.
    """

    checked: int
    workflows: tuple[CheckedWorkflow, ...]
    problems: tuple[CodeProblem, ...]
    warnings: tuple[CodeProblem, ...] = ()

    @property
    def is_ok(self) -> bool:
        """Whether all of them would go on."""
        return not self.problems

    def assert_ok(self) -> None:
        """Raise AssertionError with all problems, if there are any."""
        __tracebackhide__ = True
        if self.problems:
            lines = "".join(f"\n    {one}" for one in self.problems)
            raise AssertionError(f"some executions would not go on with this code:{lines}")


def check_code(
    url: str | os.PathLike[str],
    workflows: Iterable[AnyWorkflow],
    *,
    finished: int = 0,
    types: Collection[str] | None = None,
    with_stopped: bool = True,
    errors: ErrorFunctions | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> CodeCheck:
    """Replay every unfinished execution of a store with these workflows.

    url: as for `open_reader`: a live file, or a copy of one. It is only read.
    finished: replay also so many finished executions of each workflow type, the last ones.
    types: only of these workflow types.
    with_stopped: also those that are in trouble or blocked already.
    errors: as for `DurableEngine`.
    on_progress: called with how many are done, and how many there were at the beginning.

    Raises StoreError, and ValueError for two workflows of one name and version.
    """
    check_integer("finished", finished)
    registry = WorkflowRegistry(workflows)
    found = _Found(_codec(errors))
    with open_reader(url) as reader:
        of_type = None if types is None else set(types)
        total = _count(reader, of_type, finished) if on_progress is not None else 0
        for one in _histories(reader, of_type, finished):
            if not with_stopped and _is_stopped(one):
                continue
            found.add(one, registry)
            if on_progress is not None and found.checked % AT_ONCE == 0:
                on_progress(found.checked, max(total, found.checked))
    return found.result()


def check_history(
    history: ExecutionHistory,
    workflows: Iterable[AnyWorkflow],
    *,
    errors: ErrorFunctions | None = None,
) -> None:
    """Replay one execution. Raises what an engine with these workflows would leave it with.

    errors: as for `DurableEngine`. Raises LookupError if none of them has its type and version.
    """
    registry = WorkflowRegistry(workflows)
    definition = registry.find(history.workflow_type, history.version)
    if definition is None:
        raise LookupError(_no_workflow(history.workflow_type, history.version, registry))
    verdict, error = foresee(
        definition, history.execution, history.checkpoints, history.patches, codec=_codec(errors)
    )
    if error is not None and verdict is not Verdict.GOES_ON:
        raise error


def histories_of(
    exported: str | bytes | os.PathLike[str] | ExecutionHistory,
) -> list[ExecutionHistory]:
    """The executions that `durable-workflow export` wrote: to a file, or as text.

    Raises OSError, and SerializationError for anything else.
    """
    if isinstance(exported, ExecutionHistory):
        return [exported]
    if isinstance(exported, os.PathLike):
        exported = Path(exported).read_bytes()
    return [history_from_json(line) for line in exported.splitlines() if line.strip()]


def _codec(errors: ErrorFunctions | None) -> ErrorCodec:
    return ErrorCodec() if errors is None else ErrorCodec(errors)


def _count(reader: Reader, types: set[str] | None, finished: int) -> int:
    unfinished, ended = 0, dict[str | None, int]()
    for one in reader.counts():
        if types is not None and one.workflow_type not in types:
            continue
        if one.status in TERMINAL_STATUSES:
            before = ended.get(one.workflow_type, 0)
            ended[one.workflow_type] = min(before + one.count, finished)
        else:
            unfinished += one.count
    return unfinished + sum(ended.values())


def _histories(
    reader: Reader, types: set[str] | None, finished: int
) -> Iterator[ExecutionHistory | UnreadableHistory]:
    statuses = tuple(one.value for one in _UNFINISHED)
    selections = (
        [Selection(statuses=statuses)]
        if types is None
        else [Selection(statuses=statuses, workflow_types=(one,)) for one in sorted(types)]
    )
    for selection in selections:
        for ids in reader.execution_ids(selection):
            for first in range(0, len(ids), AT_ONCE):
                for one in reader.histories(ids[first : first + AT_ONCE]):
                    if not (isinstance(one, ExecutionHistory) and _is_over(one)):
                        yield one  # else it has ended since
    if finished:
        ended = tuple(sorted(TERMINAL_STATUSES))
        for name in reader.workflow_types():
            if types is not None and name not in types:
                continue
            ids = _last(reader, Selection(statuses=ended, workflow_types=(name,)), finished)
            for first in range(0, len(ids), AT_ONCE):
                yield from reader.histories(ids[first : first + AT_ONCE])


def _last(reader: Reader, selection: Selection, number: int) -> list[str]:
    found: list[str] = []
    for ids in reader.execution_ids(selection):
        found += ids
        if len(found) >= number:
            break
    return found[:number]


def _is_stopped(history: ExecutionHistory | UnreadableHistory) -> bool:
    """Whether it has stopped already: it is in trouble or blocked, or no engine can read it."""
    if isinstance(history, UnreadableHistory):
        return True
    return history.execution.trouble is not None or history.execution.blocked_reason is not None


def _is_over(history: ExecutionHistory) -> bool:
    return history.execution.status.is_terminal


_Kind = tuple[str | None, int | None, Verdict, str | None, str | None, str | None]


class _Found:
    """What has been found so far."""

    def __init__(self, codec: ErrorCodec) -> None:
        self.checked = 0
        self._codec = codec
        self._at_risk: dict[tuple[str | None, int | None], int] = {}
        self._counts: dict[tuple[str | None, int | None], dict[Verdict, int]] = {}
        self._problems: dict[_Kind, tuple[int, list[str], str]] = {}

    def add(
        self, history: ExecutionHistory | UnreadableHistory, registry: WorkflowRegistry
    ) -> None:
        self.checked += 1
        of = history.workflow_type, history.version
        verdict, error, message = self._verdict(history, registry)
        counts = self._counts.setdefault(of, {})
        counts[verdict] = counts.get(verdict, 0) + 1
        if verdict is Verdict.GOES_ON:
            if error is None:
                return
            self._at_risk[of] = self._at_risk.get(of, 0) + 1
        recorded, asked = None, None
        if isinstance(error, NonDeterminismError):
            recorded, asked = error.recorded_name, error.current_name
        name = None if error is None else error_type(error)
        kind: _Kind = (*of, verdict, name, recorded, asked)
        if kind not in self._problems and len(self._problems) >= KINDS_AT_MOST:
            kind = (*of, verdict, name, None, None)
        count, ids, first = self._problems.get(kind, (0, list[str](), message))
        if len(ids) < SHOWN_OF_A_KIND:
            ids.append(_id_of(history))
        self._problems[kind] = count + 1, ids, first

    def _verdict(
        self, history: ExecutionHistory | UnreadableHistory, registry: WorkflowRegistry
    ) -> tuple[Verdict, Exception | None, str]:
        if isinstance(history, UnreadableHistory):
            return Verdict.DAMAGED, None, history.problem
        definition = registry.find(history.workflow_type, history.version)
        if definition is None:
            text = _no_workflow(history.workflow_type, history.version, registry)
            return Verdict.NO_WORKFLOW, None, text
        verdict, error = foresee(
            definition, history.execution, history.checkpoints, history.patches, codec=self._codec
        )
        return verdict, error, "" if error is None else _text(error)

    def result(self) -> CodeCheck:
        problems = [
            CodeProblem(
                workflow_type=workflow_type,
                version=version,
                verdict=verdict,
                error_type=name,
                recorded=recorded,
                asked=asked,
                count=count,
                execution_ids=tuple(ids),
                message=message,
            )
            for (workflow_type, version, verdict, name, recorded, asked), (
                count,
                ids,
                message,
            ) in self._problems.items()
        ]
        return CodeCheck(
            checked=self.checked,
            workflows=tuple(
                CheckedWorkflow(
                    workflow_type=workflow_type,
                    version=version,
                    cannot_be_undone=self._at_risk.get((workflow_type, version), 0),
                    **{verdict.name.lower(): count for verdict, count in counts.items()},
                )
                for (workflow_type, version), counts in sorted(
                    self._counts.items(), key=lambda one: (one[0][0] or "", one[0][1] or 0)
                )
            ),
            problems=tuple(one for one in problems if one.verdict is not Verdict.GOES_ON),
            warnings=tuple(one for one in problems if one.verdict is Verdict.GOES_ON),
        )


def _id_of(history: ExecutionHistory | UnreadableHistory) -> str:
    if isinstance(history, UnreadableHistory):
        return history.execution_id
    return history.execution.workflow_execution_id


def _text(error: Exception) -> str:
    if isinstance(error, DurableWorkflowError):
        return str(error).removesuffix(f" {HOW_TO_MEND}").removesuffix(" It was left as it is.")
    return f"{type(error).__qualname__}: {error}"


def _no_workflow(workflow_type: str | None, version: int | None, registry: WorkflowRegistry) -> str:
    versions = sorted(v for name, v in registry.names_and_versions if name == workflow_type)
    if not versions:
        return f"no workflow here has the name {workflow_type!r}"
    there = ", ".join(map(str, versions))
    return f"no workflow {workflow_type!r} here has version {version}; here is version {there}"
