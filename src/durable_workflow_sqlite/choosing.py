"""What people choose executions by, checked against the file that they are in.

The command line and the dashboard have the same choices.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Final

import msgspec

from durable_workflow_sqlite.ages import time_before
from durable_workflow_sqlite.database import command
from durable_workflow_sqlite.nearest import nearest
from durable_workflow_sqlite.reading.overview import Problem
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.reading.selection import InputFilter, Selection
from durable_workflow_sqlite.records import TERMINAL_STATUSES, ExecutionStatus

STATUSES: Final = tuple(status.value for status in ExecutionStatus)
_OVER: Final = tuple(sorted(status.value for status in TERMINAL_STATUSES))


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, as it was given; times are ages, such as 15m.

    ended_before, ended_since: those that are over; they are `statuses` where none is given.
    is_all: no other option is needed; by itself it chooses nothing.
    """

    statuses: tuple[str, ...] = ()
    workflow_types: tuple[str, ...] = ()
    version: int | None = None
    id_prefix: str | None = None
    older_than: str | None = None
    newer_than: str | None = None
    ended_before: str | None = None
    ended_since: str | None = None
    failed_since: str | None = None
    error: str | None = None
    step: str | None = None
    inputs: tuple[str, ...] = ()
    in_trouble: bool = False
    is_blocked: bool = False
    is_not_undone: bool = False
    is_paused: bool = False
    tags: tuple[str, ...] = ()
    parent: str | None = None
    root: str | None = None
    in_queues: tuple[str, ...] = ()
    is_all: bool = False

    @property
    def is_given(self) -> bool:
        """Whether anything was asked for."""
        return self != Chosen()

    def selection(self, reader: Reader, now: datetime, default: Collection[str] = ()) -> Selection:
        """What to look for. `default`: the statuses, where none is given.

        Raises ValueError for an unknown status or workflow, for text that is not an age, and for
        empty text, also between two commas.
        """
        for option, text in (
            ("--id", self.id_prefix),
            ("--error", self.error),
            ("--step", self.step),
            ("--parent", self.parent),
            ("--root", self.root),
        ):
            if text == "":  # perhaps a variable that is not set; it would choose all
                raise ValueError(f"{option} is empty; leave it out, or give --all for all")
        statuses = self.statuses or tuple(default)
        if not statuses and (self.ended_before or self.ended_since):
            statuses = _OVER
        if self.failed_since is not None:
            if self.statuses and set(self.statuses) != {"FAILED"}:
                raise ValueError(
                    "--failed-since chooses only FAILED executions; leave --status out"
                )
            if self.ended_since is not None:
                raise ValueError(
                    "--failed-since and --ended-since mean the same here; give one of them"
                )
            statuses = ("FAILED",)
        for one in self.statuses:
            self._check_status(reader, one)
        types = types_of(reader, self.workflow_types)
        queues = names_of(
            "--in-queue", self.in_queues, lambda: {one.name for one in reader.named_queues()}
        )
        ended_before = _time(self.ended_before, now)
        return Selection(
            statuses=statuses,
            workflow_types=types,
            version=self.version,
            id_prefix=self.id_prefix,
            created_before=min(
                filter(None, (_time(self.older_than, now), ended_before)), default=None
            ),
            created_after=_time(self.newer_than, now),
            changed_before=ended_before,
            changed_after=_time(self.failed_since or self.ended_since, now),
            in_trouble=self.in_trouble,
            is_blocked=self.is_blocked,
            is_not_undone=self.is_not_undone,
            is_paused=self.is_paused,
            error=self.error,
            step=self.step,
            inputs=tuple(map(InputFilter.from_text, self.inputs)),
            tags=tags_of(self.tags),
            parent=self.parent,
            root=self.root,
            queues=queues,
        )

    @staticmethod
    def _check_status(reader: Reader, status: str) -> None:
        if status in STATUSES or status in {one.status for one in reader.counts()}:
            return
        raise ValueError(
            f"no status has the name {status}, only {', '.join(STATUSES)}"
            f"{nearest(status, STATUSES)}"
        )


def statuses_of(texts: Sequence[str] | None) -> tuple[str, ...]:
    """From `--status failed,cancelled --status running`."""
    words = tuple(one.strip().upper() for text in texts or () for one in text.split(","))
    if texts and not all(words):
        raise ValueError("--status is empty; give one, or several: failed,cancelled")
    return words


def names_of(
    option: str, texts: Sequence[str], known: Callable[[], Collection[str]]
) -> tuple[str, ...]:
    """From `--type order,gift --type box`: each name once. A known name may hold commas itself.

    Raises ValueError for an empty name.
    """
    names: list[str] = []
    for text in texts:
        is_one = "," not in text or text in known()
        names += [text] if is_one else map(str.strip, text.split(","))
    if not all(names):  # perhaps a variable that is not set; it would choose all
        raise ValueError(f"{option} holds an empty name; give one, or several: NAME,NAME")
    return tuple(dict.fromkeys(names))


def types_of(
    reader: Reader, texts: Sequence[str], of_the_code: Collection[str] = ()
) -> tuple[str, ...]:
    """The workflow types of `--type order,gift`.

    of_the_code: types that may be named although the database has no execution of them yet.
    Raises ValueError for a type that neither knows.
    """
    types = names_of("--type", texts, reader.workflow_types)
    for wanted in types:
        if wanted not in of_the_code:
            _check_type(reader, wanted)
    return types


def tags_of(texts: Sequence[str]) -> dict[str, str]:
    """From `--tag customer=7 --tag kind=gift`. Raises ValueError for what is none."""
    tags: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ValueError(f"{text!r} is not NAME=VALUE, as in customer=7")
        if tags.setdefault(name, value) != value:
            raise ValueError(f"an execution has one value of the tag {name!r}; give it once")
    return tags


def options_of(problem: Problem) -> list[str]:
    """The options that choose the executions of a problem: of those FAILED, or of all."""
    if problem.problem == "BACK-OFF":
        return ["--status", "running,pending", *_named(problem)]
    named = _named(problem)
    return named if problem.problem == "FAILED" else ["--in-trouble", *named]


def _named(problem: Problem) -> list[str]:
    values = (
        ("--type", problem.workflow_type),
        ("--step", problem.step_name),
        ("--error", problem.place or problem.error_type),
    )
    return [word for option, value in values if value for word in (option, value)]


def _check_type(reader: Reader, wanted: str) -> None:
    known = reader.workflow_types()
    if wanted in known:
        return
    hint = nearest(wanted, known)
    if not hint:
        hint = f"; see `{command('status', reader.name)}`" if known else "; the file knows none"
    raise ValueError(f"no workflow type {wanted!r}{hint}")


def _time(age: str | None, now: datetime) -> datetime | None:
    return None if age is None else time_before(age, now)
