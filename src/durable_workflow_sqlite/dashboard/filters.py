"""What the address of the list asks for: the choices of the command line, in a query string."""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from durable_workflow_sqlite.choosing import Chosen
from durable_workflow_sqlite.reading.overview import Problem

BEGUN: Final = {
    "": "at any time",
    "-1h": "in the last hour",
    "-1d": "in the last day",
    "-7d": "in the last 7 days",
    "-30d": "in the last 30 days",
    "1h": "over an hour ago",
    "1d": "over a day ago",
    "7d": "over 7 days ago",
    "30d": "over 30 days ago",
}
ENDED: Final = BEGUN | {"": "or not"}
STATES: Final = {
    "": "any",
    "blocked": "blocked",
    "trouble": "in trouble",
    "not-undone": "not undone",
    "paused": "paused",
}


class Chip(NamedTuple):
    """One of the filters, in words, and the list without it."""

    words: str
    href: str


class Filters(NamedTuple):
    """What is asked for, as it was written; `chosen` says whether it makes sense.

    begun, ended: an age as 6h, so long ago or longer; -6h is not longer ago. inputs: KEY=VALUE.
    tags: NAME=VALUE. parent, root: an id. queue: a name. state: one of STATES. after: the `next`
        of the page before.
    """

    statuses: tuple[str, ...] = ()
    workflow_type: str = ""
    version: str = ""
    id_prefix: str = ""
    step: str = ""
    error: str = ""
    begun: str = ""
    ended: str = ""
    inputs: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    parent: str = ""
    root: str = ""
    queue: str = ""
    state: str = ""
    after: str = ""

    @classmethod
    def of(cls, query: QueryParams) -> Filters:
        def one(name: str) -> str:
            return query.get(name, "").strip()

        def several(name: str) -> tuple[str, ...]:
            return tuple(dict.fromkeys(filter(None, map(str.strip, query.getlist(name)))))

        return cls(
            statuses=several("status"),
            workflow_type=query.get("type", ""),
            version=one("version"),
            id_prefix=one("id"),
            step=query.get("step", ""),
            error=one("error"),
            begun=one("begun"),
            ended=one("ended"),
            inputs=several("input"),
            tags=several("tag"),
            parent=one("parent"),
            root=one("root"),
            queue=query.get("queue", ""),
            state=one("state"),
            after=one("after"),
        )

    @classmethod
    def of_problem(cls, problem: Problem) -> Filters:
        """Those that have a problem."""
        statuses = {"FAILED": ("FAILED",), "BACK-OFF": ("RUNNING", "PENDING")}
        return cls(
            statuses=statuses.get(problem.problem, ()),
            state="trouble" if problem.problem == "IN TROUBLE" else "",
            workflow_type=problem.workflow_type or "",
            step=problem.step_name or "",
            error=problem.place or problem.error_type or "",
        )

    @property
    def is_any(self) -> bool:
        return any(self._replace(after=""))

    @property
    def is_more(self) -> bool:
        """Whether any of the less common ones is given."""
        rest = self._replace(statuses=(), workflow_type="", id_prefix="", begun="", error="")
        return rest.is_any

    def chosen(self) -> Chosen:
        """The same as the options of a command. Raises ValueError for what makes no sense."""
        if self.version and not (self.version.isascii() and self.version.isdigit()):
            raise ValueError(f"a version is a number, not {self.version!r}")
        if self.state not in STATES:
            raise ValueError(f"no state is named {self.state!r}")
        begun_since, begun_before = _ages(self.begun)
        ended_since, ended_before = _ages(self.ended)
        return Chosen(
            statuses=self.statuses,
            workflow_types=(self.workflow_type,) if self.workflow_type else (),
            version=int(self.version) if self.version else None,
            id_prefix=self.id_prefix or None,
            newer_than=begun_since,
            older_than=begun_before,
            ended_since=ended_since,
            ended_before=ended_before,
            error=self.error or None,
            step=self.step or None,
            inputs=self.inputs,
            tags=self.tags,
            parent=self.parent or None,
            root=self.root or None,
            in_queues=(self.queue,) if self.queue else (),
            is_blocked=self.state == "blocked",
            in_trouble=self.state == "trouble",
            is_not_undone=self.state == "not-undone",
            is_paused=self.state == "paused",
        )

    def query(self) -> str:
        """As it stands in an address."""
        pairs = [
            *(("status", one) for one in self.statuses),
            ("type", self.workflow_type),
            ("version", self.version),
            ("id", self.id_prefix),
            ("step", self.step),
            ("error", self.error),
            ("begun", self.begun),
            ("ended", self.ended),
            *(("input", one) for one in self.inputs),
            *(("tag", one) for one in self.tags),
            ("parent", self.parent),
            ("root", self.root),
            ("queue", self.queue),
            ("state", self.state),
            ("after", self.after),
        ]
        return urlencode([(name, one) for name, one in pairs if one], errors="replace")

    def href(self, at: str, **other: Any) -> str:
        """The list with some filters changed, on its first page unless `after` is given."""
        text = self._replace(**{"after": "", **other}).query()
        return f"{at}/executions{f'?{text}' if text else ''}"

    def chips(self, at: str) -> list[Chip]:
        """The filters one by one."""

        def without(name: str, one: str) -> str:
            return self.href(at, **{name: tuple(x for x in getattr(self, name) if x != one)})

        single = (
            ("workflow_type", f"workflow {self.workflow_type}"),
            ("version", f"version {self.version}"),
            ("id_prefix", f"id begins with {self.id_prefix}"),
            ("step", f"at step {self.step}"),
            ("error", f"error has {self.error}"),
            ("begun", f"begun {_age_in_words(self.begun)}"),
            ("ended", f"ended {_age_in_words(self.ended)}"),
            ("parent", f"child of {self.parent}"),
            ("root", f"in the tree of {self.root}"),
            ("queue", f"in queue {self.queue}"),
            ("state", STATES.get(self.state, self.state)),
        )
        return [
            *(Chip(one.lower(), without("statuses", one)) for one in self.statuses),
            *(
                Chip(words, self.href(at, **{name: ""}))
                for name, words in single
                if getattr(self, name)
            ),
            *(Chip(f"input {one}", without("inputs", one)) for one in self.inputs),
            *(Chip(f"tag {one}", without("tags", one)) for one in self.tags),
        ]


def choices(ages: dict[str, str], value: str) -> list[tuple[str, str]]:
    """What a form offers, and what is chosen, if that is another one."""
    return [*(ages | {value: ages.get(value) or _age_in_words(value)}).items()]


def _ages(text: str) -> tuple[str | None, str | None]:
    """Since, and before."""
    if text.startswith("-"):
        return text[1:], None
    return None, text or None


def _age_in_words(text: str) -> str:
    known = BEGUN.get(text)
    if known:
        return known
    return f"in the last {text[1:]}" if text.startswith("-") else f"over {text} ago"
