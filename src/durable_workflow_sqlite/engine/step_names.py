"""The step that somebody names: by its name alone, or with its branch and its index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from durable_workflow_sqlite.engine.history import (
    Place,
    RecordedHistory,
    StepHistory,
    place_in_words,
)
from durable_workflow_sqlite.nearest import nearest
from durable_workflow_sqlite.questions import question_or_step
from durable_workflow_sqlite.records import StepCheckpoint, check_identifier

StepName = str | tuple[str, str] | tuple[str, str, int]
"""The name of a step, sleep, wait or question: alone, with its branch, or also with its index.

`"charge"`, `("item-7", "charge")`, `("", "charge", 3)`; the branch of the function itself is "".
"""

Results = Mapping[str, object] | Mapping[tuple[str, str], object] | Mapping[StepName, object]
"""Results of steps, by their names."""

NAMED_AT_MOST: Final = 10


def step_named(name: str, branch: str | None = None, index: int | None = None) -> StepName:
    """The step that is meant by a name, and by a branch and an index where they are given."""
    if index is not None:
        return (branch or "", name, index)
    return name if branch is None else (branch, name)


def check_step(step: object) -> None:
    """Raise TypeError or ValueError for what names no step."""
    match step:
        case str() | (str(), str()) | (str(), str(), int()):
            check_identifier("a step's name", step if isinstance(step, str) else step[1])
        case _:
            raise TypeError(
                "a step is named by its name, or by (branch, name) or (branch, name, index), not"
                f" by {step!r}"
            )


def find_step(
    execution_id: str, history: RecordedHistory, step: StepName
) -> tuple[Place, StepHistory]:
    """What is recorded of a step that somebody names. Raises ValueError if it is not one step."""
    name = step if isinstance(step, str) else step[1]
    recorded = [(place, one) for place, one in history.steps() if one.last is not None]
    found = [
        (place, one)
        for place, one in recorded
        if one.last is not None
        if name in (one.last.step_name, question_or_step(one.last.step_name))
        if isinstance(step, str) or (place[0] == step[0] and place[1:] == (step[2:] or place[1:]))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        places = [place_in_words(place) for place, _ in found]
        more = len(places) - NAMED_AT_MOST
        raise ValueError(
            f"execution {execution_id!r} has {len(found)} steps named {name!r}: at"
            f" {', at '.join(places[:NAMED_AT_MOST])}{f', and {more} more' if more > 0 else ''};"
            " say which, by its branch or its index"
        )
    where = "" if isinstance(step, str) else " there"
    names = {
        (place[0], question_or_step(one.last.step_name))
        for place, one in recorded
        if one.last is not None
    }
    branch, slash, rest = name.rpartition("/")
    if slash and isinstance(step, str) and (branch, rest) in names:
        hint = f"; did you mean ({branch!r}, {rest!r}), in a command {rest} --branch {branch}?"
    else:
        hint = _recorded(name, {one for _, one in names})
    raise ValueError(f"execution {execution_id!r} has recorded no step {name!r}{where}{hint}")


def _recorded(name: str, names: set[str]) -> str:
    """What is recorded instead, the nearest first."""
    if not names:
        return "; it has recorded none"
    import difflib  # only where somebody has made a mistake

    by_likeness = sorted(
        names, key=lambda one: (-difflib.SequenceMatcher(None, name, one).ratio(), one)
    )
    more = len(names) - NAMED_AT_MOST
    listed = ", ".join(map(repr, by_likeness[:NAMED_AT_MOST]))
    others = f", and {more} more" if more > 0 else ""
    return f"; it has recorded {listed}{others}{nearest(name, names - {name})}"


def in_words(checkpoint: StepCheckpoint) -> str:
    place = place_in_words((checkpoint.branch, checkpoint.step_index))
    return f"{checkpoint.kind.lower()} {checkpoint.step_name!r} ({place})"


def names_of(checkpoints: Iterable[StepCheckpoint]) -> str:
    """The first few of them, for people."""
    named = [in_words(one) for one in checkpoints]
    more = len(named) - NAMED_AT_MOST
    return ", ".join(named[:NAMED_AT_MOST]) + (f", and {more} more" if more > 0 else "")
