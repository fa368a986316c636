"""The tree of executions below one of them, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from durable_workflow_sqlite.dashboard.filters import Filters
from durable_workflow_sqlite.reading.executions import Child, Children
from durable_workflow_sqlite.reading.findings import COUNTED

_STEP = "\N{NO-BREAK SPACE}" * 4


class TreeRow(NamedTuple):
    """An execution of the tree, or the words that there are more, with a link to a list."""

    indent: str
    child: Child | None = None
    words: str = ""
    href: str = ""


class Count(NamedTuple):
    """How many children have a status, and the list of them."""

    words: str
    href: str


def tree_rows(children: Children, parent: str, at: str) -> list[TreeRow]:
    """All that is shown of a tree, each parent before its children."""
    return [*_rows(children, parent, at, "")]


def counts_of(children: Children, parent: str, at: str) -> list[Count]:
    """The children of one execution, by status."""
    return [
        Count(
            f"{number:,}{'' if number < COUNTED else ' or more'} {status.lower()}",
            Filters(parent=parent, statuses=(status,)).href(at),
        )
        for status, number in children.counts.items()
    ]


def _rows(children: Children, parent: str, at: str, indent: str) -> Iterator[TreeRow]:
    for one in children.shown:
        yield TreeRow(indent, one)
        if one.children is not None:
            yield from _rows(one.children, one.id, at, indent + _STEP)
    if children.total > len(children.shown):
        counts = ", ".join(one.words for one in counts_of(children, parent, at))
        words = f"all children of {parent}: {counts}"
        yield TreeRow(indent, words=words, href=Filters(parent=parent).href(at))
