"""What `show` says of the parent and the children of an execution."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.console import RenderableType

from durable_workflow_sqlite.cli import output, tables
from durable_workflow_sqlite.reading.executions import (
    Child,
    Children,
    ExecutionSummary,
    beginning,
)
from durable_workflow_sqlite.reading.findings import COUNTED
from durable_workflow_sqlite.records import OnParentEnd


def parent_of(summary: ExecutionSummary) -> str:
    """The parent of a child, the top of the tree, and what its parent's end means to it."""
    root = ""
    if summary.root_execution_id not in (None, summary.parent_execution_id):
        root = f", in the tree of {summary.root_execution_id}"
    detached = ""
    if summary.on_parent_end == OnParentEnd.DETACH:
        detached = "; detached: it goes on when that is over"
    return f"{summary.parent_execution_id}{root}{detached}"


def as_table(children: Children, now: datetime) -> RenderableType:
    """The tree, one execution in each row."""
    return tables.make_table(
        f"children: {in_words(children)}",
        ["id", "workflow", "status", "since", ""],
        _rows(children, now, ""),
    )


def _rows(children: Children, now: datetime, indent: str) -> Iterator[list[tables.Cell]]:
    more = children.total > len(children.shown)
    for number, one in enumerate(children.shown, 1):
        is_last = number == len(children.shown) and not more
        version = "" if one.version in (None, 1) else f" v{one.version}"
        words = beginning(one.error_message) or standing(one, now)
        if one.on_parent_end == OnParentEnd.DETACH:
            words = f"detached; {words}" if words else "detached"
        yield [
            tables.execution_id(f"{indent}{'└ ' if is_last else '├ '}{one.id}"),
            f"{one.workflow_type or '?'}{version}",
            tables.status(one.status),
            output.ago(one.status_since, now) or "?",
            words,
        ]
        if one.children is not None and one.children.counts:
            yield from _rows(one.children, now, indent + ("  " if is_last else "│ "))
    if more:
        left = f"{len(children.shown)} of these are shown" if children.shown else "not shown"
        yield [f"{indent}└ … {in_words(children)}; {left}", "", "", "", ""]


def standing(child: Child, now: datetime) -> str:
    """What a child waits for until when, and whether something is in its way."""
    until = f", {output.ago(child.waiting_until, now)}" if child.waiting_until else ""
    waits = "" if child.waiting_for is None else f"waits for {child.waiting_for}{until}"
    return "; ".join(one for one in (child.why_not, waits) if one)


def in_words(children: Children) -> str:
    """How many there are of each status."""
    return ", ".join(
        f"{number:,}{'' if number < COUNTED else ' or more'} {status}"
        for status, number in children.counts.items()
    )


def lines(children: Children, parent: str) -> Iterator[list[tables.Cell]]:
    """For a pipe: how many each execution of the tree has, and those that are shown."""
    for status, number in children.counts.items():
        yield ["children", parent, status, number]
    for one in children.shown:
        yield [
            "child",
            parent,
            one.id,
            one.workflow_type,
            one.version,
            one.status,
            one.on_parent_end,
            one.status_since,
            one.error_message,
            one.waiting_for,
            one.why_not,
        ]
        if one.children is not None:
            yield from lines(one.children, one.id)
