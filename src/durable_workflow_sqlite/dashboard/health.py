"""The alarms of a file in words: for the line on every page, and for the first page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from durable_workflow_sqlite.dashboard.filters import Filters
from durable_workflow_sqlite.reading.findings import COUNTED, Alarm, Kind

_LOOKS: Final = {Kind.ERROR: "FAILED", Kind.WARNING: "DOUBT", Kind.INFO: "INFO"}
"""The icon of each kind: an octagon, a triangle, a circle."""

_WORDS: Final = {
    "not-undone": ("not undone", "The compensation failed for good"),
    "trouble": ("in trouble", "Their worker left them as they are"),
    "blocked": ("blocked", "No worker claims them until somebody unblocks them"),
    "undoing": ("not undone yet", "The compensation failed, and is retried"),
    "cut-off": ("cut off", "Cancelled in a step that may have taken effect, or timed out in one"),
    "unresolved": (
        "waiting for an answer",
        "A step is in doubt, and a person must say what became of it",
    ),
    "in-doubt": ("in doubt", "Interrupted in a step, with no living worker"),
    "timers": ("overdue", "Their deadlines passed over a minute ago, and no worker noticed"),
    "workers": ("waiting, and no worker lives", "Start a worker"),
    "unknown": ("of a version that no worker runs", "Start a worker whose code has it"),
    "stopped": ("stopped by SIGSTOP", "Workers that live and do nothing, and nobody takes over"),
    "schedule": (
        "schedules that need somebody",
        "They do not fire, or no worker runs what they start",
    ),
    "queues": (
        "queues or limits that need somebody",
        "Something waits in a queue or under a limit, and will not go on by itself",
    ),
    "queue": ("waiting for a worker", "They have been due for over a minute"),
    "disk": ("disk nearly full", "Workers stop when the disk is full"),
    "failed": ("failed in the last hour", "See the errors below"),
}
_PAGES: Final = {"schedule": "schedules", "queues": "queues"}
"""The page that says more of an alarm, if it has one."""

_FILTERS: Final = {
    "not-undone": Filters(state="not-undone"),
    "trouble": Filters(state="trouble"),
    "blocked": Filters(state="blocked"),
    "failed": Filters(statuses=("FAILED",), ended="-1h"),
}


class AlarmLine(NamedTuple):
    """An alarm in words. number: as text, "" where a number says nothing. more: besides the named.

    href: the list of these, or their place on the first page. is_list: whether it is the list.
    """

    name: str
    number: str
    words: str
    meaning: str
    named: tuple[str, ...]
    more: int
    href: str
    is_list: bool


class Group(NamedTuple):
    """The alarms of one kind. look: the name of an icon."""

    kind: str
    look: str
    lines: list[AlarmLine]


def groups_of(alarms: Iterable[Alarm], at: str) -> list[Group]:
    """The alarms by kind, the worst first."""
    by_kind: dict[Kind, list[AlarmLine]] = {}
    for one in alarms:
        by_kind.setdefault(one.kind, []).append(_line(one, at))
    return [Group(kind.value, _LOOKS[kind], by_kind[kind]) for kind in Kind if kind in by_kind]


def _line(alarm: Alarm, at: str) -> AlarmLine:
    words, meaning = _WORDS[alarm.name]
    number = f"{alarm.count:,}{'+' if alarm.count >= COUNTED else ''}"
    filters = _FILTERS.get(alarm.name)
    page = _PAGES.get(alarm.name)
    href = f"{at}/#alarm-{alarm.name}" if page is None else f"{at}/{page}"
    return AlarmLine(
        name=alarm.name,
        number="" if alarm.name == "disk" else number,
        words=words,
        meaning=meaning,
        named=alarm.examples,
        # Of stopped workers, the executions are named.
        more=max(alarm.count - len(alarm.examples), 0)
        if alarm.examples and alarm.name != "stopped"
        else 0,
        href=href if filters is None else filters.href(at),
        is_list=filters is not None,
    )
