"""`Selection`: which executions a person asks for."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime

import msgspec

from durable_workflow_sqlite.records import check_integer, check_tags, check_time


class InputFilter(msgspec.Struct, frozen=True):
    """A value somewhere in the input of an execution, which is an array of its arguments.

    path: of a value in an argument that is an object, as SQLite writes it; None for none.
    position: of an argument, the first is 0; None for none.
    value: as text. A string is compared as it is; a number, true, false and null as in JSON.
    """

    path: str | None
    position: int | None
    value: str

    @classmethod
    def from_text(cls, text: str) -> InputFilter:
        """From KEY=VALUE. Raises ValueError for any other text."""
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"{text!r} is not KEY=VALUE, as in customer.id=7 or 1=A-17")
        if re.fullmatch("[0-9]{1,6}", key):
            if int(key) == 0:
                raise ValueError(f"{text!r}: the first argument has the number 1")
            return cls(None, int(key) - 1, value)
        if '"' in key or "" in key.split("."):
            raise ValueError(f"{key!r} is not a key; write the keys with a . between: customer.id")
        return cls("$" + "".join(f'."{one}"' for one in key.split(".")), None, value)


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Executions with all of these properties. A property that is not given allows any value.

    statuses, workflow_types: of any of them.
    created_before: before that time. created_after: at it, or later.
    changed_before, changed_after: when they last changed; of finished ones, ended.
    in_trouble: those that their worker left as they are. is_blocked: that no worker may claim.
    error: a text in the class or the message of the error, or in the trouble of an unfinished one;
        ASCII letters are the same in upper and lower case.
    is_not_undone: those of which a compensation failed for good.
    is_paused: those that are paused themselves.
    version: of the workflow. step: those that are at a step of this name, or failed there.
    inputs: values of the input, all of them. tags: all of them, too.
    parent: the children of this execution. root: this execution, and all in the tree below it.
    queues: those in any of these named queues.

    Raises ValueError, TypeError.
    """

    statuses: Collection[str] = ()
    workflow_types: Collection[str] = ()
    version: int | None = None
    id_prefix: str | None = None
    created_before: datetime | None = None
    created_after: datetime | None = None
    changed_before: datetime | None = None
    changed_after: datetime | None = None
    in_trouble: bool = False
    is_blocked: bool = False
    is_not_undone: bool = False
    is_paused: bool = False
    error: str | None = None
    step: str | None = None
    inputs: tuple[InputFilter, ...] = ()
    tags: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    parent: str | None = None
    root: str | None = None
    queues: Collection[str] = ()

    def __post_init__(self) -> None:
        for name in ("statuses", "workflow_types", "queues"):
            if isinstance(one := getattr(self, name), str):
                raise TypeError(f"{name} must be several, as in [{str(one)!r}], not a str")
        for name in ("created_before", "created_after", "changed_before", "changed_after"):
            if getattr(self, name) is not None:
                check_time(name, getattr(self, name))
        if self.version is not None:
            check_integer("version", self.version, minimum=1)
        if self.in_trouble + self.is_blocked + self.is_not_undone + self.is_paused > 1:
            raise ValueError(
                "blocked, in trouble, not undone and paused exclude each other; ask for one"
            )
        check_tags(self.tags)

    @property
    def reads_rows(self) -> bool:
        """Whether it asks for more than workflow, status, id and time: for what rows hold."""
        return bool(
            self.tags
            or self.error
            or self.step
            or self.inputs
            or self.parent
            or self.root
            or self.queues
            or self.changed_before
            or self.changed_after
        )
